"""Draws accuracies, layer weights and confusions: the paper's Figures 2, 3, 4 and 6."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from s3prl_aalbert.printable import figure_text
from s3prl_aalbert.report.artefacts import Point
from s3prl_aalbert.report.describe import grouped, unique
from s3prl_aalbert.report.style import (
    Layout,
    Look,
    Styles,
    add_legend,
    layer_axis,
    panels,
    step_axis,
    wrapped,
)
from s3prl_aalbert.report.summary import ProbeRow, ResultRow, Scores, by_task

TEST, DEV = "test accuracy (%)", "dev accuracy (%)"
PARAMETER_DODGE = 0.035
"""Distance of points with the same number of parameters, as a share of the axis."""
LAYER_DODGE = 0.09
"""Distance of points of the same layer, in layers."""
BAR, NAME_LINE = 0.24, 0.13
"""Height in inches of a bar with the space around it, and of each line of its name."""
MARGIN = 1.6
"""Factor of free space at both ends of the parameter axis."""
MAX_LABELLED, MAX_LABELLED_NARROW = 80, 20
"""Matrices with more classes show every second name or none, since they would be illegible."""


def _by_panel(rows: Sequence[ResultRow]) -> dict[str, list[ResultRow]]:
    """Split tasks into fixed and fine-tuned representations, as in the paper; input features are in both."""
    by_title: dict[str, list[ResultRow]] = {}
    for task, members in by_task(rows).items():
        tuned = [row for row in members if row.fine_tuned]
        fixed = [row for row in members if not row.fine_tuned]
        if not tuned or not any(row.model.parameters for row in fixed):
            by_title[task] = members
            continue
        by_title[f"{task}: fixed representation"] = fixed
        by_title[f"{task}: fine-tuned"] = [row for row in members if row.fine_tuned or row.model.parameters == 0]
    return by_title


def _draw_line(axes: Axes, places: Sequence[float], values: Sequence[Scores], look: Look) -> None:
    """Draw a line through points with their error bars."""
    axes.plot(places, [100 * value.mean for value in values], **look)
    for place, value in zip(places, values, strict=True):
        _error_bar(axes, place, value, look)


def _error_bar(axes: Axes, x: float, value: Scores, look: Look) -> None:
    axes.errorbar([x], [100 * value.mean], yerr=_error_length(value), elinewidth=1, **{**look, "linestyle": "none"})


def _error_length(score: Scores) -> float:
    """Return ``yerr`` of one point for matplotlib: its standard error in per cent, or 0 for a single value."""
    return 100 * (score.error or 0.0)


def _dodge(index: int, count: int, step: float) -> float:
    """Return the shift of the index-th of ``count`` points, so that none hides another."""
    return step * (index - (count - 1) / 2)


def _mark_majority(axes: Axes, rows: Sequence[ResultRow]) -> None:
    """Show the majority-class rate as a line, or only as text where the line would squeeze the curves."""
    known = [100 * row.majority for row in rows if row.majority is not None]
    if not known:
        return
    rate = sum(known) / len(known)
    low, high = (100 * end(row.test.mean for row in rows) for end in (min, max))
    near = rate > low - (high - low) / 2
    if near:
        axes.axhline(rate, color="0.55", linewidth=1, linestyle=(0, (1, 1.5)))
    axes.annotate(
        f"most frequent class: {rate:.1f} %",
        (0.99, rate if near else 0),
        xycoords=("axes fraction", "data" if near else "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        color="0.3",
        fontsize=8,
        ha="right",
    )


def _finish(figure: Figure, styles: Styles, rows: Sequence[ResultRow], lines: bool) -> Figure:
    models, settings = unique(row.model.label for row in rows), unique(row.setting for row in rows)
    add_legend(figure, styles.legend_handles(models, settings, lines))
    return figure


# ----------------------------------------------------------------------------- against parameters, Fig. 2


def draw_against_parameters(rows: Sequence[ResultRow], styles: Styles, layout: Layout) -> Figure:
    """Draw test accuracy against parameters, one panel per task; models without parameters are horizontal lines."""
    tasks = by_task(rows)
    figure, grid = panels(tasks, layout)
    for axes, members in zip(grid, tasks.values(), strict=True):
        _draw_task_against_parameters(axes, members, styles)
        axes.set_ylabel(TEST)
    return _finish(figure, styles, rows, lines=False)


def _draw_task_against_parameters(axes: Axes, rows: Sequence[ResultRow], styles: Styles) -> None:
    sized = [row for row in rows if row.model.parameters]
    sizes = [row.model.parameters or 0 for row in sized]
    width = math.log(max(sizes) / min(sizes) * MARGIN**2)  # of the axis
    for size, same in grouped(sized, lambda row: row.model.parameters or 0).items():
        for index, row in enumerate(same):
            moved = size * math.exp(_dodge(index, len(same), PARAMETER_DODGE * width))
            _error_bar(axes, moved, row.test, styles.both(row.model.label, row.setting))
    for row in rows:
        if row.model.parameters == 0:
            look = styles.both(row.model.label, row.setting)
            axes.axhline(100 * row.test.mean, color=look["color"], linestyle=look["linestyle"], linewidth=1, zorder=1)
            # The marker of the model stands at the left edge.
            at_edge = {**look, "linestyle": "none", "transform": axes.get_yaxis_transform()}
            axes.plot([0.02], [100 * row.test.mean], **at_edge)
    _parameter_axis(axes, sizes)


def _parameter_axis(axes: Axes, sizes: Sequence[int]) -> None:
    """Show a logarithmic axis whose ticks are the models' own sizes."""
    axes.set_xscale("log")
    axes.set_xlim(min(sizes) / MARGIN, max(sizes) * MARGIN)
    ticks: list[int] = []
    for size in sorted(set(sizes)):
        if not ticks or size > 1.25 * ticks[-1]:  # closer labels would overlap
            ticks.append(size)
    axes.set_xticks(ticks, [format_parameters(size) for size in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("parameters of the model")


def format_parameters(count: int) -> str:
    """Return e.g. ``7.46M``."""
    if count >= 1_000_000:
        return f"{count / 1e6:.3g}M"
    return f"{count / 1e3:.3g}k" if count >= 1000 else str(count)


# --------------------------------------------------------------------------------- against labels, Fig. 3


def draw_against_labels(rows: Sequence[ResultRow], styles: Styles, layout: Layout) -> Figure:
    """Draw test accuracy against the share of labels, a panel for fixed and one for fine-tuned representations."""
    by_title = _by_panel(rows)
    figure, grid = panels(by_title, layout)
    for axes, members in zip(grid, by_title.values(), strict=True):
        for (model, setting), line in grouped(members, lambda row: (row.model.label, row.setting)).items():
            line.sort(key=lambda row: row.fraction)
            places, values = [100 * row.fraction for row in line], [row.test for row in line]
            _draw_line(axes, places, values, styles.both(model, setting))
        _mark_majority(axes, members)
        _share_axis(axes, sorted({100 * row.fraction for row in members}))
        axes.set_ylabel(TEST)
    return _finish(figure, styles, rows, lines=True)


def _share_axis(axes: Axes, shares: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(shares, [f"{share:g}" for share in shares])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("share of the training labels (%)")


# ----------------------------------------------------------------------------------------- speakers, Fig. 4


def draw_speakers(rows: Sequence[ResultRow], styles: Styles, layout: Layout) -> Figure:
    """Draw test accuracy as bars, one panel per task, each bar below the name of its model and setting."""
    tasks = by_task(rows)
    most = max(map(len, tasks.values()))
    inches = layout.width / (layout.columns if len(tasks) > 1 else 1)
    names = {id(row): wrapped(f"{row.model.label}, {row.setting}", 0.85 * inches) for row in rows}
    slot = BAR + NAME_LINE * max(name.count("\n") + 1 for name in names.values())
    figure, grid = panels(tasks, layout, height=0.9 + slot * most)
    for axes, members in zip(grid, tasks.values(), strict=True):
        _draw_bars(axes, [(row, names[id(row)]) for row in members], styles, slot)
        axes.set_xlabel(TEST)
    return figure


def _draw_bars(axes: Axes, rows: Sequence[tuple[ResultRow, str]], styles: Styles, slot: float) -> None:
    """Draw rows with their names from the top down, each in ``slot`` inches."""
    thick = 0.6 * BAR / slot
    write = partial(axes.annotate, textcoords="offset points", in_layout=False)
    for place, (row, name) in enumerate(rows):
        mean, colour, error = 100 * row.test.mean, styles.model(row.model.label)["color"], _error_length(row.test)
        axes.barh(place, mean, thick, color=colour, alpha=0.85, xerr=error, ecolor="0.2", capsize=2)
        write(f"{mean:.1f}", (mean + error, place), xytext=(4, 0), va="center")
        write(name, (0, place - thick / 2), xytext=(1, 1), va="bottom", fontsize=8, linespacing=1)
        if row.majority is not None:
            axes.plot([100 * row.majority] * 2, [place - thick / 2, place + thick / 2], color="black", linestyle=":")
    axes.set_yticks([])
    axes.set_ylim(len(rows) - 0.6, -1 + thick / 2)
    axes.set_xlim(0, 1.2 * max(100 * row.test.high for row, _ in rows) + 1)
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= 100])
    axes.grid(visible=False, axis="y")


# ------------------------------------------------------------------------------------------ probing, Fig. 6


def draw_probing(rows: Sequence[ProbeRow], styles: Styles, layout: Layout) -> Figure:
    """Draw test accuracy by layer: a row of panels for each task, a column for each classifier."""
    tasks, classifiers = unique(row.task for row in rows), unique(row.classifier for row in rows)
    places = [(task, classifier) for task in tasks for classifier in classifiers]
    titles = [f"{task}: {classifier}" for task, classifier in places]
    figure, grid = panels(titles, layout, len(classifiers), height=2.4, sharex=layout.columns > 1, sharey="row")
    for axes, (task, classifier) in zip(grid, places, strict=True):
        members = [row for row in rows if (row.task, row.classifier) == (task, classifier)]
        for name, line in grouped(members, lambda row: row.name).items():
            look = styles.model(name)
            if [row.layer for row in line] == [0]:  # a representation without layers is a horizontal line
                axes.axhline(100 * line[0].test.mean, color=look["color"], linewidth=1, linestyle=(0, (5, 3)), zorder=1)
            _draw_line(axes, [row.layer for row in line], [row.test for row in line], look)
        if classifier == classifiers[0] or layout.columns == 1:
            axes.set_ylabel(TEST)
        if task == tasks[-1] or layout.columns == 1:
            layer_axis(axes)
    add_legend(figure, styles.legend_handles(unique(row.name for row in rows), []))
    return figure


# -------------------------------------------------------------------------------------------- layer weights


def draw_layer_weights(weights: Sequence[tuple[ResultRow, Sequence[Point]]], styles: Styles, layout: Layout) -> Figure:
    """Draw the learned weight of each layer, one panel per task."""
    tasks = grouped(weights, lambda pair: pair[0].task)
    figure, grid = panels(tasks, layout)
    for axes, members in zip(grid, tasks.values(), strict=True):
        for index, (row, layers) in enumerate(members):
            look = {**styles.both(row.model.label, row.setting), "linewidth": 1}
            moved = [layer + _dodge(index, len(members), LAYER_DODGE) for layer, _ in layers]
            _draw_line(axes, moved, [value for _, value in layers], look)
        axes.set_ylim(0, 108 * max(value.high for _, layers in members for _, value in layers))
        axes.set_ylabel("share of the weighted sum (%)")
        layer_axis(axes)
    return _finish(figure, styles, [row for row, _ in weights], lines=True)


# ------------------------------------------------------------------------------------------ training curves


def draw_dev_curves(curves: Sequence[tuple[ResultRow, Sequence[Point]]], styles: Styles, layout: Layout) -> Figure:
    """Draw mean and standard error of dev accuracy by step, with the panels of the share of labels."""
    points_of = {id(row): points for row, points in curves}
    by_title = _by_panel([row for row, _ in curves])
    figure, grid = panels(by_title, layout)
    for axes, members in zip(grid, by_title.values(), strict=True):
        for row in members:
            _draw_dev_curve(axes, points_of[id(row)], styles.both(row.model.label, row.setting))
        axes.set_ylabel(DEV)
        step_axis(axes)
    return _finish(figure, styles, [row for row, _ in curves], lines=True)


def _draw_dev_curve(axes: Axes, points: Sequence[Point], look: Look) -> None:
    steps = [step for step, _ in points]
    axes.plot(steps, [100 * value.mean for _, value in points], markevery=max(1, len(points) // 6), **look)
    low, high = ([100 * getattr(value, end) for _, value in points] for end in ("low", "high"))
    axes.fill_between(steps, low, high, color=look["color"], alpha=0.15, linewidth=0)


# --------------------------------------------------------------------------------------------------------- confusions


def draw_confusion(labels: Sequence[str], shares: np.ndarray, layout: Layout) -> Figure:
    """Draw the share of each true class (row) that is predicted as each class (column); darker is more.

    Args:
        labels: the classes.
        shares: (classes, classes), rows sum to one.
        layout: width of the figure.
    """
    size, wide = len(labels), layout.columns > 1
    figure, (axes,) = panels([""], layout, height=5.3 if wide else layout.width + 0.7)
    # A square-root scale keeps small confusions visible beside the diagonal.
    norm = PowerNorm(0.5, vmin=0, vmax=100)
    image = axes.imshow(100 * shares, cmap="Blues", norm=norm, interpolation="nearest")
    if size <= MAX_LABELLED:
        every = 1 if wide else math.ceil(size / MAX_LABELLED_NARROW)
        shown = range(0, size, every)
        names = [figure_text(labels[index]) for index in shown]
        font = min(9.0, max(5.0, 330 / size)) if wide else 7
        axes.set_xticks(shown, names, rotation=90, fontsize=font)
        axes.set_yticks(shown, names, fontsize=font)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")
    axes.grid(visible=False)
    axes.spines[["top", "right"]].set_visible(True)
    shrink, place = (0.7, None) if wide else (1.0, "bottom")
    ticks = [0, 5, 20, 50, 100]
    bar = figure.colorbar(image, ax=axes, pad=0.02, ticks=ticks, format="%d", shrink=shrink, location=place)
    bar.set_label("share of the true class (%)")
    return figure
