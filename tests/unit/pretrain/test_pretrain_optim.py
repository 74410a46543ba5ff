"""LAMB is S3PRL's, weight decay spares biases and norms, the schedule is what it says."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from s3prl_aalbert.pretrain.config import OptimizerConfig
from s3prl_aalbert.pretrain.optim import build_optimizer, lr_factor


def trajectory(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 25) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        x = torch.randn(16, 8, generator=generator)
        loss = (model(x) - x.sum(1, keepdim=True)).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def small_model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 12), nn.LayerNorm(12), nn.GELU(), nn.Linear(12, 1))


def test_lamb_is_s3prls() -> None:
    from s3prl_aalbert.toolkit import compat

    compat.apply()
    from s3prl.optimizers import Lamb

    ours, theirs = small_model(), small_model()
    config = OptimizerConfig(name="Lamb", lr=3e-3, weight_decay=0.01)
    trajectory(ours, build_optimizer(ours, config))
    decayed = [p for p in theirs.parameters() if p.dim() > 1]
    others = [p for p in theirs.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    # warmup=-1 and t_total=-1 switch S3PRL's own schedule off.
    reference = Lamb(groups, lr=3e-3, eps=1e-8, warmup=-1, t_total=-1, adam=False, correct_bias=False)
    trajectory(theirs, reference)
    start = small_model()
    for a, b, c in zip(ours.parameters(), theirs.parameters(), start.parameters(), strict=True):
        assert (a - c).abs().max() > 1e-3, "it moved"
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["AdamW", "Lamb"])
def test_weight_decay_spares_biases_and_norms(name: str) -> None:
    model = small_model()
    optimizer = build_optimizer(model, OptimizerConfig(name=name, weight_decay=0.5))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for key, parameter in model.named_parameters():
        expected = 0.5 if key in ("0.weight", "3.weight") else 0.0
        assert decay[id(parameter)] == expected, key


def test_adamw_is_torchs() -> None:
    ours, theirs = small_model(), small_model()
    config = OptimizerConfig(lr=1e-2, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.0)
    trajectory(ours, build_optimizer(ours, config))
    trajectory(theirs, torch.optim.AdamW(theirs.parameters(), lr=1e-2, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.0))
    for a, b in zip(copy.deepcopy(ours).parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("step", "expected"), [(1, 0.1), (5, 0.5), (10, 1.0), (55, 0.5), (100, 0.0), (150, 0.0)])
def test_schedule_by_hand(step: int, expected: float) -> None:
    assert lr_factor(step, schedule_steps=100, warmup_proportion=0.1) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["Lamb", "AdamW"])
def test_no_value_that_is_accepted_overflows_float32(name: str) -> None:
    config = OptimizerConfig(name=name, lr=1e6, weight_decay=1e6, eps=1e6)
    assert not config.problems()
    model = small_model()
    trajectory(model, build_optimizer(model, config), steps=1)
    found = OptimizerConfig(name=name, lr=1e300, weight_decay=1e300, eps=1e300).problems()
    assert [problem.split(" is ")[0] for problem in found] == [
        "optimizer.lr",
        "optimizer.eps",
        "optimizer.weight_decay",
    ]
