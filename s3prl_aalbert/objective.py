"""Masked reconstruction: hide tokens, predict their linear spectrogram, L1 on hidden real frames (paper section 3.1).

Legend: B batch, S samples, T tokens, N selected tokens, K spectrogram bins.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from s3prl_aalbert.architecture import Architecture
from s3prl_aalbert.config import ModelConfig
from s3prl_aalbert.masking import MaskPlan, apply_mask
from s3prl_aalbert.model import AalbertModel, SpectrogramHead


class Loss(NamedTuple):
    """An L1 loss as a sum and its weight, so that batches of any size average exactly."""

    total: Tensor
    """Sum of absolute errors over selected, unpadded frames and bins; float32 scalar."""
    weight: Tensor
    """How many values that sum covers; float32 scalar, at least 1."""

    @property
    def mean(self) -> Tensor:
        """Mean absolute error."""
        return self.total / self.weight


class Reconstruction(NamedTuple):
    """Everything one forward pass of pre-training saw, for pictures."""

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


class MaskedPrediction(nn.Module):
    """The pre-training model: representation model and spectrogram head."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.model = AalbertModel(config)
        self.head = SpectrogramHead(config)

    def weight(self, num_samples: Tensor, selected_values: float) -> float:
        """Return what the loss of a batch is divided by: the values of its selected real frames."""
        return selected_values

    def forward(
        self,
        wavs: Tensor,
        num_samples: Tensor,
        plan: MaskPlan,
        arch: Architecture | None = None,
        heard: Tensor | None = None,
    ) -> Loss:
        """Compute the reconstruction loss of a padded batch.

        Args:
            wavs: (B, S) waveforms at 16 kHz.
            num_samples: (B,).
            plan: (B, T) what is hidden, see masking.sample_mask.
            arch: a sub-network; None is the whole model.
            heard: (B, S) what the model hears instead of ``wavs``, which it rebuilds all the same; None: ``wavs``.
        """
        features = self.model.acoustics(wavs, num_samples, with_target=True)
        noisy = heard is not None and heard is not wavs
        tokens = self.model.acoustics(heard, num_samples).tokens if noisy else features.tokens
        # Only selected tokens are predicted: the last layer and the head run on them alone.
        queries, wanted = selected_first(plan.selected)
        hidden = self.model.encode(apply_mask(tokens, plan), features.lengths, arch, queries)[-1]
        predicted = self.head(hidden[wanted])  # (N, stack, K)
        real = features.frame_mask[plan.selected].unsqueeze(-1)  # (N, stack, 1)
        error = (predicted.float() - features.target[plan.selected]).abs().masked_fill(~real, 0)
        return Loss(error.sum(), (real.sum() * error.size(-1)).float())

    def reconstruct(self, wavs: Tensor, num_samples: Tensor, plan: MaskPlan) -> Reconstruction:
        """Predict every token, selected or not, and keep all stages. Arguments as for ``forward``."""
        features = self.model.acoustics(wavs, num_samples, with_target=True)
        masked = apply_mask(features.tokens, plan)
        predicted = self.head(self.model.encode(masked, features.lengths)[-1])
        return Reconstruction(features.tokens, masked, features.target, predicted, features.lengths)


def selected_first(selected: Tensor) -> tuple[Tensor, Tensor]:
    """Return the indices of selected tokens (B, Q), in order, and which of them are meant (B, Q).

    Q is the largest number of selected tokens in a row of ``selected`` (B, T); rows with fewer are filled with others.
    """
    counts = selected.sum(1, keepdim=True)  # (B, 1)
    order = selected.int().argsort(dim=1, descending=True, stable=True)[:, : int(counts.max())]
    return order, torch.arange(order.size(1), device=selected.device) < counts
