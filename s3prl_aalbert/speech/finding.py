"""Finds the audio files of folders, by one rule for pre-training and for tasks.

A file that looks like audio but cannot be used is listed with the reason. Other files are counted by suffix.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from s3prl_aalbert.errors import AalbertError, near_folder

logger = logging.getLogger(__name__)

LOSSLESS = (
    ".wav", ".flac", ".sph", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".wave", ".bwf", ".nist",
    ".wv1", ".wv2", ".voc", ".paf", ".pvf", ".avr", ".svx", ".ircam",
)  # fmt: skip
LOSSY = (".opus", ".ogg", ".oga", ".mp3", ".mp2", ".mpga")
AUDIO_SUFFIXES = frozenset(LOSSLESS + LOSSY)
"""Suffixes of files that are read; libsndfile recognises the format by the content."""
FOREIGN_SUFFIXES = frozenset((
    ".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".aac", ".ac3", ".amr", ".awb", ".3gp", ".3ga", ".wma", ".wmv", ".asf",
    ".avi", ".ape", ".wv", ".tta", ".tak", ".shn", ".spx", ".mka", ".mkv", ".webm", ".weba", ".ra", ".rm", ".dts",
    ".dsf", ".dff", ".gsm", ".pcm", ".raw", ".adc", ".alac", ".mpc",
))  # fmt: skip
"""Suffixes of audio and video that libsndfile cannot decode."""
SOUND_SUFFIXES = AUDIO_SUFFIXES | FOREIGN_SUFFIXES
FORMATS = frozenset(suffix[1:] for suffix in SOUND_SUFFIXES)
"""Names of folders that hold the same recordings in another format."""
UNLISTABLE = "\t\n\r"
"""Characters that a path in a table must not contain."""
_ORDER = {suffix: place for place, suffix in enumerate(LOSSLESS + LOSSY)}
MAX_SHOWN = 6
"""Largest number of suffixes in a message."""


class AudioFile(NamedTuple):
    """An audio file, with what the listing of its folder shows."""

    path: str
    size: int
    """Bytes."""
    mtime: int
    """Nanoseconds."""


@dataclass
class Found:
    """The files found in some folders."""

    files: list[AudioFile] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)
    """(path, reason) of audio files and folders that cannot be used."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Number of files whose name is not that of audio, by suffix; "hidden" is a name that begins with a dot."""

    def other_files(self) -> str:
        """Describe the files whose name is not that of audio."""
        kinds = sorted(self.passed_over.items(), key=lambda item: (-item[1], item[0]))
        shown = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in kinds[:MAX_SHOWN])
        return shown + (f" and {len(kinds) - MAX_SHOWN} more kinds" if len(kinds) > MAX_SHOWN else "")


def suffix_of(name: str) -> str:
    """Return a file name's suffix in lower case."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path per file would double the time of a large corpus


def without_audio_suffix(name: str) -> str:
    """Return a name or path without audio suffixes: ``SA1.WAV.wav`` becomes SA1, ``a.b`` stays."""
    while (suffix := suffix_of(name)) in SOUND_SUFFIXES:
        name = name[: -len(suffix)]
    return name


def existing_folders(folders: Sequence[str]) -> list[str]:
    """Return the real, absolute paths of folders.

    Raises:
        AalbertError: one is missing or not accessible; the message suggests a similar name.
    """
    found = []
    for folder in folders:
        try:
            root = Path(folder).expanduser().resolve()
            exists = root.is_dir()
        except (OSError, RuntimeError, ValueError) as error:  # no permission, no such user, or a zero byte
            raise AalbertError(f"{folder}: is not accessible ({getattr(error, 'strerror', error)})") from error
        if not exists:
            raise AalbertError(f"{folder}: no such folder of speech{near_folder(root)}")
        found.append(str(root))
    return found


def find_files(folders: Sequence[str], links_keep_their_name: bool) -> Found:
    """Find the audio files below some folders, each once, and one format of each recording.

    Links to folders are followed, each folder once.

    Args:
        folders: existing folders.
        links_keep_their_name: whether files of a linked folder are listed below the link, or below its target.

    Raises:
        AalbertError: a folder holds no audio.
    """
    found = Found()
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        visited, before = len(seen), len(found.files)
        _search(folder, seen, found, links_keep_their_name)
        if len(found.files) == before and len(seen) > visited:  # not an error if a folder lies inside an earlier one
            others = f"; other files: {found.other_files()}" if found.passed_over else ""
            reasons = "".join(f"; {path} {reason}" for path, reason in found.missing[:3])
            raise AalbertError(f"{folder}: no audio found (looked for .wav, .flac, .opus, .mp3, ...){others}{reasons}")
    _drop_copies(found)
    if found.passed_over:
        logger.info("%s: skipped files without an audio suffix: %s", ", ".join(folders), found.other_files())
    return found


def files_below(root: str) -> Iterator[str]:
    """Yield every visible file below a folder; linked folders under the link's name, no folder twice."""
    for entries in _folders(root, set(), [], True):
        yield from (entry.path for entry in entries if not _is_hidden(entry.name))


def _search(root: str, seen: set[tuple[int, int]], found: Found, links_keep_their_name: bool) -> None:
    for entries in _folders(root, seen, found.missing, links_keep_their_name):
        recordings: dict[str, list[os.DirEntry[str]]] = {}
        for entry in entries:
            suffix = "hidden" if _is_hidden(entry.name) else suffix_of(entry.name)
            if suffix in SOUND_SUFFIXES:
                recordings.setdefault(without_audio_suffix(entry.name), []).append(entry)
            else:
                found.passed_over[suffix] += 1
        for formats in recordings.values():
            _choose(formats, found)


def _choose(formats: list[os.DirEntry[str]], found: Found) -> None:
    """List one file of each recording, and its other formats as missing."""
    if len(formats) > 1:
        formats.sort(key=lambda entry: (_ORDER.get(suffix_of(entry.name), len(_ORDER)), entry.name))
    chosen: AudioFile | None = None
    for entry in formats:
        file = _look_at(entry) if chosen is None else f"is the recording of {Path(chosen.path).name} in another format"
        if isinstance(file, AudioFile):
            chosen = file
            found.files.append(file)
        else:
            found.missing.append((entry.path, file))


def _drop_copies(found: Found) -> None:
    """Keep one of the files whose paths differ only by format: a/wav/1.wav and a/flac/1.flac."""
    plain: list[AudioFile] = []
    copies: dict[tuple[str, ...], list[AudioFile]] = {}
    for file in found.files:
        parts = _parts(file)
        key = tuple(part for part in parts if part.lower() not in FORMATS)
        (plain if len(key) == len(parts) else copies.setdefault(key, [])).append(file)
    for file in plain if copies else ():
        if (key := _parts(file)) in copies:
            copies[key].append(file)
    dropped: dict[AudioFile, AudioFile] = {}
    for files in copies.values():
        best, *others = sorted(files, key=lambda file: (_ORDER[suffix_of(file.path)], file.path))
        # flac/1.flac and 1.flac have the same format, so they are different recordings and not copies.
        dropped |= {file: best for file in others if suffix_of(file.path) != suffix_of(best.path)}
    if dropped:
        found.files = [file for file in found.files if file not in dropped]
        found.missing += [
            (file.path, f"is the recording of {best.path} in another format") for file, best in dropped.items()
        ]


def _parts(file: AudioFile) -> tuple[str, ...]:
    return tuple(without_audio_suffix(file.path).split(os.sep))  # noqa: PTH206


def _look_at(entry: os.DirEntry[str]) -> AudioFile | str:
    """Return a file, or the reason why it cannot be used."""
    if suffix_of(entry.name) in FOREIGN_SUFFIXES:
        return f"is {suffix_of(entry.name)}, which is not decoded here: convert it to .flac or .wav"
    try:
        stat = entry.stat()
        if not entry.is_file():  # opening a pipe would wait for ever
            return "is not a regular file"
    except OSError as error:
        return f"is not accessible ({error.strerror})"
    if any(character in entry.path for character in UNLISTABLE):
        return "has a tab or a line break in its name, which a manifest cannot store"
    return AudioFile(entry.path, stat.st_size, stat.st_mtime_ns)


def _is_hidden(name: str) -> bool:
    return name.startswith(".")  # such as ._NAME.wav, which macOS writes beside NAME.wav on foreign disks


def _folders(
    root: str, seen: set[tuple[int, int]], missing: list[tuple[str, str]], links_keep_their_name: bool
) -> Iterator[list[os.DirEntry[str]]]:
    """Yield the files of each folder; ``seen`` holds visited folders, ``missing`` collects inaccessible ones."""
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            stat = os.stat(folder)  # noqa: PTH116 - a Path per file would double the time of a large corpus
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
            files, real, linked = [], [], []
            with os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        is_folder = entry.is_dir()
                    except OSError as error:  # a link to itself, or to a folder without permission
                        missing.append((entry.path, f"is not accessible ({error.strerror})"))
                        continue
                    if not is_folder:
                        files.append(entry)
                    elif entry.is_symlink():
                        linked.append(entry.path if links_keep_their_name else os.path.realpath(entry.path))
                    else:
                        real.append(entry.path)
        except OSError as error:
            missing.append((folder, f"cannot be listed ({error.strerror})"))
            continue
        folders += [*sorted(linked, reverse=True), *sorted(real, reverse=True)]  # real folders before links
        yield files
