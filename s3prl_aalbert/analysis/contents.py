"""What a report is made of: figures with their data, and lines for those left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Table:
    """A table of text cells."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class ReportFigure:
    """A picture, the words around it and the numbers behind it."""

    name: str
    """Stem of its PNG and CSV files."""
    title: str
    caption: str
    alt: str
    """What a reader who cannot see the picture should know."""
    picture: Figure
    columns: Sequence[str]
    """Of the CSV."""
    rows: Sequence[Sequence[object]]
    table: Table | None = None
    """Shown below the picture."""


@dataclass(frozen=True)
class Omitted:
    """A figure for which there are no data."""

    title: str
    reason: str


def file_stem(*parts: str) -> str:
    """Return a file name of lower-case letters, digits and underscores."""
    words = "_".join(parts).lower()
    plain = "".join(character if character.isalnum() and character.isascii() else "_" for character in words)
    return "_".join(word for word in plain.split("_") if word)
