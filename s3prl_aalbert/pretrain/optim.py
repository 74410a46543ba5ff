"""Optimisers and their schedule."""

from __future__ import annotations

import torch
from torch import nn

from s3prl_aalbert.pretrain.config import OptimizerConfig


def build_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Build AdamW or LAMB with weight decay on matrices alone.

    LAMB is timm's with the settings that make it S3PRL's ``Lamb``: no bias correction, the trust ratio for every
    parameter, clipping left to the loop.
    """
    decayed = [p for p in module.parameters() if p.dim() > 1]
    others = [p for p in module.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.name == "AdamW":
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps)
    from timm.optim.lamb import Lamb

    return Lamb(
        groups,
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        bias_correction=False,
        max_grad_norm=None,
        always_adapt=True,
    )


def lr_factor(step: float, schedule_steps: int, warmup_proportion: float) -> float:
    """Return the share of the peak learning rate used at ``step``: linear up, then linear to zero.

    The first step is 1; under a time budget a step is a place in the schedule and no whole number.
    """
    warmup = max(1, round(schedule_steps * warmup_proportion))
    if step <= warmup:
        return step / warmup
    return max(0.0, (schedule_steps - step) / max(1, schedule_steps - warmup))
