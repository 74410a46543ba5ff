"""The time budget, with a clock turned by hand."""

from __future__ import annotations

import pytest

from s3prl_aalbert.pretrain.budget import TimeBudget


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_share_is_of_the_time_between_preparation_and_the_end() -> None:
    clock = Clock()
    budget = TimeBudget(1.0, clock)
    clock.now += 600  # the corpus
    budget.training_begins()
    budget.ended_in(200)  # an evaluation and a state: 300 s are kept for the last ones
    assert budget.share == 0
    clock.now += 1350
    assert budget.share == pytest.approx(1350 / (3600 - 600 - 300))
    clock.now += 1350
    assert budget.share == pytest.approx(1) and budget.spent == 3300


def test_an_interruption_does_not_count() -> None:
    clock = Clock()
    first = TimeBudget(1.0, clock)
    first.training_begins()
    clock.now += 900
    state = first.state_dict()
    clock.now += 1e6
    second = TimeBudget(1.0, clock)
    second.load_state_dict(state)
    clock.now += 60
    second.training_begins()
    assert second.spent == 960
    second.ended_in(0.0)
    before = second.share
    clock.now += 100
    assert second.spent == 1060 and second.share > before
    # 2 % is kept, and 60 s were preparation: 1,000 of 3,468 s.
    assert second.share == pytest.approx(1000 / (3600 - 72 - 60))


def test_without_a_limit_there_is_no_share_and_a_used_up_one_is_whole() -> None:
    clock = Clock()
    free, tight = TimeBudget(None, clock), TimeBudget(0.01, clock)
    clock.now += 1e6
    assert free.share == 0 and not free.limited
    assert tight.share == 1 and tight.limited
