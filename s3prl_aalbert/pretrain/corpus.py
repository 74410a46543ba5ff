"""A corpus: every audio file below some folders, decoded once to check it, listed in a manifest that is re-used.

The manifest is a TSV (path, samples, speaker, split, bytes, mtime); what could not be used is listed beside it.
"""

from __future__ import annotations

import csv
import logging
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from s3prl_aalbert.audio_io import AUDIO_SUFFIXES, AudioError, read_audio
from s3prl_aalbert.checkpoint import write_atomically
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.pretrain.config import DataConfig

logger = logging.getLogger(__name__)

SAMPLE_RATE = 16000
COLUMNS = ("path", "samples", "speaker", "split", "bytes", "mtime_ns")
LIBRISPEECH_STEM = re.compile(r"^(\d+)-(\d+)-\d+$")


@dataclass(frozen=True)
class Utterance:
    """One usable audio file."""

    path: str
    samples: int
    """At 16 kHz."""
    speaker: str
    split: str
    """"train" or "dev"."""


@dataclass(frozen=True)
class Corpus:
    """The usable files of a corpus and what was left out."""

    utterances: tuple[Utterance, ...]
    skipped: tuple[tuple[str, str], ...]
    """(path, reason) of files that could not be used."""

    def split(self, name: str) -> list[Utterance]:
        """Return the utterances of "train" or "dev"."""
        return [u for u in self.utterances if u.split == name]

    def describe(self) -> str:
        """Return utterances, hours and speakers of each split in one line."""
        parts = []
        for name in ("train", "dev"):
            chosen = self.split(name)
            hours = sum(u.samples for u in chosen) / SAMPLE_RATE / 3600
            speakers = len({u.speaker for u in chosen})
            parts.append(f"{name}: {len(chosen)} utterances, {hours:.2f} h, {speakers} speakers")
        return "; ".join(parts)


def find_audio(folders: Sequence[str]) -> list[Path]:
    """List every audio file below the folders, sorted, each once.

    Raises:
        AalbertError: a folder is missing, or there is no audio in any of them.
    """
    found: set[Path] = set()
    for folder in folders:
        root = Path(folder).expanduser().resolve()
        if not root.is_dir():
            raise AalbertError(f"{folder}: no such folder of speech")
        for parent, _, names in os.walk(root):
            found.update(Path(parent, n) for n in names if Path(n).suffix.lower() in AUDIO_SUFFIXES and n[0] != ".")
    if not found:
        suffixes = ", ".join(sorted(AUDIO_SUFFIXES))
        raise AalbertError(f"{', '.join(folders)}: no audio found (looked for {suffixes})")
    return sorted(found)


def speaker_of(path: Path) -> str:
    """Return LibriSpeech's speaker from SPEAKER-CHAPTER-UTTERANCE names, elsewhere the name of the file's folder."""
    match = LIBRISPEECH_STEM.match(path.stem)
    return match.group(1) if match else path.parent.name


def load_corpus(config: DataConfig, manifest: Path, seed: int, strict: bool = False, save: bool = True) -> Corpus:
    """Return the corpus of ``config.paths``, from its manifest where files have not changed.

    Args:
        config: folders, length limits and dev share.
        manifest: where the TSV is read from and kept.
        seed: decides which speakers are held out.
        strict: stop at unusable files instead of leaving them out.
        save: write the manifest.

    Raises:
        AalbertError: no folder given, no audio, nothing usable, or (strict) anything unusable.
    """
    if not config.paths:
        raise AalbertError("no speech given: name folders with --speech or in pretrain_expert.datarc.paths")
    files = find_audio(config.paths)
    known = _read_manifest(manifest)
    samples, skipped = _measure(files, known, config.num_workers)
    kept, too_short = [], 0
    for path, count in samples.items():
        if count < config.min_seconds * SAMPLE_RATE:
            too_short += 1
            skipped.append((path, f"{count / SAMPLE_RATE:.2f} s is shorter than min_seconds {config.min_seconds}"))
        else:
            kept.append(path)
    _report_skipped(skipped, strict)
    if not kept:
        raise AalbertError(f"{', '.join(config.paths)}: none of {len(files)} audio files is usable")
    dev = _dev_files(kept, config.dev_fraction, seed)
    utterances = tuple(Utterance(p, samples[p], speaker_of(Path(p)), "dev" if p in dev else "train") for p in kept)
    corpus = Corpus(utterances, tuple(skipped))
    if save:
        _write_manifest(manifest, corpus)
    return corpus


def _measure(
    files: Sequence[Path], known: dict[str, tuple[int, int, int]], num_workers: int
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return samples by path, decoding only files the manifest does not know or that changed, and the failures."""
    samples: dict[str, int] = {}
    unknown = []
    for path in files:
        stat = path.stat()
        count, size, mtime = known.get(str(path), (0, -1, -1))
        if (size, mtime) == (stat.st_size, stat.st_mtime_ns):
            samples[str(path)] = count
        else:
            unknown.append(str(path))
    skipped = []
    for path_, result in zip(unknown, _decode_all(unknown, num_workers), strict=True):
        if isinstance(result, int):
            samples[path_] = result
        else:
            skipped.append((path_, result))
    return {str(path): samples[str(path)] for path in files if str(path) in samples}, skipped


def _decode_all(paths: Sequence[str], num_workers: int) -> Iterable[int | str]:
    if num_workers < 1 or len(paths) < 200:
        yield from _progress(map(_decode, paths), len(paths))
        return
    with ProcessPoolExecutor(num_workers) as pool:
        yield from _progress(pool.map(_decode, paths, chunksize=32), len(paths))


def _progress(results: Iterable[int | str], total: int) -> Iterable[int | str]:
    return tqdm(results, total=total, desc="reading audio", unit="file", disable=None if total > 50 else True)


def _decode(path: str) -> int | str:
    """Return the number of samples at 16 kHz, or why the file cannot be used."""
    try:
        return len(read_audio(path, SAMPLE_RATE))
    except AudioError as error:
        return str(error).removeprefix(f"{path}: ")


def _report_skipped(skipped: Sequence[tuple[str, str]], strict: bool) -> None:
    if not skipped:
        return
    shown = "; ".join(f"{path} ({reason})" for path, reason in skipped[:5])
    more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    if strict:
        raise AalbertError(f"{len(skipped)} audio files cannot be used (--strict): {shown}{more}")
    logger.warning("left out %d audio files: %s%s", len(skipped), shown, more)


def _dev_files(paths: Sequence[str], fraction: float, seed: int) -> set[str]:
    """Choose the files held out: whole speakers, or single files where there is one speaker alone."""
    if fraction == 0 or len(paths) < 2:
        return set()
    generator = np.random.default_rng(seed)
    by_speaker: dict[str, list[str]] = {}
    for path in paths:
        by_speaker.setdefault(speaker_of(Path(path)), []).append(path)
    if len(by_speaker) == 1:
        logger.warning("one speaker alone: the dev split is held out by utterance, not by speaker")
        by_speaker = {path: [path] for path in paths}
    names = generator.permutation(sorted(by_speaker))
    count = max(1, round(fraction * len(names)))
    return {path for name in names[:count] for path in by_speaker[name]}


def _read_manifest(manifest: Path) -> dict[str, tuple[int, int, int]]:
    """Return (samples, bytes, mtime) by path; an absent or unreadable manifest knows nothing."""
    if not manifest.is_file():
        return {}
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if tuple(rows.fieldnames or ()) != COLUMNS:
            raise AalbertError(f"{manifest}: columns are {rows.fieldnames}, expected {list(COLUMNS)}; remove the file")
        try:
            return {r["path"]: (int(r["samples"]), int(r["bytes"]), int(r["mtime_ns"])) for r in rows}
        except (TypeError, ValueError) as error:
            raise AalbertError(f"{manifest}: is damaged ({error}); remove the file to rebuild it") from error


def _write_manifest(manifest: Path, corpus: Corpus) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write("\t".join(COLUMNS) + "\n")
            for u in corpus.utterances:
                stat = Path(u.path).stat()
                row = (u.path, u.samples, u.speaker, u.split, stat.st_size, stat.st_mtime_ns)
                file.write("\t".join(map(str, row)) + "\n")

    write_atomically(manifest, write)
    lines = "".join(f"{path}\t{reason}\n" for path, reason in corpus.skipped)
    skipped_file = manifest.with_suffix(".skipped.tsv")
    if lines or skipped_file.exists():
        write_atomically(skipped_file, lambda temporary: _write_text(temporary, lines))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
