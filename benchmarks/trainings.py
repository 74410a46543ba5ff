"""What the training runs of a benchmark left: their dev loss, and how far each state is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from s3prl_aalbert.checkpoint.training_state import load_training_state, training_states


class State(NamedTuple):
    """A training state."""

    path: Path
    step: int
    seconds: float
    """Of training until then."""


def states(folder: Path) -> Iterator[State]:
    """Yield the states of a run, in order."""
    for path in training_states(folder):
        content = load_training_state(path)
        budget = content["budget"]
        yield State(path, content["step"], budget["spent"] - budget["prepared"])


def dev_loss(folder: Path) -> float:
    """Return the lowest dev loss of a run."""
    return load_training_state(training_states(folder)[-1])["best_dev"]
