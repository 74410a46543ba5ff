"""Reads checkpoints that other programs wrote with torch.save, safely or on trust."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from types import SimpleNamespace

import torch

from s3prl_aalbert.checkpoint.content import UNREADABLE, CheckpointError, check_content, check_regular, looks_pickled

logger = logging.getLogger(__name__)


def read_foreign(path: Path, trust: bool) -> dict[str, object]:
    """Read another program's checkpoint.

    Args:
        path: a file written by torch.save.
        trust: also read objects of other classes than tensors and plain values, which can run any program.

    Raises:
        CheckpointError: the file is missing or damaged, or holds such objects and is not trusted.
    """
    check_regular(path)
    if not looks_pickled(path):
        raise CheckpointError(f"{path}: is no checkpoint; expected a file that torch.save wrote")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        if not trust:
            raise CheckpointError(
                f"{path}: holds pickled objects{_foreign_classes(path)} or is damaged; reading such objects can run "
                "any program, so pass --trust only if you trust where the file comes from"
            ) from error
        logger.warning("%s: reading pickled objects, as --trust asks; they may run any program", path)
        content = _unpickle(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds {type(content).__name__}, expected a checkpoint's dictionary")
    check_content(path, content)
    return content


def _foreign_classes(path: Path) -> str:
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except UNREADABLE:
        return ""
    return f" ({', '.join(sorted(names)[:3])})" if names else ""


def _unpickle(path: Path) -> object:
    reader: object = SimpleNamespace(Unpickler=_LenientUnpickler, load=pickle.load, __name__="pickle")
    try:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=reader)
    except UNREADABLE as error:
        raise CheckpointError(f"{path}: is damaged or no checkpoint ({error})") from error


class _LenientUnpickler(pickle.Unpickler):
    """Reads objects of programs that are not installed as empty ones: only weights and configuration are needed."""

    def find_class(self, module: str, name: str) -> object:
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            logger.info("%s.%s is not installed: that object is skipped", module, name)
            return _Absent


class _Absent(dict):
    """Replaces an object of a program that is not installed."""

    def __init__(self, *_: object, **__: object):
        super().__init__()

    def __setstate__(self, state: object) -> None:
        """Ignore the object's state."""
