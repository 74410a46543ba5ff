"""Finds the speaker of a file by its path."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from s3prl_aalbert.speech.finding import FORMATS

LIBRISPEECH_STEM = re.compile(r"^(\d+)-(\d+)-\d+$")
_SPEAKER_FIRST = re.compile(r"^([^_\-]+)[_\-].")


def speaker_of(path: Path) -> str:
    """Return SPEAKER of a name as in LibriSpeech (SPEAKER-CHAPTER-UTTERANCE), else ``folder_of``."""
    match = LIBRISPEECH_STEM.match(path.stem)
    return match.group(1) if match else folder_of(path)


def folder_of(path: Path) -> str:
    """Return the name of a file's folder, or of the one above if it is named after a format (mary/wav/1.wav)."""
    folder = path.parent
    while folder.name.lower() in FORMATS and folder.parent.name:
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
