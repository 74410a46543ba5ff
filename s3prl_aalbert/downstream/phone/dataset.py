"""Audio and phone labels of the phoneme task."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s3prl_aalbert.downstream.alignments import (
    SAMPLE_RATE,
    SILENCES,
    Alignment,
    Segment,
    fold_stress,
    fold_timit,
    frame_labels,
    labels_of_outputs,
    majority_labels,
)
from s3prl_aalbert.downstream.audio_dataset import AudioStore
from s3prl_aalbert.downstream.phone.config import PhoneDataConfig
from s3prl_aalbert.downstream.phone.sources import Sources, read_sources
from s3prl_aalbert.downstream.skipped import Skipped
from s3prl_aalbert.downstream.splits import (
    check_split,
    exclude,
    keep_fraction,
    split_by_folder,
    split_by_lists,
    split_by_speaker,
)
from s3prl_aalbert.downstream.task import TaskData, as_paths, check_classes, split_data
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.speech.names import first_names

logger = logging.getLogger(__name__)

GRID_SAMPLES = 160
PAST_END_TOLERANCE = 0.05
"""Seconds that a label may reach past the audio before the utterance is skipped."""
EARLY_END = 0.6
"""Labels that end before this share of the audio may be in another unit, such as samples of twice the rate."""


@dataclass(frozen=True)
class PhoneLabels:
    """Labels of one utterance."""

    token: np.ndarray
    """Targets of the upstream's tokens: (tokens,), or (tokens, outputs) with one for each 10 ms frame."""
    grid: np.ndarray
    """Targets of the 10 ms frames, (frames,)."""


def load_phone_data(config: PhoneDataConfig, rate: int, seed: int, expdir: Path | None) -> TaskData[PhoneLabels]:
    """Find audio and alignments, skip what does not match (with a record of it), and split the rest.

    The record is written to ``expdir``, unless it is None.

    Raises:
        AalbertError: there is no audio, there are no labels, a split is empty, or there is only one class.
    """
    # An utterance is skipped for the first reason that applies. Those without labels come before the split, since only
    # decoding, which is slow, shows which audio is unusable.
    skipped = Skipped()
    sources = read_sources(config, skipped)
    names, excluded = exclude(sorted(sources.alignments), config.exclude)
    skipped.add("excluded", excluded)
    folded = {name: fold_alignment(sources.alignments[name], config) for name in names}
    skipped.add("no_labels", [name for name in names if not folded[name]])
    split = _split(config, [name for name in names if folded[name]], sources, skipped)
    store = AudioStore(sources.audio)
    lengths = usable_lengths(store, sorted(split), sources.alignments, skipped)
    usable = {name: part for name, part in split.items() if name in lengths}
    # The record is written before any check fails, since it explains the failure.
    skipped.log("phone")
    warn_of_early_ends(sources.alignments, lengths)
    if expdir:
        skipped.save(expdir)
    used = keep_fraction(usable, config.train_fraction, seed)
    check_split(used, "the phone task", skipped.summary())
    _log_shared_speakers(used, sources.speakers)
    # Classes come from all usable utterances, so that the task is the same for every share of the training labels.
    classes = tuple(sorted({segment.phone for name in usable for segment in folded[name]}))
    check_classes(len(classes), config.expected_classes, "phones", config.audio)
    if len(classes) < 2:
        raise AalbertError(f"the phone task needs at least two phones, found {list(classes)} in {config.audio}")
    ids = {phone: index for index, phone in enumerate(classes)}
    labels = {name: _labels(folded[name], sources.alignments[name], ids, lengths[name], rate, config) for name in used}
    num_speakers = len({sources.speakers[name] for name in used})
    return split_data(classes, used, store, labels.__getitem__, lengths, sources.speakers, skipped, num_speakers)


def _split(config: PhoneDataConfig, names: list[str], sources: Sources, skipped: Skipped) -> dict[str, str]:
    if config.split == "speaker":
        speakers = {name: sources.speakers[name] for name in names}
        return split_by_speaker(speakers, config.split_seed, config.fold, config.num_folds)
    if config.split == "folders":
        folders = [Path(folder).expanduser() for folder in as_paths(config.test_audio or ())]
        test = {name for name in names if any(sources.audio[name].is_relative_to(folder) for folder in folders)}
        return split_by_folder(names, test, config.dev_fraction, config.split_seed)
    lists = (config.train_list or "", config.test_list or "", config.dev_list)
    split, missing = split_by_lists(names, *lists, config.dev_fraction, config.split_seed)
    skipped.add("listed_but_unusable", missing)
    skipped.add("in_no_list", set(names) - set(split))
    return split


def usable_lengths(
    store: AudioStore, names: Sequence[str], alignments: Mapping[str, Alignment], skipped: Skipped
) -> dict[str, int]:
    """Decode utterances; return the samples of each whose labels lie within them, and add the others to ``skipped``."""
    lengths = store.usable(names, skipped)
    late = _past_end(alignments, lengths)
    skipped.add("labels_past_end", late)
    return {name: samples for name, samples in lengths.items() if name not in late}


def _past_end(alignments: Mapping[str, Alignment], lengths: Mapping[str, int]) -> dict[str, str]:
    late = {}
    for name, samples in lengths.items():
        end, seconds = max((s.end for s in alignments[name]), default=0.0), samples / SAMPLE_RATE
        if end > seconds + PAST_END_TOLERANCE:
            unit = ", if their times are seconds" if end > 50 * seconds else ""  # they may be milliseconds or samples
            late[name] = f"the labels end at {end:.2f} s and the audio at {seconds:.2f} s{unit}"
    return late


def warn_of_early_ends(alignments: Mapping[str, Alignment], lengths: Mapping[str, int]) -> None:
    """Warn once of labels that cover little of the audio, as labels in another unit or of another recording do."""
    early = [
        name
        for name, samples in lengths.items()
        if max((s.end for s in alignments[name]), default=0.0) < EARLY_END * samples / SAMPLE_RATE
    ]
    if early:
        message = "the labels of %d of %d utterances end before %d %% of the audio: are their times right? %s"
        logger.warning(message, len(early), len(lengths), round(100 * EARLY_END), first_names(early))


def _log_shared_speakers(used: Mapping[str, str], speakers: Mapping[str, str]) -> None:
    """Log once that speakers of the test are in training, as in LibriSpeech's official phone split."""
    train = {speakers[name] for name, part in used.items() if part == "train"}
    test = {speakers[name] for name, part in used.items() if part == "test"}
    if train & test:
        logger.info("phone task: %d of %d test speakers are also in training", len(train & test), len(test))


def fold_alignment(alignment: Alignment, config: PhoneDataConfig, keep_dropped: bool = False) -> Alignment:
    """Return the segments with the phones of the task's set.

    Args:
        alignment: the segments as labelled.
        config: names the set, and whether silence is in it.
        keep_dropped: keep what the set drops as segments of no phone, "".
    """
    folded = []
    for segment in alignment:
        phone: str | None = segment.phone
        if config.phone_set != "as_found":
            phone = fold_timit(segment.phone, int(config.phone_set))
        elif config.fold_stress:
            phone = fold_stress(segment.phone)
        dropped = phone is None or (config.silence == "ignore" and phone.lower() in SILENCES)
        if keep_dropped or not dropped:
            folded.append(Segment(segment.start, segment.end, "" if dropped else phone or "sil"))
    return folded


def _labels(
    alignment: Alignment, as_found: Alignment, ids: dict[str, int], samples: int, rate: int, config: PhoneDataConfig
) -> PhoneLabels:
    """Return the labels of an utterance by its folded segments; a majority also counts what the phone set drops."""
    grid = frame_labels(alignment, ids, samples, GRID_SAMPLES)
    if config.token_label == "each":
        token = labels_of_outputs(grid, rate, -(-samples // rate))
    elif config.token_label == "centre":
        token = frame_labels(alignment, ids, samples, rate, rest=True)
    else:
        token = majority_labels(fold_alignment(as_found, config, keep_dropped=True), ids, samples, rate)
    return PhoneLabels(token, grid)
