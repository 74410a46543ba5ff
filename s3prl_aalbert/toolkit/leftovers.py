"""Cleans the experiment's folder after a start that failed or was interrupted before its first step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

WRITTEN_AT_START = ("args_*.yaml", "config_*.yaml", "events.out.tfevents.*", "split.tsv")
"""Files that S3PRL and our tasks write before they train."""


@contextmanager
def no_leftovers(folder: Path | None, has_trained: Callable[[], bool]) -> Iterator[None]:
    """Remove the files of a start that fails before its first step; older files stay.

    Args:
        folder: the experiment's folder; None if nothing is trained.
        has_trained: returns whether a step was taken.
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
