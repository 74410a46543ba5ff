"""The manifest: what is known of a corpus's files, in a TSV (path, samples, speaker, split, bytes, mtime_ns).

A row holds for as long as its file has that size and modification time. Files that cannot be used are listed beside
it, in NAME.skipped.tsv. A manifest describes the corpus of the last run that wrote it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from s3prl_aalbert.errors import AalbertError, did_you_mean
from s3prl_aalbert.files import write_atomically
from s3prl_aalbert.pretrain.utterances import ERRORS, SPLITS, UNKNOWN, Utterance, Utterances
from s3prl_aalbert.speech.finding import UNLISTABLE
from s3prl_aalbert.speech.text import encoding_of

logger = logging.getLogger(__name__)

COLUMNS = ("path", "samples", "speaker", "split", "bytes", "mtime_ns")
SKIPPED_COLUMNS = ("path", "reason", "bytes", "mtime_ns")
BOUND = 1 << 63
"""Sizes, times and lengths are below it: they fit 64 bits."""


def read_manifest(manifest: Path, required: Sequence[str] = ("path",)) -> Iterator[Utterance]:
    """Yield the rows of a manifest as they stand there.

    Raises:
        AalbertError: it is missing or damaged, or lacks a required column.
    """
    for row in _read_rows(manifest, required):
        samples, size, mtime = (_number(manifest, row, name) for name in ("samples", "bytes", "mtime_ns"))
        yield Utterance(row["path"], samples, row.get("speaker", ""), _split(manifest, row), size, mtime)


def read_listed(manifest: Path, trust: bool) -> Iterator[Utterance]:
    """Yield the files that a user's manifest lists; one that is not accessible has a fault.

    Args:
        manifest: TSV with a column path and optionally those of COLUMNS; relative paths start at its folder.
        trust: take its sizes, times and lengths as they are; otherwise a length holds where the disk agrees.

    Raises:
        AalbertError: the manifest is missing or damaged, lists a file twice or, to be trusted, lacks a length.
    """
    folder, seen = str(manifest.parent.absolute()), set()
    for row in read_manifest(manifest):
        path = os.path.normpath(os.path.join(folder, os.path.expanduser(row.path)))  # noqa: PTH111, PTH118 - Paths are slow
        if path in seen:
            raise AalbertError(f"{manifest}: lists {path} twice")
        seen.add(path)
        if trust and row.samples == UNKNOWN:
            raise AalbertError(f"{manifest}: has no samples of {path}, which trust_manifest: true needs")
        row = row._replace(path=path, speaker=row.speaker.strip())
        yield row if trust else _look_at(row)


def _look_at(row: Utterance) -> Utterance:
    """Return a row with the file's present state; it keeps its length if that state is the same."""
    try:
        path, file = _on_disk(row.path)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        return row._replace(fault=f"is not accessible ({getattr(error, 'strerror', error)})", size=UNKNOWN)
    fault = "" if stat.S_ISREG(file.st_mode) else "is not a regular file"  # opening a pipe would wait for ever
    same = (row.size, row.mtime) == (file.st_size, file.st_mtime_ns)
    samples = row.samples if same else UNKNOWN
    return Utterance(path, samples, row.speaker, row.split, file.st_size, file.st_mtime_ns, fault)


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


def apply_manifest(utterances: Utterances, manifest: Path) -> int:
    """Fill in what a manifest written here knows of a corpus; an absent one knows nothing.

    Returns:
        how many of its files are not in the corpus.

    Raises:
        AalbertError: the manifest is damaged, or was not written here.
    """
    skipped, others = skipped_path(manifest), 0
    present = [file for file in (manifest, skipped) if file.is_file()]
    rows = {path: row for row, path in enumerate(utterances.paths)} if present else {}
    if manifest in present:
        for known in read_manifest(manifest, required=COLUMNS):
            row = rows.get(known.path)
            if row is None:
                others += 1
            else:
                utterances.fill(row, known)
    if skipped in present:
        for cells in _read_rows(skipped, SKIPPED_COLUMNS[:2]):
            row = rows.get(cells["path"])
            size, mtime = (_number(skipped, cells, name) for name in ("bytes", "mtime_ns"))
            if row is not None and size != UNKNOWN and utterances.unchanged(row, size, mtime):
                utterances.faults[row] = cells["reason"]
    return others


def write_manifest(utterances: Utterances, manifest: Path, reasons: Mapping[int, str]) -> None:
    """Write the manifest and the list of skipped files, unless they say the same already.

    Args:
        utterances: what is known.
        manifest: where to.
        reasons: why rows are skipped. Files with a fault are not decoded again until they change.
    """

    def manifest_rows() -> Iterator[Sequence]:
        for path, samples, speaker, split, *state, fault in utterances:
            if not fault and (samples != UNKNOWN or split):
                yield (path, "" if samples == UNKNOWN else samples, speaker, split, *state)

    def skipped_rows() -> Iterator[Sequence]:
        for row, reason in sorted(reasons.items()):
            path, *_, size, mtime, fault = utterances[row]
            state = (size, mtime) if fault and size != UNKNOWN else ("", "")
            yield (path.translate(dict.fromkeys(map(ord, UNLISTABLE), " ")), reason, *state)

    _write_rows(manifest, COLUMNS, manifest_rows)
    if reasons or skipped_path(manifest).exists():
        _write_rows(skipped_path(manifest), SKIPPED_COLUMNS, skipped_rows)


def _write_rows(file: Path, columns: Sequence[str], rows: Callable[[], Iterable[Sequence]]) -> None:
    """Write a TSV unless it is there already, a line at a time: a large one would fill the memory."""

    def lines() -> Iterator[str]:
        for row in itertools.chain([columns], rows()):
            yield "\t".join(map(str, row)) + "\n"

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8", errors=ERRORS) as target:
            target.writelines(lines())

    if file.is_file():
        with file.open(newline="", encoding="utf-8", errors=ERRORS) as present:
            if all(line == old for line, old in itertools.zip_longest(lines(), present)):
                return
    write_atomically(file, write)


def skipped_path(manifest: Path) -> Path:
    """Return where the files that a run skips are listed."""
    return manifest.with_suffix(".skipped.tsv")


def _read_rows(file: Path, required: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a TSV by column name.

    Raises:
        AalbertError: it cannot be read, lacks a required column, or has a line of another width.
    """
    try:
        with file.open(newline="", encoding=encoding_of(file), errors=ERRORS) as lines:
            header = lines.readline().rstrip("\r\n").split("\t")
            if not set(required) <= set(header):
                raise AalbertError(f"{file}: columns are {header}, expected {list(required)}; remove or mend the file")
            for number, line in enumerate(lines, start=2):
                cells = line.rstrip("\r\n").split("\t")
                if len(cells) != len(header):
                    raise AalbertError(f"{file}: line {number} has {len(cells)} columns, expected {len(header)}")
                yield dict(zip(header, cells, strict=True))
    except OSError as error:
        raise AalbertError(f"{file}: cannot be read ({error.strerror})") from error


def _number(file: Path, row: Mapping[str, str], name: str) -> int:
    text = row.get(name, "")
    if not text:
        return UNKNOWN
    try:
        number = int(text)
        if (0 if name != "mtime_ns" else -BOUND) <= number < BOUND:  # some disks begin before 1970
            return number
    except ValueError:  # no number, or one of thousands of digits
        pass
    raise AalbertError(f'{file}: {name} of {row["path"]} is "{text}", expected a whole number')


def _split(file: Path, row: Mapping[str, str]) -> str:
    split = row.get("split", "")
    if split not in SPLITS:
        raise AalbertError(
            f'{file}: split of {row["path"]} is "{split}"{did_you_mean(split, SPLITS[1:])}, expected train, dev, '
            "test (skipped) or nothing"
        )
    return split
