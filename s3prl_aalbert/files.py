"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import safetensors

from s3prl_aalbert.errors import AalbertError, disk_fault


class FileError(AalbertError):
    """A file that cannot be written."""


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk, then rename it into place.

    Raises:
        FileError: the disk is full or the folder cannot be written; the previous file stays untouched.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        # torch reports a failed write as RuntimeError; anything else wrong with the tensors would be our own bug.
        reason = _why_not_written(error, temporary)
        raise FileError(f"{path}: could not be written; the previous version is kept ({reason})") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()


def _why_not_written(error: Exception, temporary: Path | None) -> str:
    """Return the error of the disk: torch and safetensors hide it, so the same file is written once more to see it."""
    if isinstance(error, OSError) or temporary is None:
        return disk_fault(error)
    try:
        with temporary.open("ab") as file:
            file.write(bytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())
    except OSError as fault:
        return disk_fault(fault)
    return str(error)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names may not be UTF-8

    write_atomically(path, write)
