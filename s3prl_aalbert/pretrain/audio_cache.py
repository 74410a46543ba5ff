"""Decoded audio kept on disk: one file of 16-bit samples, and an index of which file's samples lie where.

Decoding opus, flac or mp3 anew each epoch costs more than everything else about loading. Reads go through the page
cache, which all processes share. Sixteen bits hold wav and flac of that depth exactly, so training with and without
the cache sees the same samples.

The data file only ever grows, and the index (replaced atomically) names it, so an index always fits its data: after an
interruption the index of some seconds ago is simply shorter.
"""

from __future__ import annotations

import glob
import logging
import os
import secrets
import shutil
import zipfile
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from s3prl_aalbert.audio_io import AudioError
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.files import write_atomically
from s3prl_aalbert.pretrain.manifest import UNKNOWN, Listing
from s3prl_aalbert.speech.sixteen_bit import as_float

logger = logging.getLogger(__name__)

FORMAT = 1
SAMPLE_BYTES = 2
ABSENT = -1
MIN_FREE_BYTES = 2 << 30
"""The cache leaves this much of the disk to checkpoints."""
LARGEST_WASTE = 0.5
"""Share of outdated samples at which the data file is written anew."""


class Entry(NamedTuple):
    """Where a file's samples lie, and which state of the file they are."""

    offset: int
    """Samples from the start of the data file."""
    samples: int
    size: int
    mtime: int


class CachedAudio:
    """Reads decoded audio by a corpus's row."""

    def __init__(self, path: Path, offsets: np.ndarray):
        """Open the data file.

        Args:
            path: data file.
            offsets: (N,) of each row of the corpus, or ABSENT.
        """
        self.path, self.offsets = path, offsets
        # Held open: another run may replace the file by a smaller one, and this one still reads what it indexed.
        self._file = path.open("rb", buffering=0)

    def __getstate__(self) -> dict[str, Any]:
        """Workers that are not forked open the file themselves."""
        return {"path": self.path, "offsets": self.offsets}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

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


class CacheBuilder:
    """The cache beside a manifest, for looking up and adding; to be used under the manifest's lock when adding."""

    def __init__(self, manifest: Path, budget_hours: float, sample_rate: int):
        """Read the index; one that is damaged or does not fit its data counts as none.

        Args:
            manifest: the manifest that the cache lies beside.
            budget_hours: most speech to keep; 0 is off.
            sample_rate: Hz, of all audio here.
        """
        self.manifest = manifest
        self.index = manifest.with_suffix(".audio.npz")
        self.budget = int(budget_hours * 3600 * sample_rate)
        self.entries: dict[str, Entry] = {}
        self.data: Path | None = None
        self.full = self.budget == 0
        self._changed = False
        if self.budget and self.index.is_file():
            self._read_index()
        self.samples = sum(entry.samples for entry in self.entries.values())
        """In use."""

    def plan(self, listing: Listing, own: Sequence[str], skipped_rows: Container[int] = ()) -> list[int]:
        """Forget the audio of files that have changed or are gone, and return the rows that there is room to add.

        Args:
            listing: files, those of unknown length assumed to fit.
            own: folders that the listing covers, or none if nobody else uses the manifest.
            skipped_rows: rows that nobody will read.
        """
        rows = listing.rows()
        below = tuple(folder.rstrip(os.sep) + os.sep for folder in own) if own else ""
        for path, entry in list(self.entries.items()):
            row = rows.get(path)
            outdated = path.startswith(below) if row is None else not _describes(entry, listing, row)
            if outdated:
                del self.entries[path]
                self.samples -= entry.samples
                self._changed = True
        if self.full:
            return []
        free = shutil.disk_usage(_existing(self.manifest.parent)).free - MIN_FREE_BYTES
        room, wanted = min(self.budget - self.samples, free // SAMPLE_BYTES), []
        for path, row in rows.items():
            if path not in self.entries and row not in skipped_rows:
                room -= max(0, int(listing.samples[row]))
                if room < 0:
                    break
                wanted.append(row)
        return wanted

    def add(self, path: str, audio: np.ndarray, size: int, mtime: int) -> None:
        """Append a file's int16 samples (S,), unless the budget or the disk is full: logged once."""
        if self.full or path in self.entries:
            return
        if self.samples + len(audio) > self.budget:
            self._stop(f"cache_hours is reached; the rest of the speech is decoded when needed ({path} and following)")
            return
        if shutil.disk_usage(self.manifest.parent).free < MIN_FREE_BYTES + audio.nbytes:
            self._stop(f"less than {MIN_FREE_BYTES >> 30} GiB would be left on the disk; the rest is not cached")
            return
        if self.data is None:
            self.data = self._new_data()
        with self.data.open("ab", buffering=0) as file:
            end = file.tell()
            end += file.write(b"\0" * (end % SAMPLE_BYTES))  # an interrupted write may have left half a sample
            try:
                complete = file.write(audio.tobytes()) == audio.nbytes
            except OSError:
                complete = False
            if not complete:
                file.truncate(end)
                self._stop("cannot be written (disk full?); the rest of the speech is not cached")
                return
        self.entries[path] = Entry(end // SAMPLE_BYTES, len(audio), size, mtime)
        self.samples += len(audio)
        self._changed = True

    def _stop(self, reason: str) -> None:
        self.full = True
        logger.warning("audio cache %s: %s", self.index.with_suffix(""), reason)

    def save(self) -> None:
        """Make what was added last: data first, then the index that speaks of it."""
        if not self._changed or self.data is None:
            return
        with self.data.open("rb+") as file:
            os.fsync(file.fileno())
        paths = np.frombuffer("\n".join(self.entries).encode("utf-8", "surrogateescape"), np.uint8)
        table = np.array(list(self.entries.values()), dtype=np.int64).reshape(-1, len(Entry._fields))
        head = np.array([FORMAT, len(self.entries)])

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, head=head, data=np.array(str(self.data and self.data.name)), paths=paths, table=table)

        write_atomically(self.index, write)
        self._changed = False

    def finish(self) -> None:
        """Save, and write the data file anew when most of it is outdated."""
        if self.data is not None and self.data.is_file():
            size = self.data.stat().st_size // SAMPLE_BYTES
            if size - self.samples > LARGEST_WASTE * size:
                self._compact(self.data)
        self.save()

    def reader(self, listing: Listing) -> CachedAudio | None:
        """Return what reads the cached rows of a listing; None where there are none."""
        if self.data is None or not self.entries:
            return None
        offsets = np.full(len(listing.paths), ABSENT, dtype=np.int64)
        for row, path in enumerate(listing.paths):
            entry = self.entries.get(path)
            if entry is not None and _describes(entry, listing, row):
                offsets[row] = entry.offset
        return None if (offsets == ABSENT).all() else CachedAudio(self.data, offsets)

    def _read_index(self) -> None:
        try:
            with np.load(self.index, allow_pickle=False) as stored:
                head, name, table = stored["head"], str(stored["data"]), stored["table"]
                names = stored["paths"].tobytes().decode("utf-8", "surrogateescape").split("\n")
            data = self.index.with_name(Path(name).name)
            end = data.stat().st_size // SAMPLE_BYTES
            if head[0] != FORMAT or len(table) != head[1]:
                raise ValueError(f"format {head[0]}, expected {FORMAT}")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            logger.warning("%s: cannot be used and is built anew (%s)", self.index, error)
            return
        self.data = data
        entries = zip(names, map(Entry._make, table.tolist()), strict=False)
        self.entries = {path: entry for path, entry in entries if entry.offset + entry.samples <= end}

    def _new_data(self) -> Path:
        data = self.index.with_name(f"{self.manifest.stem}.audio-{secrets.token_hex(4)}.i16")
        for old in self.index.parent.glob(f"{glob.escape(self.manifest.stem)}.audio-*.i16"):
            old.unlink()  # what an interrupted or damaged build left
        try:
            data.touch(exist_ok=False)
        except OSError as error:
            raise AalbertError(f"{data}: the audio cache cannot be written ({error.strerror})") from error
        return data

    def _compact(self, old: Path) -> None:
        if shutil.disk_usage(old.parent).free < MIN_FREE_BYTES + self.samples * SAMPLE_BYTES:
            return
        new = old.with_name(f"{self.manifest.stem}.audio-{secrets.token_hex(4)}.i16")
        moved, end = {}, 0
        with old.open("rb") as source, new.open("wb") as target:
            for path, entry in self.entries.items():
                source.seek(entry.offset * SAMPLE_BYTES)
                target.write(source.read(entry.samples * SAMPLE_BYTES))
                moved[path] = entry._replace(offset=end)
                end += entry.samples
        self.entries, self.data, self._changed = moved, new, True
        self.save()
        old.unlink()


def _describes(entry: Entry, listing: Listing, row: int) -> bool:
    """Tell whether an entry is of the present state of a listing's file."""
    same_file = entry.size == listing.sizes[row] and entry.mtime == listing.mtimes[row]
    return bool(same_file and listing.samples[row] in (entry.samples, UNKNOWN))


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(candidate for candidate in (folder, *folder.absolute().parents) if candidate.is_dir())
