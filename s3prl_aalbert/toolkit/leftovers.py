"""A start that fails, or is interrupted, before its first step leaves nothing in the experiment's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

WRITTEN_AT_START = ("args_*.yaml", "config_*.yaml", "events.out.tfevents.*", "split.tsv")
"""What S3PRL and our tasks write before they train."""


@contextmanager
def no_leftovers(folder: Path | None, has_trained: Callable[[], bool]) -> Iterator[None]:
    """Remove what a start wrote that ended in an error before it trained; what was there before stays.

    Args:
        folder: the experiment's; None where nothing trains.
        has_trained: tells whether a step was taken.
    """
    before = _written(folder)
    try:
        yield
    except BaseException:
        for path in set() if has_trained() else _written(folder) - before:
            path.unlink(missing_ok=True)
        raise


def _written(folder: Path | None) -> set[Path]:
    return {path for pattern in WRITTEN_AT_START for path in folder.glob(pattern)} if folder else set()
