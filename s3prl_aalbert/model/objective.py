"""The pre-training objectives: reconstruct masked tokens (paper section 3.1), predict their units (HuBERT), or both.

Legend: B batch, S samples, T tokens, N selected tokens, K values of a target frame, U units of a token, V units that a
token predicts: its own and those of its neighbours.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3prl_aalbert.model.aalbert import AalbertModel, SpectrogramHead, UnitHead
from s3prl_aalbert.model.acoustics import Features
from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.model.masking import MaskPlan, apply_mask, length_mask
from s3prl_aalbert.model.sub_network import Architecture

NO_UNIT = -1
"""Label of padding in place of a unit."""


class Loss(NamedTuple):
    """A loss as a sum and its weight, so that batches of different sizes average exactly."""

    total: Tensor
    """Sum over the frames or tokens that count; float32 scalar."""
    weight: Tensor
    """Their number, e.g. of selected real frames; float32 scalar, at least 1."""

    @property
    def mean(self) -> Tensor:
        """The average loss."""
        return self.total / self.weight


class Speech(NamedTuple):
    """A padded batch as an objective receives it."""

    wavs: Tensor
    """(B, S) waveforms at 16 kHz."""
    num_samples: Tensor
    """(B,) real samples of each."""
    plan: MaskPlan
    """(B, T) which tokens are masked and how, see masking.sample_mask."""
    noisy_wavs: Tensor | None = None
    """(B, S) the model's input, if it is not ``wavs``, which stay the target."""
    units: Tensor | None = None
    """(B, T, U) units of each token, NO_UNIT where padded; None where no objective needs them."""
    warp: Tensor | None = None
    """(B,) factors that stretch the frequency axis of the model's input, see acoustics.warped; None: 1."""


class Picture(NamedTuple):
    """All stages of one forward pass of reconstruction."""

    tokens: Tensor
    """(B, T, input_dim) before masking."""
    masked_tokens: Tensor
    """(B, T, input_dim) as the encoder saw them."""
    target: Tensor
    """(B, T, stack, K)."""
    predicted: Tensor
    """(B, T, stack, K)."""
    lengths: Tensor
    """(B,) real tokens."""


class UnitCounts(NamedTuple):
    """Statistics of unit prediction on dev batches; counts add up over batches."""

    masked: Tensor
    """(2,) correct predictions and all predictions, at tokens that the mask hides."""
    unmasked: Tensor
    """(2,) likewise at tokens that the model sees, whether or not it is trained on them."""
    units: Tensor
    """(num_units,) how often each unit is the label."""


class Objective(Protocol):
    """What the training loop minimises; the loop does not know which objective it is."""

    model: AalbertModel

    def weight(self, num_samples: Tensor, selected_frames: float) -> float:
        """Return the divisor of a batch's loss, which is known before the forward pass."""

    def __call__(self, speech: Speech, arch: Architecture | None = None) -> Loss:
        """Return the loss of a batch, of the whole model or of a sub-network."""

    def picture(self, speech: Speech) -> Picture | None:
        """Return the stages of a batch to draw, or None."""

    def count_units(self, speech: Speech) -> UnitCounts | None:
        """Return the statistics of unit prediction, or None without units."""


class MaskedPrediction(nn.Module):
    """The pre-training model: the representation model, and a head for each target with a weight."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.model = AalbertModel(config)
        self.head = SpectrogramHead(config) if config.task.reconstruction_weight else None
        self.unit_head = UnitHead(config) if config.task.unit_weight else None

    def weight(self, num_samples: Tensor, selected_frames: float) -> float:
        """Return the divisor of a batch's loss: its selected real frames."""
        return selected_frames

    def forward(self, speech: Speech, arch: Architecture | None = None) -> Loss:
        """Compute the loss of a padded batch: weighted L1 distance and cross-entropy at each selected real frame.

        Args:
            speech: the batch.
            arch: a sub-network; None is the whole model.
        """
        features, tokens = self._tokens(speech)
        # Only selected tokens are predicted: the last layer and the heads run on them alone.
        plan = speech.plan
        queries, is_selected = selected_first(plan.selected)
        hidden = self.model.encode(apply_mask(tokens, plan), features.lengths, arch, queries)[-1][is_selected]  # (N, D)
        real = features.frame_mask[plan.selected]  # (N, stack)
        total = hidden.new_zeros((), dtype=torch.float32)
        if self.head is not None:
            assert features.target is not None
            error = (self.head(hidden).float() - features.target[plan.selected]).abs().mean(-1)  # (N, stack)
            total = total + self.config.task.reconstruction_weight * error.masked_fill(~real, 0).sum()
        if self.unit_head is not None:
            units = with_neighbours(_units(speech), self.config.task.unit_neighbours)  # (B, T, V)
            errors = self._unit_errors(hidden, units[plan.selected])  # (N,)
            total = total + self.config.task.unit_weight * (errors * real.sum(1)).sum()
        return Loss(total, real.sum().float())

    def _tokens(self, speech: Speech) -> tuple[Features, Tensor]:
        """Return the features of a batch, and the model's input tokens (B, T, input_dim)."""
        wavs = speech.wavs if speech.noisy_wavs is None else speech.noisy_wavs
        changed = wavs is not speech.wavs or speech.warp is not None
        if self.head is None or not changed:  # without a head, clean features are not needed
            features = self.model.acoustics(wavs, speech.num_samples, self.head is not None, speech.warp)
            return features, features.tokens
        features = self.model.acoustics(speech.wavs, speech.num_samples, with_target=True)
        return features, self.model.acoustics(wavs, speech.num_samples, warp=speech.warp).tokens

    def _unit_errors(self, hidden: Tensor, units: Tensor) -> Tensor:
        """Return the cross-entropy of each token (N,): the mean over its own units, and that over its neighbours'.

        Args:
            hidden: (N, D).
            units: (N, V).
        """
        assert self.unit_head is not None
        logits = self.unit_head(hidden).float()  # (N, V, num_units)
        errors = F.cross_entropy(logits.flatten(0, 1), units.flatten(), reduction="none", ignore_index=NO_UNIT)
        errors, there = errors.view_as(units), units != NO_UNIT  # no unit, no error
        own = self.unit_head.own
        error, number = errors[:, own].sum(1), there[:, own].sum(1)  # (N,)
        mean = error / number.clamp_min(1)
        if not self.config.task.unit_neighbours:
            return mean
        share = self.config.task.neighbour_weight
        return (1 - share) * mean + share * (errors.sum(1) - error) / (there.sum(1) - number).clamp_min(1)

    def picture(self, speech: Speech) -> Picture | None:
        """Reconstruct every token, masked or not, and keep all stages; None without a spectrogram head."""
        if self.head is None:
            return None
        features = self.model.acoustics(speech.wavs, speech.num_samples, with_target=True)
        masked = apply_mask(features.tokens, speech.plan)
        predicted = self.head(self.model.encode(masked, features.lengths)[-1])
        assert features.target is not None
        return Picture(features.tokens, masked, features.target, predicted, features.lengths)

    def count_units(self, speech: Speech) -> UnitCounts | None:
        """Predict the own units of every token, masked or not; None without a unit head."""
        if self.unit_head is None:
            return None
        features = self.model.acoustics(speech.wavs, speech.num_samples)
        hidden = self.model.encode(apply_mask(features.tokens, speech.plan), features.lengths)[-1]
        units = _units(speech)  # (B, T, U)
        answers = self.unit_head(hidden.flatten(0, 1))[:, self.unit_head.own].argmax(-1).view_as(units)
        real, hidden_by_mask = units != NO_UNIT, speech.plan.hidden.unsqueeze(-1)
        right = (answers == units) & real

        def counts(where: Tensor) -> Tensor:
            return torch.stack([(right & where).sum(), (real & where).sum()])

        seen = ~hidden_by_mask & length_mask(features.lengths, units.size(1)).unsqueeze(-1)
        used = torch.bincount(units[real], minlength=self.config.task.num_units)
        return UnitCounts(counts(hidden_by_mask), counts(seen), used)


def _units(speech: Speech) -> Tensor:
    assert speech.units is not None, "the task has a unit_weight, but the batch has no units"
    return speech.units


def with_neighbours(units: Tensor, neighbours: int) -> Tensor:
    """Return the units of each token and of its neighbours, from the first of them to the last.

    Args:
        units: (B, T, U) of each token.
        neighbours: how many tokens before and after count.

    Returns:
        (B, T, V), V = (1 + 2 * neighbours) * U; NO_UNIT where there is no such token.
    """
    if neighbours == 0:
        return units
    padded = F.pad(units, (0, 0, neighbours, neighbours), value=NO_UNIT)  # (B, T + 2 * neighbours, U)
    return padded.unfold(1, 1 + 2 * neighbours, 1).transpose(2, 3).flatten(2)  # (B, T, V)


def selected_first(selected: Tensor) -> tuple[Tensor, Tensor]:
    """Return indices (B, Q) of the selected tokens, in order, and which of them are real (B, Q).

    Q is the largest number of selected tokens in a row of ``selected`` (B, T);
    rows with fewer are filled with other tokens.
    """
    counts = selected.sum(1, keepdim=True)  # (B, 1)
    order = selected.int().argsort(dim=1, descending=True, stable=True)[:, : int(counts.max())]
    return order, torch.arange(order.size(1), device=selected.device) < counts
