"""Means with standard errors over the speakers, folds or splits on which every model was scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

Key = TypeVar("Key")
Values = Mapping[Key, float]
"""Scores by speaker, fold, split or seed."""


def mean_and_error(values: Values[Key]) -> tuple[float, float]:
    """Return the mean and its standard error, which is NaN for a single value."""
    found = np.array(list(values.values()), dtype=np.float64)
    error = found.std(ddof=1) / np.sqrt(len(found)) if len(found) > 1 else float("nan")
    return float(found.mean()), float(error)


def differences(values: Values[Key], baseline: Values[Key]) -> dict[Key, float]:
    """Return value minus baseline wherever both are known."""
    return {key: value - baseline[key] for key, value in values.items() if key in baseline}


def percent(values: Values[Key], sign: bool = False) -> str:
    """Return e.g. ``16.6 ± 0.5``: mean and standard error in per cent; ``sign`` also shows +."""
    return percent_of(*mean_and_error(values), sign)


def percent_of(mean: float, error: float, sign: bool = False) -> str:
    """Return a mean and its standard error as ``percent`` does; NaN is no error."""
    shown = f"{100 * mean:+.1f}" if sign else f"{100 * mean:.1f}"
    return shown if np.isnan(error) else f"{shown} ± {100 * error:.1f}"
