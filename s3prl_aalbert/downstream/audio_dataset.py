"""Audio of the downstream tasks: found once, checked by decoding, stored in 16 bits, batched by seed and epoch."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from s3prl_aalbert.downstream.skipped import Skipped
from s3prl_aalbert.errors import AalbertError, did_you_mean
from s3prl_aalbert.model.config import LARGEST_SIZE, shown
from s3prl_aalbert.parcels import MOST_WORKERS
from s3prl_aalbert.speech.finding import existing_folders, find_files
from s3prl_aalbert.speech.names import NameMatcher, first_names, plain
from s3prl_aalbert.speech.reading import SILENT_REASON, AudioError, is_silent, read_audio
from s3prl_aalbert.speech.sixteen_bit import as_float, quantise
from s3prl_aalbert.speech.speakers import folder_of

logger = logging.getLogger(__name__)

MAX_CACHED_SAMPLES = 16000 * 3600 * 24
"""Corpora of up to 24 hours stay decoded in memory (115 MB per hour)."""


def loading_problems(train_batch_size: int, eval_batch_size: int, num_workers: int) -> list[str]:
    """Return the problems of these values of a task's datarc."""
    found = [
        f"datarc.{name} is {shown(size)}, expected 1 to {LARGEST_SIZE}"
        for name, size in (("train_batch_size", train_batch_size), ("eval_batch_size", eval_batch_size))
        if not 1 <= size <= LARGEST_SIZE
    ]
    if not 0 <= num_workers <= MOST_WORKERS:
        found.append(f"datarc.num_workers is {shown(num_workers)}, expected 0 to {MOST_WORKERS}")
    return found


PATH_KEYS = ("audio", "test_audio", "alignments", "speakers_file", "train_list", "dev_list", "test_list")
"""Keys of a task's datarc that name files or folders."""
LIST_KEYS = ("train_list", "dev_list", "test_list")
"""Keys that are read only with ``split: lists``, where a task has the key ``split``."""


def check_paths(config: object, where: str) -> None:
    """Check that the files and folders of a task's configuration exist, before anything is read.

    Args:
        config: a task's datarc.
        where: its dotted key, e.g. downstream_expert.datarc.

    Raises:
        AalbertError: one does not exist; the message names the key and the most similar name.
    """
    unused = () if getattr(config, "split", "lists") == "lists" else LIST_KEYS
    for key in PATH_KEYS:
        if key in unused:
            continue
        value = getattr(config, key, None)
        for path in value if isinstance(value, (list, tuple)) else [value] if value else []:
            real = Path(path).expanduser()
            if not os.path.lexists(real):
                beside = [other.name for other in real.parent.glob("*")]
                kind = "folder" if key.endswith("audio") else "file or folder"
                raise AalbertError(
                    f"{where}.{key} is {shown(path)}: no such {kind}"
                    f"{did_you_mean(real.name, beside)}; set it with -o \"config.{where}.{key}='PATH'\""
                )


def find_audio(folders: Sequence[str], skipped: Skipped | None = None) -> list[Path]:
    """Return the audio files below some folders; files of a linked folder have the link's name.

    Args:
        folders: where to search.
        skipped: collects files that look like audio but are not read; None logs them.

    Raises:
        AalbertError: a folder is missing or holds no audio.
    """
    existing_folders(folders)  # its result resolves links, whose names may be the speakers'
    found = find_files([str(Path(folder).expanduser()) for folder in folders], links_keep_their_name=True)
    not_read = {"/".join(Path(path).parts[-2:]): f"{path} {reason}" for path, reason in found.missing}
    if skipped is not None:
        skipped.add("not_read", not_read)
    elif not_read:
        logger.warning("skipped %d audio files: %s", len(not_read), first_names(not_read.values()))
    return sorted(Path(file.path) for file in found.files)


def folder_and_stem(path: Path) -> str:
    """Return SPEAKER/sa1, the name of a file whose stem recurs, as TIMIT's sa1 does in every speaker's folder."""
    return f"{folder_of(path)}/{path.stem}"


def stem(path: Path) -> str:
    """Return the stem of a file as its name."""
    return path.stem


def by_name(paths: Iterable[Path], name_of: Callable[[Path], str]) -> dict[str, Path]:
    """Return files by utterance name.

    Raises:
        AalbertError: two files have one name.
    """
    found: dict[str, Path] = {}
    for path in paths:
        name = name_of(path)
        if name in found:
            raise AalbertError(f'two files are utterance "{name}": {found[name]} and {path}')
        found[name] = path
    return found


@dataclass(frozen=True)
class Matched:
    """Audio files matched to the names of a table."""

    audio: dict[str, Path]
    """By utterance."""
    utterances: dict[str, str]
    """The utterance of each name in the table that has audio."""
    missing: dict[str, str]
    """The other names of the table, each with a hint at the names of the audio."""


def match_audio(paths: Sequence[Path], listed: Sequence[str]) -> Matched:
    """Name audio files in the form of a table, STEM or FOLDER/STEM, and match its names to them; see ``NameMatcher``.

    Raises:
        AalbertError: two files have one name.
    """
    with_folder = [name for name in listed if "/" in plain(name)]
    matched = _match(paths, listed, folder_and_stem if with_folder else stem)
    if with_folder and set(with_folder) <= set(matched.missing) and len({path.stem for path in paths}) == len(paths):
        matched = _match(paths, listed, stem)  # the table may have the folders of another machine
    return matched


def _match(paths: Sequence[Path], listed: Sequence[str], name_of: Callable[[Path], str]) -> Matched:
    audio = by_name(paths, name_of)
    matcher = NameMatcher(audio)
    utterances, missing = matcher.find_all(listed)
    return Matched(audio, utterances, dict.fromkeys(missing, matcher.hint(missing)))


class AudioStore:
    """Decodes each utterance once."""

    def __init__(self, paths: Mapping[str, Path]):
        self.paths = paths
        self.notes: dict[str, list[str]] = {}
        """Remarks on an utterance from reading it."""
        self._samples: dict[str, np.ndarray] = {}
        self._total = 0

    def read(self, name: str) -> np.ndarray:
        """Return the waveform (num_samples,) float32 at 16 kHz of an utterance.

        Raises:
            AudioError: the file cannot be used.
        """
        kept = self._samples.get(name)
        if kept is not None:
            return as_float(kept)
        wav = read_audio(self.paths[name], notes=self.notes.setdefault(name, []))
        if self._total + len(wav) <= MAX_CACHED_SAMPLES:
            self._samples[name] = quantise(wav)
            self._total += len(wav)
        return wav

    def usable(self, names: Sequence[str], skipped: Skipped) -> dict[str, int]:
        """Decode utterances; return the number of samples of each good one, and add the others to ``skipped``."""
        lengths = {}
        for name in names:
            try:
                wav = self.read(name)
            except AudioError as error:
                skipped.add("undecodable", {name: str(error)})
                continue
            if is_silent(wav):
                skipped.add("silent", {name: f"{self.paths[name]}: {SILENT_REASON}"})
            else:
                lengths[name] = len(wav)
        for note in sorted({note for notes in self.notes.values() for note in notes}):
            noted = [name for name, notes in self.notes.items() if note in notes]
            logger.warning("%d utterances: %s: %s", len(noted), note, first_names(noted))
        return lengths


class ItemDataset(Dataset):
    """A list of utterances as (waveform, label, name); ``crop`` limits the samples of a training utterance."""

    def __init__(
        self, names: Sequence[str], store: AudioStore, label_of: Callable[[str], object], crop: int | None, seed: int
    ):
        self.names, self.store, self.label_of, self.crop, self.seed = list(names), store, label_of, crop, seed
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of utterances."""
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[np.ndarray, object, str]:
        """Return (num_samples,) float32, the label and the name."""
        name = self.names[index]
        wav = self.store.read(name)
        if self.crop is not None and len(wav) > self.crop:
            start = np.random.default_rng([self.seed, self.epoch, index]).integers(len(wav) - self.crop + 1)
            wav = wav[start : start + self.crop]
        return wav, self.label_of(name), name


def collate(items: Sequence[tuple[np.ndarray, object, str]]) -> tuple[list[np.ndarray], list[object], list[str]]:
    """Return waveforms, labels and names as lists, as S3PRL's runner expects."""
    wavs, labels, names = zip(*items, strict=True)
    return list(wavs), list(labels), list(names)


def make_loader(dataset: ItemDataset, batch_size: int, num_workers: int, train: bool, epoch: int) -> DataLoader:
    """Return a loader, shuffled by seed and epoch for training and in order otherwise."""
    dataset.epoch = epoch
    order: Iterable[int] | None = None
    if train and torch.distributed.is_available() and torch.distributed.is_initialized():
        sampler: DistributedSampler[int] = DistributedSampler(dataset, seed=dataset.seed)
        sampler.set_epoch(epoch)
        order = sampler
    elif train:
        # The permutation depends only on seed and epoch, so that a resumed run continues in the same order.
        order = np.random.default_rng([dataset.seed, epoch]).permutation(len(dataset)).tolist()
    return DataLoader(dataset, batch_size, sampler=order, num_workers=num_workers, collate_fn=collate)
