"""A time budget: how much of it a run has used, so that it can end whole inside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

RESERVE_SHARE = 0.02
"""Of the budget, kept for the last evaluation, state and release until one of them was timed."""
RESERVE_MARGIN = 1.5
"""The longest evaluation and saving so far, times this, is what the last one may take."""


class TimeBudget:
    """Seconds spent, over all parts of an interrupted run; the time between them does not count.

    Args:
        max_hours: of the whole run; None is no limit.
        clock: seconds, of any origin.
    """

    def __init__(self, max_hours: float | None, clock: Callable[[], float] = time.monotonic):
        self._limit = None if max_hours is None else max_hours * 3600
        self._clock, self._start = clock, clock()
        self._before = 0.0  # spent by earlier parts of the run
        self._prepared = 0.0  # of what is spent: before the first step of each part
        self._longest_end = 0.0

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return self._limit is not None

    @property
    def spent(self) -> float:
        """Seconds that count so far."""
        return self._before + self._clock() - self._start

    @property
    def prepared(self) -> float:
        """Those of them before the first step of each part."""
        return self._prepared

    def training_begins(self) -> None:
        """Count everything since this part of the run started as preparation: the schedule leaves it aside."""
        self._prepared += self._clock() - self._start

    def ended_in(self, seconds: float) -> None:
        """Note how long an evaluation and a state took: the last ones will take as long."""
        self._longest_end = max(self._longest_end, seconds)

    @property
    def share(self) -> float:
        """The share of the training time that is used: 1 when it is time to evaluate, save and end; 0 without limit."""
        if self._limit is None:
            return 0.0
        reserve = self._longest_end * RESERVE_MARGIN or self._limit * RESERVE_SHARE
        available = self._limit - self._prepared - reserve
        used = self.spent - self._prepared
        return min(1.0, used / available) if available > 0 else 1.0

    def state_dict(self) -> dict[str, float]:
        """Return what a state keeps."""
        return {"spent": self.spent, "prepared": self._prepared, "longest_end": self._longest_end}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from what another part of the run has spent."""
        self._before = float(state["spent"])
        self._prepared += float(state["prepared"])
        self._longest_end = float(state["longest_end"])
