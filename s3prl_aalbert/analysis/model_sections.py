"""Figures of the models themselves: pre-training curves, reconstructions, speaker maps."""

from __future__ import annotations

from collections.abc import Sequence

from s3prl_aalbert.analysis.contents import Omitted, ReportFigure, Table, file_stem
from s3prl_aalbert.analysis.curves import pretraining_scalars
from s3prl_aalbert.analysis.figures import draw_pretraining
from s3prl_aalbert.analysis.matrices import describe_silhouette, draw_speaker_maps
from s3prl_aalbert.analysis.models import Model
from s3prl_aalbert.analysis.reconstruct import ReconstructedUtterance, reconstruct_one
from s3prl_aalbert.analysis.runs import DamagedRun, PretrainRun
from s3prl_aalbert.analysis.sections import Findings, Part
from s3prl_aalbert.analysis.style import add_legend
from s3prl_aalbert.analysis.tsne import SpeakerMaps, TsneRequest, compute_speaker_maps
from s3prl_aalbert.pretrain.monitor import draw_reconstruction


def name_pretraining(runs: Sequence[PretrainRun], models: Sequence[Model]) -> dict[PretrainRun, str]:
    """Name pre-training folders as the models that came out of them, else by the end of their path; unique."""
    known = {model.key.checkpoint: model.label for model in models}
    names = {run: known.get(str(run.folder.resolve()), "") for run in runs}
    for run in runs:
        parts, depth = run.folder.resolve().parts, 1
        while not names[run] or (list(names.values()).count(names[run]) > 1 and depth < len(parts)):
            names[run] = "/".join(parts[-depth:])
            depth += 1
    return names


def pretraining_curves(findings: Findings, names: dict[PretrainRun, str]) -> list[Part]:
    """Draw losses and learning rate of pre-training runs."""
    title = "Pre-training curves"
    scalars, reasons = {}, []
    for run, name in names.items():
        try:
            scalars[name] = pretraining_scalars(run.folder)
        except DamagedRun as error:
            reasons.append(f"{name}: {error}")
    if not scalars:
        return [Omitted(title, "; ".join(reasons) or "no pre-training folder")]
    caption = (
        "Loss (of predicted tokens: mean absolute error; of a distilled model: distance from its teacher): training "
        "(thin: as logged, line: smoothed) and held-out speakers (dashed)."
    )
    cells = [
        (name, kind, step, value)
        for name, kinds in scalars.items()
        for kind, points in kinds.items()
        for step, value in points
    ]
    picture = draw_pretraining(scalars, findings.styles.model)
    add_legend(picture, findings.styles.legend_handles(list(scalars), []))
    said = "; ".join(
        f"{name}: {kind.replace('_', ' ')} {_say_change(points)}"
        for name, kinds in scalars.items()
        for kind, points in kinds.items()
        if kind != "lr"
    )
    columns = ("model", "scalar", "step", "value")
    figure = ReportFigure(
        "pretraining_curves", title, caption, f"Pre-training losses. {said}.", picture, columns, cells
    )
    return [figure, *(Omitted(title, reason) for reason in reasons)]


def _say_change(points: Sequence[tuple[int, float]]) -> str:
    (first, before), (last, after) = points[0], points[-1]
    return f"from {before:.3f} at step {first} to {after:.3f} at step {last}"


def reconstructions(names: dict[PretrainRun, str]) -> list[Part]:
    """Draw what each pre-trained model makes of one utterance."""
    title = "Reconstruction"
    if not names:
        return [Omitted(title, "no pre-training folder")]
    parts: list[Part] = []
    for run, name in names.items():
        try:
            parts.append(_reconstruction_figure(name, reconstruct_one(run.folder)))
        except DamagedRun as error:
            parts.append(Omitted(f"{title}: {name}", str(error)))
    return parts


def _reconstruction_figure(name: str, result: ReconstructedUtterance) -> ReportFigure:
    where = "a held-out utterance" if result.split == "dev" else "an utterance it was trained on"
    predicted, tokens = int(result.selected.sum()), result.selected.numel()
    caption = (
        f"{name} at step {result.step}, {where}: {predicted} of {tokens} tokens predicted; "
        f"mean absolute error of these {result.loss:.3f} (the training loss)."
    )
    alt = f"Four spectrograms of one utterance: input, masked input, target and reconstruction. {caption}"
    selected, errors = result.selected.tolist(), result.errors.tolist()
    cells = [(token, int(one), error) for token, (one, error) in enumerate(zip(selected, errors, strict=True))]
    picture = draw_reconstruction(result.stages)
    for axes in picture.axes:
        axes.grid(visible=False)
    columns = ("token", "predicted", "mean_absolute_error")
    stem = file_stem("reconstruction", name)
    return ReportFigure(stem, f"Reconstruction: {name}", caption, alt, picture, columns, cells)


def speaker_map(request: TsneRequest | None) -> list[Part]:
    """Figure 5 of the paper.

    Raises:
        AalbertError: the checkpoint or the speech that was asked for cannot be used.
    """
    title = "Speakers in the representation, t-SNE (paper: Figure 5)"
    if request is None:
        return [Omitted(title, "needs --tsne CKPT and --speech DIR")]
    result = compute_speaker_maps(request)
    speakers = len(set(result.speakers))
    caption = (
        f"{request.checkpoint}: {len(result.paths)} utterances of {speakers} speakers, each averaged over its tokens. "
        f"t-SNE by scikit-learn, seed {request.seed}. Silhouette scores, from -1 to 1 (apart): in the "
        "representation's own space and of the picture. With CMVN the average of a feature is zero by "
        "construction (of the frames stacked in a token together, not each): little is left to tell speakers by. "
        "The table scores every layer in its own space."
    )
    scores = "; ".join(
        f"{one.name}: {describe_silhouette(one.raw_silhouette, one.flat_silhouette)}" for one in result.maps
    )
    cells = [
        (path, speaker, one.name, *point)
        for one in result.maps
        for path, speaker, point in zip(result.paths, result.speakers, one.points.tolist(), strict=True)
    ]
    picture = draw_speaker_maps(result)
    columns = ("path", "speaker", "representation", "x", "y")
    alt = f"t-SNE of {speakers} speakers. {scores}."
    return [ReportFigure("speaker_map", title, caption, alt, picture, columns, cells, _layer_table(result))]


def _layer_table(result: SpeakerMaps) -> Table:
    shown = ["" if value is None else f"{value:.3f}" for value in result.layer_silhouettes]
    rows = [(str(i) + (" (drawn)" if i == result.layer else ""), value) for i, value in enumerate(shown)]
    return Table(("layer", "silhouette"), rows)
