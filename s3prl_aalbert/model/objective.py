"""What pre-training asks of the model: rebuild hidden tokens (paper section 3.1), name their units (HuBERT), or both.

Legend: B batch, S samples, T tokens, N selected tokens, K values of a target frame, U units of a token.
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
"""In place of a unit where an utterance is padded."""


class Loss(NamedTuple):
    """A loss as a sum and its weight, so that batches of any size average exactly."""

    total: Tensor
    """Sum over what the loss covers; float32 scalar."""
    weight: Tensor
    """How much that is, e.g. selected real frames; float32 scalar, at least 1."""

    @property
    def mean(self) -> Tensor:
        """The loss itself."""
        return self.total / self.weight


class Speech(NamedTuple):
    """What an objective is given of a padded batch."""

    wavs: Tensor
    """(B, S) waveforms at 16 kHz."""
    num_samples: Tensor
    """(B,) real samples of each."""
    plan: MaskPlan
    """(B, T) what is hidden, see masking.sample_mask."""
    noisy_wavs: Tensor | None = None
    """(B, S) what the model is given in place of ``wavs``, which stay the target; None: ``wavs``."""
    units: Tensor | None = None
    """(B, T, U) units of each token, NO_UNIT where padded; None where no objective needs them."""
    warp: Tensor | None = None
    """(B,) by which the frequency axis of what the model is given is stretched, see acoustics.warped; None: not."""


class Picture(NamedTuple):
    """Everything one forward pass of reconstruction saw."""

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
    """What dev batches say of unit prediction; counts add up over batches."""

    masked: Tensor
    """(2,) right answers and all, at hidden tokens."""
    unmasked: Tensor
    """(2,) likewise at tokens that the model sees."""
    units: Tensor
    """(num_units,) how often each unit is the label."""


class Objective(Protocol):
    """What the loop trains; it does not know which one it is."""

    model: AalbertModel

    def weight(self, num_samples: Tensor, selected_frames: float) -> float:
        """Return what the loss of a batch is divided by, known before the forward pass."""

    def __call__(self, speech: Speech, arch: Architecture | None = None) -> Loss:
        """Return the loss of a batch, of the whole model or of a sub-network."""

    def picture(self, speech: Speech) -> Picture | None:
        """Return what to draw of a batch, or None."""

    def count_units(self, speech: Speech) -> UnitCounts | None:
        """Return how units are predicted, or None where there are none."""


class MaskedPrediction(nn.Module):
    """The pre-training model: representation model and a head for each part of the task that has weight."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.model = AalbertModel(config)
        self.head = SpectrogramHead(config) if config.task.reconstruction_weight else None
        self.unit_head = UnitHead(config) if config.task.unit_weight else None

    def weight(self, num_samples: Tensor, selected_frames: float) -> float:
        """Return what the loss of a batch is divided by: its selected real frames."""
        return selected_frames

    def forward(self, speech: Speech, arch: Architecture | None = None) -> Loss:
        """Compute the loss of a padded batch: of each selected real frame, its weighted L1 and cross-entropy.

        Args:
            speech: the batch.
            arch: a sub-network; None is the whole model.
        """
        features, tokens = self._tokens(speech)
        # Only selected tokens are predicted: the last layer and the heads run on them alone.
        plan = speech.plan
        queries, wanted = selected_first(plan.selected)
        hidden = self.model.encode(apply_mask(tokens, plan), features.lengths, arch, queries)[-1][wanted]  # (N, D)
        real = features.frame_mask[plan.selected]  # (N, stack)
        total = hidden.new_zeros((), dtype=torch.float32)
        if self.head is not None:
            assert features.target is not None
            error = (self.head(hidden).float() - features.target[plan.selected]).abs().mean(-1)  # (N, stack)
            total = total + self.config.task.reconstruction_weight * error.masked_fill(~real, 0).sum()
        if self.unit_head is not None:
            errors = self._unit_errors(hidden, _units(speech)[plan.selected])  # (N,)
            total = total + self.config.task.unit_weight * (errors * real.sum(1)).sum()
        return Loss(total, real.sum().float())

    def _tokens(self, speech: Speech) -> tuple[Features, Tensor]:
        """Return the features of a batch, and the tokens (B, T, input_dim) that the model is given."""
        wavs = speech.wavs if speech.noisy_wavs is None else speech.noisy_wavs
        changed = wavs is not speech.wavs or speech.warp is not None
        if self.head is None or not changed:  # without a head, clean features are not needed
            features = self.model.acoustics(wavs, speech.num_samples, self.head is not None, speech.warp)
            return features, features.tokens
        features = self.model.acoustics(speech.wavs, speech.num_samples, with_target=True)
        return features, self.model.acoustics(wavs, speech.num_samples, warp=speech.warp).tokens

    def _unit_errors(self, hidden: Tensor, units: Tensor) -> Tensor:
        """Return the cross-entropy of each token (N,), averaged over its units; hidden (N, D), units (N, U)."""
        assert self.unit_head is not None
        logits = self.unit_head(hidden).float()  # (N, U, num_units)
        errors = F.cross_entropy(logits.flatten(0, 1), units.flatten(), reduction="none", ignore_index=NO_UNIT)
        return errors.view_as(units).sum(1) / (units != NO_UNIT).sum(1).clamp_min(1)

    def picture(self, speech: Speech) -> Picture | None:
        """Rebuild every token, selected or not, and keep all stages; None without a spectrogram head."""
        if self.head is None:
            return None
        features = self.model.acoustics(speech.wavs, speech.num_samples, with_target=True)
        masked = apply_mask(features.tokens, speech.plan)
        predicted = self.head(self.model.encode(masked, features.lengths)[-1])
        assert features.target is not None
        return Picture(features.tokens, masked, features.target, predicted, features.lengths)

    def count_units(self, speech: Speech) -> UnitCounts | None:
        """Name the units of every token, hidden or not; None without a unit head."""
        if self.unit_head is None:
            return None
        features = self.model.acoustics(speech.wavs, speech.num_samples)
        hidden = self.model.encode(apply_mask(features.tokens, speech.plan), features.lengths)[-1]
        units = _units(speech)  # (B, T, U)
        answers = self.unit_head(hidden.flatten(0, 1)).argmax(-1).view_as(units)
        real, selected = units != NO_UNIT, speech.plan.selected.unsqueeze(-1)
        right = (answers == units) & real

        def counts(where: Tensor) -> Tensor:
            return torch.stack([(right & where).sum(), (real & where).sum()])

        unmasked = ~selected & length_mask(features.lengths, units.size(1)).unsqueeze(-1)
        used = torch.bincount(units[real], minlength=self.config.task.num_units)
        return UnitCounts(counts(selected), counts(unmasked), used)


def _units(speech: Speech) -> Tensor:
    assert speech.units is not None, "the task has a unit_weight, and the batch no units"
    return speech.units


def selected_first(selected: Tensor) -> tuple[Tensor, Tensor]:
    """Return the indices of selected tokens (B, Q), in order, and which of them are meant (B, Q).

    Q is the largest number of selected tokens in a row of ``selected`` (B, T); rows with fewer are filled with others.
    """
    counts = selected.sum(1, keepdim=True)  # (B, 1)
    order = selected.int().argsort(dim=1, descending=True, stable=True)[:, : int(counts.max())]
    return order, torch.arange(order.size(1), device=selected.device) < counts
