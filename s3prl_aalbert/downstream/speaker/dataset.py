"""Audio and speakers of the speaker tasks."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s3prl_aalbert.downstream.audio_dataset import (
    AudioStore,
    Matched,
    by_name,
    find_audio,
    folder_and_stem,
    loading_problems,
    match_audio,
    stem,
)
from s3prl_aalbert.downstream.pretraining_overlap import overlap_problems
from s3prl_aalbert.downstream.skipped import Skipped
from s3prl_aalbert.downstream.splits import (
    check_split,
    exclude,
    keep_fraction,
    split_by_lists,
    split_within_speakers,
)
from s3prl_aalbert.downstream.task import TaskData, as_paths, check_classes, split_data
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.speech.names import first_names
from s3prl_aalbert.speech.speakers import folder_of, speaker_by_layout, speakers_in_names
from s3prl_aalbert.speech.text import read_lines

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpeakerDataConfig:
    """``downstream_expert.datarc`` of the speaker tasks; see downstream_configs/aalbert_speaker_utterance.yaml."""

    audio: str | list[str]
    """Folders of speech."""
    speaker_from: Literal["folder", "librispeech", "utt2spk", "tsv"] = "folder"
    """Where the speaker comes from: a file's folder, its name in LibriSpeech, LibriTTS, MLS or VoxCeleb, or
    ``speakers_file``."""
    speakers_file: str | None = None
    """Kaldi's utt2spk, or a TSV of utterance and speaker."""
    split_seed: int = 0
    """Seed that deals each speaker's utterances 8:1:1 into train, dev and test."""
    train_list: str | None = None
    """File with the names of the training utterances, one per line; with ``test_list`` it replaces the 8:1:1 split."""
    test_list: str | None = None
    """File with the names of the test."""
    dev_fraction: float = 0.1
    """Share of the training list that becomes dev."""
    max_speakers: int | None = None
    """Largest number of speakers; those with the most utterances are kept. null: all."""
    exclude: list[str] | None = None
    """Names of utterances that are not used, with or without folder."""
    train_fraction: float = 1.0
    """Share of the training utterances that is used."""
    max_seconds: float | None = None
    """Longer training utterances are cropped at random, anew in each epoch; null: no cropping."""
    train_batch_size: int = 48
    """Utterances per training batch."""
    eval_batch_size: int = 32
    """Utterances per evaluation batch."""
    num_workers: int = 0
    """Number of processes that load audio; 0: the training process loads it."""
    expected_classes: int | None = None
    """Expected number of speakers; another number is an error. null: any number."""
    pretraining_overlap: str = "refuse"
    """"refuse" a test on speakers or utterances that the upstream was pre-trained on, or "mark" its results."""

    def problems(self) -> list[str]:
        """Return what makes these values unusable."""
        found = []
        if self.speaker_from in ("utt2spk", "tsv") and not self.speakers_file:
            found.append(f"datarc.speaker_from is {self.speaker_from}, which needs datarc.speakers_file")
        if self.max_seconds is not None and not 0 < self.max_seconds < math.inf:
            found.append(f"datarc.max_seconds is {self.max_seconds}, expected more than 0 and finite")
        if self.max_speakers is not None and self.max_speakers < 2:
            found.append(f"datarc.max_speakers is {self.max_speakers}, expected at least 2")
        if self.split_seed < 0:
            found.append(f"datarc.split_seed is {self.split_seed}, expected at least 0")
        if bool(self.train_list) != bool(self.test_list):
            found.append("datarc.train_list and datarc.test_list must be set together")
        if not 0 < self.train_fraction <= 1:
            found.append(f"datarc.train_fraction is {self.train_fraction}, expected within (0, 1]")
        if not 0 < self.dev_fraction < 1:
            found.append(f"datarc.dev_fraction is {self.dev_fraction}, expected within (0, 1)")
        found += overlap_problems(self.pretraining_overlap)
        return found + loading_problems(self.train_batch_size, self.eval_batch_size, self.num_workers)


def load_speaker_data(config: SpeakerDataConfig, seed: int, expdir: Path | None) -> TaskData[int]:
    """Find audio and speakers, skip what does not match (with a record of it), and split the rest 8:1:1 or by lists.

    The record is written to ``expdir``, unless it is None.

    Raises:
        AalbertError: there is no audio, there are fewer than two speakers, or a split is empty.
    """
    skipped = Skipped()
    audio, speakers = _read_sources(config, skipped)
    # The number of speakers is limited before decoding, which is the slow part.
    candidates = _limit(speakers, config.max_speakers)
    store = AudioStore(audio)
    lengths = store.usable(sorted(candidates), skipped)
    good = {name: speaker for name, speaker in candidates.items() if name in lengths}
    # A speaker without training utterances cannot be predicted, and would only lower the score.
    split = _split(config, good, skipped)
    classes = tuple(sorted({good[name] for name, part in split.items() if part == "train"}))
    skipped.add("not_in_training", {good[name] for name in split} - set(classes))
    split = {name: part for name, part in split.items() if good[name] in classes}
    skipped.log("speaker")
    if expdir:
        skipped.save(expdir)
    # Classes come from all training utterances, so that the task is the same for every share of them.
    split = keep_fraction(split, config.train_fraction, seed)
    check_split(split, "the speaker task", skipped.summary())
    check_classes(len(classes), config.expected_classes, "speakers", config.audio)
    if len(classes) < 2:
        hint = speakers_in_names(audio.values()) if config.speaker_from == "folder" else ""
        found = f"found {len(classes)} in {config.audio} by speaker_from {config.speaker_from}"
        raise AalbertError(f"the speaker task needs at least two speakers, {found}{hint}")
    # The order of the classes follows from their names, so that a checkpoint fits the same data again.
    ids = {speaker: index for index, speaker in enumerate(classes)}
    return split_data(classes, split, store, lambda name: ids[good[name]], lengths, good, skipped)


def _read_sources(config: SpeakerDataConfig, skipped: Skipped) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the audio and the speaker of each utterance that has both."""
    paths = find_audio(as_paths(config.audio), skipped)
    if config.speaker_from == "folder":
        audio = by_name(paths, folder_and_stem)
        speakers = {name: folder_of(path) for name, path in audio.items()}
        _warn_of_layout(audio, speakers)
    elif config.speaker_from == "librispeech":
        audio = by_name(paths, stem)
        found = {name: speaker_by_layout(path) for name, path in audio.items()}
        speakers = {name: speaker for name, speaker in found.items() if speaker}
    else:
        table = Path(config.speakers_file or "").expanduser()
        faults: dict[str, str] = {}
        listed = _read_speakers(table, config.speaker_from == "tsv", faults)
        matched = match_audio(paths, [*listed, *faults])
        audio, speakers = matched.audio, _speakers_of(matched, listed, table, faults)
        skipped.add("no_audio", matched.missing)
        skipped.add("no_speaker", {matched.utterances.get(name, name): why for name, why in faults.items()})
    skipped.add("no_speaker", set(audio) - set(speakers) - set(skipped.found.get("no_speaker", {})))
    kept, excluded = exclude([name for name in speakers if name in audio], config.exclude)
    skipped.add("excluded", excluded)
    return audio, {name: speakers[name] for name in kept}


def _warn_of_layout(audio: Mapping[str, Path], speakers: Mapping[str, str]) -> None:
    """Warn where folders are taken as speakers although a corpus has several folders of one."""
    by_layout = {name: speaker for name, path in audio.items() if (speaker := speaker_by_layout(path))}
    folders, people = {speakers[name] for name in by_layout}, set(by_layout.values())
    if len(people) < len(folders):
        logger.warning(
            "speaker_from folder: %d folders count as speakers, but by their names they are of %d, e.g. %s; to use "
            "these: datarc.speaker_from=librispeech",
            len(folders),
            len(people),
            first_names(by_layout),
        )


def _read_speakers(path: Path, tabs: bool, faults: dict[str, str] | None = None) -> dict[str, str]:
    """Read ``UTTERANCE SPEAKER`` lines: Kaldi's utt2spk, or a TSV with or without a header.

    Args:
        path: the file.
        tabs: whether it is a TSV.
        faults: collects why a name has no speaker; a wrong line invalidates only its utterance.

    Raises:
        AalbertError: the file cannot be read, or no line of it can.
    """
    faults = {} if faults is None else faults
    speakers: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), 1):
        # Names may contain blanks; Kaldi's speakers do not.
        cells = line.split("\t") if tabs or "\t" in line else line.rsplit(maxsplit=1)
        fields = [cell.strip() for cell in cells]
        if not line.strip() or (tabs and number == 1 and fields[0].lower() in ("utterance", "utt")):
            continue
        name = fields[0]
        if len(fields) < 2 or not all(fields[:2]):
            expected = "UTTERANCE SPEAKER" + (" with a tab between" if tabs else "")
            faults.setdefault(name, f'{path}: line {number} is "{line.strip()}", expected {expected}')
        elif speakers.setdefault(name, fields[1]) != fields[1]:
            earlier = speakers[name]
            faults.setdefault(name, f"{path}: line {number} gives {name} to {fields[1]}, an earlier one to {earlier}")
    speakers = {name: speaker for name, speaker in speakers.items() if name not in faults}
    if faults and not speakers:
        raise AalbertError(next(iter(faults.values())))
    return speakers


def _speakers_of(matched: Matched, listed: Mapping[str, str], table: Path, faults: dict[str, str]) -> dict[str, str]:
    """Return the speaker of each utterance; ``faults`` collects utterances with two names and two speakers."""
    speakers: dict[str, str] = {}
    for name, utterance in matched.utterances.items():
        if name in listed and speakers.setdefault(utterance, listed[name]) != listed[name]:
            faults[utterance] = f"{table}: gives {utterance} to {speakers[utterance]} and, as {name}, to {listed[name]}"
    speakers = {utterance: speaker for utterance, speaker in speakers.items() if utterance not in faults}
    if faults and not speakers:
        raise AalbertError(next(iter(faults.values())))
    if listed and not speakers:
        raise AalbertError(
            f"{table}: none of its {len(listed)} names has audio; {next(iter(matched.missing.values()))}"
        )
    return speakers


def _limit(speakers: dict[str, str], most: int | None) -> dict[str, str]:
    """Keep the ``most`` speakers that have the most utterances."""
    if most is None:
        return speakers
    counts = Counter(speakers.values())
    kept = set(sorted(counts, key=lambda s: (-counts[s], s))[:most])
    return {name: speaker for name, speaker in speakers.items() if speaker in kept}


def _split(config: SpeakerDataConfig, speakers: Mapping[str, str], skipped: Skipped) -> dict[str, str]:
    if not config.train_list:
        split, too_few = split_within_speakers(speakers, config.split_seed)
        skipped.add("too_few_utterances", too_few)
        return split
    lists = (config.train_list, config.test_list or "", None)
    split, missing = split_by_lists(speakers, *lists, config.dev_fraction, config.split_seed)
    skipped.add("listed_but_unusable", missing)
    skipped.add("in_no_list", set(speakers) - set(split))
    return split
