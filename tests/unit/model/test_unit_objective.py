"""Masked prediction of units: the loss by hand in float64, of neighbours too, beside others, blind where it must be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.model.masking import ZERO, MaskPlan, apply_mask
from s3prl_aalbert.model.objective import NO_UNIT, MaskedPrediction, Speech, with_neighbours

# 4,801 samples: 31 frames, 11 tokens, the last of one real frame; 2,000: 13 frames, 5 tokens, the last of one.
LENGTHS, FRAMES, TOKENS = [4801, 2000], [31, 13], [11, 5]
SELECTED = [(0, 2, 3), (0, 7, 3), (0, 10, 1), (1, 0, 3), (1, 4, 1)]
"""Row, token, its real frames."""


def built(
    config: ModelConfig, per_token: int, reconstruction: float, units: float, neighbours: int = 0
) -> MaskedPrediction:
    torch.manual_seed(0)
    task = replace(
        config.task,
        reconstruction_weight=reconstruction,
        unit_weight=units,
        num_units=7,
        units_per_token=per_token,
        unit_neighbours=neighbours,
        neighbour_weight=0.75,
    )
    transformer = replace(config.transformer, initializer_range=0.2)
    return MaskedPrediction(replace(config, task=task, transformer=transformer)).eval()


def speech(voice, per_token: int) -> Speech:
    wavs = pad_sequence([voice(length, seed) for seed, length in enumerate(LENGTHS)], batch_first=True)
    selected, source = torch.zeros(2, 11, dtype=torch.bool), torch.arange(11).repeat(2, 1)
    for row, token, _ in SELECTED:
        selected[row, token], source[row, token] = True, ZERO
    units = torch.randint(7, (2, 11, per_token), generator=torch.Generator().manual_seed(0))
    for row in range(2):
        if per_token == 1:
            units[row, TOKENS[row] :] = NO_UNIT
        else:
            units[row].view(-1)[FRAMES[row] :] = NO_UNIT
    return Speech(wavs, torch.tensor(LENGTHS), MaskPlan(selected, source), None, units)


def logits_of(module: MaskedPrediction, batch: Speech) -> Tensor:
    features = module.model.acoustics(batch.wavs, batch.num_samples)
    hidden = module.model.encode(apply_mask(features.tokens, batch.plan), features.lengths)[-1]
    return module.unit_head(hidden.flatten(0, 1)).view(2, 11, -1, 7)


def by_hand(module: MaskedPrediction, batch: Speech, neighbours: int = 0) -> float:
    """Each token's mean of -log p(unit), 3/4 of it over the units of its neighbours if any, times its real frames."""
    logits, total = logits_of(module, batch).double(), 0.0
    per_token = batch.units.size(2)
    for row, token, frames in SELECTED:
        errors: dict[bool, list[float]] = {}  # by whether the units are the token's own
        for offset in range(-neighbours, neighbours + 1):
            for place in range(per_token):
                if not 0 <= token + offset < 11:
                    continue
                unit, output = int(batch.units[row, token + offset, place]), (offset + neighbours) * per_token + place
                if unit != NO_UNIT:
                    errors.setdefault(offset == 0, []).append(-float(logits[row, token, output].log_softmax(0)[unit]))
        means = {own: sum(each) / len(each) for own, each in errors.items()}
        total += frames * (means[True] / 4 + means[False] * 3 / 4 if neighbours else means[True])
    return total


@pytest.mark.parametrize("neighbours", [0, 2])
@pytest.mark.parametrize("per_token", [1, 3])
def test_the_loss_equals_cross_entropy_by_hand(
    tiny_config: ModelConfig, voice, per_token: int, neighbours: int
) -> None:
    module, batch = built(tiny_config, per_token, 0, 2, neighbours), speech(voice, per_token)
    with torch.no_grad():
        loss = module(batch)
        assert float(loss.total) == pytest.approx(2 * by_hand(module, batch, neighbours), rel=1e-5)
    assert float(loss.weight) == 11 == sum(frames for *_, frames in SELECTED)
    assert module.picture(batch) is None and module.head is None


def test_neighbours_stand_in_their_order() -> None:
    units = torch.tensor([[[1, 2], [3, 4], [5, NO_UNIT]]])  # (1, 3, 2)
    none = [NO_UNIT, NO_UNIT]
    expected = [[*none, 1, 2, 3, 4], [1, 2, 3, 4, 5, NO_UNIT], [3, 4, 5, NO_UNIT, *none]]
    assert with_neighbours(units, 1).tolist() == [expected]
    assert with_neighbours(units, 4).shape == (1, 3, 18)  # more than there are
    assert with_neighbours(units, 0) is units


def test_both_tasks_add_up(tiny_config: ModelConfig, voice) -> None:
    batch = speech(voice, 1)
    both, rebuilt = built(tiny_config, 1, 0.5, 2), built(tiny_config, 1, 1, 0)
    rebuilt.load_state_dict({n: v for n, v in both.state_dict().items() if not n.startswith("unit_head.")})
    with torch.no_grad():
        expected = 0.5 * float(rebuilt(batch).total) + 2 * by_hand(both, batch)
        assert float(both(batch).total) == pytest.approx(expected, rel=1e-5)
    both(batch).mean.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in both.unit_head.parameters())
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in both.head.parameters())


def test_units_that_are_shown_or_padded_do_not_matter(tiny_config: ModelConfig, voice) -> None:
    module, batch = built(tiny_config, 1, 0, 1), speech(voice, 1)
    other = batch.units.clone()
    other[~batch.plan.selected] = 5
    with torch.no_grad():
        assert float(module(batch).total) == float(module(batch._replace(units=other)).total)
        changed = batch.units.clone()
        changed[0, 2] = (changed[0, 2] + 1) % 7
        assert float(module(batch).total) != float(module(batch._replace(units=changed)).total)


@pytest.mark.parametrize(("per_token", "neighbours"), [(1, 0), (3, 0), (1, 2), (3, 1)])
def test_right_answers_are_counted(tiny_config: ModelConfig, voice, per_token: int, neighbours: int) -> None:
    """Those of the tokens' own units; neighbours do not count."""
    module, batch = built(tiny_config, per_token, 0, 1, neighbours), speech(voice, per_token)
    kept = (0, 7)  # selected, but the model sees it as it is
    batch.plan.source[kept] = 7
    with torch.no_grad():
        answers, counts = logits_of(module, batch).argmax(-1), module.count_units(batch)
    answers = answers[:, :, neighbours * per_token :]
    masked, unmasked, used = [0, 0], [0, 0], [0] * 7
    for row in range(2):
        for token in range(11):
            for place in range(per_token):
                unit = int(batch.units[row, token, place])
                if unit == NO_UNIT:
                    continue
                used[unit] += 1
                group = masked if batch.plan.selected[row, token] and (row, token) != kept else unmasked
                group[0] += int(answers[row, token, place] == unit)
                group[1] += 1
    assert (counts.masked.tolist(), counts.unmasked.tolist(), counts.units.tolist()) == (masked, unmasked, used)
    assert masked[1] == sum(f if per_token == 3 else 1 for *place, f in SELECTED if tuple(place) != kept)


def test_the_model_is_given_warped_speech_and_asked_for_the_units_of_the_clean(tiny_config: ModelConfig, voice) -> None:
    both, batch = built(tiny_config, 1, 1, 1), speech(voice, 1)
    warp = torch.tensor([1.2, 0.8])
    with torch.no_grad():
        plain, warped = both(batch), both(batch._replace(warp=warp))
        features = both.model.acoustics(batch.wavs, batch.num_samples, True)
        tokens = both.model.acoustics(batch.wavs, batch.num_samples, warp=warp).tokens
        hidden = both.model.encode(apply_mask(tokens, batch.plan), features.lengths)[-1]
        total = 0.0
        for row, token, frames in SELECTED:
            target = features.target[row, token, :frames]
            total += float((both.head(hidden[row, token][None])[0, :frames] - target).abs().mean(-1).sum())
            logits = both.unit_head(hidden[row, token][None])[0, 0]
            total -= frames * float(logits.log_softmax(0)[batch.units[row, token, 0]])
    assert float(warped.total) == pytest.approx(total, rel=1e-4) != pytest.approx(float(plain.total), rel=1e-4)
