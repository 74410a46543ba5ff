"""Confusion matrices: read from confusion.csv, added up over seeds."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s3prl_aalbert.analysis.runs import DamagedRun

CONFUSION_FILE = "confusion.csv"


@dataclass(frozen=True)
class Confusion:
    """How often each class was taken for each other."""

    labels: tuple[str, ...]
    counts: np.ndarray
    """(true class, predicted class)."""

    @property
    def shares(self) -> np.ndarray:
        """Rows scaled to sum to one; classes that never occur stay zero."""
        totals = self.counts.sum(axis=1, keepdims=True)
        return np.divide(self.counts, totals, out=np.zeros_like(self.counts), where=totals > 0)

    def most_confused(self, number: int) -> list[tuple[str, str, float]]:
        """Return the largest (true class, predicted class, share of the true class) off the diagonal."""
        shares = self.shares.copy()
        np.fill_diagonal(shares, 0)
        order = np.argsort(-shares, axis=None, kind="stable")[:number]
        pairs = [np.unravel_index(int(flat), shares.shape) for flat in order]
        return [(self.labels[i], self.labels[j], float(shares[i, j])) for i, j in pairs if shares[i, j] > 0]


def read_confusion(file: Path) -> Confusion:
    """Read a matrix whose first row holds the predicted and whose first column the true classes.

    Raises:
        DamagedRun: it is no square table of numbers with the same labels on both sides.
    """
    try:
        with file.open(encoding="utf-8", newline="") as handle:
            header, *rows = list(csv.reader(handle))
        counts = np.array([[float(cell) for cell in row[1:]] for row in rows])
    except (OSError, ValueError, csv.Error) as error:
        raise DamagedRun(f"{file.name} is damaged ({error})") from error
    labels, true_labels = tuple(header[1:]), tuple(row[0] for row in rows)
    if labels != true_labels or counts.shape != (len(labels), len(labels)) or not labels:
        raise DamagedRun(f"{file.name} is {counts.shape}, expected a square table with the same classes on both sides")
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise DamagedRun(f"{file.name} holds negative or infinite counts")
    return Confusion(labels, counts)


def add_up(matrices: Sequence[Confusion]) -> Confusion:
    """Add matrices of runs with different seeds; classes that only some runs saw are kept."""
    labels = tuple(dict.fromkeys(label for matrix in matrices for label in matrix.labels))
    total = np.zeros((len(labels), len(labels)))
    for matrix in matrices:
        index = [labels.index(label) for label in matrix.labels]
        total[np.ix_(index, index)] += matrix.counts
    return Confusion(labels, total)
