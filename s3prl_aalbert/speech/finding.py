"""Finding the audio files of folders: one rule of what is audio, for pre-training and for tasks.

What looks like audio and cannot be used is named with its reason; what does not is counted by suffix.
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
"""Of files that are read; libsndfile decides by their content."""
FOREIGN_SUFFIXES = frozenset((
    ".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".aac", ".ac3", ".amr", ".awb", ".3gp", ".3ga", ".wma", ".wmv", ".asf",
    ".avi", ".ape", ".wv", ".tta", ".tak", ".shn", ".spx", ".mka", ".mkv", ".webm", ".weba", ".ra", ".rm", ".dts",
    ".dsf", ".dff", ".gsm", ".pcm", ".raw", ".adc", ".alac", ".mpc",
))  # fmt: skip
"""Of audio and video that libsndfile cannot decode."""
SOUND_SUFFIXES = AUDIO_SUFFIXES | FOREIGN_SUFFIXES
FORMATS = frozenset(suffix[1:] for suffix in SOUND_SUFFIXES)
"""Names of folders that hold what others hold in another format."""
UNLISTABLE = "\t\n\r"
"""What a path cannot hold to stand in a table."""
_ORDER = {suffix: place for place, suffix in enumerate(LOSSLESS + LOSSY)}
MAX_SHOWN = 6
"""Suffixes in a message."""


class AudioFile(NamedTuple):
    """One file as the folder lists it."""

    path: str
    size: int
    """Bytes."""
    mtime: int
    """Nanoseconds."""


@dataclass
class Found:
    """What folders hold."""

    files: list[AudioFile] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)
    """(path, reason) of audio files and folders that cannot be used."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """How many files are not audio by their name, by suffix; "hidden" is a name with a dot in front."""

    def other_files(self) -> str:
        """Return how many files are not audio by their name, in words."""
        kinds = sorted(self.passed_over.items(), key=lambda item: (-item[1], item[0]))
        shown = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in kinds[:MAX_SHOWN])
        return shown + (f" and {len(kinds) - MAX_SHOWN} more kinds" if len(kinds) > MAX_SHOWN else "")


def suffix_of(name: str) -> str:
    """Return a file name's suffix in lower case."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path per file would double the time of a large corpus


def without_audio_suffix(name: str) -> str:
    """Return a name or path without suffixes of audio: ``SA1.WAV.wav`` is SA1, ``a.b`` stays."""
    while (suffix := suffix_of(name)) in SOUND_SUFFIXES:
        name = name[: -len(suffix)]
    return name


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


def find_files(folders: Sequence[str], links_keep_their_name: bool) -> Found:
    """Find the audio below some folders, each file once; of one recording in several formats one.

    Linked folders are followed, never twice.

    Args:
        folders: existing folders.
        links_keep_their_name: list the files of a linked folder below the link, or where it leads to.

    Raises:
        AalbertError: a folder holds no audio.
    """
    found = Found()
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        visited, before = len(seen), len(found.files)
        _search(folder, seen, found, links_keep_their_name)
        if len(found.files) == before and len(seen) > visited:  # a folder inside an earlier one adds nothing
            others = f"; other files: {found.other_files()}" if found.passed_over else ""
            reasons = "".join(f"; {path} {reason}" for path, reason in found.missing[:3])
            raise AalbertError(f"{folder}: no audio found (looked for .wav, .flac, .opus, .mp3, ...){others}{reasons}")
    _drop_copies(found)
    if found.passed_over:
        logger.info("%s: passed over what has no name of audio: %s", ", ".join(folders), found.other_files())
    return found


def files_below(root: str) -> Iterator[str]:
    """Yield every visible file below a folder, those of linked folders under the link's name, no folder twice."""
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
    """List one file of a recording, and the others as missing."""
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
    """Keep one of the files whose paths differ by format alone: a/wav/1.wav and a/flac/1.flac."""
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
        # Of one format, in flac/1.flac and in 1.flac, they are no copies: nobody keeps one recording twice like that.
        dropped |= {file: best for file in others if suffix_of(file.path) != suffix_of(best.path)}
    if dropped:
        found.files = [file for file in found.files if file not in dropped]
        found.missing += [
            (file.path, f"is the recording of {best.path} in another format") for file, best in dropped.items()
        ]


def _parts(file: AudioFile) -> tuple[str, ...]:
    return tuple(without_audio_suffix(file.path).split(os.sep))  # noqa: PTH206


def _look_at(entry: os.DirEntry[str]) -> AudioFile | str:
    """Return a file, or why it cannot be used."""
    if suffix_of(entry.name) in FOREIGN_SUFFIXES:
        return f"is {suffix_of(entry.name)}, which is not decoded here: convert it to .flac or .wav"
    try:
        stat = entry.stat()
        if not entry.is_file():  # opening a pipe would wait for ever
            return "is no regular file"
    except OSError as error:
        return f"cannot be looked at ({error.strerror})"
    if any(character in entry.path for character in UNLISTABLE):
        return "has a tab or a line break in its name, which a manifest cannot hold"
    return AudioFile(entry.path, stat.st_size, stat.st_mtime_ns)


def _is_hidden(name: str) -> bool:
    return name.startswith(".")  # as the ._NAME.wav that macOS leaves beside NAME.wav on foreign disks


def _folders(
    root: str, seen: set[tuple[int, int]], missing: list[tuple[str, str]], links_keep_their_name: bool
) -> Iterator[list[os.DirEntry[str]]]:
    """Yield the files of each folder; ``seen`` holds the folders already visited, ``missing`` gets what is closed."""
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
                    except OSError as error:  # a link to itself, or to where nobody may look
                        missing.append((entry.path, f"cannot be looked at ({error.strerror})"))
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
        folders += [*sorted(linked, reverse=True), *sorted(real, reverse=True)]  # what lies there itself comes first
        yield files
