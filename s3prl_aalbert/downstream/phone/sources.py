"""Finds the audio and the alignments of the phoneme task, and matches them by utterance name."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from s3prl_aalbert.downstream.alignments import (
    Alignment,
    LabelTable,
    phn_beside,
    read_converted,
    read_phn,
    read_textgrid,
    read_tsv,
)
from s3prl_aalbert.downstream.audio_dataset import by_name, find_audio, folder_and_stem, match_audio, stem
from s3prl_aalbert.downstream.phone.config import PhoneDataConfig
from s3prl_aalbert.downstream.skipped import Skipped
from s3prl_aalbert.downstream.task import as_paths
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import SAMPLE_RATE
from s3prl_aalbert.speech.finding import files_below, suffix_of
from s3prl_aalbert.speech.names import NameMatcher
from s3prl_aalbert.speech.reading import header_of
from s3prl_aalbert.speech.speakers import speaker_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """Utterances by name; only those with both audio and labels."""

    audio: Mapping[str, Path]
    alignments: Mapping[str, Alignment]
    speakers: Mapping[str, str]


def read_sources(config: PhoneDataConfig, skipped: Skipped) -> Sources:
    """Return the utterances with audio and labels, and add the others to ``skipped``.

    A name is the stem of a file, or FOLDER/STEM where stems recur (TIMIT's sa1) or where the label file uses that form.

    Raises:
        AalbertError: there is no audio, there are no labels, or none of them match.
    """
    paths = find_audio(as_paths(config.audio) + as_paths(config.test_audio or ()), skipped)
    kind = format_of(config)
    if kind in ("phn", "textgrid"):
        audio, alignments = _labels_by_file(config, kind, paths, skipped)
    else:
        read = read_tsv if kind == "tsv" else read_converted
        audio, alignments = _labels_by_table(read(Path(config.alignments or "").expanduser()), paths, skipped)
    unreadable = skipped.found.get("labels_unreadable", {})
    skipped.add("no_labels", set(audio) - set(alignments) - set(unreadable))
    names = sorted(set(audio) & set(alignments))
    if not names:
        first = f"; {next(iter(unreadable.values()))}" if unreadable else ""
        hint = "".join(f"; {hint}" for hint in sorted(set(skipped.found.get("no_audio", {}).values()))[:1])
        labels = f"expected labels in {config.alignments}" if config.alignments else "expected labels in .phn beside it"
        raise AalbertError(f"{config.audio}: none of {len(audio)} audio files has labels ({labels}){hint}{first}")
    speakers = {name: speaker_of(audio[name]) for name in names}
    return Sources({n: audio[n] for n in names}, {n: alignments[n] for n in names}, speakers)


def format_of(config: PhoneDataConfig) -> str:
    """Return the format of the labels; "auto" recognises it by ``datarc.alignments``."""
    if config.alignment_format != "auto":
        return config.alignment_format
    if config.alignments is None:
        return "phn"
    path = Path(config.alignments).expanduser()
    if path.is_dir():
        return "textgrid"
    return "tsv" if path.suffix == ".tsv" else "converted"


def _labels_by_file(
    config: PhoneDataConfig, kind: str, paths: list[Path], skipped: Skipped
) -> tuple[dict[str, Path], dict[str, Alignment]]:
    """Read one label file per utterance: ``.phn`` beside the audio, or TextGrids below ``datarc.alignments``."""
    if kind == "phn":
        audio = by_name(paths, folder_and_stem)
        return audio, _phns_beside(audio, skipped)
    name_of = stem if max(Counter(path.stem for path in paths).values()) == 1 else folder_and_stem
    audio = by_name(paths, name_of)
    grids = by_name(_textgrids(config), name_of)
    matcher = NameMatcher(audio)
    names, missing = matcher.find_all(sorted(grids))
    skipped.add("no_audio", dict.fromkeys(missing, matcher.hint(missing)))
    files = {utterance: grids[name] for name, utterance in names.items()}
    return audio, _read_each(files, partial(read_textgrid, tier=config.tier), skipped)


def _labels_by_table(
    table: LabelTable, paths: list[Path], skipped: Skipped
) -> tuple[dict[str, Path], dict[str, Alignment]]:
    matched = match_audio(paths, [*table.alignments, *table.faults])
    skipped.add("no_audio", matched.missing)
    faults = {matched.utterances.get(name, name): why for name, why in table.faults.items()}
    alignments: dict[str, Alignment] = {}
    for name, labels in table.alignments.items():
        utterance = matched.utterances.get(name)
        if utterance in alignments:
            faults[utterance] = f'"{name}" is one of two names for {utterance}'
        elif utterance is not None:
            alignments[utterance] = labels
    skipped.add("labels_unreadable", faults)
    return matched.audio, {name: labels for name, labels in alignments.items() if name not in faults}


def _phns_beside(audio: Mapping[str, Path], skipped: Skipped) -> dict[str, Alignment]:
    """Read the ``.phn`` beside each file, with offsets in samples of the audio or of 16 kHz, whichever fits better.

    TIMIT's labels count samples of 16 kHz even beside resampled audio. All files of one rate are read the same way.
    """
    labels = {name: label for name, path in audio.items() if (label := phn_beside(path))}
    headers = {name: header_of(audio[name]) or (SAMPLE_RATE, 0) for name in labels}
    alignments: dict[str, Alignment] = {}
    for rate in sorted({rate for rate, _ in headers.values()}):
        files = {name: label for name, label in labels.items() if headers[name][0] == rate}
        found = _read_each(files, partial(read_phn, rate=rate), skipped)
        # Seconds between the ends of labels and audio, for offsets in samples of either rate.
        pairs = [(found[name][-1].end * rate, headers[name][1] / rate) for name in found if found[name]]
        own, usual = (sum(abs(end / unit - seconds) for end, seconds in pairs) for unit in (rate, SAMPLE_RATE))
        if usual < own:
            found = _read_each(files, read_phn, skipped)
        if rate != SAMPLE_RATE and found:
            unit = SAMPLE_RATE if usual < own else rate
            logger.info(".phn beside audio of %d Hz: times count samples of %d Hz (%d files)", rate, unit, len(found))
        alignments |= found
    return alignments


def _textgrids(config: PhoneDataConfig) -> Iterable[Path]:
    folders = (config.alignments,) if config.alignments else as_paths(config.audio)
    below = (path for folder in folders for path in sorted(files_below(str(Path(folder).expanduser()))))
    found = [Path(path) for path in below if suffix_of(path) == ".textgrid"]
    if not found:
        raise AalbertError(f"{', '.join(folders)}: no *.TextGrid found")
    return found


def _read_each(files: Mapping[str, Path], read: Callable[[Path], Alignment], skipped: Skipped) -> dict[str, Alignment]:
    alignments, bad = {}, {}
    for name, path in files.items():
        try:
            alignments[name] = read(path)
        except AalbertError as error:
            bad[name] = str(error)
    skipped.add("labels_unreadable", bad)
    return alignments
