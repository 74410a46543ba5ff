"""What this package changes in S3PRL's runner."""

from __future__ import annotations

import builtins
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from s3prl_aalbert.checkpoint import write_atomically
from s3prl_aalbert.pretrain.monitor import pass_over_unwritten
from s3prl_aalbert.pretrain.signals import StopSignal
from s3prl_aalbert.toolkit.bars import counting_bars
from s3prl_aalbert.toolkit.building import checked_building
from s3prl_aalbert.toolkit.continuation import Training, exact_continuation
from s3prl_aalbert.toolkit.feature_cache import cached_features
from s3prl_aalbert.toolkit.leftovers import no_leftovers
from s3prl_aalbert.toolkit.overrides import apply_override
from s3prl_aalbert.toolkit.precision import upstream_precision
from s3prl_aalbert.toolkit.replace import Changed, replaced
from s3prl_aalbert.toolkit.resume import checked_checkpoints
from s3prl_aalbert.toolkit.selection import checked_selection

logger = logging.getLogger(__name__)


@contextmanager
def changed_runner(run_downstream: ModuleType, stop: StopSignal, folder: Path | None) -> Iterator[None]:
    """Apply what this package changes in S3PRL's runner; what comes later goes around what came before.

    Args:
        run_downstream: S3PRL's module.
        stop: asks for an end.
        folder: of the experiment; None where nothing trains.
    """
    trainings: list[Training] = []
    with (
        no_leftovers(folder, lambda: any(each.stepped for each in trainings)),
        # main() replaces the builtin isinstance, for torch before 1.8; it is put back afterwards.
        replaced(builtins, "isinstance", isinstance),
        replaced(run_downstream, "override", apply_override),
        closed_writers(),
        whole_checkpoints(),
        checked_checkpoints(),
        checked_building(),
        counting_bars(),
        exact_continuation(stop, trainings),
        upstream_precision(),
        checked_selection(),
        cached_features(),
    ):
        yield


@contextmanager
def closed_writers() -> Iterator[None]:
    """Close the TensorBoard writers that S3PRL leaves open when training is interrupted or fails.

    An open one loses its last events, and from Python 3.12 on prints a stack trace at exit: ``can't
    create new thread at interpreter shutdown``.
    """
    from s3prl.downstream import runner

    writers = []

    def open_writer(*args: Any, **options: Any) -> Any:
        writers.append(original(*args, **options))
        events = writers[-1].file_writer.event_writer._ev_writer
        pass_over_unwritten(events, ("write_event", "flush", "close"))
        return writers[-1]

    original = runner.SummaryWriter
    with replaced(runner, "SummaryWriter", open_writer):
        try:
            yield
        finally:
            for writer in writers:
                writer.close()


@contextmanager
def whole_checkpoints() -> Iterator[None]:
    """Let S3PRL's runner lose no checkpoint: a new one is whole before the one that it replaces goes.

    On its own it writes them in place, and removes the oldest ``states-*.ckpt`` before it writes the next: a kill or a
    full disk at that moment leaves half a file, or none.
    """
    from s3prl.downstream import runner

    files = _Checkpoints()
    with (
        replaced(runner, "torch", Changed(runner.torch, save=files.save)),
        replaced(runner, "os", Changed(os, remove=files.remove)),
    ):
        yield


class _Checkpoints:
    """Writes checkpoints whole, then removes those that they replace."""

    def __init__(self) -> None:
        self._replaced: list[str] = []

    def save(self, content: Any, path: str) -> None:
        """Write ``content`` to ``path``; ``CheckpointError`` if that cannot be done."""
        written = Path(path)
        write_atomically(written, lambda temporary: torch.save(content, temporary))
        if written.name.startswith("states-"):  # what takes the place of those removed; dev-best.ckpt does not
            for old in {Path(name) for name in self._replaced} - {written}:
                old.unlink(missing_ok=True)
            self._replaced.clear()

    def remove(self, path: str) -> None:
        """Remove ``path`` once the next state is written."""
        self._replaced.append(path)
