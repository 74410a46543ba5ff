"""Draws which tokens to mask, and applies a mask, as two separate steps.

Legend: B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from s3prl_aalbert.model.config import TaskConfig

ZERO = -1
"""Value of ``MaskPlan.source`` at tokens to be set to zero."""


def length_mask(lengths: Tensor, max_length: int) -> Tensor:
    """Return (B, max_length) bool, true at real positions, for lengths (B,)."""
    return torch.arange(max_length, device=lengths.device) < lengths.unsqueeze(1)


class MaskPlan(NamedTuple):
    """What happens to each token of an utterance (T,) or of a padded batch (B, T)."""

    selected: Tensor
    """bool, true at tokens to be reconstructed; never at padding."""
    source: Tensor
    """long, the token shown in this place: its own index (kept), another index (replaced) or ZERO."""

    @property
    def hidden(self) -> Tensor:
        """bool, true where the model sees another token than the one in this place: selected and not kept."""
        return self.source != torch.arange(self.source.size(-1), device=self.source.device)


def sample_mask(num_tokens: int, config: TaskConfig, generator: torch.Generator) -> MaskPlan:
    """Draw one utterance's mask: 15 % of the tokens; of these 80 % zero, 10 % random, 10 % kept (paper section 3.1).

    ``mask_layout`` places spans of ``mask_consecutive`` tokens. On the grid they are drawn without replacement, so that
    their proportion is exact up to rounding. At least one span is always selected.

    Args:
        num_tokens: tokens of the utterance, at least 1.
        config: proportions, width of spans, and how often the dice are thrown.
        generator: source of all randomness; equal states give equal masks.

    Returns:
        selected and source, each (num_tokens,).
    """
    width = min(config.mask_consecutive, num_tokens)
    if config.mask_layout == "overlap":
        span, chosen = _overlapping_spans(num_tokens, width, config.mask_proportion, generator)
    else:
        span, chosen = _spans_of_a_grid(num_tokens, width, config.mask_gap, config.mask_proportion, generator)
    num_spans = len(chosen)
    dice = torch.rand(num_spans if config.dice == "token" else 1, generator=generator).expand(num_spans)
    other = torch.randint(num_tokens, (num_tokens,), generator=generator)
    own = torch.arange(num_tokens)
    selected, dice = chosen[span], dice[span]  # (T,)
    zeroed = selected & (dice < config.zero_proportion)
    replaced = selected & ~zeroed & (dice < config.zero_proportion + config.random_proportion)
    source = torch.where(zeroed, ZERO, torch.where(replaced, other, own))
    return MaskPlan(selected, source)


def _spans_of_a_grid(
    num_tokens: int, width: int, gap: int, proportion: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the span of each token (T,), ``gap`` apart from a random start, and which spans are chosen.

    All tokens of the gaps form one more span, the last one, which is never chosen.
    """
    phase = int(torch.randint(width, (1,), generator=generator)) if width > 1 else 0
    place = torch.arange(num_tokens) + phase
    span = place // (width + gap)  # (T,)
    num_spans = int(span[-1]) + 1
    num_chosen = proportion * (num_tokens / width if gap else num_spans)
    chosen = torch.zeros(num_spans + min(gap, 1), dtype=torch.bool)
    chosen[torch.randperm(num_spans, generator=generator)[: max(1, round(num_chosen))]] = True
    return span.masked_fill(place % (width + gap) >= width, num_spans), chosen


def _overlapping_spans(
    num_tokens: int, width: int, proportion: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the last span that covers each token (T,), 0 for none, and which spans are chosen.

    As HuBERT and wav2vec 2.0: proportion * T / width spans, rounded up or down by chance, begin at different tokens.
    """
    places = num_tokens - width + 1
    expected = proportion * num_tokens / width
    count = min(places, max(1, int(expected + float(torch.rand(1, generator=generator)))))
    starts = torch.randperm(places, generator=generator)[:count].sort().values
    span = torch.zeros(num_tokens, dtype=torch.long)
    for number, start in enumerate(starts.tolist(), 1):
        span[start : start + width] = number
    chosen = torch.ones(count + 1, dtype=torch.bool)
    chosen[0] = False
    return span, chosen


def collate_plans(plans: Sequence[MaskPlan]) -> MaskPlan:
    """Pad the plans of single utterances to one batch (B, T); padding is neither selected nor moved."""
    longest = max(plan.selected.numel() for plan in plans)
    selected = torch.zeros(len(plans), longest, dtype=torch.bool)
    source = torch.arange(longest).repeat(len(plans), 1)
    for row, plan in enumerate(plans):
        selected[row, : plan.selected.numel()] = plan.selected
        source[row, : plan.source.numel()] = plan.source
    return MaskPlan(selected, source)


def apply_mask(tokens: Tensor, plan: MaskPlan) -> Tensor:
    """Return tokens (B, T, dim) with the plan's replacements and zeros put in."""
    index = plan.source.clamp_min(0).unsqueeze(-1).expand_as(tokens)
    return tokens.gather(1, index).masked_fill((plan.source == ZERO).unsqueeze(-1), 0)
