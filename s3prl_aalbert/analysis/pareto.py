"""The picture of a search: every evaluated sub-network, and those that no other beats."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from s3prl_aalbert.analysis.style import COLOURS, DPI, RC
from s3prl_aalbert.supernet.search import Candidate


def draw_pareto(found: Sequence[Candidate], front: Sequence[Candidate], unit: str) -> Figure:
    """Draw dev loss against cost."""
    with mpl.rc_context(RC):
        figure = Figure(figsize=(5, 3.6), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.plot([c.cost for c in found], [c.loss for c in found], "o", color="0.7", label=f"{len(found)} evaluated")
        axes.plot([c.cost for c in front], [c.loss for c in front], "D-", color=COLOURS[0], label="Pareto front")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set(xlabel=unit, ylabel="dev loss", title="Sub-networks")
        axes.legend()
        return figure
