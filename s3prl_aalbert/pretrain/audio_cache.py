"""The audio cache: decoded speech on disk, as one file of 16-bit samples and an index of where each file's lie.

Decoding opus, flac or mp3 in each epoch costs more than all other loading. Reads go through the page cache, which all
processes share. Sixteen bits hold wav and flac of that depth exactly, so training sees the same samples with and
without the cache.

The data file only grows. The index names it and is replaced atomically, so an index always fits its data: after an
interruption, the index of some seconds ago is shorter. The index describes the corpus of the last run that wrote it; a
data file of which that corpus uses less than half is built anew.
"""

from __future__ import annotations

import glob
import logging
import os
import secrets
import shutil
import zipfile
from collections.abc import Collection
from pathlib import Path

import numpy as np

from s3prl_aalbert.files import write_atomically
from s3prl_aalbert.model.config import SAMPLE_RATE
from s3prl_aalbert.pretrain.cached_audio import ABSENT, SAMPLE_BYTES, CachedAudio
from s3prl_aalbert.pretrain.utterances import ERRORS, UNKNOWN, Utterances

logger = logging.getLogger(__name__)

FORMAT = 1
MIN_FREE_BYTES = 2 << 30
"""The cache leaves this much of the disk to checkpoints."""
LARGEST_WASTE = 0.5
"""Share of unused samples above which the data file is built anew."""


class CacheBuilder:
    """The cache of a corpus, beside its manifest; whoever adds to it holds the manifest's lock."""

    def __init__(self, manifest: Path, utterances: Utterances, budget_hours: float):
        """Read the index; one that is damaged or does not fit its data is ignored.

        Args:
            manifest: the manifest that the cache lies beside.
            utterances: the corpus; a cached file whose length is unknown gets it.
            budget_hours: most speech to keep; 0 is off.
        """
        self.index, self.utterances = manifest.with_suffix(".audio.npz"), utterances
        self.budget = budget_hours * 3600 * SAMPLE_RATE
        self.offsets = np.full(len(utterances), ABSENT, dtype=np.int64)
        self.data: Path | None = None
        self.full = self.budget == 0 or not self.index.parent.is_dir()
        self._stem, self._changed = manifest.stem, False
        if self.budget and self.index.is_file():
            self._read_index()
        self.samples = int(utterances.samples[self.offsets != ABSENT].sum())
        """In use."""

    def _read_index(self) -> None:
        try:
            with np.load(self.index, allow_pickle=False) as stored:
                head, name, table = stored["head"], str(stored["data"]), stored["table"]
                paths = stored["paths"].tobytes().decode("utf-8", ERRORS).split("\n")
            data = self.index.with_name(Path(name).name)
            end = data.stat().st_size // SAMPLE_BYTES
            if head[0] != FORMAT or table.shape != (head[1], 4):
                raise ValueError(f"format {head[0]} with a table of {table.shape}, expected {FORMAT}")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            logger.warning("%s: cannot be used and is built anew (%s)", self.index, error)
            return
        self.data = data
        utterances, rows = self.utterances, {path: row for row, path in enumerate(self.utterances.paths)}
        for path, (offset, samples, size, mtime) in zip(paths, table.tolist(), strict=False):
            row = rows.get(path)
            if row is None or offset + samples > end or not utterances.unchanged(row, size, mtime):
                continue
            if utterances.samples[row] in (samples, UNKNOWN):
                self.offsets[row], utterances.samples[row] = offset, samples
        self._changed = bool((self.offsets != ABSENT).sum() != len(table))

    def _room(self) -> float:
        """Return how many samples may be added."""
        free = shutil.disk_usage(self.index.parent).free - MIN_FREE_BYTES
        return min(self.budget - self.samples, free // SAMPLE_BYTES)

    def missing_rows(self, skipped: Collection[int]) -> list[int]:
        """Return the first rows that are not cached, as many as there is room for.

        Args:
            skipped: rows that are not read in training. Files of unknown length are assumed to fit.
        """
        if self.full:
            return []
        missing = self.offsets == ABSENT
        missing[list(skipped)] = False
        rows = np.flatnonzero(missing)
        return rows[np.cumsum(self.utterances.samples[rows].clip(0)) <= self._room()].tolist()

    def add(self, row: int, audio: np.ndarray) -> None:
        """Append a file's int16 samples (S,); from the first that does not fit on, nothing is added."""
        if self.full or self.offsets[row] != ABSENT:
            return
        if len(audio) > self._room():
            spent = self.budget - self.samples < len(audio)
            self._stop("cache_hours is reached" if spent else f"the disk has less than {MIN_FREE_BYTES >> 30} GiB left")
            return
        if self.data is None:
            for old in self.index.parent.glob(f"{glob.escape(self._stem)}.audio-*.i16"):
                old.unlink()  # another corpus's, or the rest of an interrupted build
            self.data = self.index.with_name(f"{self._stem}.audio-{secrets.token_hex(4)}.i16")
        try:
            with self.data.open("ab", buffering=0) as file:
                end = file.tell()
                end += file.write(b"\0" * (end % SAMPLE_BYTES))  # an interrupted write may have left half a sample
                if file.write(audio.tobytes()) < audio.nbytes:
                    file.truncate(end)
                    raise OSError("disk full")
        except OSError as error:
            self._stop(f"cannot be written ({error.strerror or error})")
            return
        self.offsets[row] = end // SAMPLE_BYTES
        self.samples += len(audio)
        self._changed = True

    def _stop(self, reason: str) -> None:
        self.full = True
        name = self.index.with_suffix("")
        logger.warning("audio cache %s: %s; the rest of the speech is not cached but decoded when needed", name, reason)

    def save(self) -> None:
        """Write what was added to disk: first the data, then the index that names it."""
        if not self._changed or self.data is None:
            return
        with self.data.open("rb+") as file:
            os.fsync(file.fileno())
        rows = np.flatnonzero(self.offsets != ABSENT)
        cached = list(zip(self.offsets[rows].tolist(), self.utterances.select(rows), strict=True))
        table = [(offset, file.samples, file.size, file.mtime) for offset, file in cached]
        paths = "\n".join(file.path for _, file in cached).encode("utf-8", ERRORS)
        head, data = np.array([FORMAT, len(rows)]), np.array(self.data.name)
        columns = np.array(table, dtype=np.int64).reshape(-1, 4)

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, head=head, data=data, paths=np.frombuffer(paths, np.uint8), table=columns)

        write_atomically(self.index, write)
        self._changed = False

    def drop_unused(self) -> None:
        """Start anew if this corpus uses less than half of the data file; the disk may have no room for a copy."""
        size = self.data.stat().st_size // SAMPLE_BYTES if self.data else 0
        if size - self.samples > LARGEST_WASTE * size:
            self.data, self.samples = None, 0
            self.offsets[:] = ABSENT

    def reader(self) -> CachedAudio | None:
        """Return what reads the cached rows; None where there are none."""
        if self.data is None or (self.offsets == ABSENT).all():
            return None
        return CachedAudio(self.data, self.offsets)
