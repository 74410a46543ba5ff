"""Writes and reads the tables of a run folder: probes.csv and confusion.csv."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from s3prl_aalbert.downstream.results import ResultsError
from s3prl_aalbert.files import write_text

PROBES_FILE, CONFUSION_FILE = "probes.csv", "confusion.csv"


@dataclass(frozen=True)
class ProbeResult:
    """A row of probes.csv: one classifier on one layer at its own best step."""

    task: str
    layer: int
    """0 is the input embedding."""
    classifier: str
    dev_acc: float
    test_acc: float | None
    """None until the best step is evaluated on test."""
    best_step: int
    params: int
    """Number of the classifier's parameters."""


def write_probes(folder: Path, probes: Sequence[ProbeResult]) -> None:
    """Write probes.csv atomically."""
    rows = [[_cell(value) for value in asdict(probe).values()] for probe in probes]
    write_csv(folder / PROBES_FILE, [[column.name for column in fields(ProbeResult)], *rows])


def _cell(value: object) -> object:
    return "" if value is None else f"{value:.6f}" if isinstance(value, float) else value


def read_probes(folder: Path) -> list[ProbeResult]:
    """Read probes.csv.

    Raises:
        ResultsError: the file is missing or damaged.
    """
    path = folder / PROBES_FILE
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [_probe(number, row) for number, row in enumerate(csv.DictReader(file), start=2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ResultsError(f"{path.name} is damaged ({error})") from error


def _probe(line: int, row: Mapping[str, str | None]) -> ProbeResult:
    cells = {column.name: row.get(column.name) or "" for column in fields(ProbeResult)}
    missing = [name for name, cell in cells.items() if not cell and name != "test_acc"]
    if missing:
        raise ResultsError(f"{PROBES_FILE} line {line}: no {', '.join(missing)}")
    try:
        layer, best_step, params = int(cells["layer"]), int(cells["best_step"]), int(cells["params"])
        dev, test = float(cells["dev_acc"]), float(cells["test_acc"]) if cells["test_acc"] else None
    except ValueError as error:
        raise ResultsError(f"{PROBES_FILE} line {line}: {error}") from error
    if not all(math.isfinite(value) and 0 <= value <= 1 for value in (dev, test or 0.0)):
        raise ResultsError(f"{PROBES_FILE} line {line}: accuracy {dev}, {test}, expected within [0, 1]")
    return ProbeResult(cells["task"], layer, cells["classifier"], dev, test, best_step, params)


@dataclass(frozen=True)
class Confusion:
    """How often each class was predicted for each true class."""

    labels: tuple[str, ...]
    counts: np.ndarray
    """(true class, predicted class)."""

    def write(self, folder: Path) -> None:
        """Write confusion.csv: predicted classes in the first row, true classes in the first column."""
        rows = [[label, *counts] for label, counts in zip(self.labels, self.counts.tolist(), strict=True)]
        write_csv(folder / CONFUSION_FILE, [["", *self.labels], *rows])

    @classmethod
    def read(cls, folder: Path) -> Confusion:
        """Read confusion.csv.

        Raises:
            ResultsError: the file is not a square table of counts with the same labels on both sides.
        """
        path = folder / CONFUSION_FILE
        try:
            with path.open(encoding="utf-8", newline="") as handle:
                header, *rows = list(csv.reader(handle))
            counts = np.array([[float(cell) for cell in row[1:]] for row in rows])
            labels, true_labels = tuple(header[1:]), tuple(row[0] for row in rows)
        except (OSError, ValueError, LookupError, csv.Error) as error:
            raise ResultsError(f"{path.name} is damaged ({error})") from error
        if labels != true_labels or counts.shape != (len(labels), len(labels)) or not labels:
            raise ResultsError(
                f"{path.name} is {counts.shape}, expected a square table with the same classes on both sides"
            )
        if not (np.isfinite(counts).all() and (counts >= 0).all()):
            raise ResultsError(f"{path.name} holds negative or infinite counts")
        return cls(labels, counts)


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """Write rows as CSV, atomically."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())
