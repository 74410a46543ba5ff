"""Many utterances in little memory.

Legend: N utterances, M chosen ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from s3prl_aalbert.model.config import SAMPLE_RATE
from s3prl_aalbert.pretrain.audio_cache import CachedAudio
from s3prl_aalbert.pretrain.manifest import ERRORS


@dataclass(frozen=True)
class Utterance:
    """One usable audio file."""

    path: str
    samples: int
    """At 16 kHz."""
    speaker: str
    split: str
    """"train" or "dev"."""


class UnitLabels:
    """The discrete units of utterances, by row; see pretrain/units.py."""

    def __init__(self, values: np.ndarray, starts: np.ndarray, units_per_token: int):
        """Keep labels.

        Args:
            values: (total,) uint16, one utterance's after the other's.
            starts: (N,) where each utterance's begin.
            units_per_token: U.
        """
        self._values, self._starts, self.units_per_token = values, starts, units_per_token

    def read(self, row: int, first_token: int, num_tokens: int) -> np.ndarray:
        """Return the units of some tokens of an utterance, (tokens, U) int64."""
        start = int(self._starts[row]) + first_token * self.units_per_token
        values = self._values[start : start + num_tokens * self.units_per_token]
        return values.astype(np.int64).reshape(num_tokens, self.units_per_token)

    def select(self, rows: np.ndarray) -> UnitLabels:
        """Return those of some rows."""
        return UnitLabels(self._values, self._starts[rows], self.units_per_token)


class Utterances(Sequence[Utterance]):
    """Utterances in columns: a hundred bytes each, and nothing for forked workers to copy."""

    def __init__(
        self,
        paths: Iterable[str],
        samples: np.ndarray,
        speakers: Sequence[str],
        splits: Sequence[str],
        cache: CachedAudio | None = None,
    ):
        """Pack N utterances.

        Args:
            paths: N files.
            samples: (N,) lengths.
            speakers: N names.
            splits: N times "train" or "dev".
            cache: their decoded audio, by position here.
        """
        encoded = [path.encode("utf-8", ERRORS) for path in paths]
        self._text = np.frombuffer(b"".join(encoded), np.uint8)
        self._widths = np.array([len(path) for path in encoded], dtype=np.int32)
        self._starts = np.cumsum(self._widths, dtype=np.int64) - self._widths
        codes = {name: code for code, name in enumerate(dict.fromkeys(speakers))}
        self._names = tuple(codes)
        self._speakers = np.array([codes[name] for name in speakers], dtype=np.int32)
        self._is_dev = np.array([split == "dev" for split in splits], dtype=bool)
        self.samples = np.asarray(samples, dtype=np.int64)
        self.cache = cache
        self.units: UnitLabels | None = None

    @classmethod
    def of(cls, utterances: Sequence[Utterance]) -> Utterances:
        """Pack single utterances."""
        columns = ([getattr(u, name) for u in utterances] for name in ("path", "samples", "speaker", "split"))
        paths, samples, speakers, splits = columns
        return cls(paths, np.array(samples, dtype=np.int64), speakers, splits)

    def __len__(self) -> int:
        """Return N."""
        return len(self.samples)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> Utterances: ...
    def __getitem__(self, index: int | slice) -> Utterance | Utterances:
        """Return one utterance, or some."""
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        row = range(len(self))[index]
        split = "dev" if self._is_dev[row] else "train"
        return Utterance(self.path(row), int(self.samples[row]), self._names[self._speakers[row]], split)

    def path(self, row: int) -> str:
        """Return the file of one utterance."""
        start = self._starts[row]
        return self._text[start : start + self._widths[row]].tobytes().decode("utf-8", ERRORS)

    def select(self, rows: np.ndarray) -> Utterances:
        """Return the utterances (M,) of some rows."""
        chosen = Utterances.__new__(Utterances)
        chosen._text, chosen._starts, chosen._widths = self._text, self._starts[rows], self._widths[rows]
        chosen._names, chosen._speakers = self._names, self._speakers[rows]
        chosen._is_dev, chosen.samples = self._is_dev[rows], self.samples[rows]
        chosen.cache = self.cache and self.cache.select(rows)
        chosen.units = self.units and self.units.select(rows)
        return chosen

    def of_split(self, name: str) -> Utterances:
        """Return the utterances of "train" or "dev"."""
        return self.select(np.flatnonzero(self._is_dev == (name == "dev")))

    @property
    def hours(self) -> float:
        """Their length together."""
        return float(self.samples.sum()) / SAMPLE_RATE / 3600

    @property
    def num_speakers(self) -> int:
        """How many people speak."""
        return len(np.unique(self._speakers))
