"""Finding the audio files of a corpus on disk."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from s3prl_aalbert.audio_io import AUDIO_SUFFIXES
from s3prl_aalbert.errors import AalbertError, near_folder
from s3prl_aalbert.pretrain.manifest import UNLISTABLE, Listing


def existing_folders(folders: Sequence[str]) -> list[str]:
    """Return the real, absolute paths of folders.

    Raises:
        AalbertError: one is missing or cannot be looked at; names the nearest neighbour.
    """
    found = []
    for folder in folders:
        try:
            root = Path(folder).expanduser().resolve()
            exists = root.is_dir()
        except (OSError, RuntimeError, ValueError) as error:  # not allowed, no such user, a zero byte
            raise AalbertError(f"{folder}: cannot be looked at ({getattr(error, 'strerror', error)})") from error
        if not exists:
            raise AalbertError(f"{folder}: no such folder of speech{near_folder(root)}")
        found.append(str(root))
    return found


def find_audio(folders: Sequence[str]) -> Listing:
    """List every audio file below the folders, in the order of their path components, each once.

    Linked folders are followed, under the path they lead to, and never twice.

    Raises:
        AalbertError: there is no audio in any of them.
    """
    found, sizes, mtimes = [], array("q"), array("q")
    missing: list[tuple[str, str]] = []
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        for path, size, mtime in _walk(folder, seen, missing):
            found.append(path)
            sizes.append(size)
            mtimes.append(mtime)
    if not found:
        suffixes = ", ".join(sorted(AUDIO_SUFFIXES))
        reasons = "".join(f"; {path} {reason}" for path, reason in missing[:3])
        raise AalbertError(f"{', '.join(folders)}: no audio found (looked for {suffixes}){reasons}")
    order = sorted(range(len(found)), key=lambda row: found[row].replace(os.sep, "\0"))
    listing = Listing.of([found[row] for row in order], np.array(sizes)[order], np.array(mtimes)[order])
    listing.missing = missing
    return listing


def _walk(root: str, seen: set[tuple[int, int]], missing: list[tuple[str, str]]) -> Iterator[tuple[str, int, int]]:
    """Yield (path, bytes, mtime) of the audio files below a folder; ``seen`` holds the folders already visited."""
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            stat = os.stat(folder)  # noqa: PTH116 - a Path per file would double the time of a large corpus
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        is_folder = entry.is_dir()
                    except OSError as error:  # a link to itself, or to where nobody may look
                        missing.append((entry.path, f"cannot be looked at ({error.strerror})"))
                        continue
                    if is_folder:
                        folders.append(os.path.realpath(entry.path) if entry.is_symlink() else entry.path)
                    elif os.path.splitext(entry.name)[1].lower() in AUDIO_SUFFIXES and entry.name[0] != ".":  # noqa: PTH122
                        yield from _look_at(entry, missing)
        except OSError as error:
            missing.append((folder, f"cannot be listed ({error.strerror})"))


def _look_at(entry: os.DirEntry[str], missing: list[tuple[str, str]]) -> Iterator[tuple[str, int, int]]:
    try:
        stat = entry.stat()
    except OSError as error:
        missing.append((entry.path, f"cannot be looked at ({error.strerror})"))
        return
    if not entry.is_file():  # opening a pipe would wait for ever
        missing.append((entry.path, "is no regular file"))
    elif any(character in entry.path for character in UNLISTABLE):
        missing.append((entry.path, "has a tab or a line break in its name, which a manifest cannot hold"))
    else:
        yield entry.path, stat.st_size, stat.st_mtime_ns
