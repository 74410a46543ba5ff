"""Chooses what each figure shows, and writes the words around it; figures without data become one line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from s3prl_aalbert.analysis.confusion import CONFUSION_FILE, Confusion, add_up, read_confusion
from s3prl_aalbert.analysis.contents import Omitted, ReportFigure, Table, file_stem
from s3prl_aalbert.analysis.curves import curve_cells, dev_curve
from s3prl_aalbert.analysis.figures import (
    draw_against_labels,
    draw_against_parameters,
    draw_dev_curves,
    draw_layer_weights,
    draw_probing,
    draw_speakers,
)
from s3prl_aalbert.analysis.layer_weights import first_layer, learned_weights
from s3prl_aalbert.analysis.matrices import draw_confusion
from s3prl_aalbert.analysis.models import FEATURES
from s3prl_aalbert.analysis.runs import DamagedRun, DownstreamRun, Skipped
from s3prl_aalbert.analysis.settings import unique
from s3prl_aalbert.analysis.spread import Spread, say_spread
from s3prl_aalbert.analysis.style import Styles
from s3prl_aalbert.analysis.summary import (
    PROBE_COLUMNS,
    ProbeRow,
    ResultRow,
    best_layers,
    full_rows,
    probe_cells,
)

Part = ReportFigure | Omitted

SPREAD_COLUMNS = ("test_mean", "test_min", "test_max", "test_std", "runs")
ROW_COLUMNS = ("task", "model", "setting", "parameters", "train_fraction", *SPREAD_COLUMNS, "majority")
MAX_CONFUSIONS_LISTED = 8


@dataclass
class Findings:
    """What the figures are made from."""

    rows: list[ResultRow]
    probes: list[ProbeRow]
    styles: Styles
    problems: list[Skipped] = field(default_factory=list)
    """Files that could not be used, added to while figures are made."""

    @property
    def full_rows(self) -> list[ResultRow]:
        """See ``summary.full_rows``."""
        return full_rows(self.rows)


def spread_cells(value: Spread) -> tuple[object, ...]:
    """Return the CSV cells mean, min, max, std and number of runs."""
    return (value.mean, value.low, value.high, value.std, value.count)


def _row_cells(row: ResultRow) -> tuple[object, ...]:
    head = (row.task, row.model.label, row.setting, _blank(row.model.parameters), row.fraction)
    return (*head, *spread_cells(row.test), _blank(row.majority))


def _blank(value: object) -> object:
    return "" if value is None else value


def _say_spread(rows: Iterable[ResultRow | ProbeRow]) -> str:
    return say_spread([row.test for row in rows])


def _say_rows(rows: Iterable[ResultRow]) -> str:
    return "; ".join(f"{r.task}, {r.model.label}, {r.setting}: {r.test.percent()} %" for r in rows)


def against_parameters(findings: Findings) -> list[Part]:
    """Figure 2 of the paper."""
    title = "Accuracy against parameters (paper: Figure 2)"
    rows = [row for row in findings.full_rows if row.model.parameters is not None]
    sizes = {
        task: {row.model.parameters for row in rows if row.task == task} - {0} for task in unique(r.task for r in rows)
    }
    rows = [row for row in rows if len(sizes[row.task]) > 1]
    if not rows:
        return [Omitted(title, "needs runs of one task with models of different sizes")]
    caption = (
        f"Test accuracy against the parameters of encoder and input block. {_say_spread(rows)} "
        "Horizontal lines are input features, which have no parameters. Points of equal size stand side by side."
    )
    picture = draw_against_parameters(rows, findings.styles)
    cells = [_row_cells(row) for row in rows]
    alt = f"Test accuracy against parameters. {_say_rows(rows)}."
    return [ReportFigure("accuracy_against_parameters", title, caption, alt, picture, ROW_COLUMNS, cells)]


def against_labels(findings: Findings) -> list[Part]:
    """Figure 3 of the paper."""
    title = "Accuracy against the proportion of labels (paper: Figure 3)"
    tasks = unique(row.task for row in findings.rows)
    varied = {task for task in tasks if len({row.fraction for row in findings.rows if row.task == task}) > 1}
    rows = [row for row in findings.rows if row.task in varied]
    if not rows:
        return [Omitted(title, "needs runs of one task with several values of train_fraction")]
    caption = (
        f"Test accuracy when only a part of the training labels is used. {_say_spread(rows)} "
        "For comparison: the accuracy of always answering the most frequent class."
    )
    picture = draw_against_labels(rows, findings.styles)
    said = "; ".join(f"{r.model.label}, {r.setting}, {100 * r.fraction:g} %: {r.test.percent()} %" for r in rows)
    alt = f"Test accuracy against the share of labels. {said}."
    cells, table = list(map(_row_cells, rows)), _labels_table(rows)
    return [ReportFigure("accuracy_against_labels", title, caption, alt, picture, ROW_COLUMNS, cells, table)]


def _labels_table(rows: Sequence[ResultRow]) -> Table:
    """Return mean test accuracies with a column for each share of labels."""
    shares = sorted({row.fraction for row in rows})
    cells: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        line = cells.setdefault((row.task, row.model.label, row.setting), [""] * len(shares))
        line[shares.index(row.fraction)] = f"{100 * row.test.mean:.1f}"
    head = ("task", "model", "setting", *(f"{100 * share:g} %" for share in shares))
    return Table(head, [(*names, *line) for names, line in cells.items()])


def speakers(findings: Findings) -> list[Part]:
    """Figure 4 of the paper."""
    title = "Speakers (paper: Figure 4)"
    rows = [row for row in findings.full_rows if "speaker" in row.task_name]
    if not rows:
        return [Omitted(title, "no speaker run")]
    spread = say_spread([row.test for row in rows], "whiskers and brackets reach")
    caption = f"Test accuracy (%) of the speaker tasks. {spread}"
    if any(row.model.key.upstream == FEATURES and row.setting.startswith("with CMVN") for row in rows):
        caption += (
            " With CMVN a feature's mean over an utterance is zero: at utterance level little is left to tell speakers "
            "by, most in short utterances (the frames stacked in a token average to zero together, not each)."
        )
    picture = draw_speakers(rows, findings.styles)
    cells = [(*_row_cells(row), _blank(row.classes)) for row in rows]
    alt = f"Speaker accuracy. {_say_rows(rows)}."
    table = _speaker_table(rows)
    return [ReportFigure("speakers", title, caption, alt, picture, (*ROW_COLUMNS, "speakers"), cells, table)]


def _speaker_table(rows: Sequence[ResultRow]) -> Table:
    """Return test accuracies with a column for each task, and the majority-class rates in the last line."""
    tasks = {row.task: row for row in rows}
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        lines.setdefault((row.model.label, row.setting), {})[row.task] = row.test.percent()
    cells = [(*names, *(by_task.get(task, "") for task in tasks)) for names, by_task in lines.items()]
    majority = ["" if row.majority is None else f"{100 * row.majority:.1f}" for row in tasks.values()]
    cells.append(("most frequent speaker", "", *majority))
    return Table(("model", "setting", *(_speaker_title(row) for row in tasks.values())), cells)


def _speaker_title(row: ResultRow) -> str:
    known = row.classes is None or str(row.classes) in row.task
    return row.task if known else f"{row.task} ({row.classes} speakers)"


def probing(findings: Findings) -> list[Part]:
    """Figure 6 of the paper."""
    title = "Probing by layer and classifier (paper: Figure 6)"
    rows = findings.probes
    if not rows:
        return [Omitted(title, "no probing run (aalbert probe)")]
    flat = any(all(r.layer == 0 for r in rows if r.model == row.model) for row in rows)
    level = "Dashed level: a representation without layers. " if flat else ""
    caption = (
        f"Test accuracy of a classifier trained on one layer alone. {_say_spread(rows)} "
        f"{level}The table gives the layer that is best on dev."
    )
    columns = ("task", "model", "classifier", "layer", "dev_mean", *SPREAD_COLUMNS)
    cells = [(r.task, r.model.label, r.classifier, r.layer, r.dev.mean, *spread_cells(r.test)) for r in rows]
    best = best_layers(rows)
    said = "; ".join(
        f"{r.task}, {r.classifier}, {r.model.label}: best layer {r.layer}, {r.test.percent()} %" for r in best
    )
    table = Table(PROBE_COLUMNS, [probe_cells(row) for row in best])
    picture = draw_probing(rows, findings.styles)
    return [
        ReportFigure("probing", title, caption, f"Probing accuracy by layer. {said}.", picture, columns, cells, table)
    ]


def layer_weights(findings: Findings) -> list[Part]:
    """Draw the learned weights of the weighted sum."""
    title = "Learned layer weights"
    found = []
    for row in findings.full_rows:
        weights = _read_each(findings, row.runs, learned_weights)
        if weights:
            lengths = {len(w) for _, w in weights}
            if len(lengths) > 1:
                findings.problems.append(Skipped(row.runs[0].folder, f"its seeds have {lengths} layer weights"))
                continue
            start = first_layer(row.runs[0])
            by_layer = [(start + i, Spread.over((run, w[i]) for run, w in weights)) for i in range(lengths.pop())]
            found.append((row, by_layer))
    if not found:
        return [Omitted(title, "no run of a weighted sum that kept its weights")]
    caption = (
        "How much each layer counts in the weighted sum, at the step that is best on dev. "
        f"{_say_spread([row for row, _ in found])} Layer 0 is the input embedding."
    )
    columns = ("task", "model", "setting", "layer", "weight_mean", "weight_min", "weight_max", "runs")
    cells = [
        (row.task, row.model.label, row.setting, layer, value.mean, value.low, value.high, value.count)
        for row, layers in found
        for layer, value in layers
    ]
    heaviest = [(row, max(layers, key=lambda pair: pair[1].mean)) for row, layers in found]
    said = "; ".join(
        f"{r.task}, {r.model.label}, {r.setting}: layer {i} with {v.percent()} %" for r, (i, v) in heaviest
    )
    picture = draw_layer_weights(found, findings.styles)
    alt = f"Learned weight of each layer; the heaviest: {said}."
    return [ReportFigure("layer_weights", title, caption, alt, picture, columns, cells)]


def _read_each(
    findings: Findings, runs: Sequence[DownstreamRun], read: Callable[[DownstreamRun], list[float] | None]
) -> list[tuple[DownstreamRun, list[float]]]:
    values = []
    for run in runs:
        try:
            value = read(run)
        except DamagedRun as error:
            findings.problems.append(Skipped(run.folder, str(error)))
            continue
        if value is not None:
            values.append((run, value))
    return values


def dev_curves(findings: Findings) -> list[Part]:
    """Draw dev accuracy during training."""
    title = "Training curves of the tasks"
    curves = [(row, dev_curve(row)) for row in findings.full_rows]
    curves = [(row, points) for row, points in curves if len(points) > 1]
    if not curves:
        return [Omitted(title, "no run with more than one evaluation on dev")]
    caption = f"Dev accuracy by step. {say_spread([row.dev for row, _ in curves], 'bands reach')}"
    columns = ("task", "model", "setting", "step", "dev_mean", "dev_min", "dev_max", "runs")
    cells = [(row.task, *line) for row, points in curves for line in curve_cells(row.model.label, row.setting, points)]
    said = "; ".join(
        f"{row.task}, {row.model.label}, {row.setting}: {points[0].value.percent()} % to {points[-1].value.percent()} %"
        for row, points in curves
    )
    picture = draw_dev_curves(curves, findings.styles)
    return [ReportFigure("training_curves", title, caption, f"Dev accuracy by step. {said}.", picture, columns, cells)]


def confusions(findings: Findings) -> list[Part]:
    """Draw, for each task, the confusion matrix of the row that is best on dev."""
    parts: list[Part] = []
    for task in unique(row.task for row in findings.full_rows):
        candidates = [(row, _confusions_of(findings, row)) for row in findings.full_rows if row.task == task]
        readable = [(row, matrices) for row, matrices in candidates if matrices]
        if readable:
            row, matrices = max(readable, key=lambda pair: pair[0].dev.mean)
            parts.append(_confusion_figure(row, add_up(matrices), len(matrices)))
    return parts or [Omitted("Confusion matrix", f"no run with {CONFUSION_FILE}")]


def _confusions_of(findings: Findings, row: ResultRow) -> list[Confusion]:
    matrices = []
    for run in row.runs:
        file = run.folder / CONFUSION_FILE
        if not file.is_file():
            continue
        try:
            matrices.append(read_confusion(file))
        except DamagedRun as error:
            findings.problems.append(Skipped(run.folder, str(error)))
    return matrices


def _confusion_figure(row: ResultRow, matrix: Confusion, runs: int) -> ReportFigure:
    title = f"Confusion matrix: {row.task}"
    caption = (
        f"{row.model.label}, {row.setting}, the model and setting best on dev; test data, "
        f"{'one run' if runs == 1 else f'added up over {runs} runs'}. "
        "Each row is scaled to its true class."
    )
    worst = matrix.most_confused(MAX_CONFUSIONS_LISTED)
    said = "; ".join(f"{true} taken for {other} {100 * share:.0f} %" for true, other, share in worst[:3])
    alt = f"Confusion matrix of {len(matrix.labels)} classes. Largest confusions: {said or 'none'}."
    cells = [(label, *counts) for label, counts in zip(matrix.labels, matrix.counts.tolist(), strict=True)]
    rows = [(true, other, f"{100 * share:.1f}") for true, other, share in worst]
    table = Table(("true class", "most often taken for", "share %"), rows)
    name = file_stem("confusion", row.task)
    return ReportFigure(name, title, caption, alt, draw_confusion(matrix), ("", *matrix.labels), cells, table)


TASK_SECTIONS: tuple[Callable[[Findings], list[Part]], ...] = (
    against_parameters,
    against_labels,
    speakers,
    probing,
    layer_weights,
    confusions,
    dev_curves,
)
"""In the order of the page."""
