"""Matches the names of utterances in lists and tables to the names of audio files."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from s3prl_aalbert.errors import did_you_mean
from s3prl_aalbert.printable import printable
from s3prl_aalbert.speech.finding import without_audio_suffix

MAX_SHOWN = 5
"""Largest number of names in a message."""


def first_names(names: Iterable[str]) -> str:
    """Return the first few names, escaped for a terminal."""
    ordered = sorted(names)
    return printable(", ".join(ordered[:MAX_SHOWN])) + (", ..." if len(ordered) > MAX_SHOWN else "")


def commonest(reasons: Iterable[str]) -> str:
    """Return the most frequent reason, for a message that all files were skipped."""
    counts = Counter(reasons).most_common(1)
    return "".join(f"; {reason} ({count} of them)" for reason, count in counts)


def plain(name: str) -> str:
    """Return a name or path without differences of spelling: Unicode form, blanks around it, \\ for /, audio suffix."""
    name = unicodedata.normalize("NFC", name).strip().replace("\\", "/").removeprefix("./")
    return without_audio_suffix(name).strip()


class NameMatcher:
    """Finds utterances by the names of lists and tables."""

    def __init__(self, known: Iterable[str]):
        """Take the names that the audio has, STEM or FOLDER/STEM."""
        self.known = dict.fromkeys(known)
        self._whole: dict[str, str | None] = {}
        self._endings: dict[str, str | None] = {}
        for name in self.known:
            spelt = plain(name)
            # The end of a path that two utterances share identifies neither.
            self._whole[spelt] = None if spelt in self._whole else name
            parts = spelt.split("/")
            for start in range(1, len(parts)):
                ending = "/".join(parts[start:])
                self._endings[ending] = None if ending in self._endings else name

    def find(self, listed: str) -> str | None:
        """Return the utterance that a listed name means, or None.

        The name matches exactly, or without differences of spelling (``plain``), or where one is the end of the other's
        path: ``sa1`` means ``mary/sa1`` if only she has one, and ``wav/mary/sa1.wav`` means ``mary/sa1``.
        """
        if listed in self.known:
            return listed
        spelt = plain(listed)
        parts = spelt.split("/")
        tails = ("/".join(parts[start:]) for start in range(1, len(parts)))
        candidates = (self._whole.get(spelt), self._endings.get(spelt), *map(self._whole.get, tails))
        return next((name for name in candidates if name is not None), None)

    def find_all(self, listed: Sequence[str]) -> tuple[dict[str, str], list[str]]:
        """Return a mapping from listed names to utterances, in the order of the list, and the names without a match."""
        pairs = {name: self.find(name) for name in listed}
        found = {name: utterance for name, utterance in pairs.items() if utterance is not None}
        return found, [name for name in pairs if name not in found]

    def hint(self, missing: Sequence[str]) -> str:
        """Show by one example how listed names differ from the names of the audio; return "" without a difference."""
        if not missing or not self.known:
            return ""
        first = missing[0]
        ending = plain(first).casefold().split("/")[-1]
        alike = (name for name in self.known if plain(name).casefold().split("/")[-1] == ending)
        near = next((f' (did you mean "{name}"?)' for name in alike), "") or did_you_mean(ending, self.known)
        return f'"{first}" is listed{near}' if near else f'"{first}" is listed, the audio is called "{min(self.known)}"'
