"""What is known about a corpus's files: found on disk, read from and kept in a manifest.

The manifest is a TSV (path, samples, speaker, split, bytes, mtime_ns); a row is re-used as long as the file's size and
modification time are the row's. Files that cannot be used are listed beside it, in NAME.skipped.tsv.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from s3prl_aalbert.audio_io import AUDIO_SUFFIXES
from s3prl_aalbert.checkpoint import write_atomically
from s3prl_aalbert.errors import AalbertError, did_you_mean

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
UNLISTABLE = "\t\n\r"
"""What a path cannot hold to stand in a TSV."""
READ = "utf-8-sig"
"""Spreadsheets put a byte order mark in front."""


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
    def of(cls, paths: list[str], sizes: Sequence[int], mtimes: Sequence[int]) -> Listing:
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


# ------------------------------------------------------------------------------------------- on disk


def existing_folders(folders: Sequence[str]) -> list[str]:
    """Return the real, absolute paths of folders.

    Raises:
        AalbertError: one is missing or cannot be looked at; names the nearest neighbour.
    """
    found = []
    for folder in folders:
        root = Path(folder).expanduser().resolve()
        try:
            exists = root.is_dir()
        except OSError as error:
            raise AalbertError(f"{folder}: cannot be looked at ({error.strerror})") from error
        if not exists:
            near = did_you_mean(root.name, [p.name for p in root.parent.glob("*/")]) if root.parent.is_dir() else ""
            raise AalbertError(f"{folder}: no such folder of speech{near}")
        found.append(str(root))
    return found


def find_audio(folders: Sequence[str]) -> Listing:
    """List every audio file below the folders, in the order of their path components, each once.

    Linked folders are followed, under the path they lead to, and never twice.

    Raises:
        AalbertError: there is no audio in any of them.
    """
    found: dict[str, os.stat_result] = {}
    missing: list[tuple[str, str]] = []
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        found.update(_walk(folder, seen, missing))
    if not found:
        suffixes = ", ".join(sorted(AUDIO_SUFFIXES))
        reasons = "".join(f"; {path} {reason}" for path, reason in missing[:3])
        raise AalbertError(f"{', '.join(folders)}: no audio found (looked for {suffixes}){reasons}")
    paths = sorted(found, key=lambda path: path.replace(os.sep, "\0"))
    stats = [found[path] for path in paths]
    listing = Listing.of(paths, [s.st_size for s in stats], [s.st_mtime_ns for s in stats])
    listing.missing = missing
    return listing


def _walk(
    root: str, seen: set[tuple[int, int]], missing: list[tuple[str, str]]
) -> Iterator[tuple[str, os.stat_result]]:
    """Yield (path, stat) of the audio files below a folder; ``seen`` holds the folders already visited."""
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            stat = os.stat(folder)  # noqa: PTH116 - a Path per file would double the time of a large corpus
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir():
                        folders.append(os.path.realpath(entry.path) if entry.is_symlink() else entry.path)
                    elif os.path.splitext(entry.name)[1].lower() in AUDIO_SUFFIXES and entry.name[0] != ".":  # noqa: PTH122
                        yield from _look_at(entry, missing)
        except OSError as error:
            missing.append((folder, f"cannot be listed ({error.strerror})"))


def _look_at(entry: os.DirEntry[str], missing: list[tuple[str, str]]) -> Iterator[tuple[str, os.stat_result]]:
    try:
        stat = entry.stat()
    except OSError as error:
        missing.append((entry.path, f"cannot be looked at ({error.strerror})"))
        return
    if not entry.is_file():  # opening a pipe would wait for ever
        missing.append((entry.path, "is no regular file"))
    elif any(character in entry.path for character in UNLISTABLE):
        missing.append((entry.path, "has a tab or a line break in its name, which a manifest cannot hold"))
    else:
        yield entry.path, stat


# ------------------------------------------------------------------------------------------ manifests


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
    sizes, mtimes, samples, seen = [], [], [], set()
    for row in read_rows(manifest, COLUMNS, required=("path",)):
        path = os.path.normpath(manifest.parent.absolute() / Path(row["path"]).expanduser())
        if path in seen:
            raise AalbertError(f"{manifest}: lists {path} twice")
        seen.add(path)
        size, mtime, count = (_number(manifest, row, name) for name in ("bytes", "mtime_ns", "samples"))
        if look:
            try:
                stat = Path(path).stat()
            except OSError as error:
                listing.missing.append((path, f"cannot be looked at ({error.strerror})"))
                continue
            if (size, mtime) != (stat.st_size, stat.st_mtime_ns):
                size, mtime, count = stat.st_size, stat.st_mtime_ns, UNKNOWN
        listing.paths.append(path)
        listing.speakers.append(row.get("speaker", ""))
        listing.splits.append(_split(manifest, row))
        sizes.append(size)
        mtimes.append(mtime)
        samples.append(count)
    listing.sizes, listing.mtimes, listing.samples = (np.array(x, dtype=np.int64) for x in (sizes, mtimes, samples))
    return listing


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
    known = [row for row in zip(*columns, strict=True) if row[1] != UNKNOWN]
    bad = [(listing.paths[r], why, listing.sizes[r], listing.mtimes[r]) for r, why in sorted(listing.faults.items())]
    unusable = [*bad, *((_listable(path), why, "", "") for path, why in [*listing.missing, *too_short])]
    paths = set(listing.paths) if own else None
    _write_rows(manifest, COLUMNS, known, paths, own)
    if unusable or skipped_path(manifest).exists():
        _write_rows(skipped_path(manifest), SKIPPED_COLUMNS, unusable, paths, own)


def _write_rows(
    file: Path, columns: Sequence[str], rows: Sequence[Sequence], paths: set[str] | None, own: Sequence[str]
) -> None:
    lines = ["\t".join(columns), *("\t".join(map(str, row)) for row in rows)]
    if paths is not None and file.is_file() and _header(file) == tuple(columns):
        below = tuple(folder.rstrip(os.sep) + os.sep for folder in own)
        for row in read_rows(file, columns, required=columns):
            if row["path"] not in paths and not row["path"].startswith(below):
                lines.append("\t".join(row[name] for name in columns))
    content = ("\n".join(lines) + "\n").encode("utf-8", ERRORS)
    if not file.is_file() or file.read_bytes() != content:
        write_atomically(file, lambda temporary: _write_bytes(temporary, content))


def _listable(path: str) -> str:
    for character in UNLISTABLE:
        path = path.replace(character, " ")
    return path


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def skipped_path(manifest: Path) -> Path:
    """Return where the files that a manifest leaves out are listed."""
    return manifest.with_suffix(".skipped.tsv")


def read_rows(file: Path, columns: Sequence[str], required: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a TSV as mappings of those ``columns`` that it has.

    Raises:
        AalbertError: it cannot be read, lacks a required column, or has a line of another width.
    """
    try:
        with file.open(newline="", encoding=READ, errors=ERRORS) as lines:
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
    with file.open(encoding=READ, errors=ERRORS) as lines:
        return tuple(lines.readline().rstrip("\r\n").split("\t"))


def _unchanged(listing: Listing, row: int, file: Path, known: Mapping[str, str]) -> bool:
    size, mtime = _number(file, known, "bytes"), _number(file, known, "mtime_ns")
    return bool(listing.sizes[row] == size and listing.mtimes[row] == mtime)


def _number(file: Path, row: Mapping[str, str], name: str) -> int:
    text = row.get(name, "")
    if not text:
        return UNKNOWN
    if not text.isdecimal():
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
