"""Utterances of a corpus as a model is trained on them: decoded, cropped, with noise and a mask, padded to batches.

Everything random about an utterance (its crop, its noise, its mask) is drawn from (seed, epoch, utterance) alone.
Legend: B batch, S samples, T tokens, U units of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from s3prl_aalbert.audio_io import AudioError, read_audio
from s3prl_aalbert.model.config import SAMPLE_RATE, ModelConfig, samples_in
from s3prl_aalbert.model.masking import MaskPlan, collate_plans, sample_mask
from s3prl_aalbert.model.objective import NO_UNIT, Speech
from s3prl_aalbert.pretrain.noise import add_noise
from s3prl_aalbert.pretrain.utterances import Utterance, Utterances


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
        self.max_samples = samples_in(max_seconds)
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
