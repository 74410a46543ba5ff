"""Mean and spread of repeated runs: over seeds, where each seed is the mean of its folds."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from s3prl_aalbert.analysis.runs import DownstreamRun, ProbeRun
from s3prl_aalbert.analysis.settings import fold_settings, seed_settings


@dataclass(frozen=True)
class Spread:
    """Mean and spread of repeated runs."""

    mean: float
    low: float
    high: float
    std: float
    """Sample standard deviation (n - 1); 0 for a single value."""
    count: int
    """Values that mean and spread are over: seeds, or the folds of a single seed."""
    seeds: int = 1
    folds: int = 1
    """Folds of a seed; the most that a seed has."""
    uneven: bool = False
    """Whether some seeds have fewer folds."""

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Summarise at least one value, each of another seed."""
        values = list(values)
        std = statistics.stdev(values) if len(values) > 1 else 0.0
        count = len(values)
        return cls(statistics.fmean(values), min(values), max(values), std, count, seeds=count)

    @classmethod
    def over(cls, values: Iterable[tuple[DownstreamRun | ProbeRun, float]]) -> Spread:
        """Summarise at least one run's value: folds are averaged first; a single seed's folds are its spread."""
        by_seed: dict[tuple[Hashable, ...], dict[tuple[Hashable, ...], float]] = {}
        for run, value in values:
            by_seed.setdefault(seed_settings(run), {})[fold_settings(run)] = value
        sizes = [len(folds) for folds in by_seed.values()]
        if len(by_seed) == 1:
            (folds,) = by_seed.values()
            whole = cls.of(folds.values())
        else:
            whole = cls.of(statistics.fmean(folds.values()) for folds in by_seed.values())
        facts = (whole.mean, whole.low, whole.high, whole.std, whole.count)
        return cls(*facts, seeds=len(by_seed), folds=max(sizes), uneven=len(set(sizes)) > 1)

    def percent(self) -> str:
        """Return e.g. ``45.3 [44.9-45.8]`` per cent: mean and, for several values, smallest and largest."""
        if self.count == 1:
            return f"{100 * self.mean:.1f}"
        return f"{100 * self.mean:.1f} [{100 * self.low:.1f}-{100 * self.high:.1f}]"

    def say_folds(self) -> str:
        """Return how many folds each seed has, empty where it has one."""
        return "" if self.folds == 1 else f"{'up to ' if self.uneven else ''}{self.folds}"

    def repetitions(self) -> str:
        """Return how many seeds and folds there are, e.g. ``3`` or ``3 x 4 folds``."""
        return str(self.seeds) + (f" x {self.say_folds()} folds" if self.folds > 1 else "")


def say_spread(spreads: Iterable[Spread], what: str = "whiskers reach") -> str:
    """Say what a figure's points and whiskers mean."""
    shown = [value for value in spreads if value.count > 1]
    if not shown:
        return "One run each: no spread."
    text = f"Means over seeds, {what} from the lowest to the highest seed."
    if any(value.seeds > 1 and value.folds > 1 for value in shown):
        text += " Folds are averaged first."
    if any(value.seeds == 1 for value in shown):
        text += " Where there is one seed, its folds take the place of seeds."
    return text
