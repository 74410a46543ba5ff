"""Reads the audio cache that ``audio_cache`` builds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from s3prl_aalbert.audio_io import AudioError
from s3prl_aalbert.speech.sixteen_bit import as_float

SAMPLE_BYTES = 2
ABSENT = -1
"""Offset of a row whose audio is not cached."""


class CachedAudio:
    """Reads decoded audio by a corpus's row."""

    def __init__(self, path: Path, offsets: np.ndarray):
        """Open the data file.

        Args:
            path: data file.
            offsets: (N,) of each row of the corpus, or ABSENT.
        """
        self.path, self.offsets = path, offsets
        # The file stays open: another run may replace it, and this run still reads the samples that it has indexed.
        self._file = path.open("rb", buffering=0)

    def __reduce__(self) -> tuple[object, ...]:
        """Let workers that are not forked open the file themselves."""
        return CachedAudio, (self.path, self.offsets)

    def select(self, rows: np.ndarray) -> CachedAudio:
        """Return a reader of some rows (M,), in their order."""
        chosen = object.__new__(CachedAudio)  # of the same open file: by its name it may be gone
        chosen.path, chosen.offsets, chosen._file = self.path, self.offsets[rows], self._file
        return chosen

    def holds(self, row: int) -> bool:
        """Tell whether a row's audio is here."""
        return bool(self.offsets[row] != ABSENT)

    def read(self, row: int, start: int, count: int) -> np.ndarray:
        """Return float32 samples (count,) of a row from sample ``start``; safe in threads and forked processes.

        Raises:
            AudioError: the data file is shorter than its index says.
        """
        where = (int(self.offsets[row]) + start) * SAMPLE_BYTES
        data = os.pread(self._file.fileno(), count * SAMPLE_BYTES, where)
        if len(data) != count * SAMPLE_BYTES:
            raise AudioError(f"{self.path}: ends too early; remove the file, the next start builds it anew")
        return as_float(np.frombuffer(data, np.int16))
