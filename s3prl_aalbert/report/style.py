"""The style of the figures: colours that colour-blind readers can distinguish, each with its own marker."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from s3prl_aalbert.printable import LONGEST_IN_FIGURE, figure_text, printable

PANEL_HEIGHT = 3.0
LETTER = 0.075
"""Average width of a letter in inches."""
LEGEND_LINE = 0.18
"""Height of a line of the legend in inches."""
AXIS_LABELS = 0.6
"""Width of a panel's vertical axis in inches."""


@dataclass(frozen=True)
class Layout:
    """The size of a figure; each figure is drawn for a screen and for a telephone."""

    width: float
    """Width of the whole figure in inches."""
    columns: int
    """Largest number of panels side by side."""
    dpi: int


WIDE, NARROW = Layout(8.4, 2, 160), Layout(3.6, 1, 220)

# Okabe and Ito (2008), "Color Universal Design", without yellow, which is too light on paper, and with a softer black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h")
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
FILLS = ("full", "none", "left", "right", "top", "bottom")
"""Fill styles of markers, in matplotlib's names."""


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
        """Return legend entries: one per model and, if there are several settings, one per setting."""
        handles = [Line2D([], [], label=name, linestyle="none", **self.model(name)) for name in models]
        if len(settings) < 2:
            return handles
        for name in settings:
            look = self.setting(name)
            if not lines:
                look["linestyle"] = "none"
            handles.append(Line2D([], [], label=name, color="0.35", marker="o", markerfacecoloralt="white", **look))
        return handles


def figure_style() -> AbstractContextManager[None]:
    """Apply the settings of matplotlib that hold only while a figure is drawn."""
    return mpl.rc_context(
        {
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
    )


def panels(
    titles: Collection[str],
    layout: Layout,
    columns: int | None = None,
    height: float = PANEL_HEIGHT,
    sharex: bool = False,
    sharey: bool | Literal["row"] = False,
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel of each title, row by row, with at most ``columns`` side by side."""
    count = len(titles)
    columns = min(count, columns or layout.columns) if layout.columns > 1 else 1
    rows = math.ceil(count / columns)
    width = layout.width if columns > 1 or layout.columns == 1 else 0.75 * layout.width
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(h_pad=0.1)  # type: ignore[union-attr,call-arg]
    grid = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey).flatten().tolist()
    for axes in grid[count:]:
        axes.set_axis_off()
    for axes, title in zip(grid, titles, strict=False):
        axes.set_title(wrapped(title, width / columns - AXIS_LABELS))
    return figure, grid[:count]


def wrapped(text: str, inches: float) -> str:
    """Return text for a figure, broken into lines of at most ``inches``."""
    shown = [printable(line, LONGEST_IN_FIGURE) for line in text.split("\n")]
    letters = max(12, int(inches / LETTER))
    return figure_text("\n".join(part for line in shown for part in textwrap.wrap(line, letters) or [line]))


def add_legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """Add a legend below the panels, with as many columns as its longest entry allows; the figure grows by it."""
    if not handles:
        return
    width = figure.get_figwidth()
    for handle in handles:
        handle.set_label(wrapped(str(handle.get_label()), width - 0.7))
    lines = [line for handle in handles for line in str(handle.get_label()).split("\n")]
    columns = max(1, min(len(handles), int(width / (LETTER * max(map(len, lines)) + 0.6))))
    figure.set_figheight(figure.get_figheight() + LEGEND_LINE * math.ceil(len(lines) / columns))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def step_axis(axes: Axes) -> None:
    """Label the horizontal axis as training steps."""
    axes.set_xlabel("training step")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def layer_axis(axes: Axes) -> None:
    """Label the horizontal axis as layers."""
    axes.set_xlabel("layer (0: input embedding)")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=13, integer=True, min_n_ticks=1))
