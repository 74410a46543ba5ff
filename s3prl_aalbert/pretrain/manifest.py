"""What is known about a corpus's files, as read from and kept in a manifest.

The manifest is a TSV (path, samples, speaker, split, bytes, mtime_ns); a row is re-used as long as the file's size and
modification time are the row's. Files that cannot be used are listed beside it, in NAME.skipped.tsv.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import stat
import unicodedata
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from s3prl_aalbert.errors import AalbertError, did_you_mean
from s3prl_aalbert.files import write_atomically
from s3prl_aalbert.speech.finding import UNLISTABLE
from s3prl_aalbert.speech.text import encoding_of

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

COLUMNS = ("path", "samples", "speaker", "split", "bytes", "mtime_ns")
SKIPPED_COLUMNS = ("path", "reason", "bytes", "mtime_ns")
SPLITS = ("", "train", "dev", "test")
"""Not known, trained on, held out, left out."""
UNKNOWN = -1
ERRORS = "surrogateescape"
"""File names are bytes: what is no UTF-8 survives a round trip."""
MAX_DIGITS = 19
"""Of sizes, times and lengths, which must fit 64 bits."""


@dataclass
class Listing:
    """The files of a corpus in columns, N files."""

    paths: list[str]
    sizes: np.ndarray
    """(N,) bytes."""
    mtimes: np.ndarray
    """(N,) nanoseconds."""
    samples: np.ndarray
    """(N,) at 16 kHz, or UNKNOWN."""
    speakers: list[str]
    """"" is not known."""
    splits: list[str]
    faults: dict[int, str] = field(default_factory=dict)
    """Why a file cannot be used, by row."""
    missing: list[tuple[str, str]] = field(default_factory=list)
    """(path, reason) of what was found or listed but cannot be looked at."""

    @classmethod
    def of(cls, paths: list[str], sizes: Sequence[int] | np.ndarray, mtimes: Sequence[int] | np.ndarray) -> Listing:
        """Return a listing of which nothing else is known."""
        count = len(paths)
        size, mtime = np.array(sizes, dtype=np.int64), np.array(mtimes, dtype=np.int64)
        return cls(paths, size, mtime, np.full(count, UNKNOWN, dtype=np.int64), [""] * count, [""] * count)

    def below(self, folders: Sequence[str]) -> Listing:
        """Return the files below some folders."""
        prefixes = tuple(folder.rstrip(os.sep) + os.sep for folder in folders)
        kept = [row for row, path in enumerate(self.paths) if path.startswith(prefixes)]
        sizes, mtimes, samples = (column[kept] for column in (self.sizes, self.mtimes, self.samples))
        paths, speakers, splits = ([column[r] for r in kept] for column in (self.paths, self.speakers, self.splits))
        return Listing(paths, sizes, mtimes, samples, speakers, splits)

    def rows(self) -> dict[str, int]:
        """Return the row of each path."""
        return {path: row for row, path in enumerate(self.paths)}


def read_listing(manifest: Path, look: bool = True) -> Listing:
    """Return the files that a manifest lists, in its order, with what its columns say.

    Args:
        manifest: TSV with a column path and optionally samples, speaker, split, bytes, mtime_ns; relative paths
            start at its folder.
        look: ask the disk for sizes and times; ``samples`` is kept where the manifest's own agree.

    Raises:
        AalbertError: the manifest is missing or damaged, or lists a file twice.
    """
    listing = Listing.of([], [], [])
    folder = str(manifest.parent.absolute())
    sizes, mtimes, samples = array("q"), array("q"), array("q")
    seen = set()
    for row in read_rows(manifest, COLUMNS, required=("path",)):
        path = os.path.normpath(os.path.join(folder, os.path.expanduser(row["path"])))  # noqa: PTH111, PTH118 - Paths are slow
        if path in seen:
            raise AalbertError(f"{manifest}: lists {path} twice")
        seen.add(path)
        size, mtime, count = (_number(manifest, row, name) for name in ("bytes", "mtime_ns", "samples"))
        if look:
            try:
                path, file = _on_disk(path)
            except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
                listing.missing.append((path, f"cannot be looked at ({getattr(error, 'strerror', error)})"))
                continue
            if not stat.S_ISREG(file.st_mode):  # opening a pipe would wait for ever
                listing.missing.append((path, "is no regular file"))
                continue
            if (size, mtime) != (file.st_size, file.st_mtime_ns):
                size, mtime, count = file.st_size, file.st_mtime_ns, UNKNOWN
        listing.paths.append(path)
        listing.speakers.append(row.get("speaker", "").strip())
        listing.splits.append(_split(manifest, row))
        sizes.append(size)
        mtimes.append(mtime)
        samples.append(count)
    listing.sizes, listing.mtimes, listing.samples = (np.array(x, dtype=np.int64) for x in (sizes, mtimes, samples))
    return listing


def _on_disk(path: str) -> tuple[str, os.stat_result]:
    """Return a file's path and state; a path that was typed or copied may spell its accents or blanks otherwise."""
    try:
        return path, os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        for form in ("NFC", "NFD"):
            with contextlib.suppress(OSError):
                spelt = unicodedata.normalize(form, path.strip())
                return spelt, os.stat(spelt)  # noqa: PTH116
        raise


def apply_manifest(listing: Listing, manifest: Path) -> None:
    """Fill in what a manifest built here knows about a listing's unchanged files; an absent one knows nothing.

    Raises:
        AalbertError: the manifest is damaged, or was not built here.
    """
    rows = listing.rows()
    if manifest.is_file():
        for known in read_rows(manifest, COLUMNS, required=COLUMNS):
            row = rows.get(known["path"])
            if row is None:
                continue
            # A file may be recorded anew, but nobody moves from the held-out speakers into training by that.
            listing.splits[row] = listing.splits[row] or _split(manifest, known)
            listing.speakers[row] = listing.speakers[row] or known["speaker"]
            if _unchanged(listing, row, manifest, known):
                listing.samples[row] = _number(manifest, known, "samples")
    skipped = skipped_path(manifest)
    if skipped.is_file() and _header(skipped) == SKIPPED_COLUMNS:
        for known in read_rows(skipped, SKIPPED_COLUMNS, required=SKIPPED_COLUMNS):
            row = rows.get(known["path"])
            if row is not None and known["bytes"] and _unchanged(listing, row, skipped, known):
                listing.faults[row] = known["reason"]


def write_manifest(listing: Listing, manifest: Path, too_short: Sequence[tuple[str, str]], own: Sequence[str]) -> None:
    """Write the manifest and the list of skipped files, unless they say the same already.

    Args:
        listing: what is known.
        manifest: where to; rows of files outside ``own`` stay, they are another run's.
        too_short: (path, reason) of files that are fine but not wanted.
        own: the folders that the listing covers.
    """
    columns = (listing.paths, listing.samples, listing.speakers, listing.splits, listing.sizes, listing.mtimes)
    bad = [(listing.paths[r], why, listing.sizes[r], listing.mtimes[r]) for r, why in sorted(listing.faults.items())]
    unusable = [*bad, *((_listable(path), why, "", "") for path, why in [*listing.missing, *too_short])]
    paths = set(listing.paths) if own else set()
    below = tuple(folder.rstrip(os.sep) + os.sep for folder in own)

    def others(file: Path, names: Sequence[str]) -> Iterator[Sequence]:
        if own and file.is_file() and _header(file) == tuple(names):
            for row in read_rows(file, names, required=names):
                if row["path"] not in paths and not row["path"].startswith(below):
                    yield [row[name] for name in names]

    def manifest_rows() -> Iterator[Sequence]:
        for number, row in enumerate(zip(*columns, strict=True)):
            if row[1] != UNKNOWN:
                yield row
            elif row[3] and number not in listing.faults:  # to be decoded still, but known to be held out or not
                yield (row[0], "", *row[2:])
        yield from others(manifest, COLUMNS)

    def skipped_rows() -> Iterator[Sequence]:
        yield from unusable
        yield from others(skipped, SKIPPED_COLUMNS)

    skipped = skipped_path(manifest)
    _write_rows(manifest, COLUMNS, manifest_rows)
    if unusable or skipped.exists():
        _write_rows(skipped, SKIPPED_COLUMNS, skipped_rows)


def _write_rows(file: Path, columns: Sequence[str], rows: Callable[[], Iterator[Sequence]]) -> None:
    """Write a TSV unless it is there already, a line at a time: a large one would fill the memory."""

    def lines() -> Iterator[str]:
        yield "\t".join(columns) + "\n"
        yield from ("\t".join(map(str, row)) + "\n" for row in rows())

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8", errors=ERRORS) as target:
            target.writelines(lines())

    if file.is_file():
        with file.open(newline="", encoding="utf-8", errors=ERRORS) as present:
            if all(line == old for line, old in itertools.zip_longest(lines(), present)):
                return
    write_atomically(file, write)


def _listable(path: str) -> str:
    for character in UNLISTABLE:
        path = path.replace(character, " ")
    return path


def skipped_path(manifest: Path) -> Path:
    """Return where the files that a manifest leaves out are listed."""
    return manifest.with_suffix(".skipped.tsv")


def read_rows(file: Path, columns: Sequence[str], required: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a TSV as mappings of those ``columns`` that it has.

    Raises:
        AalbertError: it cannot be read, lacks a required column, or has a line of another width.
    """
    try:
        with file.open(newline="", encoding=encoding_of(file), errors=ERRORS) as lines:
            header = lines.readline().rstrip("\r\n").split("\t")
            lacking = [name for name in required if name not in header]
            if lacking:
                raise AalbertError(f"{file}: columns are {header}, expected {list(required)}; remove or mend the file")
            wanted = [(place, name) for place, name in enumerate(header) if name in columns]
            for number, line in enumerate(lines, start=2):
                cells = line.rstrip("\r\n").split("\t")
                if len(cells) != len(header):
                    raise AalbertError(f"{file}: line {number} has {len(cells)} columns, expected {len(header)}")
                yield {name: cells[place] for place, name in wanted}
    except OSError as error:
        raise AalbertError(f"{file}: cannot be read ({error.strerror})") from error


def _header(file: Path) -> tuple[str, ...]:
    with file.open(encoding=encoding_of(file), errors=ERRORS) as lines:
        return tuple(lines.readline().rstrip("\r\n").split("\t"))


def _unchanged(listing: Listing, row: int, file: Path, known: Mapping[str, str]) -> bool:
    size, mtime = _number(file, known, "bytes"), _number(file, known, "mtime_ns")
    return bool(listing.sizes[row] == size and listing.mtimes[row] == mtime)


def _number(file: Path, row: Mapping[str, str], name: str) -> int:
    text = row.get(name, "")
    if not text:
        return UNKNOWN
    digits = text.removeprefix("-") if name == "mtime_ns" else text  # some disks begin before 1970
    if not digits.isdecimal() or len(digits) > MAX_DIGITS or abs(int(text)) >= 1 << 63:
        raise AalbertError(f'{file}: {name} of {row["path"]} is "{text}", expected a whole number')
    return int(text)


def _split(file: Path, row: Mapping[str, str]) -> str:
    split = row.get("split", "")
    if split not in SPLITS:
        raise AalbertError(
            f'{file}: split of {row["path"]} is "{split}"{did_you_mean(split, SPLITS[1:])}, expected train, dev, '
            "test (left out) or nothing"
        )
    return split


@contextlib.contextmanager
def locked(manifest: Path) -> Iterator[None]:
    """Keep other runs from building the same manifest at the same time; they wait, and find it complete."""
    lock = manifest.with_name(f".{manifest.name}.lock")
    with contextlib.ExitStack() as stack:
        try:
            manifest.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(lock.open("a"))
            if fcntl is None:
                raise OSError("no file locks on this system")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info("%s: another process is building it, waiting", manifest)
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            # A finished manifest in a read-only folder is fine; if anything has to be written, that fails by itself.
            logger.info("%s: used without a lock (%s)", manifest, error)
        yield
