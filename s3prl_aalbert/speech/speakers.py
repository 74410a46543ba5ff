"""Finds the speaker of a file by its path."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from s3prl_aalbert.speech.finding import FORMATS

LIBRISPEECH_STEM = re.compile(r"^(\d+)-(\d+)-0\d{3}$")
"""SPEAKER-CHAPTER-UTTERANCE; the utterances of a chapter have four digits and are fewer than 1,000, unlike a year."""
_VOXCELEB_FOLDER = re.compile(r"^id\d{5}$")
_FORMAT_FOLDERS = frozenset(name for name in FORMATS if len(name) > 2)
"""Without au, ra and rm, which may be a speaker's initials."""
_SPEAKER_FIRST = re.compile(r"^([^_\-]+)[_\-].")


def speaker_of(path: Path) -> str:
    """Return the speaker by the layout of a well-known corpus, else ``folder_of``."""
    return speaker_by_layout(path) or folder_of(path)


def speaker_by_layout(path: Path) -> str | None:
    """Return the speaker of a file that is named as in LibriSpeech, LibriTTS, MLS or VoxCeleb; None for other names."""
    if match := LIBRISPEECH_STEM.match(path.stem):
        return match.group(1)
    chapter, speaker = path.parent.name, path.parent.parent.name
    if path.stem.split("_")[:2] == [speaker, chapter] and speaker:  # SPEAKER/CHAPTER/SPEAKER_CHAPTER_...
        return speaker
    return speaker if _VOXCELEB_FOLDER.match(speaker) else None  # SPEAKER/VIDEO/UTTERANCE


def folder_of(path: Path) -> str:
    """Return the name of a file's folder, or of the one above if it is named after a format (mary/wav/1.wav)."""
    folder = path.parent
    while folder.name.lower() in _FORMAT_FOLDERS and folder.parent.name:
        folder = folder.parent
    return folder.name


def speakers_in_names(paths: Iterable[Path]) -> str:
    """Return a hint where the names in one folder look like SPEAKER_word: groups of names begin alike."""
    matches = [(match, path) for path in paths if (match := _SPEAKER_FIRST.match(path.stem))]
    beginnings = Counter(match.group(1) for match, _ in matches)
    if len(beginnings) < 2 or max(beginnings.values()) < 2:
        return ""
    example = matches[0][1].name
    return f'; names like "{example}" seem to begin with one of {len(beginnings)} speakers, which a table can list'
