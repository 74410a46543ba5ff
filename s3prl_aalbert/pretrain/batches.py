"""Batches of similar length, the same for any number of processes and workers, and resumable at any step.

Everything random about an utterance (its crop, its mask) is drawn from (seed, epoch, utterance) alone; which utterances
make a step depends on the seed, the epoch and the step's size over all processes, not on which process takes which.
Legend: B batch, S samples, T tokens.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from s3prl_aalbert.audio_io import AudioError, read_audio
from s3prl_aalbert.model.config import SAMPLE_RATE, ModelConfig
from s3prl_aalbert.model.masking import MaskPlan, collate_plans, sample_mask
from s3prl_aalbert.model.objective import NO_UNIT, Speech
from s3prl_aalbert.pretrain.loading import Keys, load
from s3prl_aalbert.pretrain.noise import add_noise
from s3prl_aalbert.pretrain.utterances import Utterance, Utterances

logger = logging.getLogger(__name__)

POOL_BATCHES = 50
"""Batches are cut from pools of this many, sorted by length inside a pool: little padding, yet well mixed."""
SMALLEST_POOL = 0.25
"""A last pool smaller than this share of a whole one joins the one before: its batches would hold much padding."""
DEV_EPOCH = 0
"""The dev split's crops and masks never change."""


@dataclass(frozen=True)
class Batch:
    """A micro-batch of masked-reconstruction training."""

    wavs: Tensor
    """(B, S) padded waveforms, the targets."""
    noisy_wavs: Tensor
    """(B, S) the model's input: the same with noise, or ``wavs`` itself."""
    num_samples: Tensor
    """(B,)."""
    plan: MaskPlan
    """(B, T)."""
    weight: float
    """Selected real frames."""
    paths: tuple[str, ...]
    units: Tensor | None = None
    """(B, T, U) units of each token, NO_UNIT where padded; None where the task has none."""
    warp: Tensor | None = None
    """(B,) factors that stretch the frequency axis of the model's input; None: it stays."""

    @property
    def speech(self) -> Speech:
        """What an objective is given."""
        return Speech(self.wavs, self.num_samples, self.plan, self.noisy_wavs, self.units, self.warp)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device."""
        return self._moved(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the batch in memory that a GPU can fetch by itself; the data loader asks for it."""
        return self._moved(Tensor.pin_memory)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with each tensor moved, once where it stands in two places."""
        wavs = move(self.wavs)
        return replace(
            self,
            wavs=wavs,
            noisy_wavs=wavs if self.noisy_wavs is self.wavs else move(self.noisy_wavs),
            num_samples=move(self.num_samples),
            plan=MaskPlan(*map(move, self.plan)),
            units=None if self.units is None else move(self.units),
            warp=None if self.warp is None else move(self.warp),
        )


def utterance_seed(seed: int, epoch: int, index: int) -> int:
    """Return the seed of one utterance in one epoch."""
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1, np.uint64)[0] >> 1)


class Noise(NamedTuple):
    """Noise that is mixed into the model's input."""

    proportion: float
    """Share of the utterances."""
    snr_db: tuple[float, float]
    """Smallest and largest."""


class Item(NamedTuple):
    """An utterance of a batch."""

    wav: np.ndarray
    """(num_samples,) the target."""
    noisy_wav: np.ndarray
    """(num_samples,) with noise, or ``wav`` itself."""
    plan: MaskPlan
    path: str
    units: np.ndarray | None = None
    """(T, U)."""
    warp: float = 1.0


class SpeechDataset(Dataset):
    """Decoded, cropped and masked utterances, addressed by (epoch, index)."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        config: ModelConfig,
        max_seconds: float,
        seed: int,
        noise: Noise | None = None,
        vocal_tract_perturbation: float = 0.0,
    ):
        """Set up the data.

        Args:
            utterances: a split of a corpus.
            config: the model's, for tokens and masks.
            max_seconds: longer utterances are cropped.
            seed: of crops and masks.
            noise: mixed into the model's input; None for none.
            vocal_tract_perturbation: largest change of the factor that stretches an utterance's frequency axis.
        """
        self.utterances = utterances if isinstance(utterances, Utterances) else Utterances(utterances)
        self.config = config
        self.max_samples = int(min(max_seconds * SAMPLE_RATE, 1 << 62))
        self.seed = seed
        self.noise = noise
        self.vocal_tract_perturbation = vocal_tract_perturbation
        self._cache = self.utterances.cache
        self._units = self.utterances.units if config.task.unit_weight else None
        # A crop begins where a token does, so that it has the units of whole tokens.
        self._grid = config.samples_per_token if self._units is not None else 1
        self.max_samples = max(self.max_samples // self._grid, 1) * self._grid

    @property
    def lengths(self) -> np.ndarray:
        """Samples of each utterance after cropping (N,)."""
        return np.minimum(self.utterances.samples, self.max_samples)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        """Return an utterance, cropped, with its noise and its mask.

        Raises:
            AudioError: the file was deleted or damaged since the corpus was checked, or its length is not the table's,
                by which it has units.
        """
        epoch, index = key
        generator = torch.Generator().manual_seed(utterance_seed(self.seed, epoch, index))
        start, wav = self._crop(index, generator)
        plan = sample_mask(self.config.num_tokens(len(wav)), self.config.task, generator)
        units = self._units_of(index, start // self._grid, len(wav))
        noisy_wav, warp = self._with_noise(wav, generator), 1.0
        if self.vocal_tract_perturbation:
            warp += self.vocal_tract_perturbation * (2 * float(torch.rand(1, generator=generator)) - 1)
        return Item(wav, noisy_wav, plan, self.utterances.path(index), units, warp)

    def _units_of(self, index: int, first_token: int, num_samples: int) -> np.ndarray | None:
        """Return the units (T, U) of a crop, NO_UNIT at frames past its end; None where the task has none."""
        if self._units is None:
            return None
        units = self._units.read(index, first_token, self.config.num_tokens(num_samples))
        if units.shape[1] > 1:
            units.reshape(-1)[self.config.audio.num_frames(num_samples) :] = NO_UNIT
        return units

    def __len__(self) -> int:
        """Return the number of utterances."""
        return len(self.utterances)

    def wav(self, index: int) -> np.ndarray:
        """Return a whole utterance (num_samples,)."""
        if self._cache is not None and self._cache.holds(index):
            return self._cache.read(index, 0, int(self.utterances.samples[index]))
        return self._decode(index)

    def _crop(self, index: int, generator: torch.Generator) -> tuple[int, np.ndarray]:
        """Read an utterance, or a random part of a long one: its first sample, and the waveform."""
        cached = self._cache is not None and self._cache.holds(index)
        wav = None if cached else self._decode(index)
        length = int(self.utterances.samples[index]) if wav is None else len(wav)
        start = 0
        if length > self.max_samples:
            places = (length - self.max_samples) // self._grid + 1
            start = int(torch.randint(places, (1,), generator=generator)) * self._grid
            length = self.max_samples
        if wav is None:
            assert self._cache is not None
            return start, self._cache.read(index, start, length)
        return start, wav[start : start + length]

    def _with_noise(self, wav: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Return an utterance with noise, or as it is."""
        if self.noise is None or float(torch.rand(1, generator=generator)) >= self.noise.proportion:
            return wav

        def other_speech() -> np.ndarray:
            return self._crop(int(torch.randint(len(self), (1,), generator=generator)), generator)[1]

        return add_noise(wav, self.noise.snr_db, other_speech, generator)

    def _decode(self, index: int) -> np.ndarray:
        try:
            wav = read_audio(self.utterances.path(index), SAMPLE_RATE)
        except AudioError as error:
            raise AudioError(
                f"{error}; it was fine when the corpus was checked: go on with -a to check anew"
            ) from error
        if self._units is not None:
            self.utterances.check_length(index, len(wav))
        return wav

    def collate(self, items: Sequence[Item]) -> Batch:
        """Pad utterances to one batch."""
        num_samples = torch.tensor([len(item.wav) for item in items])
        wavs = _padded([item.wav for item in items])
        noisy = any(item.noisy_wav is not item.wav for item in items)
        noisy_wavs = _padded([item.noisy_wav for item in items]) if noisy else wavs
        plan = collate_plans([item.plan for item in items])
        weight = _selected_frames(plan, num_samples, self.config)
        units = None if self._units is None else _padded_units([item.units for item in items])
        warp = torch.tensor([item.warp for item in items]) if self.vocal_tract_perturbation else None
        return Batch(
            wavs, noisy_wavs, num_samples, plan, float(weight), tuple(item.path for item in items), units, warp
        )


def _padded(wavs: Sequence[np.ndarray]) -> Tensor:
    padded = np.empty((len(wavs), max(map(len, wavs))), np.float32)  # torch would call all cores to a copy
    for row, wav in enumerate(wavs):
        padded[row, : len(wav)] = wav
        padded[row, len(wav) :] = 0
    return torch.from_numpy(padded)


def _padded_units(units: Sequence[np.ndarray | None]) -> Tensor:
    rows = [torch.from_numpy(row) for row in units if row is not None]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=NO_UNIT)  # (B, T, U)


def _selected_frames(plan: MaskPlan, num_samples: Tensor, config: ModelConfig) -> int:
    """Count the real frames of selected tokens (the last token of an utterance may hold fewer than ``stack``)."""
    stack = config.transformer.downsample_rate
    num_frames = config.audio.num_frames(num_samples).unsqueeze(1)  # (B, 1)
    first = torch.arange(plan.selected.size(1)) * stack  # (T,)
    return int(((num_frames - first).clamp(0, stack) * plan.selected).sum())


class Cut(NamedTuple):
    """What decides how an epoch is cut into steps, beside seed and epoch."""

    batch_size: int
    """Most utterances of a step, over all processes."""
    max_samples: int | None
    """Most samples of a micro-batch, padding included; None is no limit."""
    parts: int
    """Micro-batches of a step, over all processes."""


def epoch_batches(lengths: np.ndarray, cut: Cut, seed: int, epoch: int) -> list[np.ndarray]:
    """Cut an epoch into steps of similar length, in random order.

    Args:
        lengths: (num_utterances,) samples after cropping.
        cut: sizes.
        seed: decides, with epoch, everything random.
        epoch: see seed.

    Returns:
        arrays of utterance indices, each longest first and no fewer than ``cut.parts``; an utterance stands in at most
        one. Those missing are a last, small remainder.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    pool_size = cut.batch_size * POOL_BATCHES
    starts = list(range(0, len(order), pool_size))
    if len(starts) > 1 and len(order) - starts[-1] < pool_size * SMALLEST_POOL:
        starts.pop()
    batches = []
    for pool in np.split(order, starts[1:]):
        pool = pool[np.argsort(lengths[pool], kind="stable")[::-1]]  # longest first: the first is the padded length
        batches += _cut(pool, lengths, cut)
    if len(batches) > 1 and batches[-1].size < cut.batch_size // 2 and cut.max_samples is None:
        batches.pop()  # a small remainder would be a noisy step
    shuffled = (batches[i] for i in generator.permutation(len(batches)))
    return [batch for batch in shuffled if len(batch) >= cut.parts]


def _cut(pool: np.ndarray, lengths: np.ndarray, cut: Cut) -> list[np.ndarray]:
    steps, start = [], 0
    while start < len(pool):
        size = cut.batch_size
        if cut.max_samples is not None:
            size = min(size, cut.parts * max(1, cut.max_samples // int(lengths[pool[start]])))
        steps.append(pool[start : start + size])
        start += size
    return steps


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
            num_workers: reading processes of this process; 0 is a thread.
        """
        self.dataset = dataset
        parts = micro_batches * world_size
        max_samples = None if max_batch_seconds is None else int(max_batch_seconds * SAMPLE_RATE)
        self.cut = Cut(batch_size * parts, max_samples, parts)
        self.micro_batches, self.rank, self.world_size = micro_batches, rank, world_size
        self.num_workers = num_workers
        self.lengths = dataset.lengths
        self.epoch, self.position = 0, 0
        self._earlier: list[tuple[Cut, int]] = []

    def state_dict(self) -> dict[str, object]:
        """Return where the stream stands: epoch, steps taken in it, and how these steps were cut.

        ``earlier`` lists, for an epoch that was continued with another number of processes or batch size, the cuts
        and steps before that; together they tell which utterances the epoch has used.
        """
        return {
            "epoch": self.epoch,
            "position": self.position,
            "cut": list(self.cut),
            "earlier": [[list(cut), steps] for cut, steps in self._earlier],
            "utterances": len(self.lengths),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where another stream stood, whatever its sizes and processes were.

        If a step has as many utterances in all, the same steps follow. Otherwise the rest of the epoch is cut anew to
        this stream's sizes: each utterance is still used at most once. A state without sizes counts as one of this
        stream's. If the corpus has changed, the next epoch begins.
        """
        self.epoch, self.position, self._earlier = state["epoch"], state["position"], []
        count = state.get("utterances", len(self.lengths))
        if count != len(self.lengths):
            logger.warning(
                "the corpus has %d utterances for training, it had %d: the next epoch begins", len(self.lengths), count
            )
            self.epoch, self.position = self.epoch + 1, 0
            return
        self._earlier = [(Cut(*cut), steps) for cut, steps in state.get("earlier", [])]
        cut = Cut(*state.get("cut", self.cut))
        if self.position and not self._cuts_alike(cut):
            self._earlier.append((cut, self.position))
            self.position = 0

    def _cuts_alike(self, cut: Cut) -> bool:
        """Return whether another cut gives this epoch the same steps, if for other processes."""
        if cut == self.cut:
            return True
        if self._earlier or (cut.batch_size, cut.max_samples) != (self.cut.batch_size, self.cut.max_samples):
            return False
        theirs, ours = (epoch_batches(self.lengths, c, self.dataset.seed, self.epoch) for c in (cut, self.cut))
        return len(theirs) == len(ours) and all(map(np.array_equal, theirs, ours))

    def __iter__(self) -> Iterator[list[Batch]]:
        """Yield steps for ever; once a step is yielded, the stream's state counts it as taken.

        Raises:
            AudioError: a file was deleted or damaged since the corpus was checked.
        """
        under_way: deque[tuple[int, int, list[tuple[Cut, int]]]] = deque()
        batches = load(self.dataset, self._keys(under_way), self.num_workers)
        try:
            while True:
                step = [next(batches) for _ in range(self.micro_batches)]
                self.epoch, self.position, self._earlier = under_way.popleft()
                yield step
        finally:
            batches.close()

    def _keys(self, under_way: deque[tuple[int, int, list[tuple[Cut, int]]]]) -> Iterator[Keys]:
        """Yield this process's micro-batches from here on, noting in ``under_way`` the state after each step."""
        epoch, position, earlier = self.epoch, self.position, self._earlier
        while True:
            steps = self.epoch_steps(epoch, earlier)
            for place in range(position, len(steps)):
                under_way.append((epoch, place + 1, earlier))
                yield from ([(epoch, int(index)) for index in part] for part in steps[place])
            epoch, position, earlier = epoch + 1, 0, []

    def epoch_steps(self, epoch: int, earlier: Sequence[tuple[Cut, int]] = ()) -> list[list[np.ndarray]]:
        """Return this process's part of an epoch: steps of micro-batches of utterance indices.

        Args:
            epoch: which.
            earlier: cuts and numbers of steps by which some of the epoch was used before.

        Raises:
            ValueError: a whole epoch has not a single step.
        """
        left = np.arange(len(self.lengths))
        for cut, taken in earlier:
            used = epoch_batches(self.lengths[left], cut, self.dataset.seed, epoch)[:taken]
            left = np.delete(left, np.concatenate(used)) if used else left
        steps = [left[batch] for batch in epoch_batches(self.lengths[left], self.cut, self.dataset.seed, epoch)]
        if not steps and not earlier:
            raise ValueError(f"{len(self.lengths)} utterances are too few for {self.cut.parts} micro-batches a step")
        # Neighbours in length stay together.
        parts = (np.array_split(step, self.cut.parts) for step in steps)
        return [step[self.rank :: self.world_size] for step in parts]


class DevBatches:
    """The whole dev split, or a process's share of it, longest first, with the same crops and masks every time."""

    def __init__(self, dataset: SpeechDataset, keys: list[Keys], num_workers: int):
        self.dataset, self.keys, self.num_workers = dataset, keys, num_workers

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.keys)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches."""
        return load(self.dataset, iter(self.keys), self.num_workers)


def dev_loader(
    dataset: SpeechDataset, batch_size: int, num_workers: int = 0, rank: int = 0, world_size: int = 1
) -> DevBatches:
    """Return the batches of the dev split that process ``rank`` of ``world_size`` evaluates."""
    order = np.argsort(dataset.utterances.samples, kind="stable")[::-1]
    batches = [[(DEV_EPOCH, int(i)) for i in order[s : s + batch_size]] for s in range(0, len(order), batch_size)]
    return DevBatches(dataset, batches[rank::world_size], num_workers)
