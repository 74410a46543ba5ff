"""Draws confusion matrices and speaker maps (the paper's Figure 5)."""

from __future__ import annotations

from typing import Any

from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from s3prl_aalbert.analysis.confusion import Confusion
from s3prl_aalbert.analysis.settings import unique
from s3prl_aalbert.analysis.style import COLOURS, MARKERS, add_legend, panels
from s3prl_aalbert.analysis.tsne import SpeakerMaps
from s3prl_aalbert.printable import figure_text

MAX_LABELLED = 80
"""Matrices with more classes carry no class names: they could not be read."""


def draw_confusion(confusion: Confusion) -> Figure:
    """Draw the share of each true class (row) taken for each class (column), darker is more."""
    size = len(confusion.labels)
    inches = min(7.6, max(4.5, 2.2 + 0.13 * size))
    figure, (axes,) = panels(1, width=inches + 0.8, height=inches)
    # The square root of the scale lets small confusions be seen beside the diagonal.
    norm = PowerNorm(0.5, vmin=0, vmax=100)
    image = axes.imshow(100 * confusion.shares, cmap="Blues", norm=norm, interpolation="nearest")
    if size <= MAX_LABELLED:
        names = [figure_text(label) for label in confusion.labels]
        font = min(9.0, max(5.0, 330 / size))
        axes.set_xticks(range(size), names, rotation=90, fontsize=font)
        axes.set_yticks(range(size), names, fontsize=font)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")
    axes.grid(visible=False)
    axes.spines[["top", "right"]].set_visible(True)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, pad=0.02, ticks=[0, 5, 20, 50, 100], format="%d")
    bar.set_label("share of the true class (%)")
    return figure


def draw_speaker_maps(result: SpeakerMaps) -> Figure:
    """Draw each representation's map side by side, speakers told apart by colour and marker."""
    speakers = unique(result.speakers)
    figure, grid = panels(len(result.maps), columns=len(result.maps), width=2.9, height=3.3)
    handles: list[Any] = []
    for axes, one in zip(grid, result.maps, strict=True):
        handles.clear()
        for index, speaker in enumerate(speakers):
            chosen = [number for number, name in enumerate(result.speakers) if name == speaker]
            handles.append(
                axes.scatter(
                    one.points[chosen, 0],
                    one.points[chosen, 1],
                    s=26,
                    marker=MARKERS[index % len(MARKERS)],
                    color=COLOURS[index % len(COLOURS)],
                    edgecolors="white",
                    linewidths=0.4,
                    label=figure_text(speaker),
                )
            )
        axes.set_title(f"{one.name}\n{describe_silhouette(one.raw_silhouette, one.flat_silhouette)}")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[["top", "right"]].set_visible(True)
    add_legend(figure, handles)
    return figure


def describe_silhouette(raw: float | None, flat: float | None) -> str:
    """Return both silhouette scores in words."""
    if raw is None or flat is None:
        return "all utterances coincide: no score"
    return f"silhouette {raw:.2f}; in 2-D {flat:.2f}"
