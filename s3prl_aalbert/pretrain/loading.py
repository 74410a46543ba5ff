"""Getting batches ready while the model computes: by worker processes, or by one thread."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from typing import Generic, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from s3prl_aalbert.audio_io import AudioError
from s3prl_aalbert.errors import AalbertError, lost_worker
from s3prl_aalbert.parcels import send, workers_within_limits
from s3prl_aalbert.prefetch import prefetch
from s3prl_aalbert.pretrain.signals import OF_BATCH_SYSTEMS

T = TypeVar("T")
ItemT = TypeVar("ItemT")
BatchT = TypeVar("BatchT", covariant=True)
Keys = list[tuple[int, int]]
"""The (epoch, utterance) pairs of one micro-batch."""
READY = 2
"""Batches that a thread prepares in advance."""


class BatchSource(Protocol[ItemT, BatchT]):
    """A dataset of items that can be made a batch."""

    def __getitem__(self, key: tuple[int, int]) -> ItemT: ...

    def collate(self, items: list[ItemT]) -> BatchT:
        """Return a batch."""


class _Batches(Dataset, Generic[ItemT]):
    """Whole micro-batches by their keys; an unusable file is returned, so that its message passes between processes."""

    def __init__(self, source: BatchSource[ItemT, object]):
        self.source = source

    def __getitem__(self, keys: Keys) -> object:
        try:
            return send(self.source.collate([self.source[key] for key in keys]))
        except AudioError as error:
            return error


def load(source: BatchSource[ItemT, BatchT], keys: Iterator[Keys], num_workers: int) -> Generator[BatchT]:
    """Yield a batch for each element of ``keys``, in order.

    Args:
        source: dataset.
        keys: asked for some batches ahead, in this process; may be endless, so that workers live as long as training.
        num_workers: processes; 0 is a thread of this one, which also steps in where too few files may be open.

    Raises:
        AudioError: when the turn comes of a batch with an unusable file.
        AalbertError: a process was killed.
    """
    num_workers = workers_within_limits(num_workers)
    loader: DataLoader = DataLoader(
        _Batches(source),
        batch_size=None,
        sampler=keys,
        collate_fn=_as_is,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_outlive_signals,
    )
    try:
        batches = iter(loader) if num_workers else prefetch(iter(loader), READY)
        for batch in batches:
            if isinstance(batch, AudioError):
                raise batch
            yield batch
    except RuntimeError as error:
        fault = lost_worker(error)
        if fault is None:
            raise
        raise AalbertError(fault) from error


def _as_is(batch: T) -> T:
    return batch


def _outlive_signals(_: int) -> None:
    """Leave stopping to the training process: Ctrl-C and job managers signal workers too, before it has saved."""
    for number in {signal.SIGINT, *OF_BATCH_SYSTEMS} - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    # A second SIGTERM ends the worker: that is the training process insisting.
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))
