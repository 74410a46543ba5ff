"""AALBERT and Mockingjay: acoustics -> input embedding -> ONE encoder, and the heads of pre-training.

Legend: B batch, S samples, F frames, T tokens, R frames a token, D hidden size, L layers, K values of a target frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from s3prl_aalbert.model.acoustics import Acoustics
from s3prl_aalbert.model.config import ModelConfig, TransformerConfig
from s3prl_aalbert.model.encoder import ACTIVATIONS, Encoder, InputEmbedding, initialise, sliced_linear, sliced_norm
from s3prl_aalbert.model.sub_network import Architecture


class Representation(NamedTuple):
    """The hidden states of a batch."""

    hidden_states: list[Tensor]
    """L + 1 tensors (B, T, D): the input embedding, then every layer's output."""
    lengths: Tensor
    """(B,) real tokens of each row."""


class AalbertModel(nn.Module):
    """The representation model (paper section 3, Figure 1)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.acoustics = Acoustics(config.audio, config.transformer.downsample_rate)
        self.embedding = InputEmbedding(config.input_dim, config.transformer)
        self.encoder = Encoder(config.transformer)
        shape = config.transformer.num_hidden_layers + 1, config.transformer.hidden_size
        self.hidden_means: Tensor | None
        self.register_buffer("hidden_means", torch.zeros(shape) if config.transformer.centred else None)
        initialise(self, config.transformer.initializer_range)

    def forward(
        self, wavs: Tensor, num_samples: Tensor, arch: Architecture | None = None, padded: bool | None = None
    ) -> Representation:
        """Represent a padded batch.

        Args:
            wavs: (B, S) float waveforms at 16 kHz; values past num_samples are ignored.
            num_samples: (B,) real samples, each at least 1.
            arch: a sub-network; None is the whole model.
            padded: whether some row has fewer tokens than the longest; None checks it, which waits for the GPU.
        """
        features = self.acoustics(wavs, num_samples)
        states = self.encode(features.tokens, features.lengths, arch, padded=padded)
        return Representation(centred(states, self.hidden_means), features.lengths)

    def at_every_frame(self, wavs: Tensor, num_samples: Tensor, arch: Architecture | None = None) -> Representation:
        """Represent a padded batch with a hidden state for every frame, as (B, F, D): that of the token around it.

        The model hears an utterance R times, each time a frame later, so that this takes R times as long. Where frames
        are missing at the edges of an utterance they are zero, as in its last token.

        Args:
            wavs: (B, S) float waveforms at 16 kHz; values past num_samples are ignored.
            num_samples: (B,) real samples, each at least 1.
            arch: a sub-network; None is the whole model.
        """
        features = self.acoustics(wavs, num_samples)
        stack, num_frames = self.acoustics.stack, features.frame_mask.flatten(1).sum(1)
        frames = features.tokens.unflatten(-1, (stack, -1)).flatten(1, 2)  # (B, T * R, input_dim / R)
        before = stack // 2
        around = functional.pad(frames, (0, 0, before, stack - 1 - before)).unfold(1, stack, 1)
        tokens = around.transpose(2, 3).flatten(2)  # (B, T * R, input_dim): the token around each frame
        times = tokens.unflatten(1, (-1, stack)).transpose(1, 2).flatten(0, 1)  # (B * R, T, input_dim)
        first = torch.arange(stack, device=wavs.device)
        lengths = (num_frames.unsqueeze(1) - first + stack - 1) // stack  # (B, R), 0 where no frame is left
        states = centred(self.encode(times, lengths.clamp_min(1).flatten(), arch, padded=True), self.hidden_means)
        longest = self.config.audio.num_frames(wavs.size(1))
        by_frame = (state.unflatten(0, (-1, stack)).transpose(1, 2).flatten(1, 2) for state in states)
        return Representation([state[:, :longest] for state in by_frame], num_frames)  # (B, F, D)

    def encode(
        self,
        tokens: Tensor,
        lengths: Tensor,
        arch: Architecture | None = None,
        queries: Tensor | None = None,
        padded: bool | None = None,
    ) -> list[Tensor]:
        """Run embedding and encoder on tokens (B, T, input_dim) of real lengths (B,); return L + 1 tensors (B, T, D).

        ``arch`` and ``queries`` as in ``Encoder.forward``, ``padded`` as in ``forward``.
        """
        if padded is None:
            padded = bool((lengths < tokens.size(1)).any())
        real = lengths if padded else None
        embedded = self.embedding(tokens, real, arch)
        return [embedded, *self.encoder(embedded, real, arch, queries)]


def centred(states: list[Tensor], means: Tensor | None) -> list[Tensor]:
    """Return hidden states (B, T, D) less their means (L + 1, D); without means, as they are.

    The states of a sub-network, which are fewer and narrower, lose the means of the whole model.
    """
    if means is None:
        return states
    pairs = zip(states, means[: len(states)], strict=True)
    return [state - mean[: state.size(-1)].to(state.dtype) for state, mean in pairs]


def reinitialise(model: AalbertModel) -> None:
    """Draw new weights, as the control of a comparison; statistics of the corpus stay, means of hidden states go."""
    initialise(model, model.config.transformer.initializer_range)
    if model.hidden_means is not None:
        model.hidden_means.zero_()


@torch.no_grad()
def hidden_means(model: AalbertModel, wavs: Iterable[np.ndarray]) -> Tensor:
    """Return the mean of each hidden state over all tokens of some speech.

    Args:
        model: in evaluation mode; whether it is centred does not matter.
        wavs: waveforms (num_samples,) at 16 kHz, read one at a time.

    Returns:
        (L + 1, D) float32 on the CPU, summed there in float64, which not every device has.
    """
    count, total = 0, torch.zeros((), dtype=torch.float64)
    for samples in wavs:
        wav = torch.from_numpy(samples).unsqueeze(0).to(model.acoustics.window)
        features = model.acoustics(wav, torch.tensor([len(samples)], device=wav.device))
        states = model.encode(features.tokens, features.lengths, padded=False)
        count = count + features.tokens.size(1)
        total = total + torch.stack([state[0] for state in states]).cpu().double().sum(1)
    return (total / count).float()


class PredictionHead(nn.Module):
    """Predict values of a token from its hidden state: dense, activation, LayerNorm, projection (as run)."""

    def __init__(self, config: TransformerConfig, outputs: int):
        """Build a head that predicts ``outputs`` values per token."""
        super().__init__()
        size, narrow = config.hidden_size, config.embedding_size
        self.activation = ACTIVATIONS[config.hidden_act]
        self.dense = nn.Linear(size, size)
        self.norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.reduction = nn.Linear(size, narrow) if narrow else None
        self.output = nn.Linear(narrow or size, outputs)
        initialise(self, config.initializer_range)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map hidden states (N, D), those of a sub-network included, to (N, outputs)."""
        dense = sliced_linear(self.dense, hidden, hidden.size(-1))
        predicted = sliced_norm(self.norm, self.activation(dense))
        if self.reduction is not None:
            predicted = sliced_linear(self.reduction, predicted, self.reduction.out_features)
        return sliced_linear(self.output, predicted, self.output.out_features)


class SpectrogramHead(PredictionHead):
    """Predict the stacked target frames of a token: (N, D) -> (N, stack, K)."""

    def __init__(self, config: ModelConfig):
        super().__init__(config.transformer, config.audio.target_dim * config.transformer.downsample_rate)
        self.stack = config.transformer.downsample_rate

    def forward(self, hidden: Tensor) -> Tensor:
        """Map hidden states (N, D) to spectrogram frames (N, stack, K)."""
        return super().forward(hidden).unflatten(-1, (self.stack, -1))


class UnitHead(PredictionHead):
    """Predict the units of a token and its neighbours, in their order: (N, D) -> logits (N, units, num_units)."""

    def __init__(self, config: ModelConfig):
        per_token, neighbours = config.task.units_per_token, config.task.unit_neighbours
        self.units = per_token * (1 + 2 * neighbours)
        super().__init__(config.transformer, config.task.num_units * self.units)
        self.own = slice(per_token * neighbours, per_token * (neighbours + 1))
        """Which are the token's own."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Map hidden states (N, D) to logits (N, units, num_units)."""
        return super().forward(hidden).unflatten(-1, (self.units, -1))


def count_parameters(module: nn.Module) -> int:
    """Return the number of parameters; weights shared between layers count once."""
    return sum(parameter.numel() for parameter in module.parameters())
