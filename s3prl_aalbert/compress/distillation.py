"""Masking distillation (ARMHuBERT, arXiv 2305.11685, equation 3), for whole models and for supernets.

Legend: B batch, S samples, T student tokens, D student width, E teacher width.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3prl_aalbert.compress.distill_config import DistillConfig
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.aalbert import AalbertModel
from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.model.encoder import initialise, sliced_linear, take_tokens
from s3prl_aalbert.model.masking import MaskPlan, apply_mask, length_mask
from s3prl_aalbert.model.objective import Loss, Speech
from s3prl_aalbert.model.sub_network import Architecture

logger = logging.getLogger(__name__)


class Teacher(Protocol):
    """An upstream as S3PRL calls it, frozen."""

    def __call__(self, wavs: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        """Return ``hidden_states``: tensors (B, tokens, E) for unpadded wavs of (num_samples,)."""

    def get_downsample_rates(self, key: str) -> int:
        """Return samples per token."""

    def to(self, device: torch.device) -> Teacher:
        """Move to a device."""


def check_layers(side: str, layers: Iterable[int], num_hidden_states: int, owner: str) -> None:
    """Refuse layers that ``owner`` does not have.

    Args:
        side: student or teacher, for the key distill.SIDE_layers.
        layers: numbers of hidden states; 0 is the input embedding, negative ones count from the end.
        num_hidden_states: number of hidden states with the input embedding.
        owner: the model, for the message.

    Raises:
        AalbertError: a layer does not exist.
    """
    for layer in layers:
        if not -num_hidden_states <= layer < num_hidden_states:
            raise AalbertError(
                f"distill.{side}_layers has {layer}; the {owner} has the layers 0 to {num_hidden_states - 1}"
            )


class MaskedDistillation(nn.Module):
    """A student, and projections that are dropped after training; the teacher is used but not part of the module."""

    def __init__(self, config: ModelConfig, distill: DistillConfig, teacher: Teacher):
        """Build the student.

        Raises:
            AalbertError: a layer that student or teacher does not have.
        """
        super().__init__()
        self.config, self.distill = config, distill
        self._teacher = [teacher]  # inside a list nn.Module neither trains nor saves it
        self.teacher_rate = teacher.get_downsample_rates("hidden_states")
        self.model = AalbertModel(config)
        states = self._teacher_states([torch.zeros(16000)], torch.device("cpu"))
        self._check_layers(len(states))
        self.top_k = self._top_k(len(states))
        widths = [states[-1 if layer is None else layer].size(-1) for _, layer in distill.pairs]
        self.projections = nn.ModuleList(nn.Linear(config.transformer.hidden_size, width) for width in widths)
        initialise(self.projections, config.transformer.initializer_range)

    def _check_layers(self, teacher_states: int) -> None:
        student, teacher = zip(*self.distill.pairs, strict=True)
        check_layers("student", student, self.config.transformer.num_hidden_layers + 1, "student")
        check_layers("teacher", (-1 if n is None else n for n in teacher), teacher_states, "teacher")

    def _top_k(self, teacher_states: int) -> int:
        """Return how many of the teacher's last layers are averaged, at most all."""
        layers = max(teacher_states - 1, 1)  # hidden states include the input embedding; features are one state
        top_k = self.distill.average_top_k or 1
        if top_k > layers:
            logger.warning("distill.average_top_k is %d; the teacher has %d layers, all are averaged", top_k, layers)
        return min(top_k, layers)

    def weight(self, num_samples: Tensor, selected_frames: float) -> float:
        """Return the divisor of a batch's loss: its real tokens."""
        return float(self.config.num_tokens(num_samples).sum())

    def forward(self, speech: Speech, arch: Architecture | None = None) -> Loss:
        """Compute the distillation loss of a padded batch; the teacher's input is always the clean speech.

        Args:
            speech: the batch; its plan masks the student's input.
            arch: a sub-network of the student.
        """
        wavs, num_samples, plan, noisy_wavs, _, warp = speech
        features = self.model.acoustics(wavs if noisy_wavs is None else noisy_wavs, num_samples, warp=warp)
        tokens = apply_mask(features.tokens, plan) if self.distill.mask_student else features.tokens
        hidden = self.model.encode(tokens, features.lengths, arch)
        real = length_mask(features.lengths, tokens.size(1))  # (B, T)
        selected = plan.selected if self.distill.mask_student else torch.ones_like(real)
        regions = (
            (self.distill.masked_weight, real & selected, "clean"),
            (self.distill.unmasked_weight, real & ~selected, self.distill.unmasked_teacher),
        )
        states: dict[str, Sequence[Tensor]] = {}  # of the teacher, by its input
        total = hidden[-1].new_zeros((), dtype=torch.float32)
        for region_weight, region, teacher_input in regions:
            if region_weight and region.any():
                if teacher_input not in states:
                    given = wavs if teacher_input == "clean" else self._mask_speech(wavs, plan)
                    unpadded = [wav[:length] for wav, length in zip(given, num_samples.tolist(), strict=True)]
                    states[teacher_input] = self._teacher_states(unpadded, wavs.device)
                total = total + region_weight * self._region_loss(hidden, states[teacher_input], num_samples, region)
        return Loss(total, real.sum().float())

    def _region_loss(
        self, hidden: list[Tensor], states: Sequence[Tensor], num_samples: Tensor, region: Tensor
    ) -> Tensor:
        """Return the sum of the weighted distances of a region's tokens to the teacher's ``states``."""
        total = torch.zeros((), device=region.device)
        pairs = zip(self.distill.pairs, self.distill.weights, self.projections, strict=True)
        for (student, teacher), weight, projection in pairs:
            target = self._target(states, teacher)
            rates = self.teacher_rate, self.config.samples_per_token
            aligned = align(target, *rates, region.size(1), num_samples)[region]
            assert isinstance(projection, nn.Linear)
            predicted = sliced_linear(projection, hidden[student][region], projection.out_features)
            total = total + weight * distance(predicted.float(), aligned.float(), self.distill.loss).sum()
        return total

    def _target(self, states: Sequence[Tensor], layer: int | None) -> Tensor:
        if layer is not None:
            return states[layer]
        return torch.stack(list(states[-self.top_k :])).mean(0)

    @torch.no_grad()
    def _teacher_states(self, wavs: Sequence[Tensor], device: torch.device) -> Sequence[Tensor]:
        (teacher,) = self._teacher
        states = teacher.to(device)(wavs)["hidden_states"]
        return states if isinstance(states, (list, tuple)) else [states]

    def _mask_speech(self, wavs: Tensor, plan: MaskPlan) -> Tensor:
        """Silence the samples of selected tokens, which works with any teacher: none must mask its own features."""
        hidden = plan.selected.repeat_interleave(self.config.samples_per_token, dim=1)[:, : wavs.size(1)]
        return wavs.masked_fill(F.pad(hidden, (0, wavs.size(1) - hidden.size(1))), 0)

    def picture(self, speech: Speech) -> None:
        """Return None: a student reconstructs no spectrogram."""

    def count_units(self, speech: Speech) -> None:
        """Return None: a student predicts no units."""


def align(states: Tensor, teacher_rate: int, student_rate: int, num_tokens: int, num_samples: Tensor) -> Tensor:
    """Interpolate a teacher's states linearly at the centres of the student's tokens.

    Args:
        states: (B, teacher tokens, E); token i is centred at (i + 1/2) teacher_rate samples.
        teacher_rate: samples per teacher token.
        student_rate: samples per student token.
        num_tokens: T.
        num_samples: (B,) samples of each row; the longest row fills the teacher's tokens.

    Returns:
        (B, T, E); the teacher's first state before its first centre, and its last state after its last centre.
    """
    # A row that is n teacher tokens shorter has at most n tokens of padding, however the teacher treats edges.
    padding = (num_samples.max() - num_samples + teacher_rate - 1) // teacher_rate
    last = (states.size(1) - 1 - padding).clamp(min=0).unsqueeze(1).to(states.device)  # (B, 1)
    centre = (torch.arange(num_tokens, device=states.device) + 0.5) * student_rate
    place = torch.minimum((centre / teacher_rate - 0.5).clamp(min=0), last)  # (B, T) in teacher tokens
    before = place.floor().long()
    after = torch.minimum(before + 1, last)
    share = (place - before).to(states.dtype).unsqueeze(-1)  # (B, T, 1)
    return take_tokens(states, before) * (1 - share) + take_tokens(states, after) * share


def distance(predicted: Tensor, target: Tensor, loss: str) -> Tensor:
    """Return the distance of each row, averaged over its values: (N, E), (N, E) -> (N,)."""
    if loss == "mse":
        return (predicted - target).square().mean(-1)
    absolute = (predicted - target).abs().mean(-1)
    if loss == "l1":
        return absolute
    return absolute - F.logsigmoid(F.cosine_similarity(predicted, target, dim=-1))
