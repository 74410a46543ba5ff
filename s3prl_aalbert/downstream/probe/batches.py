"""One stream of batches for several tasks, in which each task gets exactly the batches that it would get alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from s3prl_aalbert.downstream.audio_dataset import ItemDataset, make_loader
from s3prl_aalbert.downstream.task import TaskData

Batch = tuple[list[np.ndarray], list[object], list[str], list[str]]
"""Waveforms, labels, utterance names, tasks: one entry per utterance."""


class JointTrainingBatches:
    """Joins one training batch of every task; a task with fewer batches starts its next epoch meanwhile.

    At step s, a task with n batches per epoch gets batch s % n of its epoch s // n, whatever the other tasks are. The
    probes of a task therefore do not depend on the other tasks.
    """

    def __init__(self, data: Mapping[str, TaskData[object]], batch_size: int, num_workers: int, seed: int, epoch: int):
        self.data, self.batch_size = data, batch_size
        self.num_workers, self.seed, self.epoch = num_workers, seed, epoch
        self.sizes = {task: -(-len(d.names["train"]) // batch_size) for task, d in data.items()}

    def __len__(self) -> int:
        """Return the steps of an epoch: the number of batches of the longest task."""
        return max(self.sizes.values())

    def __iter__(self) -> Iterator[Batch]:
        """Yield joined batches."""
        streams = {task: self._stream(task, self.epoch * len(self)) for task in self.data}
        for _ in range(len(self)):
            yield _join({task: next(stream) for task, stream in streams.items()})

    def _stream(self, task: str, first_step: int) -> Iterator[tuple[list, list, list]]:
        epoch, position = divmod(first_step, self.sizes[task])
        data = self.data[task]
        while True:
            dataset = ItemDataset(data.names["train"], data.store, data.label_of, None, self.seed)
            loader = make_loader(dataset, self.batch_size, self.num_workers, True, epoch)
            for index, batch in enumerate(loader):
                if index >= position:
                    yield batch
            epoch, position = epoch + 1, 0


class ChainedBatches:
    """All batches of a split, task after task."""

    def __init__(self, data: Mapping[str, TaskData[object]], split: str, batch_size: int, num_workers: int):
        self.loaders = {
            task: make_loader(
                ItemDataset(d.by_length(split), d.store, d.label_of, None, 0), batch_size, num_workers, False, 0
            )
            for task, d in data.items()
        }

    def __len__(self) -> int:
        """Return the number of batches."""
        return sum(len(loader) for loader in self.loaders.values())

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches, each of one task."""
        for task, loader in self.loaders.items():
            for batch in loader:
                yield _join({task: batch})


def _join(batches: Mapping[str, tuple[list, list, list]]) -> Batch:
    wavs, labels, names, tasks = [], [], [], []
    for task, (w, label, n) in batches.items():
        wavs += w
        labels += label
        names += n
        tasks += [task] * len(w)
    return wavs, labels, names, tasks
