"""Chooses the data of each figure about tasks, and writes its caption."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from s3prl_aalbert.downstream.result_tables import CONFUSION_FILE, Confusion
from s3prl_aalbert.downstream.results import ResultsError
from s3prl_aalbert.report.artefacts import (
    Point,
    add_up,
    dev_curve,
    first_layer,
    learned_weights,
    most_confused,
    shares_of,
)
from s3prl_aalbert.report.figures import (
    draw_against_labels,
    draw_against_parameters,
    draw_confusion,
    draw_dev_curves,
    draw_layer_weights,
    draw_probing,
    draw_speakers,
)
from s3prl_aalbert.report.models import FEATURES
from s3prl_aalbert.report.page import NotDrawn, ReportFigure, Table, file_stem
from s3prl_aalbert.report.runs import DownstreamRun, Skipped, UnusableRun
from s3prl_aalbert.report.style import Styles
from s3prl_aalbert.report.summary import (
    PROBE_COLUMNS,
    ProbeRow,
    ResultRow,
    Scores,
    best_layers,
    by_task,
    full_rows,
    probe_cells,
)

Part = ReportFigure | NotDrawn
T = TypeVar("T")

SCORE_COLUMNS = ("test_mean", "test_error", "seeds", "splits")
ROW_COLUMNS = ("task", "model", "setting", "parameters", "train_fraction", *SCORE_COLUMNS, "majority")
MAX_CONFUSIONS_LISTED = 8


@dataclass
class FigureData:
    """The data from which the figures are made."""

    rows: list[ResultRow]
    probes: list[ProbeRow]
    styles: Styles
    problems: list[Skipped] = field(default_factory=list)
    """Files that could not be used; figures add to the list."""

    @property
    def full_rows(self) -> list[ResultRow]:
        """See ``summary.full_rows``."""
        return full_rows(self.rows)


def score_cells(value: Scores) -> tuple[object, ...]:
    """Return the CSV cells of a metric: mean, standard error, number of seeds, number of splits."""
    return (value.mean, _blank(value.error), value.seeds, value.splits)


def _row_cells(row: ResultRow) -> tuple[object, ...]:
    head = (row.task, row.model.label, row.setting, _blank(row.model.parameters), row.fraction)
    return (*head, *score_cells(row.test), _blank(row.majority))


def _blank(value: object) -> object:
    return "" if value is None else value


def describe_errors(scores: Iterable[Scores], what: str = "whiskers reach") -> str:
    """Explain the points and whiskers of a figure."""
    repeated = [value for value in scores if len(value.values) > 1]
    if not repeated:
        return "Each value is of one run, so that no standard error is known."
    over = ["splits (seeds are averaged first)"] if any(value.splits > 1 for value in repeated) else []
    over += ["seeds"] if any(value.splits == 1 for value in repeated) else []
    return f"Each value is the mean over {' or '.join(over)}; {what} one standard error to either side."


def _describe_row_errors(rows: Iterable[ResultRow | ProbeRow]) -> str:
    return describe_errors([row.test for row in rows])


def _list_rows(rows: Iterable[ResultRow]) -> str:
    return "; ".join(f"{r.task}, {r.model.label}, {r.setting}: {r.test.percent()} %" for r in rows)


def against_parameters(figure_data: FigureData) -> list[Part]:
    """Draw Figure 2 of the paper."""
    title = "Accuracy against parameters (paper: Figure 2)"
    rows = [row for row in figure_data.full_rows if row.model.parameters is not None]
    tasks = by_task(rows).values()
    rows = [row for same in tasks if len({row.model.parameters for row in same} - {0}) > 1 for row in same]
    if not rows:
        return [NotDrawn(title, "needs runs of one task with models of different sizes")]
    caption = (
        f"The figure shows test accuracy against the parameters of the model. {_describe_row_errors(rows)} "
        "Horizontal lines are input features, which have no parameters. Points of equal size stand side by side."
    )
    draw = partial(draw_against_parameters, rows, figure_data.styles)
    cells = [_row_cells(row) for row in rows]
    alt = f"Test accuracy against parameters. {_list_rows(rows)}."
    return [ReportFigure("accuracy_against_parameters", title, caption, alt, draw, ROW_COLUMNS, cells)]


def against_labels(figure_data: FigureData) -> list[Part]:
    """Draw Figure 3 of the paper."""
    title = "Accuracy against the proportion of labels (paper: Figure 3)"
    tasks = by_task(figure_data.rows).values()
    rows = [row for same in tasks if len({row.fraction for row in same}) > 1 for row in same]
    if not rows:
        return [NotDrawn(title, "needs runs of one task with several values of train_fraction")]
    caption = (
        f"The figure shows test accuracy when only a part of the training labels is used. {_describe_row_errors(rows)} "
        "The dotted line, or the text in its place, gives the accuracy of always predicting the most frequent class."
    )
    draw = partial(draw_against_labels, rows, figure_data.styles)
    listed = "; ".join(f"{r.model.label}, {r.setting}, {100 * r.fraction:g} %: {r.test.percent()} %" for r in rows)
    alt = f"Test accuracy against the share of labels. {listed}."
    cells, table = list(map(_row_cells, rows)), _labels_table(rows)
    return [ReportFigure("accuracy_against_labels", title, caption, alt, draw, ROW_COLUMNS, cells, table)]


def _labels_table(rows: Sequence[ResultRow]) -> Table:
    """Return mean test accuracies with a column for each share of labels."""
    shares = sorted({row.fraction for row in rows})
    cells: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        line = cells.setdefault((row.model.label, row.setting, row.task), [""] * len(shares))
        line[shares.index(row.fraction)] = f"{100 * row.test.mean:.1f}"
    head = ("model", "setting", "task", *(f"{100 * share:g} % of the labels" for share in shares))
    caption = "Test accuracy in per cent by share of the training labels."
    return Table(head, [(*names, *line) for names, line in cells.items()], caption)


def speakers(figure_data: FigureData) -> list[Part]:
    """Draw Figure 4 of the paper."""
    title = "Speakers (paper: Figure 4)"
    rows = [row for row in figure_data.full_rows if "speaker" in row.task_name]
    if not rows:
        return [NotDrawn(title, "needs a run of a speaker task")]
    caption = (
        f"The bars show test accuracy of the speaker tasks. {_describe_row_errors(rows)} "
        "Dotted marks show the accuracy of always predicting the most frequent speaker."
    )
    if any(row.model.key.upstream == FEATURES and row.setting.startswith("with CMVN") for row in rows):
        caption += (
            " With CMVN a feature's mean over an utterance is zero, so that little distinguishes speakers at utterance "
            "level, most in short utterances (the frames stacked in a token average to zero together, not each)."
        )
    draw = partial(draw_speakers, rows, figure_data.styles)
    cells = [(*_row_cells(row), _blank(row.classes)) for row in rows]
    alt = f"Speaker accuracy. {_list_rows(rows)}."
    return [ReportFigure("speakers", title, caption, alt, draw, (*ROW_COLUMNS, "speakers"), cells)]


def probing(figure_data: FigureData) -> list[Part]:
    """Draw Figure 6 of the paper."""
    title = "Probing by layer and classifier (paper: Figure 6)"
    rows = figure_data.probes
    if not rows:
        return [NotDrawn(title, "needs a probing run (aalbert probe)")]
    flat = any(all(r.layer == 0 for r in rows if r.name == row.name) for row in rows)
    level = "A dashed level stands for a representation without layers. " if flat else ""
    caption = (
        f"The figure shows test accuracy of a classifier trained on a single layer. {_describe_row_errors(rows)} "
        f"{level}The table gives the layer that is best on dev."
    )
    columns = ("task", "model", "classifier", "layer", "dev_mean", *SCORE_COLUMNS)
    cells = [(r.task, r.name, r.classifier, r.layer, r.dev.mean, *score_cells(r.test)) for r in rows]
    best = best_layers(rows)
    listed = "; ".join(f"{r.task}, {r.classifier}, {r.name}: best layer {r.layer}, {r.test.percent()} %" for r in best)
    table = Table(PROBE_COLUMNS, [probe_cells(row, rows) for row in best])
    draw, alt = partial(draw_probing, rows, figure_data.styles), f"Probing accuracy by layer. {listed}."
    return [ReportFigure("probing", title, caption, alt, draw, columns, cells, table)]


def layer_weights(figure_data: FigureData) -> list[Part]:
    """Draw the learned layer weights of the weighted sum."""
    title = "Learned layer weights"
    found = [(row, layers) for row in figure_data.full_rows if (layers := _weights_by_layer(figure_data, row))]
    if not found:
        return [NotDrawn(title, "needs a run of a weighted sum that kept its checkpoint")]
    values = [value for _, layers in found for _, value in layers]
    caption = (
        "The figure shows how much each layer counts in the weighted sum, at the step that is best on dev. "
        f"{describe_errors(values)} Layer 0 is the input embedding."
    )
    columns = ("task", "model", "setting", "layer", "weight_mean", "weight_error", "seeds", "splits")
    cells = _curve_cells(found)
    heaviest = [(row, max(layers, key=lambda pair: pair[1].mean)) for row, layers in found]
    listed = "; ".join(
        f"{r.task}, {r.model.label}, {r.setting}: layer {i} with {v.percent()} %" for r, (i, v) in heaviest
    )
    draw = partial(draw_layer_weights, found, figure_data.styles)
    alt = f"Learned weight of each layer; the heaviest: {listed}."
    return [ReportFigure("layer_weights", title, caption, alt, draw, columns, cells)]


def _weights_by_layer(figure_data: FigureData, row: ResultRow) -> list[Point]:
    """Return the weight of each layer over the repeats of a row; an empty list without learned weights."""
    weights = _read_each(figure_data, row.runs, learned_weights)
    lengths = {len(values) for _, values in weights}
    if len(lengths) > 1:
        problem = f"its repeats have {' and '.join(map(str, sorted(lengths)))} layer weights"
        figure_data.problems.append(Skipped(row.runs[0].folder, problem))
        return []
    start = first_layer(row.runs[0])
    size = lengths.pop() if lengths else 0
    return [(start + layer, Scores.of((run, values[layer]) for run, values in weights)) for layer in range(size)]


def _read_each(
    figure_data: FigureData, runs: Sequence[DownstreamRun], read: Callable[[DownstreamRun], T | None]
) -> list[tuple[DownstreamRun, T]]:
    """Read a file of each run; damaged files are added to the problems of the figure_data."""
    values = []
    for run in runs:
        try:
            value = read(run)
        except (UnusableRun, ResultsError) as error:
            figure_data.problems.append(Skipped(run.folder, str(error)))
            continue
        if value is not None:
            values.append((run, value))
    return values


def dev_curves(figure_data: FigureData) -> list[Part]:
    """Draw dev accuracy during training."""
    title = "Training curves of the tasks"
    curves = [(row, dev_curve(row)) for row in figure_data.full_rows]
    curves = [(row, points) for row, points in curves if len(points) > 1]
    if not curves:
        return [NotDrawn(title, "needs a run with more than one evaluation on dev")]
    errors = describe_errors([row.dev for row, _ in curves], "bands reach")
    caption = f"The curves show dev accuracy by training step. {errors}"
    columns = ("task", "model", "setting", "step", "dev_mean", "dev_error", "seeds", "splits")
    cells = _curve_cells(curves)
    listed = "; ".join(
        f"{row.task}, {row.model.label}, {row.setting}: {points[0][1].percent()} % to {points[-1][1].percent()} %"
        for row, points in curves
    )
    draw, alt = partial(draw_dev_curves, curves, figure_data.styles), f"Dev accuracy by step. {listed}."
    return [ReportFigure("training_curves", title, caption, alt, draw, columns, cells)]


def _curve_cells(curves: Iterable[tuple[ResultRow, Iterable[Point]]]) -> list[tuple[object, ...]]:
    return [
        (row.task, row.model.label, row.setting, place, *score_cells(value))
        for row, points in curves
        for place, value in points
    ]


def confusions(figure_data: FigureData) -> list[Part]:
    """Draw a confusion matrix for each task: of the best trained model, with ours before others."""
    parts: list[Part] = []
    for rows in by_task(figure_data.full_rows).values():
        candidates = [(row, _confusions_of(figure_data, row)) for row in rows]
        readable = [(row, matrices) for row, matrices in candidates if matrices]
        if readable:
            row, matrices = max(readable, key=lambda pair: _interest(pair[0]))
            parts.append(_confusion_figure(row, add_up(matrices), len(matrices)))
    return parts or [NotDrawn("Confusion matrix", f"needs a run with {CONFUSION_FILE}")]


def _interest(row: ResultRow) -> tuple[bool, bool, float]:
    """Rank rows: trained models of this project, other trained models, and the rest, each by dev accuracy."""
    trained = row.model.trained
    return trained and row.model.config is not None, trained, row.dev.mean


def _confusions_of(figure_data: FigureData, row: ResultRow) -> list[Confusion]:
    kept = [run for run in row.runs if (run.folder / CONFUSION_FILE).is_file()]
    return [matrix for _, matrix in _read_each(figure_data, kept, lambda run: Confusion.read(run.folder))]


def _confusion_figure(row: ResultRow, matrix: Confusion, runs: int) -> ReportFigure:
    title = f"Confusion matrix: {row.task}"
    ours, trained, _ = _interest(row)
    what = "trained model of this project" if ours else "trained model" if trained else "representation"
    counted = "The counts are of one run" if runs == 1 else f"The counts of {runs} runs are summed"
    caption = (
        f"The matrix is that of {row.model.label} ({row.setting}), the {what} with the best accuracy on dev. "
        f"{counted}, on test data. Each row is scaled to its true class."
    )
    worst = most_confused(matrix, MAX_CONFUSIONS_LISTED)
    listed = "; ".join(f"{true} taken for {other} {100 * share:.0f} %" for true, other, share in worst[:3])
    alt = f"Confusion matrix of {len(matrix.labels)} classes. Largest confusions: {listed or 'none'}."
    cells = [(label, *counts) for label, counts in zip(matrix.labels, matrix.counts.tolist(), strict=True)]
    rows = [(true, other, f"{100 * share:.1f}") for true, other, share in worst]
    table = Table(("true class", "most often taken for", "share of the true class %"), rows)
    draw = partial(draw_confusion, matrix.labels, shares_of(matrix))
    return ReportFigure(file_stem("confusion", row.task), title, caption, alt, draw, ("", *matrix.labels), cells, table)


TASK_SECTIONS: tuple[Callable[[FigureData], list[Part]], ...] = (
    against_parameters,
    against_labels,
    speakers,
    probing,
    layer_weights,
    confusions,
    dev_curves,
)
"""All figures about tasks, in the order of the page."""
