"""Praat's TextGrids in text form, long or short: tiers of labelled intervals, and none of them lost without a word.

As Praat reads them: numbers and "strings" count, in their order; all other words are comments for people, and ! begins
a comment up to the end of its line.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from s3prl_aalbert.speech.text import number

INTERVALS, POINTS = "IntervalTier", "TextTier"
TILING = 0.01
"""Seconds of a tier that no interval covers and that are not a gap."""
_WORD = re.compile(r'"(?:[^"]|"")*"|!.*|\[[^\]\n]*\]|[^\s"=\[!]+')


class TextGridError(ValueError):
    """A tier that cannot be read; the message says why and where."""


class _Token(NamedTuple):
    kind: str
    """"string", "number", or "header" of an interval in the long form."""
    text: str
    line: int


@dataclass(frozen=True)
class Tier:
    """A tier of intervals, not yet read."""

    name: str
    start: float
    """Seconds."""
    end: float
    size: float
    """Number of intervals as the header has it; one release of Montreal Forced Aligner wrote another number."""
    tokens: Sequence[_Token]

    def intervals(self) -> list[tuple[float, float, str]]:
        """Return (start, end, label) in seconds.

        Raises:
            TextGridError: an interval is incomplete, or some are missing.
        """
        tokens = [token for token in self.tokens if token.kind != "header"]
        found = []
        for place in range(0, len(tokens), 3):
            triple = tokens[place : place + 3]
            if [token.kind for token in triple] != ["number", "number", "string"]:
                seen = " ".join(token.text for token in triple)
                raise TextGridError(f"line {triple[0].line} begins no interval of START, END and TEXT ({seen[:80]})")
            found.append((number(triple[0].text), number(triple[1].text), triple[2].text.strip()))
        headers = len(self.tokens) - len(tokens)
        if headers not in (0, len(found)):
            raise TextGridError(f"{headers} intervals begin, {len(found)} are complete")
        if len(found) != self.size and not self._is_tiled(found):
            raise TextGridError(f"{len(found)} of {self.size:g} intervals are there, and leave gaps")
        return found

    def _is_tiled(self, intervals: Sequence[tuple[float, float, str]]) -> bool:
        edges = [(self.start, self.start, ""), *sorted(intervals), (self.end, self.end, "")]
        return all(after[0] - before[1] <= TILING for before, after in itertools.pairwise(edges))


def read_tiers(text: str) -> list[Tier]:
    """Return the interval tiers of a TextGrid; those of points are passed over."""
    tokens = list(_tokens(text))
    starts = [place for place in range(len(tokens)) if _begins_tier(tokens[place : place + 5])]
    tiers = []
    for start, end in zip(starts, [*starts, len(tokens)][1:], strict=True):
        kind, name, first, last, size = (token.text for token in tokens[start : start + 5])
        if kind == INTERVALS:
            tiers.append(Tier(name.strip(), number(first), number(last), number(size), tokens[start + 5 : end]))
    return tiers


def choose_tier(tiers: Sequence[Tier], wanted: str) -> Tier:
    """Return the tier of a name: exactly, else in other case, in the singular, or after "SPEAKER - ".

    Raises:
        TextGridError: none fits, or several do; says which there are.
    """
    fitting = [tier for tier in tiers if tier.name == wanted]
    fitting = fitting or [tier for tier in tiers if _folded(tier.name) == _folded(wanted)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(f'"{tier.name}"' for tier in fitting or tiers)
    if fitting:
        raise TextGridError(f'several tiers could be "{wanted}": {names}')
    raise TextGridError(f'no interval tier "{wanted}", found {names or "none"}')


def _folded(name: str) -> str:
    return name.split(" - ")[-1].strip().casefold().removesuffix("s")


def _tokens(text: str) -> Iterator[_Token]:
    line, last = 1, 0
    before = ""
    for match in _WORD.finditer(text):
        word = match.group()
        line += text.count("\n", last, match.start())
        last = match.start()
        if word[0] == '"':
            yield _Token("string", word[1:-1].replace('""', '"'), line)
        elif word[0] == "[" and before.casefold() == "intervals":
            yield _Token("header", word, line)
        else:
            try:
                number(word)
                yield _Token("number", word, line)
            except ValueError:
                pass
        before = word


def _begins_tier(tokens: Sequence[_Token]) -> bool:
    # A label that is called IntervalTier is followed by a number, a class by its name.
    kinds = [token.kind for token in tokens]
    return kinds == ["string", "string", "number", "number", "number"] and tokens[0].text in (INTERVALS, POINTS)
