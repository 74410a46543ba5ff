"""Batches of similar length, the same for any number of processes and workers, and resumable at any step.

Which utterances make a step depends on the seed, the epoch and the step's size over all processes, not on which process
takes which.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from s3prl_aalbert.model.config import samples_in
from s3prl_aalbert.pretrain.dataset import Batch, SpeechDataset
from s3prl_aalbert.pretrain.loading import Keys, load

logger = logging.getLogger(__name__)

POOL_BATCHES = 50
"""Batches are cut from pools of this many, sorted by length inside a pool: little padding, yet well mixed."""
SMALLEST_POOL = 0.25
"""A last pool smaller than this share of a whole one joins the one before: its batches would hold much padding."""
DEV_EPOCH = 0
"""The dev split's crops and masks never change."""


class Cut(NamedTuple):
    """What decides how an epoch is cut into steps, beside seed and epoch."""

    batch_size: int
    """Most utterances of a step, over all processes."""
    max_samples: int | None
    """Most samples of a micro-batch, padding included; None is no limit."""
    parts: int
    """Micro-batches of a step, over all processes."""


def epoch_batches(lengths: np.ndarray, cut: Cut, seed: int, epoch: int) -> list[np.ndarray]:
    """Cut an epoch into steps of similar length, in random order.

    Args:
        lengths: (num_utterances,) samples after cropping.
        cut: sizes.
        seed: decides, with epoch, everything random.
        epoch: see seed.

    Returns:
        arrays of utterance indices, each longest first and no fewer than ``cut.parts``; an utterance stands in at most
        one. Those missing are a last, small remainder.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    pool_size = cut.batch_size * POOL_BATCHES
    starts = list(range(0, len(order), pool_size))
    if len(starts) > 1 and len(order) - starts[-1] < pool_size * SMALLEST_POOL:
        starts.pop()
    batches = []
    for pool in np.split(order, starts[1:]):
        pool = pool[np.argsort(lengths[pool], kind="stable")[::-1]]  # longest first: the first is the padded length
        batches += _cut(pool, lengths, cut)
    if len(batches) > 1 and batches[-1].size < cut.batch_size // 2 and cut.max_samples is None:
        batches.pop()  # a small remainder would be a noisy step
    shuffled = (batches[i] for i in generator.permutation(len(batches)))
    return [batch for batch in shuffled if len(batch) >= cut.parts]


def _cut(pool: np.ndarray, lengths: np.ndarray, cut: Cut) -> list[np.ndarray]:
    steps, start = [], 0
    while start < len(pool):
        size = cut.batch_size
        if cut.max_samples is not None:
            size = min(size, cut.parts * max(1, cut.max_samples // int(lengths[pool[start]])))
        steps.append(pool[start : start + size])
        start += size
    return steps


class TrainingBatches:
    """An endless, resumable stream of optimiser steps, each a list of this process's micro-batches."""

    def __init__(
        self,
        dataset: SpeechDataset,
        batch_size: int,
        max_batch_seconds: float | None,
        micro_batches: int,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
    ):
        """Set up the stream.

        Args:
            dataset: utterances.
            batch_size: utterances per process and micro-batch.
            max_batch_seconds: likewise, padding included.
            micro_batches: micro-batches per step and process.
            rank: this process.
            world_size: processes.
            num_workers: reading processes of this process; 0 is a thread.
        """
        self.dataset = dataset
        parts = micro_batches * world_size
        max_samples = None if max_batch_seconds is None else samples_in(max_batch_seconds)
        self.cut = Cut(batch_size * parts, max_samples, parts)
        self.micro_batches, self.rank, self.world_size = micro_batches, rank, world_size
        self.num_workers = num_workers
        self.lengths = dataset.lengths
        self.epoch, self.position = 0, 0
        self._earlier: list[tuple[Cut, int]] = []

    def state_dict(self) -> dict[str, object]:
        """Return where the stream stands: epoch, steps taken in it, and how these steps were cut.

        ``earlier`` lists, for an epoch that was continued with another number of processes or batch size, the cuts
        and steps before that; together they tell which utterances the epoch has used.
        """
        return {
            "epoch": self.epoch,
            "position": self.position,
            "cut": list(self.cut),
            "earlier": [[list(cut), steps] for cut, steps in self._earlier],
            "utterances": len(self.lengths),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where another stream stood, whatever its sizes and processes were.

        If a step has as many utterances in all, the same steps follow. Otherwise the rest of the epoch is cut anew to
        this stream's sizes: each utterance is still used at most once. A state without sizes counts as one of this
        stream's. If the corpus has changed, the next epoch begins.
        """
        self.epoch, self.position, self._earlier = state["epoch"], state["position"], []
        count = state.get("utterances", len(self.lengths))
        if count != len(self.lengths):
            logger.warning(
                "the corpus has %d utterances for training, it had %d: the next epoch begins", len(self.lengths), count
            )
            self.epoch, self.position = self.epoch + 1, 0
            return
        self._earlier = [(Cut(*cut), steps) for cut, steps in state.get("earlier", [])]
        cut = Cut(*state.get("cut", self.cut))
        if self.position and not self._cuts_alike(cut):
            self._earlier.append((cut, self.position))
            self.position = 0

    def _cuts_alike(self, cut: Cut) -> bool:
        """Return whether another cut gives this epoch the same steps, if for other processes."""
        if cut == self.cut:
            return True
        if self._earlier or (cut.batch_size, cut.max_samples) != (self.cut.batch_size, self.cut.max_samples):
            return False
        theirs, ours = (epoch_batches(self.lengths, c, self.dataset.seed, self.epoch) for c in (cut, self.cut))
        return len(theirs) == len(ours) and all(map(np.array_equal, theirs, ours))

    def __iter__(self) -> Iterator[list[Batch]]:
        """Yield steps for ever; once a step is yielded, the stream's state counts it as taken.

        Raises:
            AudioError: a file was deleted or damaged since the corpus was checked.
        """
        under_way: deque[tuple[int, int, list[tuple[Cut, int]]]] = deque()
        batches = load(self.dataset, self._keys(under_way), self.num_workers)
        try:
            while True:
                step = [next(batches) for _ in range(self.micro_batches)]
                self.epoch, self.position, self._earlier = under_way.popleft()
                yield step
        finally:
            batches.close()

    def _keys(self, under_way: deque[tuple[int, int, list[tuple[Cut, int]]]]) -> Iterator[Keys]:
        """Yield this process's micro-batches from here on, noting in ``under_way`` the state after each step."""
        epoch, position, earlier = self.epoch, self.position, self._earlier
        while True:
            steps = self.epoch_steps(epoch, earlier)
            for place in range(position, len(steps)):
                under_way.append((epoch, place + 1, earlier))
                yield from ([(epoch, int(index)) for index in part] for part in steps[place])
            epoch, position, earlier = epoch + 1, 0, []

    def epoch_steps(self, epoch: int, earlier: Sequence[tuple[Cut, int]] = ()) -> list[list[np.ndarray]]:
        """Return this process's part of an epoch: steps of micro-batches of utterance indices.

        Args:
            epoch: which.
            earlier: cuts and numbers of steps by which some of the epoch was used before.

        Raises:
            ValueError: a whole epoch has not a single step.
        """
        left = np.arange(len(self.lengths))
        for cut, taken in earlier:
            used = epoch_batches(self.lengths[left], cut, self.dataset.seed, epoch)[:taken]
            left = np.delete(left, np.concatenate(used)) if used else left
        steps = [left[batch] for batch in epoch_batches(self.lengths[left], self.cut, self.dataset.seed, epoch)]
        if not steps and not earlier:
            raise ValueError(f"{len(self.lengths)} utterances are too few for {self.cut.parts} micro-batches a step")
        # Neighbours in length stay together.
        parts = (np.array_split(step, self.cut.parts) for step in steps)
        return [step[self.rank :: self.world_size] for step in parts]


class DevBatches:
    """The whole dev split, or a process's share of it, longest first, with the same crops and masks every time."""

    def __init__(self, dataset: SpeechDataset, keys: list[Keys], num_workers: int):
        self.dataset, self.keys, self.num_workers = dataset, keys, num_workers

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.keys)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches."""
        return load(self.dataset, iter(self.keys), self.num_workers)


def dev_loader(
    dataset: SpeechDataset, batch_size: int, num_workers: int = 0, rank: int = 0, world_size: int = 1
) -> DevBatches:
    """Return the batches of the dev split that process ``rank`` of ``world_size`` evaluates."""
    order = np.argsort(dataset.utterances.samples, kind="stable")[::-1]
    batches = [[(DEV_EPOCH, int(i)) for i in order[s : s + batch_size]] for s in range(0, len(order), batch_size)]
    return DevBatches(dataset, batches[rank::world_size], num_workers)
