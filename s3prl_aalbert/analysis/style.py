"""How the figures look: colours that colour-blind readers can tell apart, each with its own marker."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from s3prl_aalbert.printable import figure_text

DPI = 160
PANEL_WIDTH, PANEL_HEIGHT = 4.2, 3.4
MAX_COLUMNS = 2
RC: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.88",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "errorbar.capsize": 2,
}
"""Given to matplotlib for the time of drawing alone."""

# Okabe and Ito (2008), "Color Universal Design", without its yellow, too light on paper, and with a softer black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h")
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
FILLS = ("full", "none", "left", "right", "top", "bottom")
"""How a marker is filled; matplotlib's names."""


Look = dict[str, Any]
"""Keyword arguments of matplotlib's drawing functions."""


@dataclass(frozen=True)
class Styles:
    """One look for each model (colour and marker) and each setting (line and fill), the same in every figure."""

    models: tuple[str, ...]
    settings: tuple[str, ...] = ()

    def model(self, label: str) -> Look:
        """Return colour and marker of a model."""
        index = self.models.index(label)
        return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}

    def setting(self, name: str) -> Look:
        """Return line and marker fill of a setting."""
        index = self.settings.index(name)
        return {"linestyle": LINES[index % len(LINES)], "fillstyle": FILLS[index % len(FILLS)]}

    def both(self, label: str, setting: str) -> Look:
        """Return the look of a model in a setting."""
        return {**self.model(label), **self.setting(setting), "markerfacecoloralt": "white"}

    def legend_handles(self, models: Sequence[str], settings: Sequence[str], lines: bool = True) -> list[Line2D]:
        """Return legend entries: one for each model, and one for each setting where there are several."""
        handles = [Line2D([], [], label=figure_text(name), linestyle="none", **self.model(name)) for name in models]
        if len(settings) < 2:
            return handles
        for name in settings:
            look = self.setting(name)
            if not lines:
                look["linestyle"] = "none"
            handles.append(
                Line2D([], [], label=figure_text(name), color="0.35", marker="o", markerfacecoloralt="white", **look),
            )
        return handles


def panels(
    count: int, columns: int | None = None, width: float = PANEL_WIDTH, height: float = PANEL_HEIGHT, **share: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure with ``count`` panels, row by row."""
    columns = columns or min(count, MAX_COLUMNS)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(max(width * columns, 6.0), height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, **share).flatten().tolist()
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, grid[:count]


def add_legend(figure: Figure, handles: Sequence[Any]) -> None:
    """Put the legend below the panels, where it hides nothing, in as many columns as its longest entry allows."""
    if not handles:
        return
    longest = max(len(str(handle.get_label())) for handle in handles)
    per_row = int(figure.get_figwidth() / (0.075 * longest + 0.6))
    figure.legend(handles=handles, loc="outside lower center", ncols=max(1, min(len(handles), per_row)))


def step_axis(axes: Axes) -> None:
    """Label the horizontal axis as training steps."""
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def layer_axis(axes: Axes) -> None:
    """Label the horizontal axis as layers."""
    axes.set_xlabel("layer (0: input embedding)")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=13, integer=True, min_n_ticks=1))


def error_lengths(mean: float, low: float, high: float) -> list[list[float]]:
    """Return matplotlib's ``yerr`` of one point, from its mean to the lowest and the highest run, in per cent."""
    return [[max(0.0, 100 * (mean - low))], [max(0.0, 100 * (high - mean))]]
