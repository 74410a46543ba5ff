"""A corpus: folders of speech or a manifest; checked by decoding once, held out by speaker, kept in few arrays."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import SAMPLE_RATE
from s3prl_aalbert.pretrain.audio_cache import CacheBuilder, CachedAudio
from s3prl_aalbert.pretrain.config import DataConfig
from s3prl_aalbert.pretrain.decoding import Decoded, decode_all
from s3prl_aalbert.pretrain.finding import existing_folders, find_audio
from s3prl_aalbert.pretrain.manifest import (
    UNKNOWN,
    Listing,
    apply_manifest,
    locked,
    read_listing,
    skipped_path,
    write_manifest,
)
from s3prl_aalbert.pretrain.utterances import Utterance, Utterances
from s3prl_aalbert.printable import printable
from s3prl_aalbert.speech.names import commonest, first_names
from s3prl_aalbert.speech.speakers import speaker_of, speakers_in_names

logger = logging.getLogger(__name__)

__all__ = ["Corpus", "Utterance", "Utterances", "load_corpus", "manifest_path"]

SAVE_SECONDS = 20.0
"""At least this long between two saves while the corpus is checked; a kill loses no more."""
SAVE_PAUSE = 20.0
"""And this many times as long as saving takes."""


@dataclass(frozen=True)
class Corpus:
    """The usable files of a corpus and what was left out."""

    utterances: Utterances
    skipped: tuple[tuple[str, str], ...]
    """(path, reason) of files that could not be used."""

    def split(self, name: str) -> Utterances:
        """Return the utterances of "train" or "dev"."""
        return self.utterances.of_split(name)

    def describe(self) -> str:
        """Return utterances, hours and speakers of each split in one line."""
        parts = []
        for name in ("train", "dev"):
            chosen = self.split(name)
            parts.append(f"{name}: {len(chosen)} utterances, {chosen.hours:.2f} h, {chosen.num_speakers} speakers")
        return "; ".join(parts)


def speech_folders(config: DataConfig) -> list[str]:
    """Return the folders to search: ``paths``, and S3PRL's ``libri_root`` with its ``sets``."""
    folders = list(config.paths)
    if config.libri_root:
        folders += [str(Path(config.libri_root).expanduser() / name) for name in config.sets]
    return folders


def manifest_path(config: DataConfig, expdir: Path) -> Path:
    """Return where the manifest is kept: a given one that is the corpus itself is read, never written."""
    if config.manifest and speech_folders(config):
        return Path(config.manifest).expanduser()
    return expdir / "manifest.tsv"


def load_corpus(config: DataConfig, manifest: Path, seed: int, strict: bool = False, save: bool = True) -> Corpus:
    """Return the corpus, decoding only files that its manifest does not know or that have changed.

    Args:
        config: folders or a manifest, length limits, dev share, cache.
        manifest: where the manifest is read from and kept.
        seed: decides which speakers are held out, among those that the manifest does not assign yet.
        strict: stop at unusable files instead of leaving them out.
        save: write the manifest and the audio cache; of several processes only one may.

    Raises:
        AalbertError: no speech given, no audio, nothing usable, a damaged manifest, or (strict) anything unusable.
    """
    own = existing_folders(speech_folders(config))
    if not own and not config.manifest:
        raise AalbertError("no speech given: name folders with --speech or in pretrain_expert.datarc.paths")
    with locked(manifest) if save else contextlib.nullcontext():
        listing = _listing(config, manifest, own)
        cache = CacheBuilder(_given(config) if config.trust_manifest else manifest, config.cache_hours, SAMPLE_RATE)
        if not config.trust_manifest:
            _check(listing, cache, config, manifest if save else None, own)
        skipped_rows = _reasons_to_skip(listing, config)
        skipped = [*listing.missing, *((listing.paths[row], reason) for row, reason in sorted(skipped_rows.items()))]
        _report_skipped(skipped, strict, skipped_path(manifest) if save and not config.trust_manifest else None)
        usable = [row for row in range(len(listing.paths)) if row not in skipped_rows]
        if not usable:
            why = commonest(reason for _, reason in skipped)
            raise AalbertError(f"{_name(config)}: none of {len(listing.paths)} audio files is usable{why}")
        _draw_dev(listing, usable, config.dev_fraction, seed, manifest if own else None)
        if save and not config.trust_manifest:
            wrong_length = [(listing.paths[r], why) for r, why in skipped_rows.items() if r not in listing.faults]
            write_manifest(listing, manifest, wrong_length, own)
        audio = cache.reader(listing)
    return Corpus(_pack(listing, usable, audio), tuple(skipped))


def _pack(listing: Listing, usable: Sequence[int], cache: CachedAudio | None) -> Utterances:
    rows = np.array(usable)
    columns = ([column[row] for row in usable] for column in (listing.paths, listing.speakers, listing.splits))
    paths, speakers, splits = columns
    return Utterances(paths, listing.samples[rows], speakers, splits, cache and cache.select(rows))


def _name(config: DataConfig) -> str:
    return ", ".join(speech_folders(config)) or str(config.manifest)


def _given(config: DataConfig) -> Path:
    return Path(str(config.manifest)).expanduser()


def _listing(config: DataConfig, manifest: Path, own: Sequence[str]) -> Listing:
    """Return the corpus's files with everything that is known about them."""
    if own and not config.trust_manifest:
        listing = find_audio(own)
        apply_manifest(listing, manifest)
    else:
        given = _given(config)
        listing = read_listing(given, look=not config.trust_manifest)
        if not listing.paths:
            raise AalbertError(f"{given}: lists no file that exists")
        if config.trust_manifest:
            _require_lengths(listing, given)
            listing = listing.below(own) if own else listing
        elif manifest != given:
            apply_manifest(listing, manifest)
    listing.speakers = [
        name or speaker_of(Path(path)) for name, path in zip(listing.speakers, listing.paths, strict=True)
    ]
    return listing


def _require_lengths(listing: Listing, manifest: Path) -> None:
    unknown = int((listing.samples == UNKNOWN).sum())
    if unknown:
        raise AalbertError(f"{manifest}: has no samples for {unknown} files, which trust_manifest: true needs")


# --------------------------------------------------------------------------------------------- checking


def _check(
    listing: Listing, cache: CacheBuilder, config: DataConfig, manifest: Path | None, own: Sequence[str]
) -> None:
    """Decode what is not known or, if ``manifest`` is to be written, not cached; save every now and then."""
    unknown = (listing.samples == UNKNOWN).tolist()
    pending = {row for row, new in enumerate(unknown) if new and row not in listing.faults}
    if manifest is not None:
        pending.update(cache.plan(listing, own, _reasons_to_skip(listing, config)))
    rows = sorted(pending)
    save = _saver(listing, cache, manifest, own)
    paths = [listing.paths[row] for row in rows]
    notes: dict[str, list[str]] = {}
    wanted = _wants_audio(cache, manifest)
    try:
        for row, decoded in zip(rows, decode_all(paths, config.prepare_workers, wanted), strict=True):
            _record(listing, row, decoded, cache, config)
            for note in decoded.notes:
                notes.setdefault(note, []).append(listing.paths[row])
            save(False)
    finally:  # an interruption keeps what was done
        if rows:
            save(True)
        for note, noted in notes.items():
            logger.warning("%d audio files: %s: %s", len(noted), note, first_names(noted))
    if manifest is not None:
        cache.finish()


def _wants_audio(cache: CacheBuilder, manifest: Path | None) -> Callable[[], bool]:
    return lambda: manifest is not None and not cache.full


def _record(listing: Listing, row: int, decoded: Decoded, cache: CacheBuilder, config: DataConfig) -> None:
    if decoded.fault is not None:
        listing.faults[row], listing.samples[row] = decoded.fault, UNKNOWN
        return
    listing.samples[row] = decoded.samples
    wanted = listing.splits[row] != "test" and _length_problem(decoded.samples, config) is None
    if decoded.audio is not None and wanted:
        cache.add(listing.paths[row], decoded.audio, int(listing.sizes[row]), int(listing.mtimes[row]))


def _saver(listing: Listing, cache: CacheBuilder, manifest: Path | None, own: Sequence[str]) -> Callable[[bool], None]:
    """Return a function that saves when due or told to; a large manifest is saved less often than a small one."""
    last, pause = time.monotonic(), SAVE_SECONDS

    def save(now: bool) -> None:
        nonlocal last, pause
        if manifest is None or not (now or time.monotonic() - last > pause):
            return
        start = time.monotonic()
        cache.save()
        write_manifest(listing, manifest, (), own)
        last = time.monotonic()
        pause = max(SAVE_SECONDS, SAVE_PAUSE * (last - start))

    return save


def _length_problem(samples: int, config: DataConfig) -> str | None:
    seconds = samples / SAMPLE_RATE
    if samples < config.min_seconds * SAMPLE_RATE:
        return f"{seconds:.2f} s is shorter than min_seconds {config.min_seconds}"
    if config.max_utterance_seconds is not None and seconds > config.max_utterance_seconds:
        return f"{seconds:.2f} s is longer than max_utterance_seconds {config.max_utterance_seconds}"
    return None


def _reasons_to_skip(listing: Listing, config: DataConfig) -> dict[int, str]:
    """Return why rows are left out: what is wrong with a file, its length, or its split."""
    skipped_rows = dict(listing.faults)
    shortest = config.min_seconds * SAMPLE_RATE
    longest = np.inf if config.max_utterance_seconds is None else config.max_utterance_seconds * SAMPLE_RATE
    known = listing.samples != UNKNOWN
    for row in np.flatnonzero(known & ((listing.samples < shortest) | (listing.samples > longest))).tolist():
        skipped_rows.setdefault(row, _length_problem(int(listing.samples[row]), config) or "")
    tests = [row for row, split in enumerate(listing.splits) if split == "test"]
    skipped_rows.update((row, 'split is "test"') for row in tests if row not in skipped_rows)
    return skipped_rows


def _report_skipped(skipped: Sequence[tuple[str, str]], strict: bool, listed_in: Path | None) -> None:
    if not skipped:
        return
    shown = "; ".join(f"{path} ({reason})" for path, reason in skipped[:5])
    shown = printable(shown)
    more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    if strict:
        raise AalbertError(f"{len(skipped)} audio files cannot be used (--strict): {shown}{more}")
    where = f"; listed in {listed_in}, without which they are tried again" if listed_in else ""
    logger.warning("left out %d audio files: %s%s%s", len(skipped), shown, more, where)


# ------------------------------------------------------------------------------------------------ splits


def _draw_dev(listing: Listing, usable: Sequence[int], fraction: float, seed: int, drawn_in: Path | None) -> None:
    """Assign the rows that have no split yet: whole speakers, or single files where there is one speaker alone.

    A speaker stays where the manifest has them: new files or folders never move held-out speech into training.
    """
    units = {row: listing.speakers[row] for row in usable}
    if len(set(units.values())) == 1:
        units = {row: listing.paths[row] for row in usable}
    assigned = {units[row]: listing.splits[row] for row in usable if listing.splits[row]}
    assigned.update({units[row]: "train" for row in usable if listing.splits[row] == "train"})
    new = sorted(set(units.values()) - set(assigned))
    if new:
        count = max(1, round(fraction * (len(new) + len(assigned)))) if fraction and len(usable) > 1 else 0
        count = max(0, count - sum(split == "dev" for split in assigned.values()))
        chosen = {new[i] for i in np.random.default_rng(seed).permutation(len(new))[:count]}
        assigned.update((unit, "dev" if unit in chosen else "train") for unit in new)
        if count and units[usable[0]] == listing.paths[usable[0]]:
            hint = speakers_in_names(Path(listing.paths[row]) for row in usable)
            logger.warning("one speaker alone: the dev split is held out by utterance, not by speaker%s", hint)
    elif drawn_in is not None:
        kind = "utterances" if units[usable[0]] == listing.paths[usable[0]] else "speakers"
        _warn_of_other_fraction(list(assigned.values()), kind, fraction, drawn_in)
    for row in usable:
        listing.splits[row] = listing.splits[row] or assigned[units[row]]


def _warn_of_other_fraction(splits: Sequence[str], kind: str, fraction: float, manifest: Path) -> None:
    """The split column outranks dev_fraction; say so where they differ."""
    dev, expected = splits.count("dev"), max(1, round(fraction * len(splits))) if fraction else 0
    if dev != expected:
        message = "dev_fraction %g is not applied: %s assigns %d of %d %s to dev; empty its column split to draw anew"
        logger.warning(message, fraction, manifest, dev, len(splits), kind)
