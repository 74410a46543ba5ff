"""Figures of single models: pre-training, reconstructions, speakers (the paper's Figure 5), a search's Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from s3prl_aalbert.compress.search import Candidate
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.pretrain.monitor import draw_reconstruction
from s3prl_aalbert.report.artefacts import (
    LOSSES,
    ReconstructedUtterance,
    Scalars,
    pretraining_scalars,
    reconstruct_one,
    running_mean,
)
from s3prl_aalbert.report.describe import unique
from s3prl_aalbert.report.models import Model, describe_config
from s3prl_aalbert.report.page import NotDrawn, ReportFigure, Table, file_stem
from s3prl_aalbert.report.runs import PretrainRun, UnusableRun
from s3prl_aalbert.report.sections import FigureData, Part
from s3prl_aalbert.report.style import (
    COLOURS,
    MARKERS,
    WIDE,
    Layout,
    Styles,
    add_legend,
    figure_style,
    panels,
    step_axis,
)
from s3prl_aalbert.report.tsne import SpeakerMap, SpeakerMaps, TsneRequest, compute_speaker_maps
from s3prl_aalbert.upstream.named import checkpoint_config


def name_pretraining(runs: Sequence[PretrainRun], models: Sequence[Model]) -> dict[PretrainRun, str]:
    """Give pre-training folders unique names: of their models in the report, or a description of their content.

    A description is completed by the end of the folder's path if it is the name of another pre-training or model.
    """
    known, labels = {model.key.checkpoint: model.label for model in models}, [model.label for model in models]
    names = {run: known.get(str(run.folder.resolve())) or _describe_folder(run.folder) for run in runs}
    for run in (run for run in runs if str(run.folder.resolve()) not in known):
        parts, depth, name = run.folder.resolve().parts, 1, names[run]
        while [*names.values(), *labels].count(names[run]) > 1 and depth < len(parts):
            names[run] = f"{name} ({'/'.join(parts[-depth:])})"
            depth += 1
    return names


def _describe_folder(folder: Path) -> str:
    try:
        return describe_config(checkpoint_config(folder))
    except AalbertError:
        return folder.resolve().name


def pretraining_curves(figure_data: FigureData, names: dict[PretrainRun, str]) -> list[Part]:
    """Draw losses and learning rate of pre-training runs."""
    title = "Pre-training curves"
    scalars: dict[str, Scalars] = {}
    reasons = []
    for run, name in names.items():
        try:
            scalars[name] = pretraining_scalars(run.folder)
        except UnusableRun as error:
            reasons.append(f"{name}: {error}")
    if not scalars:
        return [NotDrawn(title, "; ".join(reasons) or "needs a pre-training folder")]
    caption = (
        "The curves show the loss: the mean absolute error or the cross-entropy of predicted tokens, or the distance "
        "of a distilled model from its teacher. Thin lines are the logged training loss, thick lines are smoothed, "
        "and dashed lines are of held-out speakers."
    )
    cells = [
        (name, kind, step, value)
        for name, kinds in scalars.items()
        for kind, points in kinds.items()
        for step, value in points
    ]
    listed = "; ".join(
        f"{name}: {kind.replace('_', ' ')} {_describe_change(points)}"
        for name, kinds in scalars.items()
        for kind, points in kinds.items()
        if kind != "lr"
    )
    columns = ("model", "scalar", "step", "value")
    draw, alt = partial(draw_pretraining, scalars, figure_data.styles), f"Pre-training losses. {listed}."
    figure = ReportFigure("pretraining_curves", title, caption, alt, draw, columns, cells)
    return [figure, *(NotDrawn(title, reason) for reason in reasons)]


def _describe_change(points: Sequence[tuple[int, float]]) -> str:
    (first, before), (last, after) = points[0], points[-1]
    return f"from {before:.3f} at step {first} to {after:.3f} at step {last}"


def draw_pretraining(scalars: Mapping[str, Scalars], styles: Styles, layout: Layout) -> Figure:
    """Draw the losses of pre-training runs: training (smoothed, line) and dev (markers), and the learning rate."""
    with_rate = any("lr" in values for values in scalars.values())
    titles = ["loss (line: training; dashed: dev)", *(["learning rate"] if with_rate else [])]
    figure, grid = panels(titles, layout)
    for name, values in scalars.items():
        look = styles.model(name)
        colour, marker = look["color"], look["marker"]
        for kind in (kind for kind in LOSSES if kind in values):
            steps, losses = zip(*values[kind], strict=True)
            if kind == "loss":
                grid[0].plot(steps, losses, color=colour, alpha=0.25, linewidth=0.8)
                grid[0].plot(steps, running_mean(losses), color=colour, linewidth=1.4)
            else:
                grid[0].plot(steps, losses, linestyle="--", linewidth=1, markeredgecolor="white", **look)
        if "lr" in values:
            steps, rates = zip(*values["lr"], strict=True)
            grid[1].plot(steps, rates, color=colour, linewidth=1.4, markevery=max(1, len(steps) // 6), marker=marker)
    grid[0].set_ylabel("loss")
    if with_rate:
        grid[1].set_ylabel("learning rate")
        grid[1].ticklabel_format(axis="y", style="sci", scilimits=(-2, 4))
    for axes in grid:
        step_axis(axes)
    add_legend(figure, styles.legend_handles(list(scalars), []))
    return figure


def reconstructions(names: dict[PretrainRun, str]) -> list[Part]:
    """Draw how each pre-trained model reconstructs one utterance."""
    title = "Reconstruction"
    if not names:
        return [NotDrawn(title, "needs a pre-training folder")]
    parts: list[Part] = []
    for run, name in names.items():
        try:
            parts.append(_reconstruction_figure(name, reconstruct_one(run.folder)))
        except UnusableRun as error:
            parts.append(NotDrawn(f"{title}: {name}", str(error)))
    return parts


def _reconstruction_figure(name: str, result: ReconstructedUtterance) -> ReportFigure:
    where = "that it was not trained on" if result.split == "dev" else "that it was trained on"
    predicted, tokens = int(result.selected.sum()), result.selected.numel()
    caption = (
        f"The model at step {result.step} predicts {predicted} of the {tokens} tokens of an utterance {where}. "
        f"The mean absolute error of these is {result.loss:.3f}, which is the training loss."
    )
    alt = f"Four spectrograms of one utterance: input, masked input, target and reconstruction. {caption}"
    selected, errors = result.selected.tolist(), result.errors.tolist()
    cells = [(token, int(one), error) for token, (one, error) in enumerate(zip(selected, errors, strict=True))]

    def draw(layout: Layout) -> Figure:
        picture = draw_reconstruction(result.stages, (layout.width, 1.05 * 8.4))
        for axes in picture.axes:
            axes.grid(visible=False)
        return picture

    columns = ("token", "predicted", "mean_absolute_error")
    stem = file_stem("reconstruction", name)
    return ReportFigure(stem, f"Reconstruction: {name}", caption, alt, draw, columns, cells)


# --------------------------------------------------------------------------------------------------- speakers, Fig. 5


def speaker_map(request: TsneRequest | None) -> list[Part]:
    """Draw Figure 5 of the paper.

    Raises:
        AalbertError: the requested checkpoint or speech cannot be used.
    """
    title = "Speakers in the representation, t-SNE (paper: Figure 5)"
    if request is None:
        return [NotDrawn(title, "needs --tsne CKPT and --speech DIR")]
    result = compute_speaker_maps(request)
    speakers = len(set(result.speakers))
    caption = (
        f"The map shows {len(result.paths)} utterances of {speakers} speakers, each averaged over its tokens, as "
        f"{result.model} represents them. It is drawn by scikit-learn's t-SNE with seed {request.seed}. Silhouette "
        "scores measure from -1 to 1 how well speakers are separated, in the representation's own space and in the "
        "picture. With CMVN the average of a feature is zero by construction (of the frames stacked in a token "
        "together, not each), so that little distinguishes speakers. The table scores every layer in its own "
        "space."
    )
    scores = "; ".join(f"{one.name}: {describe_silhouette(one)}" for one in result.maps)
    cells = [
        (path, speaker, one.name, *point)
        for one in result.maps
        for path, speaker, point in zip(result.paths, result.speakers, one.points.tolist(), strict=True)
    ]
    columns = ("path", "speaker", "representation", "x", "y")
    alt = f"t-SNE of {speakers} speakers. {scores}."
    draw = partial(draw_speaker_maps, result)
    return [ReportFigure("speaker_map", title, caption, alt, draw, columns, cells, _layer_table(result))]


def _layer_table(result: SpeakerMaps) -> Table:
    shown = ["" if value is None else f"{value:.3f}" for value in result.layer_silhouettes]
    rows = [(str(i) + (" (drawn)" if i == result.layer else ""), value) for i, value in enumerate(shown)]
    return Table(("layer", "silhouette"), rows)


def draw_speaker_maps(result: SpeakerMaps, layout: Layout) -> Figure:
    """Draw each representation's map; colour and marker show the speaker."""
    speakers = unique(result.speakers)
    titles = [f"{one.name}\n{describe_silhouette(one)}" for one in result.maps]
    figure, grid = panels(titles, layout, len(result.maps), height=3.3)
    handles: list[Artist] = []
    for axes, one in zip(grid, result.maps, strict=True):
        handles.clear()
        for index, speaker in enumerate(speakers):
            points = one.points[[number for number, name in enumerate(result.speakers) if name == speaker]]
            marker, colour = MARKERS[index % len(MARKERS)], COLOURS[index % len(COLOURS)]
            x, y = points.T
            dots = axes.scatter(
                x, y, 26, marker=marker, color=colour, label=speaker, edgecolors="white", linewidths=0.4
            )
            handles.append(dots)
        axes.set(xticks=[], yticks=[], xlabel="first dimension of t-SNE", ylabel="second dimension of t-SNE")
        axes.spines[["top", "right"]].set_visible(True)
    add_legend(figure, handles)
    return figure


def describe_silhouette(one: SpeakerMap) -> str:
    """Describe both silhouette scores."""
    if one.raw_silhouette is None or one.flat_silhouette is None:
        return "all utterances coincide, no score"
    return f"silhouette {one.raw_silhouette:.2f}, in 2-D {one.flat_silhouette:.2f}"


# ------------------------------------------------------------------------------------------------------------- search


def draw_pareto(found: Sequence[Candidate], front: Sequence[Candidate], unit: str) -> Figure:
    """Draw dev loss against cost."""
    with figure_style():
        figure, (axes,) = panels(["Sub-networks"], WIDE)
        figure.set_dpi(WIDE.dpi)
        axes.plot([c.cost for c in found], [c.loss for c in found], "o", color="0.7", label=f"{len(found)} evaluated")
        axes.plot([c.cost for c in front], [c.loss for c in front], "D-", color=COLOURS[0], label="Pareto front")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set(xlabel=unit, ylabel="dev loss")
        axes.legend()
        return figure
