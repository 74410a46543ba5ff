"""Writes checkpoints and TensorBoard events for S3PRL's runner."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import torch
from tensorboardX import SummaryWriter

from s3prl_aalbert.files import write_atomically
from s3prl_aalbert.pretrain.monitor import pass_over_unwritten


class Checkpoints:
    """Writes each checkpoint whole or not at all, and only then removes the one that it replaces.

    S3PRL itself writes in place, and removes the oldest ``states-*.ckpt`` before it writes the next. A kill or a full
    disk at that moment leaves half a file, or none.
    """

    def __init__(self) -> None:
        self._replaced: list[str] = []

    def save(self, content: object, path: str) -> None:
        """Write ``content`` to ``path``; raises ``CheckpointError`` where that fails."""
        written = Path(path)
        write_atomically(written, lambda temporary: torch.save(content, temporary))
        if written.name.startswith("states-"):  # a new state replaces removed ones; dev-best.ckpt does not
            for old in {Path(name) for name in self._replaced} - {written}:
                old.unlink(missing_ok=True)
            self._replaced.clear()

    def remove(self, path: str) -> None:
        """Remove ``path`` once the next state is written."""
        self._replaced.append(path)


class Writers(ExitStack):
    """Closes the TensorBoard writers at the end, also if training is interrupted or fails.

    A writer that stays open loses its last events. From Python 3.12 on it also prints a stack trace at exit: ``can't
    create new thread at interpreter shutdown``.
    """

    def open(self, *args: object, **options: object) -> SummaryWriter:
        """Return a new writer."""
        writer = SummaryWriter(*args, **options)
        self.callback(writer.close)
        pass_over_unwritten(writer.file_writer.event_writer._ev_writer, ("write_event", "flush", "close"))
        return writer
