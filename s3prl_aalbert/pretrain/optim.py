"""Optimisers and their schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from s3prl_aalbert.device import native_bf16
from s3prl_aalbert.model.encoder import Encoder
from s3prl_aalbert.pretrain.config import OptimizerConfig

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
"""Muon's polynomial of odd powers (https://kellerjordan.github.io/posts/muon)."""
NEWTON_SCHULZ_STEPS = 5
ADAMW_SIZE = 0.2
"""Root mean square of AdamW's updates, which Muon's are scaled to (arXiv 2502.16982, section 2.2)."""


def build_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Build AdamW, LAMB or Muon with weight decay on matrices alone.

    LAMB is timm's with the settings that make it S3PRL's ``Lamb``: no bias correction, the trust ratio for every
    parameter, clipping left to the loop. Muon trains the matrices of the encoder, and AdamW the rest.
    """
    decayed = [p for p in module.parameters() if p.dim() > 1]
    others = [p for p in module.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.name == "AdamW":
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps)
    if config.name == "Muon":
        encoders = [part for part in module.modules() if isinstance(part, Encoder)]
        matrices = {p for encoder in encoders for p in encoder.parameters() if p.dim() == 2}
        groups[0]["params"] = [p for p in decayed if p not in matrices]
        orthogonal = {"params": [p for p in decayed if p in matrices], "weight_decay": config.weight_decay}
        return Muon([{**orthogonal, "orthogonal": True}, *groups], lr=config.lr, betas=config.betas, eps=config.eps)
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


class Muon(torch.optim.AdamW):
    """Muon for the matrices of groups with ``orthogonal``, AdamW for the other groups.

    It computes what ``torch.optim.Muon`` does with ``adjust_lr_fn="match_rms_adamw"``. That of torch, and timm's,
    multiply in bfloat16 on every device; on a CPU that emulates it this takes 70 times as long as float32.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Take one step; the gradients of the matrices are then gone."""
        for group in self.param_groups:
            for matrix in group["params"] if group.get("orthogonal") else ():
                if matrix.grad is not None:
                    self._turn(matrix, group["lr"], group["weight_decay"])
                    matrix.grad = None  # AdamW passes over it
        return super().step(closure)

    def _turn(self, matrix: nn.Parameter, lr: float, weight_decay: float) -> None:
        assert matrix.grad is not None
        state = self.state[matrix]
        if not state:  # by the names of AdamW's, which reads them
            state["step"], state["exp_avg"] = torch.zeros(()), torch.zeros_like(matrix)
        state["step"] += 1
        state["exp_avg"].lerp_(matrix.grad, 1 - MOMENTUM)
        direction = orthogonalised(matrix.grad.lerp(state["exp_avg"], MOMENTUM))
        matrix.mul_(1 - lr * weight_decay)
        matrix.add_(direction, alpha=-lr * ADAMW_SIZE * max(matrix.shape) ** 0.5)


def orthogonalised(matrix: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return the matrix (M, N) with all singular values between 0.7 and 1.2, by the iteration of Newton and Schulz.

    Args:
        matrix: (M, N).
        dtype: of the products; None is bfloat16 where the device multiplies it natively, else float32.
    """
    if dtype is None:
        dtype = torch.bfloat16 if native_bf16(matrix.device.type) else torch.float32
    wide = matrix.to(dtype) if matrix.size(0) <= matrix.size(1) else matrix.T.to(dtype)
    wide = wide / wide.norm().clamp_min(1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(square, square, square, beta=b, alpha=c), wide, beta=a)
    return (wide if matrix.size(0) <= matrix.size(1) else wide.T).to(matrix.dtype)


def lr_factor(step: float, schedule_steps: int, warmup_proportion: float) -> float:
    """Return the share of the peak learning rate used at ``step``: linear up, then linear to zero.

    The first step is 1; under a time budget a step is a place in the schedule and no whole number.
    """
    warmup = max(1, round(schedule_steps * warmup_proportion))
    if step <= warmup:
        return step / warmup
    return max(0.0, (schedule_steps - step) / max(1, schedule_steps - warmup))
