"""Reads the tiers of Praat's TextGrids in text form, long or short; a missing interval is always an error.

The text is read as Praat does: numbers and "strings" count, in their order. All other words are comments, and ! begins
a comment up to the end of its line.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

INTERVALS, POINTS = "IntervalTier", "TextTier"
TILING = 0.01
"""Seconds between intervals that do not yet count as a gap."""
_TOKEN = re.compile(
    r"""
    "(?P<string>(?:[^"]|"")*)"
    | !.*                                                                    # a comment
    | (?P<header>intervals\s*\[[^\]\n]*\]) | \[[^\]\n]*\]                    # of the long form
    | (?<![^\s=])(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)(?![^\s="!\[])
    """,
    re.VERBOSE | re.ASCII | re.IGNORECASE,
)


class TextGridError(ValueError):
    """A tier that cannot be read; the message names the reason and the place."""


_Token = tuple[str, str, int]
"""Kind ("string", "number", or "header" of an interval in the long form), text, place in the file."""


@dataclass(frozen=True)
class Tier:
    """A tier of intervals, before these are read."""

    name: str
    start: float
    """Seconds."""
    end: float
    size: float
    """Number of intervals in the header, which one release of the Montreal Forced Aligner wrote wrongly."""
    tokens: Sequence[_Token]
    text: str
    """The whole file."""

    def intervals(self) -> list[tuple[float, float, str]]:
        """Return (start, end, label) in seconds.

        Raises:
            TextGridError: an interval is incomplete, or some are missing.
        """
        tokens = [token for token in self.tokens if token[0] != "header"]
        found = []
        for place in range(0, len(tokens), 3):
            triple = tokens[place : place + 3]
            if [kind for kind, _, _ in triple] != ["number", "number", "string"]:
                line = self.text.count("\n", 0, triple[0][2]) + 1
                seen = " ".join(text for _, text, _ in triple)
                raise TextGridError(f"line {line} does not begin an interval of START, END and TEXT ({seen[:80]})")
            (_, start, _), (_, end, _), (_, label, _) = triple
            found.append((float(start), float(end), label.replace('""', '"').strip()))
        headers = len(self.tokens) - len(tokens)
        if headers not in (0, len(found)):
            raise TextGridError(f"{headers} intervals begin, but {len(found)} are complete")
        if len(found) != self.size and not self._is_tiled(found):
            raise TextGridError(f"only {len(found)} of {self.size:g} intervals exist, with gaps between them")
        return found

    def _is_tiled(self, intervals: Sequence[tuple[float, float, str]]) -> bool:
        edges = [(self.start, self.start, ""), *sorted(intervals), (self.end, self.end, "")]
        return all(after[0] - before[1] <= TILING for before, after in itertools.pairwise(edges))


def read_tiers(text: str) -> list[Tier]:
    """Return the interval tiers of a TextGrid; point tiers are skipped."""
    tokens = [(kind, match[kind], match.start()) for match in _TOKEN.finditer(text) if (kind := match.lastgroup)]
    starts = [place for place, (_, word, _) in enumerate(tokens) if word in (INTERVALS, POINTS)]
    starts = [place for place in starts if _begins_tier(tokens[place : place + 5])]
    tiers = []
    for start, end in zip(starts, [*starts, len(tokens)][1:], strict=True):
        kind, name, first, last, size = (word for _, word, _ in tokens[start : start + 5])
        if kind == INTERVALS:
            name = name.replace('""', '"').strip()
            tiers.append(Tier(name, float(first), float(last), float(size), tokens[start + 5 : end], text))
    return tiers


def choose_tier(tiers: Sequence[Tier], name: str) -> Tier:
    """Return the tier with a name: an exact match, else in other case, in the singular, or after "SPEAKER - ".

    Raises:
        TextGridError: no tier matches, or several do; the message lists them.
    """
    fitting = [tier for tier in tiers if tier.name == name]
    fitting = fitting or [tier for tier in tiers if _folded(tier.name) == _folded(name)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(f'"{tier.name}"' for tier in fitting or tiers)
    if fitting:
        raise TextGridError(f'several tiers could be "{name}": {names}')
    raise TextGridError(f'no interval tier "{name}", found {names or "none"}')


def _folded(name: str) -> str:
    return name.split(" - ")[-1].strip().casefold().removesuffix("s")


def _begins_tier(tokens: Sequence[_Token]) -> bool:
    # A label that is called IntervalTier is followed by a number, a class by its name.
    return [kind for kind, _, _ in tokens] == ["string", "string", "number", "number", "number"]
