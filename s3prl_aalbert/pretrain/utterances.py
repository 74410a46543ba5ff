"""The utterances of a corpus as one table of columns, from the scan of its folders to the loader.

Legend: N utterances, M chosen ones, U units a token.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np

from s3prl_aalbert.audio_io import AudioError
from s3prl_aalbert.model.config import SAMPLE_RATE
from s3prl_aalbert.pretrain.cached_audio import CachedAudio

UNKNOWN = -1
SPLITS = ("", "train", "dev", "test")
"""Not drawn yet, trained on, held out, skipped."""
ERRORS = "surrogateescape"
"""File names are bytes: what is no UTF-8 survives a round trip."""
_ROW = np.dtype([
    ("start", "i8"), ("width", "i4"), ("samples", "i8"), ("speaker", "i4"), ("split", "u1"), ("size", "i8"),
    ("mtime", "i8"),
])  # fmt: skip
"""The path is text[start : start + width]; a speaker is a number in a list of names."""


class Utterance(NamedTuple):
    """One audio file: a row of the table and of a manifest."""

    path: str
    samples: int = UNKNOWN
    """At 16 kHz."""
    speaker: str = ""
    split: str = ""
    """One of SPLITS."""
    size: int = UNKNOWN
    """Bytes."""
    mtime: int = UNKNOWN
    """Nanoseconds."""
    fault: str = ""
    """Why the file cannot be used."""


class UnitLabels:
    """The discrete units of utterances, by row; see pretrain/units.py."""

    def __init__(self, values: np.ndarray, starts: np.ndarray, units_per_token: int, codebook: str = ""):
        """Keep labels.

        Args:
            values: (total,) uint16, one utterance's after the other's.
            starts: (N,) where each utterance's begin.
            units_per_token: U.
            codebook: digest of the codebook; empty for arbitrary units.
        """
        self._values, self._starts, self.units_per_token = values, starts, units_per_token
        self.codebook = codebook

    def read(self, row: int, first_token: int, num_tokens: int) -> np.ndarray:
        """Return the units of some tokens of an utterance, (tokens, U) int64."""
        start = int(self._starts[row]) + first_token * self.units_per_token
        values = self._values[start : start + num_tokens * self.units_per_token]
        return values.astype(np.int64).reshape(num_tokens, self.units_per_token)

    def select(self, rows: np.ndarray) -> UnitLabels:
        """Return those of some rows."""
        return UnitLabels(self._values, self._starts[rows], self.units_per_token, self.codebook)


class Utterances(Sequence[Utterance]):
    """N utterances in columns: 41 bytes each and the path, and nothing for forked workers to copy.

    Assigning to an element of ``samples`` or ``splits`` changes the table.
    """

    def __init__(self, rows: Iterable[Utterance]):
        """Pack utterances, which may come one at a time."""
        self._names: list[str] = []
        self._codes: dict[str, int] = {}
        self.faults: dict[int, str] = {}
        """Why a file cannot be used, by row; empty once the usable rows are selected."""
        text = bytearray()
        self._table = np.fromiter(self._packed(rows, text), _ROW)
        self._text = bytes(text)
        self.skipped: tuple[tuple[str, str], ...] = ()
        """(path, reason) of the corpus's files that are not among these."""
        self.cache: CachedAudio | None = None
        """Decoded audio, by row."""
        self.units: UnitLabels | None = None

    def _packed(self, rows: Iterable[Utterance], text: bytearray) -> Iterator[tuple[int, ...]]:
        for row, (path, samples, speaker, split, size, mtime, fault) in enumerate(rows):
            start = len(text)
            text += path.encode("utf-8", ERRORS)
            if fault:
                self.faults[row] = fault
            yield start, len(text) - start, samples, self._code(speaker), SPLITS.index(split), size, mtime

    def _code(self, speaker: str) -> int:
        if speaker not in self._codes:
            self._codes[speaker] = len(self._names)
            self._names.append(speaker)
        return self._codes[speaker]

    def __len__(self) -> int:
        """Return N."""
        return len(self._table)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> Utterances: ...
    def __getitem__(self, index: int | slice) -> Utterance | Utterances:
        """Return one utterance, or some."""
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        row = range(len(self))[index]
        _, _, samples, speaker, split, size, mtime = self._table[row].item()
        fault = self.faults.get(row, "")
        return Utterance(self.path(row), samples, self._names[speaker], SPLITS[split], size, mtime, fault)

    def __iter__(self) -> Iterator[Utterance]:
        """Yield the utterances: all columns at once, as single elements would take long."""
        numbers = (self._table[name].tolist() for name in ("samples", "split", "size", "mtime"))
        columns = zip(self.paths, self.speakers, *numbers, strict=True)
        for row, (path, speaker, samples, split, size, mtime) in enumerate(columns):
            yield Utterance(path, samples, speaker, SPLITS[split], size, mtime, self.faults.get(row, ""))

    @property
    def samples(self) -> np.ndarray:
        """Lengths at 16 kHz (N,), or UNKNOWN."""
        return self._table["samples"]

    @property
    def splits(self) -> np.ndarray:
        """Places in SPLITS (N,)."""
        return self._table["split"]

    @property
    def paths(self) -> list[str]:
        """The N files."""
        ends = (self._table["start"] + self._table["width"]).tolist()
        places = zip(self._table["start"].tolist(), ends, strict=True)
        return [self._text[start:end].decode("utf-8", ERRORS) for start, end in places]

    @property
    def speakers(self) -> list[str]:
        """The N speakers."""
        return [self._names[code] for code in self._table["speaker"].tolist()]

    def path(self, row: int) -> str:
        """Return the file of one utterance."""
        start, width = self._table["start"][row], self._table["width"][row]
        return self._text[start : start + width].decode("utf-8", ERRORS)

    def unchanged(self, row: int, size: int, mtime: int) -> bool:
        """Tell whether a file still has a size in bytes and a modification time."""
        here = self._table[row]
        return bool(here["size"] == size and here["mtime"] == mtime)

    def check_length(self, row: int, samples: int) -> None:
        """Refuse decoded audio that is not as long as the table says: units are laid out by the table.

        Raises:
            AudioError: it has another number of samples.
        """
        known = int(self.samples[row])
        if samples != known:
            raise AudioError(
                f"{self.path(row)}: has {samples} samples at 16 kHz, but the manifest's length is {known}; correct it "
                "there, or start again without trust_manifest, which counts changed files anew"
            )

    @property
    def digest(self) -> str:
        """A hash of what decides the audio: the files, their lengths, sizes and modification times."""
        digest = hashlib.sha256()
        for name in ("samples", "size", "mtime"):
            digest.update(self._table[name].tobytes())
        for path in self.paths:
            digest.update(path.encode("utf-8", ERRORS) + b"\n")
        return digest.hexdigest()

    def fill(self, row: int, known: Utterance) -> None:
        """Take over what is known of a file: the length if it is unchanged, speaker and split if there are none."""
        here = self._table[row]
        here["split"] = here["split"] or SPLITS.index(known.split)  # a file recorded anew stays held out
        here["speaker"] = self._code(self._names[here["speaker"]] or known.speaker)
        if self.unchanged(row, known.size, known.mtime):
            here["samples"] = known.samples

    def set_speaker(self, row: int, name: str) -> None:
        """Name the speaker of one utterance."""
        self._table["speaker"][row] = self._code(name)

    def select(self, rows: np.ndarray) -> Utterances:
        """Return the utterances (M,) of some rows."""
        chosen = copy.copy(self)
        chosen._table, chosen.faults = self._table[rows], {}
        chosen.cache = self.cache and self.cache.select(rows)
        chosen.units = self.units and self.units.select(rows)
        return chosen

    def split(self, name: str) -> Utterances:
        """Return the utterances of "train" or "dev"."""
        return self.select(np.flatnonzero(self.splits == SPLITS.index(name)))

    def describe(self) -> str:
        """Return utterances, hours and speakers of each split in one line."""
        parts = {name: self.split(name) for name in ("train", "dev")}
        return "; ".join(
            f"{name}: {len(part)} utterances, {part.hours:.2f} h, {part.num_speakers} speakers"
            for name, part in parts.items()
        )

    @property
    def hours(self) -> float:
        """Their length together."""
        return float(self.samples.sum()) / SAMPLE_RATE / 3600

    @property
    def num_speakers(self) -> int:
        """How many people speak."""
        return len(np.unique(self._table["speaker"]))
