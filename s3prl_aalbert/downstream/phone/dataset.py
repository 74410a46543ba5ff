"""Audio and phone labels of the phoneme task."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s3prl_aalbert.downstream.alignments import (
    IGNORED,
    SAMPLE_RATE,
    SILENCES,
    Alignment,
    Segment,
    fold_stress,
    fold_timit,
    frame_labels,
    majority_labels,
    read_converted,
    read_phn,
    read_textgrid,
    read_tsv,
)
from s3prl_aalbert.downstream.audio_dataset import AudioStore, find_audio_by_name, report_unusable
from s3prl_aalbert.downstream.splits import (
    SPLITS,
    check_split,
    hold_out,
    nested_subset,
    read_list,
    save_split,
    split_by_speaker,
)
from s3prl_aalbert.downstream.task import TaskData, as_paths
from s3prl_aalbert.errors import AalbertError

logger = logging.getLogger(__name__)

GRID_SAMPLES = 160
PAST_END_TOLERANCE = 0.05
"""Seconds a label may reach past the audio before the utterance is left out as mismatched."""


@dataclass(frozen=True)
class PhoneDataConfig:
    """``downstream_expert.datarc`` of the phoneme task; see downstream_configs/aalbert_phone.yaml."""

    audio: str | list[str]
    alignments: str | None = None
    alignment_format: str = "auto"
    tier: str = "phones"
    phone_set: str = "as_found"
    fold_stress: bool = False
    silence: str = "keep"
    split: str = "speaker"
    split_seed: int = 0
    fold: int = 0
    num_folds: int = 4
    train_list: str | None = None
    dev_list: str | None = None
    test_list: str | None = None
    dev_fraction: float = 0.05
    exclude: list[str] | None = None
    train_fraction: float = 1.0
    token_label: str = "centre"
    max_seconds: float | None = None
    train_batch_size: int = 48
    eval_batch_size: int = 16
    num_workers: int = 0

    def problems(self) -> list[str]:
        """Return what makes these values unusable."""
        choices = {
            "alignment_format": ("auto", "phn", "textgrid", "tsv", "converted"),
            "phone_set": ("as_found", "61", "48", "39"),
            "silence": ("keep", "ignore"),
            "split": ("speaker", "lists"),
            "token_label": ("centre", "majority"),
        }
        found = [
            f'datarc.{key} is "{getattr(self, key)}", expected one of {", ".join(values)}'
            for key, values in choices.items()
            if getattr(self, key) not in values
        ]
        if not 0 < self.train_fraction <= 1:
            found.append(f"datarc.train_fraction is {self.train_fraction}, expected within (0, 1]")
        if self.split == "lists" and not (self.train_list and self.test_list):
            found.append("datarc.split is lists: datarc.train_list and datarc.test_list are needed")
        return found


@dataclass(frozen=True)
class PhoneLabels:
    """Labels of one utterance."""

    token: np.ndarray
    """(tokens,) at the upstream's rate."""
    grid: np.ndarray
    """(frames,) of 10 ms."""


def load_phone_data(config: PhoneDataConfig, rate: int, seed: int, expdir: Path) -> TaskData:
    """Find audio and alignments, leave out what does not fit (named and counted), split.

    Raises:
        AalbertError: no audio, no labels, an empty split: wherever a result would be wrong.
    """
    alignments, audio, speakers = _read_sources(config)
    unlabelled = sorted(set(audio) - set(alignments))
    orphans = sorted(set(alignments) - set(audio))
    names = sorted(set(audio) & set(alignments))
    names = [n for n in names if n.split("/")[-1] not in (config.exclude or ())]
    if not names:
        raise AalbertError(f"{config.audio}: none of {len(audio)} audio files has one of {len(alignments)} alignments")
    split = _split(config, names, speakers)
    store = AudioStore(audio)
    lengths, bad = store.usable([name for name in names if name in split])
    too_long = _past_end(alignments, lengths)
    used = {name: part for name, part in split.items() if name in lengths and name not in too_long}
    report_unusable("have no labels", unlabelled)
    report_unusable("have labels but no audio", orphans)
    report_unusable("cannot be decoded", bad)
    report_unusable("have labels past the end of the audio", too_long)
    if config.train_fraction < 1:
        train = [name for name, part in used.items() if part == "train"]
        kept = set(nested_subset(train, config.train_fraction, seed))
        used = {name: part for name, part in used.items() if part != "train" or name in kept}
    check_split(used, "the phone task")
    _check_disjoint(used, speakers, config)
    folded = {name: _fold(alignments[name], config) for name in used}
    classes = tuple(sorted({segment.phone for alignment in folded.values() for segment in alignment}))
    ids = {phone: index for index, phone in enumerate(classes)}
    labels = {name: _labels(folded[name], ids, lengths[name], rate, config) for name in used}
    save_split(expdir / "split.tsv", used, speakers)
    by_split = {part: [name for name in sorted(used) if used[name] == part] for part in SPLITS}
    counts: dict[str, Any] = {
        **{part: len(members) for part, members in by_split.items()},
        "classes": len(classes),
        "hours": sum(lengths[name] for name in used) / SAMPLE_RATE / 3600,
        "without_labels": len(unlabelled),
        "without_audio": len(orphans),
        "undecodable": sorted(bad),
        "labels_past_end": sorted(too_long),
    }
    return TaskData(classes, by_split, store, labels.__getitem__, counts)


def _read_sources(config: PhoneDataConfig) -> tuple[dict[str, Alignment], dict[str, Path], dict[str, str]]:
    """Return alignments, audio and speakers by utterance name."""
    kind = _format_of(config)
    if kind == "phn":  # labels lie beside the audio; stems such as sa1 recur in every speaker's folder
        audio = find_audio_by_name(as_paths(config.audio), lambda path: f"{path.parent.name}/{path.stem}")
        beside = {name: path.with_suffix(".phn") for name, path in audio.items()}
        alignments = {name: read_phn(path) for name, path in beside.items() if path.is_file()}
        return alignments, audio, {name: name.split("/")[0] for name in audio}
    audio = find_audio_by_name(as_paths(config.audio), lambda path: path.stem)
    speakers = {n: n.split("-")[0] if n.count("-") >= 2 else audio[n].parent.name for n in audio}
    if kind == "textgrid":
        root = Path(config.alignments or as_paths(config.audio)[0]).expanduser()
        grids = {path.stem: path for path in sorted(root.rglob("*.TextGrid"))}
        return {name: read_textgrid(grids[name], config.tier) for name in grids}, audio, speakers
    path = Path(config.alignments or "").expanduser()
    return (read_tsv if kind == "tsv" else read_converted)(path), audio, speakers


def _format_of(config: PhoneDataConfig) -> str:
    if config.alignment_format != "auto":
        return config.alignment_format
    if config.alignments is None:
        return "phn"
    path = Path(config.alignments).expanduser()
    if path.is_dir():
        return "textgrid"
    return "tsv" if path.suffix == ".tsv" else "converted"


def _split(config: PhoneDataConfig, names: list[str], speakers: Mapping[str, str]) -> dict[str, str]:
    if config.split == "speaker":
        return split_by_speaker({n: speakers[n] for n in names}, config.split_seed, config.fold, config.num_folds)
    train = read_list(Path(config.train_list or "").expanduser())
    test = read_list(Path(config.test_list or "").expanduser())
    both = sorted(set(train) & set(test))
    if both:
        raise AalbertError(f"{config.train_list} and {config.test_list} share {len(both)} utterances, e.g. {both[0]}")
    if config.dev_list:
        dev = read_list(Path(config.dev_list).expanduser())
        train = [name for name in train if name not in set(dev)]
    else:
        train, dev = hold_out(train, config.dev_fraction, config.split_seed)
    listed = {**dict.fromkeys(train, "train"), **dict.fromkeys(dev, "dev"), **dict.fromkeys(test, "test")}
    return {name: part for name, part in listed.items() if name in set(names)}


def _past_end(alignments: Mapping[str, Alignment], lengths: Mapping[str, int]) -> dict[str, str]:
    late = {}
    for name, samples in lengths.items():
        end, seconds = max((s.end for s in alignments[name]), default=0.0), samples / SAMPLE_RATE
        if end > seconds + PAST_END_TOLERANCE:
            late[name] = f"labels end at {end:.2f} s, the audio at {seconds:.2f} s"
    return late


def _check_disjoint(used: Mapping[str, str], speakers: Mapping[str, str], config: PhoneDataConfig) -> None:
    """Say once where speakers of the test are in training, as LibriSpeech's official phone split has it."""
    train = {speakers[name] for name, part in used.items() if part == "train"}
    test = {speakers[name] for name, part in used.items() if part == "test"}
    if train & test:
        logger.info("phone task: %d of %d test speakers are in training, too", len(train & test), len(test))


def _fold(alignment: Alignment, config: PhoneDataConfig) -> Alignment:
    folded = []
    for segment in alignment:
        phone: str | None = segment.phone
        if config.phone_set != "as_found":
            phone = fold_timit(segment.phone, int(config.phone_set))
        elif config.fold_stress:
            phone = fold_stress(segment.phone)
        if phone is None or (config.silence == "ignore" and phone.lower() in SILENCES):
            continue
        folded.append(Segment(segment.start, segment.end, phone or "sil"))
    return folded


def _labels(alignment: Alignment, ids: dict[str, int], samples: int, rate: int, config: PhoneDataConfig) -> PhoneLabels:
    token_labels = frame_labels if config.token_label == "centre" else majority_labels
    grid = frame_labels(alignment, ids, samples, GRID_SAMPLES)
    token = token_labels(alignment, ids, samples, rate)
    assert IGNORED < 0
    return PhoneLabels(token, grid)
