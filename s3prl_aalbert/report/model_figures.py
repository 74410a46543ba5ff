"""Draws figures of single models: losses, confusions, speakers (the paper's Figure 5), a search's Pareto front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from s3prl_aalbert.compress.search import Candidate
from s3prl_aalbert.printable import figure_text
from s3prl_aalbert.report.artefacts import LOSSES, Scalars, running_mean
from s3prl_aalbert.report.describe import unique
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
from s3prl_aalbert.report.tsne import SpeakerMaps

MAX_LABELLED, MAX_LABELLED_NARROW = 80, 20
"""Matrices with more classes show every second name or none, since they would be illegible."""


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


# --------------------------------------------------------------------------- confusions; speaker maps, Fig. 5


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


def draw_speaker_maps(result: SpeakerMaps, layout: Layout) -> Figure:
    """Draw each representation's map; colour and marker show the speaker."""
    speakers = unique(result.speakers)
    titles = [f"{one.name}\n{describe_silhouette(one.raw_silhouette, one.flat_silhouette)}" for one in result.maps]
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


def describe_silhouette(raw: float | None, flat: float | None) -> str:
    """Describe both silhouette scores."""
    if raw is None or flat is None:
        return "all utterances coincide, no score"
    return f"silhouette {raw:.2f}, in 2-D {flat:.2f}"


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
