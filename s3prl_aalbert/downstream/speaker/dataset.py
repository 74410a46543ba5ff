"""Audio and speakers of the speaker tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3prl_aalbert.downstream.audio_dataset import AudioStore, find_audio_by_name, report_unusable
from s3prl_aalbert.downstream.splits import (
    SPLITS,
    check_split,
    hold_out,
    nested_subset,
    read_list,
    save_split,
    split_within_speakers,
)
from s3prl_aalbert.downstream.task import TaskData, as_paths
from s3prl_aalbert.errors import AalbertError

SAMPLE_RATE = 16000


@dataclass(frozen=True)
class SpeakerDataConfig:
    """``downstream_expert.datarc`` of the speaker tasks; see downstream_configs/aalbert_speaker_utterance.yaml."""

    audio: str | list[str]
    speaker_from: str = "folder"
    speakers_file: str | None = None
    split_seed: int = 0
    train_list: str | None = None
    test_list: str | None = None
    dev_fraction: float = 0.1
    max_speakers: int | None = None
    exclude: list[str] | None = None
    train_fraction: float = 1.0
    max_seconds: float | None = None
    train_batch_size: int = 48
    eval_batch_size: int = 32
    num_workers: int = 0

    def problems(self) -> list[str]:
        """Return what makes these values unusable."""
        found = []
        if self.speaker_from not in ("folder", "librispeech", "utt2spk", "tsv"):
            found.append(f'datarc.speaker_from is "{self.speaker_from}", expected folder, librispeech, utt2spk or tsv')
        if self.speaker_from in ("utt2spk", "tsv") and not self.speakers_file:
            found.append(f"datarc.speaker_from is {self.speaker_from}: datarc.speakers_file is needed")
        if bool(self.train_list) != bool(self.test_list):
            found.append("datarc.train_list and datarc.test_list go together")
        if not 0 < self.train_fraction <= 1:
            found.append(f"datarc.train_fraction is {self.train_fraction}, expected within (0, 1]")
        return found


def load_speaker_data(config: SpeakerDataConfig, seed: int, expdir: Path) -> TaskData:
    """Find audio and speakers, leave out what does not fit (named and counted), split 8:1:1 or by lists.

    Raises:
        AalbertError: no audio, fewer than two speakers, an empty split.
    """
    by_folder = config.speaker_from == "folder"
    audio = find_audio_by_name(
        as_paths(config.audio), lambda path: f"{path.parent.name}/{path.stem}" if by_folder else path.stem
    )
    speakers = {n: s for n, s in _speakers(config, audio).items() if n.split("/")[-1] not in (config.exclude or ())}
    unknown = sorted(set(audio) - set(speakers)) if config.speakers_file else []
    orphans = sorted(set(speakers) - set(audio))
    store = AudioStore(audio)
    candidates = _limit({n: s for n, s in speakers.items() if n in audio}, config.max_speakers)
    lengths, bad = store.usable(sorted(candidates))
    good = {name: speaker for name, speaker in candidates.items() if name in lengths}
    split, left_out = _split(config, good)
    report_unusable("have no speaker", unknown)
    report_unusable("have a speaker but no audio", orphans)
    report_unusable("cannot be decoded", bad)
    report_unusable("(speakers) have too few utterances for 8:1:1", left_out)
    if config.train_fraction < 1:
        kept = set(nested_subset([n for n, part in split.items() if part == "train"], config.train_fraction, seed))
        split = {name: part for name, part in split.items() if part != "train" or name in kept}
    classes = tuple(sorted({good[name] for name, part in split.items() if part == "train"}))
    unseen = sorted({good[name] for name in split} - set(classes))
    report_unusable("(speakers) have no training utterance", unseen)
    split = {name: part for name, part in split.items() if good[name] not in unseen}
    check_split(split, "the speaker task")
    if len(classes) < 2:
        raise AalbertError(f"the speaker task needs two speakers at least, found {len(classes)} in {config.audio}")
    ids = {speaker: index for index, speaker in enumerate(classes)}
    save_split(expdir / "split.tsv", split, good)
    by_split = {part: [name for name in sorted(split) if split[name] == part] for part in SPLITS}
    counts: dict[str, Any] = {
        **{part: len(members) for part, members in by_split.items()},
        "classes": len(classes),
        "hours": sum(lengths[name] for name in split) / SAMPLE_RATE / 3600,
        "without_speaker": len(unknown),
        "without_audio": len(orphans),
        "undecodable": sorted(bad),
        "speakers_left_out": [*left_out, *unseen],
    }
    return TaskData(classes, by_split, store, lambda name: ids[good[name]], counts)


def _speakers(config: SpeakerDataConfig, audio: Mapping[str, Path]) -> dict[str, str]:
    if config.speaker_from == "folder":
        return {name: path.parent.name for name, path in audio.items()}
    if config.speaker_from == "librispeech":
        return {name: name.split("-")[0] for name in audio}
    path = Path(config.speakers_file or "").expanduser()
    separator = "\t" if config.speaker_from == "tsv" else None
    speakers = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise AalbertError(f"{path}: cannot be read ({error.strerror})") from error
    for number, line in enumerate(lines, 1):
        fields = line.split(separator)
        if len(fields) < 2 and line.strip():
            raise AalbertError(f'{path}: line {number} is "{line.strip()}", expected UTTERANCE SPEAKER')
        if fields:
            speakers[fields[0]] = fields[1].strip()
    return speakers


def _limit(speakers: dict[str, str], most: int | None) -> dict[str, str]:
    """Keep the ``most`` speakers with most utterances."""
    if most is None:
        return speakers
    counts: dict[str, int] = {}
    for speaker in speakers.values():
        counts[speaker] = counts.get(speaker, 0) + 1
    kept = set(sorted(counts, key=lambda s: (-counts[s], s))[:most])
    return {name: speaker for name, speaker in speakers.items() if speaker in kept}


def _split(config: SpeakerDataConfig, speakers: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    if not config.train_list:
        return split_within_speakers(speakers, config.split_seed)
    train = read_list(Path(config.train_list).expanduser())
    test = read_list(Path(config.test_list or "").expanduser())
    both = sorted(set(train) & set(test))
    if both:
        raise AalbertError(f"{config.train_list} and {config.test_list} share {len(both)} utterances, e.g. {both[0]}")
    train, dev = hold_out(train, config.dev_fraction, config.split_seed)
    listed = {**dict.fromkeys(train, "train"), **dict.fromkeys(dev, "dev"), **dict.fromkeys(test, "test")}
    return {name: part for name, part in listed.items() if name in speakers}, []
