"""Audio of the downstream tasks: found once, checked by decoding, kept as 16-bit samples, batched by seed and epoch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from s3prl_aalbert.audio_io import AUDIO_SUFFIXES, AudioError, read_audio
from s3prl_aalbert.config import LARGEST_SIZE, shown
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.pretrain.config import MOST_WORKERS
from s3prl_aalbert.pretrain.finding import existing_folders

MAX_CACHED_SAMPLES = 16000 * 3600 * 24
"""Corpora up to 24 hours stay decoded in memory (115 MB an hour)."""


def loading_problems(config: Any) -> list[str]:
    """Return what keeps a task's datarc from being loaded: batch sizes and number of workers."""
    names = ("train_batch_size", "eval_batch_size")
    found = [
        f"datarc.{name} is {shown(getattr(config, name))}, expected 1 to {LARGEST_SIZE}"
        for name in names
        if not 1 <= getattr(config, name) <= LARGEST_SIZE
    ]
    if not 0 <= config.num_workers <= MOST_WORKERS:
        found.append(f"datarc.num_workers is {shown(config.num_workers)}, expected 0 to {MOST_WORKERS}")
    return found


def find_audio(folders: Sequence[str]) -> list[Path]:
    """Return the audio files below some folders.

    Raises:
        AalbertError: a folder is missing or holds no audio.
    """
    existing_folders(folders)  # the paths that it returns are without links, whose names may be the speakers'
    found: list[Path] = []
    for folder in folders:
        root = Path(folder).expanduser()
        paths = sorted(p for p in files_below(root) if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())
        if not paths:
            raise AalbertError(f"{folder}: no audio found")
        found += paths
    return found


def files_below(root: Path) -> Iterator[Path]:
    """Yield the files below a folder, those of linked folders under the link's name, no folder twice."""
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        links = {name for name in folders if Path(folder, name).is_symlink()}
        folders[:] = [*sorted(set(folders) - links), *sorted(links)]  # what is there under its own name keeps it
        yield from (Path(folder, name) for name in files)


def folder_and_stem(path: Path) -> str:
    """Name a file where stems recur, as TIMIT's sa1 does in every speaker's folder: SPEAKER/sa1."""
    return f"{path.parent.name}/{path.stem}"


def stem(path: Path) -> str:
    """Name a file by its stem."""
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


class AudioStore:
    """Decodes each utterance once."""

    def __init__(self, paths: Mapping[str, Path]):
        self.paths = paths
        self._samples: dict[str, np.ndarray] = {}
        self._total = 0

    def read(self, name: str) -> np.ndarray:
        """Return the waveform (num_samples,) float32 at 16 kHz of an utterance.

        Raises:
            AudioError: the file cannot be used.
        """
        kept = self._samples.get(name)
        if kept is not None:
            return kept.astype(np.float32) / 32767
        wav = read_audio(self.paths[name])
        if self._total + len(wav) <= MAX_CACHED_SAMPLES:
            self._samples[name] = np.round(wav.clip(-1, 1) * 32767).astype(np.int16)
            self._total += len(wav)
        return wav

    def usable(self, names: Sequence[str]) -> tuple[dict[str, int], dict[str, str]]:
        """Decode utterances and return samples by name of the good ones and the reason by name of the others."""
        lengths, bad = {}, {}
        for name in names:
            try:
                lengths[name] = len(self.read(name))
            except AudioError as error:
                bad[name] = str(error)
        return lengths, bad


class ItemDataset(Dataset):
    """(waveform, label, name) of a list of utterances; ``crop`` limits a training utterance's samples."""

    def __init__(
        self, names: Sequence[str], store: AudioStore, label_of: Callable[[str], Any], crop: int | None, seed: int
    ):
        self.names, self.store, self.label_of, self.crop, self.seed = list(names), store, label_of, crop, seed
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of utterances."""
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[np.ndarray, Any, str]:
        """Return (num_samples,) float32, the label and the name."""
        name = self.names[index]
        wav = self.store.read(name)
        if self.crop is not None and len(wav) > self.crop:
            start = np.random.default_rng([self.seed, self.epoch, index]).integers(len(wav) - self.crop + 1)
            wav = wav[start : start + self.crop]
        return wav, self.label_of(name), name


class EpochSampler(Sampler[int]):
    """A permutation that depends on seed and epoch alone, so that a resumed run continues the same order."""

    def __init__(self, size: int, seed: int, epoch: int):
        self.order = np.random.default_rng([seed, epoch]).permutation(size)

    def __iter__(self):  # type: ignore[no-untyped-def]
        """Iterate over utterance indices."""
        return iter(self.order.tolist())

    def __len__(self) -> int:
        """Return the number of utterances."""
        return len(self.order)


def collate(items: Sequence[tuple[np.ndarray, Any, str]]) -> tuple[list[np.ndarray], list[Any], list[str]]:
    """Return waveforms, labels and names as lists, as S3PRL's runner expects."""
    wavs, labels, names = zip(*items, strict=True)
    return list(wavs), list(labels), list(names)


def make_loader(dataset: ItemDataset, batch_size: int, num_workers: int, train: bool, epoch: int) -> DataLoader:
    """Return a loader: shuffled by (seed, epoch) for training, in order otherwise."""
    dataset.epoch = epoch
    sampler = EpochSampler(len(dataset), dataset.seed, epoch) if train else None
    if torch.distributed.is_available() and torch.distributed.is_initialized() and train:
        from torch.utils.data import DistributedSampler

        distributed: DistributedSampler = DistributedSampler(dataset, seed=dataset.seed)
        distributed.set_epoch(epoch)
        return DataLoader(dataset, batch_size, sampler=distributed, num_workers=num_workers, collate_fn=collate)
    return DataLoader(dataset, batch_size, sampler=sampler, num_workers=num_workers, collate_fn=collate)
