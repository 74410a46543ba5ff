"""Training curves: dev accuracy of downstream runs, losses of pre-training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s3prl_aalbert.analysis.runs import DamagedRun, DownstreamRun
from s3prl_aalbert.analysis.spread import Spread
from s3prl_aalbert.analysis.summary import ResultRow

PRETRAIN_TAGS = {"loss": "pretrain/loss", "dev_loss": "pretrain/dev_loss", "lr": "pretrain/lr"}
SMOOTHING_SHARE = 50
"""The smoothed loss is a running mean over 1/50 of the points to either side; of few points, the points themselves."""


@dataclass(frozen=True)
class Point:
    """One step of a curve over seeds."""

    step: int
    value: Spread


def dev_curve(row: ResultRow) -> list[Point]:
    """Return the dev accuracy by step, at the steps where every run of the row was evaluated."""
    by_run = [(run, _dev_accuracies(run)) for run in row.runs]
    shared = sorted(set.intersection(*(set(values) for _, values in by_run)))
    return [Point(step, Spread.over((run, values[step]) for run, values in by_run)) for step in shared]


def _dev_accuracies(run: DownstreamRun) -> dict[int, float]:
    return {
        entry.step: entry.metrics["acc"] for entry in run.history if entry.split == "dev" and "acc" in entry.metrics
    }


def pretraining_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read loss, dev_loss and lr of a pre-training run from its TensorBoard events.

    Returns:
        name -> [(step, value)], ordered by step; after a resume the later value of a step counts.

    Raises:
        DamagedRun: there are no events, or none of pre-training.
    """
    if not any(folder.glob("events.out.tfevents.*")):
        raise DamagedRun("no TensorBoard events")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    known = set(accumulator.Tags()["scalars"])
    found = {}
    for name, tag in PRETRAIN_TAGS.items():
        if tag in known:
            found[name] = sorted({event.step: event.value for event in accumulator.Scalars(tag)}.items())
    if "loss" not in found and "dev_loss" not in found:
        raise DamagedRun("its TensorBoard events hold no loss yet")
    return found


def running_mean(values: Sequence[float]) -> list[float]:
    """Smooth a noisy curve by a centred running mean whose window shrinks towards both ends."""
    width = len(values) // SMOOTHING_SHARE
    array = np.asarray(values, dtype=float)
    ends = np.concatenate([[0.0], np.cumsum(array)])
    index = np.arange(len(array))
    low, high = np.maximum(index - width, 0), np.minimum(index + width + 1, len(array))
    return ((ends[high] - ends[low]) / (high - low)).tolist()


def curve_cells(label: str, setting: str, points: Iterable[Point]) -> list[tuple[object, ...]]:
    """Return a curve as CSV rows: model, setting, step, mean, lowest, highest, runs."""
    return [(label, setting, p.step, p.value.mean, p.value.low, p.value.high, p.value.count) for p in points]
