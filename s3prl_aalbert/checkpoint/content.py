"""Checks that a checkpoint holds only plain tensors and values, in a regular file of a plausible size."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from s3prl_aalbert.files import FileError
from s3prl_aalbert.yaml_config import leaves

FORMAT = "s3prl-aalbert"

LARGEST_FILE = 64 * 1024**3
"""Largest size of a checkpoint in bytes."""

MOST_VALUES = 2_000_000
"""Largest number of single values in a checkpoint."""

# Errors of torch.load on a damaged or foreign file: its restricted unpickler raises any of these on stray bytes.
UNREADABLE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
)


class CheckpointError(FileError):
    """A checkpoint that cannot be read or does not fit."""


def check_regular(path: Path) -> None:
    """Raise CheckpointError unless this is a regular file of a plausible size: a pipe waits, /dev/zero never ends."""
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint")
    if not path.is_file():
        raise CheckpointError(f"{path}: is a {'folder' if path.is_dir() else 'device or a pipe'}, expected a file")
    size = path.stat().st_size
    if not size:
        raise CheckpointError(f"{path}: is empty (0 bytes)")
    if size > LARGEST_FILE:
        raise CheckpointError(f"{path}: has {size:,} bytes, expected a checkpoint of at most {LARGEST_FILE:,}")
    if _is_compressed(path):  # a few bytes may expand to gigabytes; torch does not compress
        raise CheckpointError(f"{path}: is a compressed archive, expected a checkpoint")


def _is_compressed(path: Path) -> bool:
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
    except UNREADABLE:  # the reader reports what is wrong with it
        return False


def check_content(path: Path, content: object) -> None:
    """Check that a checkpoint holds plain values, texts and tensors of weights, and not too many.

    Args:
        path: the checkpoint's, for messages.
        content: nested mappings and sequences.

    Raises:
        CheckpointError: nesting is too deep, there are too many values, a text is not valid Unicode, or a tensor is
            sparse, quantised, nested, without data, a view of fewer numbers than it shows, or has NaN values.
    """
    try:
        for place, value in leaves(content, MOST_VALUES):
            problem = _tensor_problem(value) if isinstance(value, Tensor) else _text_problem(value)
            if problem:
                raise CheckpointError(f"{path}: is damaged: {place or 'a key'} {problem}")
    except ValueError as error:
        raise CheckpointError(f"{path}: is damaged: {error}") from error


def _tensor_problem(tensor: Tensor) -> str:
    if tensor.is_nested or tensor.is_quantized or tensor.layout is not torch.strided:
        kind = "nested" if tensor.is_nested else "quantised" if tensor.is_quantized else "sparse"
        return f"is a {kind} tensor, expected a plain one"
    if tensor.is_meta:
        return "is a tensor without data"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"shows {tensor.numel():,} numbers but stores fewer"
    small = tensor.is_floating_point() and tensor.element_size() == 1  # float8, for which torch has no isnan
    if torch.isnan(tensor.float() if small else tensor).any():
        return "has NaN values: the training that wrote it had failed"
    return ""


def _text_problem(value: object) -> str:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "is a text with half a character (a lone surrogate)"
    return ""


def is_safetensors(path: Path) -> bool:
    """Recognise a safetensors file by its content (a length and JSON), or by its name if it is not a torch archive."""
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size - 8:
        return True
    return path.suffix == ".safetensors" and not start.startswith(b"PK\x03\x04")


def check_tensors(path: Path, state: Mapping[object, object]) -> None:
    """Raise CheckpointError unless every value is a tensor."""
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: is damaged: weight {name!r} is {type(value).__name__}, expected a tensor")


def some_names(names: list[str], most: int = 3) -> str:
    """Return the first few names and the number of others."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def check_version(path: Path, version: object, newest: int) -> None:
    """Raise CheckpointError unless this version of the package can read a format version."""
    if not isinstance(version, int) or version < 1:
        raise CheckpointError(f"{path}: is damaged: its format version is {version!r}")
    if version > newest:
        raise CheckpointError(
            f"{path}: has format version {version}, this release reads up to {newest}; upgrade s3prl-aalbert"
        )


def looks_pickled(path: Path) -> bool:
    """Return whether a file begins like one that torch.save or pickle wrote."""
    with path.open("rb") as file:
        start = file.read(2)
    return start == b"PK" or start[:1] == b"\x80"
