"""Masked reconstruction: the loss is L1 on hidden, real frames and on nothing else, and it can be learnt.

Legend: B batch, T tokens, K spectrogram bins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s3prl_aalbert.model.acoustics import Features
from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.model.masking import ZERO, MaskPlan, collate_plans, sample_mask
from s3prl_aalbert.model.objective import Loss, MaskedPrediction, Speech, selected_first

# 4,801 samples: 31 frames, 11 tokens of which the last has one real frame; 2,000: 13 frames, 5 tokens.
LENGTHS = [4801, 2000]


@pytest.fixture
def module(tiny_config: ModelConfig) -> MaskedPrediction:
    torch.manual_seed(0)
    config = replace(tiny_config, transformer=replace(tiny_config.transformer, initializer_range=0.1))
    return MaskedPrediction(config).eval()


@pytest.fixture
def batch(voice) -> tuple[Tensor, Tensor]:
    wavs = [voice(length, seed) for seed, length in enumerate(LENGTHS)]
    return pad_sequence(wavs, batch_first=True), torch.tensor(LENGTHS)


def plan_of(*rows: dict[int, int]) -> MaskPlan:
    """Return a plan (B, 11) from {token: source} for each row."""
    selected = torch.zeros(len(rows), 11, dtype=torch.bool)
    source = torch.arange(11).repeat(len(rows), 1)
    for row, moves in enumerate(rows):
        for token, shown in moves.items():
            selected[row, token], source[row, token] = True, shown
    return MaskPlan(selected, source)


# The last token of the first row has one real frame and two padded ones.
PLAN = plan_of({2: ZERO, 7: 3, 10: ZERO}, {0: 0, 3: ZERO})


def change_features(module: MaskedPrediction, change: Callable[[Features], Features]) -> None:
    """Let ``change`` replace what the acoustics give."""
    module.model.acoustics.register_forward_hook(lambda _module, _args, features: change(features))


def change_target(module: MaskedPrediction, where: Callable[[Features], Tensor], by: float) -> None:
    """Add ``by`` to the target at the frames (B, T, stack) that ``where`` gives."""

    def change(features: Features) -> Features:
        assert features.target is not None
        return features._replace(target=features.target + by * where(features).unsqueeze(-1).float())

    change_features(module, change)


def test_what_is_heard_goes_in_and_what_is_clean_comes_out(
    module: MaskedPrediction, batch: tuple[Tensor, Tensor]
) -> None:
    wavs, num_samples = batch
    heard = wavs + 0.1 * torch.randn(wavs.shape, generator=torch.Generator().manual_seed(0)) * (wavs != 0)
    with torch.no_grad():
        loss = module(Speech(wavs, num_samples, PLAN, heard))
        predicted = module.picture(Speech(heard, num_samples, PLAN)).predicted
        clean = module.picture(Speech(wavs, num_samples, PLAN))
        assert module(Speech(wavs, num_samples, PLAN, wavs)).total == module(Speech(wavs, num_samples, PLAN)).total
    real = module.model.acoustics(wavs, num_samples).frame_mask & PLAN.selected.unsqueeze(-1)  # (B, T, stack)
    assert float(loss.total) == pytest.approx(float((predicted - clean.target).abs().mean(-1)[real].sum()), rel=1e-5)
    assert float((predicted - clean.predicted).abs()[real].max()) > 0.01


def test_the_loss_equals_l1_by_hand(module: MaskedPrediction, batch: tuple[Tensor, Tensor]) -> None:
    with torch.no_grad():
        loss = module(Speech(*batch, PLAN))
        full = module.picture(Speech(*batch, PLAN))
    total, weight = 0.0, 0
    for row, token, frames in [(0, 2, 3), (0, 7, 3), (0, 10, 1), (1, 0, 3), (1, 3, 3)]:
        for frame in range(frames):
            difference = full.predicted[row, token, frame].double() - full.target[row, token, frame].double()
            total += float(difference.abs().mean())
            weight += 1
    assert int(loss.weight) == weight == 13
    assert float(loss.total) == pytest.approx(total, rel=1e-5)
    assert float(loss.mean) == pytest.approx(total / weight, rel=1e-5)
    assert Loss(torch.tensor(6.0), torch.tensor(4.0)).mean == 1.5


def test_all_stages_are_as_described(module: MaskedPrediction, batch: tuple[Tensor, Tensor]) -> None:
    with torch.no_grad():
        full = module.picture(Speech(*batch, PLAN))
    assert full.lengths.tolist() == [11, 5]
    assert full.predicted.shape == full.target.shape == (2, 11, 3, 257)
    assert not full.masked_tokens[0, [2, 10]].any() and not full.masked_tokens[1, 3].any()
    assert torch.equal(full.masked_tokens[0, 7], full.tokens[0, 3])
    untouched = [0, 1, 3, 4, 5, 6, 8, 9]
    assert torch.equal(full.masked_tokens[0, untouched], full.tokens[0, untouched])


def unselected(features: Features) -> Tensor:
    return (~PLAN.selected).unsqueeze(-1).expand_as(features.frame_mask)


def padded(features: Features) -> Tensor:
    return ~features.frame_mask


def selected_and_real(features: Features) -> Tensor:
    return PLAN.selected.unsqueeze(-1) & features.frame_mask


@pytest.mark.parametrize(("where", "blind"), [(unselected, True), (padded, True), (selected_and_real, False)])
def test_the_loss_sees_hidden_real_frames_alone(
    module: MaskedPrediction, batch: tuple[Tensor, Tensor], where: Callable[[Features], Tensor], blind: bool
) -> None:
    with torch.no_grad():
        before = module(Speech(*batch, PLAN))
        change_target(module, where, by=100.0)
        after = module(Speech(*batch, PLAN))
    assert float(before.weight) == float(after.weight)
    if blind:
        assert float(before.total) == float(after.total)
    else:
        assert float(after.mean) == pytest.approx(100, abs=5)


def test_samples_in_the_padding_and_more_padding_do_not_matter(
    module: MaskedPrediction, batch: tuple[Tensor, Tensor]
) -> None:
    wavs, lengths = batch
    garbage = wavs.clone()
    garbage[1, 2000:] = 3.0
    longer = torch.nn.functional.pad(garbage, (0, 1920), value=-2.0)  # four tokens more
    more = MaskPlan(
        torch.nn.functional.pad(PLAN.selected, (0, 4)),
        torch.cat([PLAN.source, torch.arange(11, 15).repeat(2, 1)], dim=1),
    )
    with torch.no_grad():
        expected = module(Speech(wavs, lengths, PLAN))
        assert float(module(Speech(garbage, lengths, PLAN)).total) == float(expected.total)
        found = module(Speech(longer, lengths, more))
    assert float(found.weight) == float(expected.weight)
    assert float(found.total) == pytest.approx(float(expected.total), rel=1e-6)


def test_the_loss_of_a_batch_is_the_sum_of_its_utterances(
    module: MaskedPrediction, batch: tuple[Tensor, Tensor]
) -> None:
    wavs, lengths = batch
    with torch.no_grad():
        whole = module(Speech(wavs, lengths, PLAN))
        first = module(Speech(wavs[:1], lengths[:1], MaskPlan(PLAN.selected[:1], PLAN.source[:1])))
        second = module(Speech(wavs[1:, :2000], lengths[1:], MaskPlan(PLAN.selected[1:, :5], PLAN.source[1:, :5])))
    assert float(whole.weight) == float(first.weight + second.weight)
    assert float(whole.total) == pytest.approx(float(first.total + second.total), rel=1e-5)


def test_a_zeroed_token_is_really_hidden(module: MaskedPrediction, batch: tuple[Tensor, Tensor]) -> None:
    """The prediction must not depend on what stood in a zeroed or replaced place; it does on what is shown."""

    def predictions() -> Tensor:
        with torch.no_grad():
            return module.picture(Speech(*batch, PLAN)).predicted[0, [2, 7, 10]]

    def shift(token: int) -> Callable[[Features], Features]:
        change = torch.zeros(2, 11, 1)
        change[0, token] = 5.0
        return lambda features: features._replace(tokens=features.tokens + change)

    before = predictions()
    for token in (2, 7, 10):
        change_features(module, shift(token))
        assert torch.equal(predictions(), before)
    change_features(module, shift(3))  # shown in place 7 as well
    assert not torch.allclose(predictions(), before, atol=1e-4)


def test_the_gradient_reaches_every_parameter(module: MaskedPrediction, batch: tuple[Tensor, Tensor]) -> None:
    module(Speech(*batch, PLAN)).mean.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        if not name.endswith("key.bias"):  # soft-max is blind to it
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("num_samples", [1, 320, 480])
def test_the_shortest_utterances_have_a_finite_loss(module: MaskedPrediction, voice, num_samples: int) -> None:
    plan = collate_plans([sample_mask(1, module.config.task, torch.Generator().manual_seed(0))])
    loss = module(Speech(voice(num_samples).unsqueeze(0), torch.tensor([num_samples]), plan))
    assert torch.isfinite(loss.total) and int(loss.weight) == -(-num_samples // 160)


def test_bfloat16_autocast_keeps_the_loss_in_float32(module: MaskedPrediction, batch: tuple[Tensor, Tensor]) -> None:
    with torch.no_grad():
        expected = module(Speech(*batch, PLAN))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = module(Speech(*batch, PLAN))
    assert found.total.dtype == found.weight.dtype == torch.float32
    assert float(found.mean) == pytest.approx(float(expected.mean), rel=0.02)


@pytest.mark.parametrize("share", [True, False], ids=["shared", "unshared"])
def test_one_batch_is_learnt_by_heart(tiny_config: ModelConfig, voice, share: bool) -> None:
    torch.manual_seed(0)
    config = replace(
        tiny_config,
        transformer=replace(tiny_config.transformer, share_layer=share, hidden_size=64, intermediate_size=128),
        task=replace(tiny_config.task, mask_proportion=0.5),
    )
    module = MaskedPrediction(config).train()
    wavs, lengths = pad_sequence([voice(6000, 1), voice(4000, 2)], batch_first=True), torch.tensor([6000, 4000])
    generator = torch.Generator().manual_seed(0)
    plan = collate_plans([sample_mask(-(-int(n) // 480), config.task, generator) for n in lengths])
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    losses = []
    for _ in range(100):
        loss = module(Speech(wavs, lengths, plan)).mean
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.6  # about the mean absolute value of a normalised target
    assert losses[-1] < 0.1 * losses[0]


def test_selected_tokens_come_first_and_in_order() -> None:
    selected = torch.tensor([[False, True, False, True], [False, False, True, False]])
    queries, wanted = selected_first(selected)
    assert queries[0].tolist() == [1, 3] and queries[1, 0] == 2
    assert wanted.tolist() == [[True, True], [True, False]]
    rows = torch.arange(8).view(2, 4, 1)
    assert torch.equal(rows.gather(1, queries.unsqueeze(-1))[wanted], rows[selected])
