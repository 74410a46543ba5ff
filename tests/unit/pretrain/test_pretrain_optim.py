"""LAMB is S3PRL's, Muon torch's, weight decay spares biases and norms, the schedule is what it says."""

from __future__ import annotations

import copy
import io
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from s3prl_aalbert.model.config import TransformerConfig
from s3prl_aalbert.model.encoder import Encoder
from s3prl_aalbert.pretrain import optim
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


class EncodedModel(nn.Module):
    """An encoder between two matrices, as in pre-training."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.projection = nn.Linear(8, 16)
        config = TransformerConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
        self.encoder = Encoder(config)
        self.head = nn.Linear(16, 1)
        self.eval()  # no dropout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: list[torch.Tensor] = self.encoder(self.projection(x).unsqueeze(0), None)
        prediction: torch.Tensor = self.head(outputs[-1])[0]  # (time, 1)
        return prediction


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


@pytest.mark.parametrize("name", ["AdamW", "Lamb", "Muon"])
def test_weight_decay_spares_biases_and_norms(name: str) -> None:
    model = EncodedModel()
    optimizer = build_optimizer(model, OptimizerConfig(name=name, weight_decay=0.5))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for key, parameter in model.named_parameters():
        expected = 0.0 if "bias" in key or "norm" in key else 0.5
        assert decay[id(parameter)] == expected, key


def test_adamw_is_torchs() -> None:
    ours, theirs = small_model(), small_model()
    config = OptimizerConfig(lr=1e-2, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.0)
    trajectory(ours, build_optimizer(ours, config))
    trajectory(theirs, torch.optim.AdamW(theirs.parameters(), lr=1e-2, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.0))
    for a, b in zip(copy.deepcopy(ours).parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon is the reference; torch has it from 2.9")
def test_muon_is_torchs_in_the_encoder_and_adamw_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optim, "native_bf16", lambda _: True)  # torch's multiplies in bfloat16 everywhere
    ours, theirs = EncodedModel(), EncodedModel()
    config = OptimizerConfig(name="Muon", lr=1e-2, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1)
    trajectory(ours, build_optimizer(ours, config), steps=8)
    matrices = [p for p in theirs.encoder.parameters() if p.dim() == 2]
    assert len(matrices) == 6, "query, key, value, output and the two of the feed-forward network"
    rest = [theirs.projection.weight, theirs.head.weight]
    vectors = [p for p in theirs.parameters() if p.dim() == 1]
    muon = torch.optim.Muon(matrices, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": rest, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=1e-2, betas=(0.8, 0.99), eps=1e-6)
    both = SimpleNamespace(
        zero_grad=lambda: (muon.zero_grad(), adamw.zero_grad()), step=lambda: (muon.step(), adamw.step())
    )
    trajectory(theirs, cast(torch.optim.Optimizer, both), steps=8)
    start = EncodedModel()
    for (name, a), b, c in zip(ours.named_parameters(), theirs.parameters(), start.parameters(), strict=True):
        if a.dim() == 2:
            assert (a - c).abs().max() > 1e-2, f"{name} moved"
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize("shape", [(6, 16), (16, 6), (5, 5)])
def test_orthogonalised_changes_the_singular_values_alone(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left, values, right = np.linalg.svd(matrix.numpy(), full_matrices=False)
    values = values / np.linalg.norm(values)
    for _ in range(5):  # Muon's polynomial
        values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
    assert values.min() > 0.5 and values.max() < 1.3
    expected = torch.from_numpy(left * values @ right)
    torch.testing.assert_close(optim.orthogonalised(matrix, torch.float64), expected)
    torch.testing.assert_close(
        optim.orthogonalised(matrix.float(), torch.float32).double(), expected, rtol=0, atol=1e-4
    )


def test_muon_goes_on_from_its_state() -> None:
    config = OptimizerConfig(name="Muon", lr=1e-2)
    whole, parts = EncodedModel(), EncodedModel()
    optimizer = build_optimizer(whole, config)
    first = build_optimizer(parts, config)
    trajectory(whole, optimizer, steps=3)
    trajectory(parts, first, steps=3)
    state = io.BytesIO()
    torch.save(first.state_dict(), state)
    state.seek(0)
    second = build_optimizer(parts, config)
    second.load_state_dict(torch.load(state, weights_only=True))
    trajectory(whole, optimizer, steps=3)
    trajectory(parts, second, steps=3)
    for (name, a), b in zip(whole.named_parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(("step", "expected"), [(1, 0.1), (5, 0.5), (10, 1.0), (55, 0.5), (100, 0.0), (150, 0.0)])
def test_schedule_by_hand(step: int, expected: float) -> None:
    assert lr_factor(step, schedule_steps=100, warmup_proportion=0.1) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["Lamb", "AdamW", "Muon"])
def test_no_value_that_is_accepted_overflows_float32(name: str) -> None:
    config = OptimizerConfig(name=name, lr=1e6, weight_decay=1e6, eps=1e6)
    assert not config.problems()
    model = EncodedModel()
    trajectory(model, build_optimizer(model, config), steps=1)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    found = OptimizerConfig(name=name, lr=1e300, weight_decay=1e300, eps=1e300).problems()
    assert [problem.split(" is ")[0] for problem in found] == [
        "optimizer.lr",
        "optimizer.eps",
        "optimizer.weight_decay",
    ]
