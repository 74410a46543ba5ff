"""Batches of similar length, the same for any number of processes and workers, and resumable at any step.

Everything random about an utterance (its crop, its mask) is drawn from (seed, epoch, utterance) alone.
Legend: B batch, S samples, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from s3prl_aalbert.audio_io import read_audio
from s3prl_aalbert.config import ModelConfig
from s3prl_aalbert.masking import MaskPlan, collate_plans, sample_mask
from s3prl_aalbert.pretrain.corpus import SAMPLE_RATE, Utterance

POOL_BATCHES = 50
"""Batches are cut from pools of this many, sorted by length inside a pool: little padding, yet well mixed."""
DEV_EPOCH = 0
"""The dev split's crops and masks never change."""


@dataclass(frozen=True)
class Batch:
    """A micro-batch of masked-reconstruction training."""

    wavs: Tensor
    """(B, S) padded waveforms."""
    num_samples: Tensor
    """(B,)."""
    plan: MaskPlan
    """(B, T)."""
    weight: float
    """Values that the loss covers: selected real frames times bins."""
    paths: tuple[str, ...]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device."""
        return Batch(
            self.wavs.to(device, non_blocking=True),
            self.num_samples.to(device, non_blocking=True),
            self.plan.to(device),
            self.weight,
            self.paths,
        )


def utterance_seed(seed: int, epoch: int, index: int) -> int:
    """Return the seed of one utterance in one epoch."""
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1, np.uint64)[0] >> 1)


class SpeechDataset(Dataset):
    """Decoded, cropped and masked utterances, addressed by (epoch, index)."""

    def __init__(
        self, utterances: Sequence[Utterance], config: ModelConfig, max_seconds: float, seed: int, cache: bool
    ):
        self.utterances = utterances
        self.config = config
        self.max_samples = int(max_seconds * SAMPLE_RATE)
        self.seed = seed
        self._cache: dict[int, np.ndarray] | None = {} if cache else None

    def __getitem__(self, key: tuple[int, int]) -> tuple[np.ndarray, MaskPlan, str]:
        """Return the waveform (num_samples,), its mask plan and its path."""
        epoch, index = key
        generator = torch.Generator().manual_seed(utterance_seed(self.seed, epoch, index))
        wav = self._read(index)
        if len(wav) > self.max_samples:
            start = int(torch.randint(len(wav) - self.max_samples + 1, (1,), generator=generator))
            wav = wav[start : start + self.max_samples]
        num_tokens = -(-len(wav) // self.config.samples_per_token)
        return wav, sample_mask(num_tokens, self.config.task, generator), self.utterances[index].path

    def __len__(self) -> int:
        """Return the number of utterances."""
        return len(self.utterances)

    def _read(self, index: int) -> np.ndarray:
        if self._cache is None:
            return read_audio(self.utterances[index].path, SAMPLE_RATE)
        if index not in self._cache:
            wav = read_audio(self.utterances[index].path, SAMPLE_RATE)
            self._cache[index] = np.round(wav.clip(-1, 1) * 32767).astype(np.int16)
        return self._cache[index].astype(np.float32) / 32767

    def collate(self, items: Sequence[tuple[np.ndarray, MaskPlan, str]]) -> Batch:
        """Pad utterances to one batch."""
        wavs = torch.zeros(len(items), max(len(wav) for wav, _, _ in items))
        for row, (wav, _, _) in enumerate(items):
            wavs[row, : len(wav)] = torch.from_numpy(wav)
        num_samples = torch.tensor([len(wav) for wav, _, _ in items])
        plan = collate_plans([plan for _, plan, _ in items])
        weight = _selected_frames(plan, num_samples, self.config) * self.config.audio.target_dim
        return Batch(wavs, num_samples, plan, float(weight), tuple(path for _, _, path in items))


def _selected_frames(plan: MaskPlan, num_samples: Tensor, config: ModelConfig) -> int:
    """Count the real frames of selected tokens (the last token of an utterance may hold fewer than ``stack``)."""
    stack = config.transformer.downsample_rate
    num_frames = -(-num_samples // config.audio.hop_samples).unsqueeze(1)  # (B, 1)
    first = torch.arange(plan.selected.size(1)) * stack  # (T,)
    return int(((num_frames - first).clamp(0, stack) * plan.selected).sum())


def epoch_batches(
    lengths: np.ndarray, batch_size: int, max_batch_samples: int | None, seed: int, epoch: int
) -> list[np.ndarray]:
    """Cut an epoch into batches of similar length, in random order.

    Args:
        lengths: (num_utterances,) samples after cropping.
        batch_size: most utterances of a batch.
        max_batch_samples: most samples of a batch, padding included; None is no limit.
        seed, epoch: decide everything random.

    Returns:
        arrays of utterance indices; each utterance stands in at most one.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    pool_size = batch_size * POOL_BATCHES
    batches = []
    for start in range(0, len(order), pool_size):
        pool = order[start : start + pool_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")[::-1]]  # longest first: the first is the padded length
        batches += _cut(pool, lengths, batch_size, max_batch_samples)
    if len(batches) > 1 and batches[-1].size < batch_size // 2 and max_batch_samples is None:
        batches.pop()  # a small remainder would be a noisy step
    return [batches[i] for i in generator.permutation(len(batches))]


def _cut(pool: np.ndarray, lengths: np.ndarray, batch_size: int, max_samples: int | None) -> list[np.ndarray]:
    cuts, start = [], 0
    while start < len(pool):
        size = batch_size
        if max_samples is not None:
            size = max(1, min(size, max_samples // int(lengths[pool[start]])))
        cuts.append(pool[start : start + size])
        start += size
    return cuts


class TrainingBatches:
    """An endless, resumable stream of optimiser steps, each a list of this process's micro-batches."""

    def __init__(
        self,
        dataset: SpeechDataset,
        batch_size: int,
        max_batch_seconds: float | None,
        micro_batches: int,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
    ):
        """Set up the stream.

        Args:
            dataset: utterances.
            batch_size: utterances per process and micro-batch.
            max_batch_seconds: likewise, padding included.
            micro_batches: micro-batches per step and process.
            rank: this process.
            world_size: processes.
            num_workers: decoding processes of this process.
        """
        self.dataset = dataset
        self.parts = micro_batches * world_size
        self.batch_size = batch_size * self.parts
        self.max_samples = None if max_batch_seconds is None else int(max_batch_seconds * SAMPLE_RATE) * self.parts
        self.rank, self.world_size, self.num_workers = rank, world_size, num_workers
        self.lengths = np.minimum([u.samples for u in dataset.utterances], dataset.max_samples)
        self.epoch, self.position = 0, 0

    def state_dict(self) -> dict[str, int]:
        """Return where the stream stands: the epoch and the steps taken in it."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where another stream stood."""
        self.epoch, self.position = state["epoch"], state["position"]

    def __iter__(self) -> Iterator[list[Batch]]:
        """Yield steps for ever; the state after a step is that of having taken it."""
        while True:
            steps = self.epoch_steps(self.epoch)
            loader = self._loader(steps[self.position :])
            micro = len(steps[0])
            batches = iter(loader)
            for _ in range(self.position, len(steps)):
                step = [next(batches) for _ in range(micro)]
                self.position += 1
                yield step
            self.epoch, self.position = self.epoch + 1, 0

    def epoch_steps(self, epoch: int) -> list[list[list[tuple[int, int]]]]:
        """Return this process's part of an epoch: steps of micro-batches of (epoch, utterance)."""
        seed = self.dataset.seed
        batches = epoch_batches(self.lengths, self.batch_size, self.max_samples, seed, epoch)
        whole = [batch for batch in batches if len(batch) >= self.parts]
        if not whole:
            raise ValueError(f"{len(self.lengths)} utterances are too few for {self.parts} micro-batches a step")
        mine = []
        for batch in whole:
            parts = np.array_split(batch, self.parts)  # neighbours in length stay together
            mine.append([[(epoch, int(i)) for i in part] for part in parts[self.rank :: self.world_size]])
        return mine

    def _loader(self, steps: list[list[list[tuple[int, int]]]]) -> DataLoader:
        flat = [micro for step in steps for micro in step]
        return _data_loader(self.dataset, flat, self.num_workers)


def dev_loader(dataset: SpeechDataset, batch_size: int, num_workers: int = 0) -> DataLoader:
    """Return a loader of the whole dev split, longest first, with the same crops and masks every time."""
    lengths = np.array([u.samples for u in dataset.utterances])
    order = np.argsort(lengths, kind="stable")[::-1]
    batches = [[(DEV_EPOCH, int(i)) for i in order[s : s + batch_size]] for s in range(0, len(order), batch_size)]
    return _data_loader(dataset, batches, num_workers)


def _data_loader(dataset: SpeechDataset, batches: list[list[tuple[int, int]]], num_workers: int) -> DataLoader:
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=dataset.collate,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
    )
