"""The corpus: folders of speech, or a manifest file; decoded once to check it, and held out by speaker.

Folders are scanned, and what is known of their files is kept in a manifest that describes exactly this corpus. A
manifest file without folders is the corpus itself: it is read and never written.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.locking import one_at_a_time
from s3prl_aalbert.model.config import SAMPLE_RATE
from s3prl_aalbert.pretrain.audio_cache import CacheBuilder
from s3prl_aalbert.pretrain.config import DataConfig
from s3prl_aalbert.pretrain.decoding import decode_all
from s3prl_aalbert.pretrain.manifest import apply_manifest, read_listed, skipped_path, write_manifest
from s3prl_aalbert.pretrain.utterances import SPLITS, UNKNOWN, Utterance, Utterances
from s3prl_aalbert.printable import printable
from s3prl_aalbert.speech.finding import existing_folders, find_files
from s3prl_aalbert.speech.names import commonest, first_names
from s3prl_aalbert.speech.speakers import speaker_of, speakers_in_names

logger = logging.getLogger(__name__)

SAVE_SECONDS = 20.0
"""Least time between two saves while the corpus is checked; a kill loses no more work than this."""
SAVE_PAUSE = 20.0
"""Least time between two saves, as a multiple of what one takes."""


def speech_folders(config: DataConfig) -> list[str]:
    """Return the folders to search: ``paths``, and S3PRL's ``libri_root`` with its ``sets``."""
    folders = list(config.paths)
    if config.libri_root:
        folders += [str(Path(config.libri_root).expanduser() / name) for name in config.sets]
    return folders


def manifest_path(config: DataConfig, folder: Path) -> Path:
    """Return where the manifest is written: in ``folder``, unless one is named; one that is the corpus is only read."""
    manifest = folder / "manifest.tsv"
    if config.manifest and speech_folders(config):
        return _given(config)
    if config.manifest and not config.trust_manifest and _given(config).resolve() == manifest.resolve():
        return folder / "manifest.checked.tsv"
    return manifest


def load_corpus(config: DataConfig, manifest: Path, seed: int, strict: bool = False, save: bool = True) -> Utterances:
    """Return the usable files, decoding only those that the manifest does not know or that have changed.

    Args:
        config: folders or a manifest, length limits, dev share, cache.
        manifest: where the manifest is read from and kept.
        seed: decides which speakers are held out, among those that the manifest does not assign yet.
        strict: stop at unusable files instead of skipping them.
        save: write the manifest and the audio cache; of several processes only one may.

    Raises:
        AalbertError: no speech given, no audio, nothing usable, a damaged manifest, or (strict) anything unusable.
    """
    folders = existing_folders(speech_folders(config))
    if not folders and not config.manifest:
        raise AalbertError("no speech given: name folders with --speech or in pretrain_expert.datarc.paths")
    save = save and not config.trust_manifest
    with one_at_a_time(manifest) if save else contextlib.nullcontext():
        # First what is known of the files, then what decoding them shows.
        utterances = _all_files(config, folders, manifest, save)
        cache = CacheBuilder(_given(config) if config.trust_manifest else manifest, utterances, config.cache_hours)
        if not config.trust_manifest:
            _check(utterances, cache, config, manifest if save else None)

        # Which files are used.
        reasons = _reasons_to_skip(utterances, config)
        skipped = [(utterances.path(row), reason) for row, reason in sorted(reasons.items())]
        _report_skipped(skipped, strict, skipped_path(manifest) if save else None)
        usable = np.delete(np.arange(len(utterances)), list(reasons))
        if not len(usable):
            name = ", ".join(folders) or config.manifest
            raise AalbertError(f"{name}: none of {len(utterances)} files is usable{commonest(reasons.values())}")

        # Who is held out, which the manifest keeps.
        _draw_dev(utterances, usable, config.dev_fraction, seed, manifest if folders else None)
        if save:
            cache.save()
            write_manifest(utterances, manifest, reasons)
        utterances.cache, utterances.skipped = cache.reader(), tuple(skipped)
    return utterances.select(usable)


# ------------------------------------------------------------------------------------------------- files


def _given(config: DataConfig) -> Path:
    return Path(str(config.manifest)).expanduser()


def find_speech(folders: Sequence[str]) -> Utterances:
    """Return every audio file below some folders, ordered by path components; then those with a fault.

    Linked folders are followed, under the path they lead to, and never twice.

    Raises:
        AalbertError: there is no audio in one of them.
    """
    found = find_files(folders, links_keep_their_name=False)
    files = sorted(found.files, key=lambda file: file.path.replace(os.sep, "\0"))
    usable = (Utterance(file.path, size=file.size, mtime=file.mtime) for file in files)
    return Utterances(itertools.chain(usable, (Utterance(path, fault=reason) for path, reason in found.missing)))


def _all_files(config: DataConfig, folders: Sequence[str], manifest: Path, save: bool) -> Utterances:
    """Return the corpus's files with all that is known of them."""
    if config.trust_manifest:
        utterances = Utterances(read_listed(_given(config), trust=True))
        if folders:
            below = tuple(folder.rstrip(os.sep) + os.sep for folder in folders)
            utterances = utterances.select(np.flatnonzero([path.startswith(below) for path in utterances.paths]))
    else:
        utterances = find_speech(folders) if folders else Utterances(read_listed(_given(config), trust=False))
        others = apply_manifest(utterances, manifest)
        if others and save:
            message = "%s: %d files are not in this corpus; their rows and their cached audio are dropped"
            logger.warning(message, manifest, others)
    for row, utterance in enumerate(utterances):
        if not utterance.speaker:
            utterances.set_speaker(row, speaker_of(Path(utterance.path)))
    return utterances


# --------------------------------------------------------------------------------------------- checking


def _check(utterances: Utterances, cache: CacheBuilder, config: DataConfig, manifest: Path | None) -> None:
    """Decode what is not known or not cached yet.

    Args:
        utterances: the corpus; gets lengths and faults.
        cache: gets the audio.
        config: length limits and processes.
        manifest: is written every now and then, and so is the cache; None: neither is.
    """
    rows = set(np.flatnonzero(utterances.samples == UNKNOWN).tolist()) - set(utterances.faults)
    if manifest:
        cache.drop_unused()
        rows.update(cache.missing_rows(_reasons_to_skip(utterances, config)))
    order = sorted(rows)
    paths = [utterances.path(row) for row in order]
    decoded = decode_all(paths, config.prepare_workers, lambda: manifest is not None and not cache.full)
    shortest, longest = _limits(config)
    notes: dict[str, list[str]] = {}

    def save(path: Path) -> float:
        """Save, and return when to save next: a large manifest, which takes seconds, less often than a small one."""
        start = time.monotonic()
        cache.save()
        write_manifest(utterances, path, utterances.faults)
        return time.monotonic() + max(SAVE_SECONDS, SAVE_PAUSE * (time.monotonic() - start))

    due = time.monotonic() + SAVE_SECONDS
    try:
        for row, path, (samples, audio, fault, remarks) in zip(order, paths, decoded, strict=True):
            utterances.samples[row] = samples
            if fault is not None:
                utterances.faults[row] = fault
            elif audio is not None and shortest <= samples <= longest and SPLITS[utterances.splits[row]] != "test":
                cache.add(row, audio)
            for remark in remarks:
                notes.setdefault(remark, []).append(path)
            if manifest and time.monotonic() > due:
                due = save(manifest)
    finally:  # an interruption keeps what was done
        if manifest and rows:
            save(manifest)
        for note, noted in notes.items():
            logger.warning("%d audio files: %s: %s", len(noted), note, first_names(noted))


def _limits(config: DataConfig) -> tuple[float, float]:
    """Return the fewest and the most samples of an utterance."""
    longest = math.inf if config.max_utterance_seconds is None else config.max_utterance_seconds
    return config.min_seconds * SAMPLE_RATE, longest * SAMPLE_RATE


def _reasons_to_skip(utterances: Utterances, config: DataConfig) -> dict[int, str]:
    """Return why rows are skipped: what is wrong with a file, its length, or its split."""
    reasons = dict(utterances.faults)
    shortest, longest = _limits(config)
    samples = utterances.samples
    for row in np.flatnonzero((samples != UNKNOWN) & ((samples < shortest) | (samples > longest))).tolist():
        limit = "shorter than min_seconds" if samples[row] < shortest else "longer than max_utterance_seconds"
        value = config.min_seconds if samples[row] < shortest else config.max_utterance_seconds
        reasons.setdefault(row, f"{samples[row] / SAMPLE_RATE:.2f} s is {limit} {value}")
    for row in np.flatnonzero(utterances.splits == SPLITS.index("test")).tolist():
        reasons.setdefault(row, 'split is "test"')
    return reasons


def _report_skipped(skipped: Sequence[tuple[str, str]], strict: bool, listed_in: Path | None) -> None:
    if not skipped:
        return
    shown = printable("; ".join(f"{path} ({reason})" for path, reason in skipped[:5]))
    more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    if strict:
        raise AalbertError(f"{len(skipped)} audio files cannot be used (--strict): {shown}{more}")
    where = f"; listed in {listed_in} (remove it to try them again)" if listed_in else ""
    logger.warning("skipped %d audio files: %s%s%s", len(skipped), shown, more, where)


# ------------------------------------------------------------------------------------------------ splits


def _draw_dev(utterances: Utterances, usable: np.ndarray, fraction: float, seed: int, drawn_in: Path | None) -> None:
    """Assign the rows that have no split yet: whole speakers, or single files where there is one speaker alone.

    A speaker stays where the manifest has them: new files or folders never move held-out speech into training.
    """
    chosen = utterances.select(usable)
    units, splits = chosen.speakers, [SPLITS[code] for code in chosen.splits.tolist()]
    by_file = len(set(units)) == 1
    if by_file:
        units = chosen.paths
    assigned = {unit: split for unit, split in zip(units, splits, strict=True) if split}
    assigned |= {unit: split for unit, split in zip(units, splits, strict=True) if split == "train"}

    new = sorted(set(units) - set(assigned))
    dev = list(assigned.values()).count("dev")
    expected = max(1, round(fraction * len(set(units)))) if fraction else 0
    if new:
        count = max(0, expected - dev) if len(usable) > 1 else 0
        held_out = {new[i] for i in np.random.default_rng(seed).permutation(len(new))[:count]}
        assigned |= {unit: "dev" if unit in held_out else "train" for unit in new}
        if count and by_file:
            hint = speakers_in_names(map(Path, units))
            logger.warning("there is one speaker: single utterances are held out for the dev split%s", hint)
    elif drawn_in is not None and dev != expected:  # the manifest's splits are used
        message = "dev_fraction %g is not applied: %s assigns %d of %d %s to dev; empty its column split to draw anew"
        logger.warning(message, fraction, drawn_in, dev, len(assigned), "utterances" if by_file else "speakers")
    utterances.splits[usable] = [
        SPLITS.index(split or assigned[unit]) for unit, split in zip(units, splits, strict=True)
    ]
