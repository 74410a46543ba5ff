"""How batches come from loader processes: through shared memory, or through a pipe where that is too small.

torch itself takes shared memory without checking how much is free. In a container with the default 64 MB, the thread
that sends a batch fails, the batch is lost, and the training process waits for it for ever.
"""

from __future__ import annotations

import functools
import io
import logging
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

try:
    import resource
except ImportError:  # Windows knows no such limits
    resource = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

T = TypeVar("T")

SHARED_MEMORY = Path("/dev/shm")
MOST_WORKERS = 512
"""Largest number of loader processes in a configuration."""
FILES, FILES_A_WORKER = 64, 32
"""Open files of a training process, and those each loader process adds: its pipes and the tensors on their way."""


def send(batch: T) -> T | _Parcel:
    """Return a parcel that unpickles as ``batch`` in a loader process, and ``batch`` itself elsewhere."""
    worker = get_worker_info()
    return batch if worker is None else _Parcel(batch, worker.num_workers)


class _Parcel:
    """A batch as its structure and its tensors."""

    def __init__(self, batch: object, num_workers: int):
        structure = io.BytesIO()
        pickler = _Structure(structure)
        pickler.dump(batch)
        self.structure = structure.getvalue()
        self.tensors: list[Tensor] | list[np.ndarray] = pickler.tensors
        # Every process has seen the same free space and may take as much.
        needed = (num_workers + 1) * sum(tensor.nbytes for tensor in pickler.tensors)
        if needed > free_shared_memory() or not _share(pickler.tensors):
            self.tensors = [tensor.numpy() for tensor in pickler.tensors]

    def __reduce__(self) -> tuple[object, ...]:
        return _unpacked, (self.structure, self.tensors)


class _Structure(pickle.Pickler):
    """Pickles everything but tensors, which it gathers."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file)
        self.tensors: list[Tensor] = []
        self._places: dict[int, int] = {}

    def persistent_id(self, thing: object) -> int | None:
        if not isinstance(thing, Tensor):
            return None
        if id(thing) not in self._places:  # one tensor in two places stays one
            self._places[id(thing)] = len(self.tensors)
            self.tensors.append(thing)
        return self._places[id(thing)]


class _Whole(pickle.Unpickler):
    def __init__(self, structure: bytes, tensors: list[Tensor]):
        super().__init__(io.BytesIO(structure))
        self.tensors = tensors

    def persistent_load(self, place: int) -> Tensor:
        return self.tensors[place]


def _unpacked(structure: bytes, tensors: Sequence[Tensor | np.ndarray]) -> object:
    if tensors and isinstance(tensors[0], np.ndarray):
        _warn_once()
    whole = [torch.from_numpy(each) if isinstance(each, np.ndarray) else each for each in tensors]
    return _Whole(structure, whole).load()


@functools.cache
def _warn_once() -> None:
    logger.warning(
        "%s has %.0f MB left, too little for the batches of the loader processes: they come through pipes, which is a "
        "little slower (--shm-size or --ipc=host gives a container more)",
        SHARED_MEMORY,
        free_shared_memory() / 1e6,
    )


def free_shared_memory() -> float:
    """Return the free bytes of shared memory; infinity where the system does not keep it in a folder."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return float("inf")


def _share(tensors: list[Tensor]) -> bool:
    """Move tensors to shared memory and return whether all found room."""
    try:
        for tensor in tensors:
            tensor.share_memory_()
    except (RuntimeError, OSError):  # another process took the space first, or too many files are open
        return False
    return True


def workers_within_limits(num_workers: int) -> int:
    """Return ``num_workers``, or 0 with a warning if the limit on open files is too low.

    The soft limit (``ulimit -n``) is raised as far as needed and allowed.
    """
    if not num_workers or resource is None:
        return num_workers
    needed = FILES + FILES_A_WORKER * num_workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return num_workers
    if hard == resource.RLIM_INFINITY or hard >= needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        return num_workers
    logger.warning(
        "ulimit -n allows %d open files, but %d loader processes need %d: going on without them", hard, num_workers,
        needed,
    )  # fmt: skip
    return 0
