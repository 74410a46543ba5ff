"""Masking: proportions over many draws, nothing outside the utterance, and what a plan does to tokens."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from s3prl_aalbert.model.config import SAMPLE_RATE, TaskConfig, from_dict, load_model_config
from s3prl_aalbert.model.masking import ZERO, MaskPlan, apply_mask, collate_plans, length_mask, sample_mask
from s3prl_aalbert.pretrain.config import PretrainConfig
from s3prl_aalbert.yaml_config import find_config, read_yaml

PAPER = TaskConfig()


def draws(num_tokens: int, config: TaskConfig, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return selected and source, each (count, num_tokens), of independent draws."""
    generator = torch.Generator().manual_seed(seed)
    plans = [sample_mask(num_tokens, config, generator) for _ in range(count)]
    return torch.stack([p.selected for p in plans]), torch.stack([p.source for p in plans])


def within(found: int, trials: int, probability: float, sigmas: float = 5) -> bool:
    """Tell whether a binomial count lies within so many standard deviations of its mean."""
    return abs(found - trials * probability) <= sigmas * math.sqrt(trials * probability * (1 - probability))


def test_fifteen_percent_of_which_eighty_ten_ten() -> None:
    selected, source = draws(100, PAPER, 1500)
    assert (selected.sum(1) == 15).all()
    trials, own = 15 * 1500, torch.arange(100)
    zeroed, kept = source == ZERO, source == own
    assert not (zeroed & ~selected).any() and kept[~selected].all()
    assert within(int(zeroed.sum()), trials, 0.8)
    assert within(int((selected & ~zeroed & ~kept).sum()), trials, 0.1 * 99 / 100)  # a random token may be its own
    assert within(int((selected & kept).sum()), trials, 0.1 + 0.1 / 100)


def test_other_proportions_are_obeyed() -> None:
    config = TaskConfig(mask_proportion=0.4, zero_proportion=0.3, random_proportion=0.6)
    selected, source = draws(50, config, 1000)
    assert (selected.sum(1) == 20).all()
    assert within(int((source == ZERO).sum()), 20000, 0.3)
    assert within(int((selected & (source != ZERO) & (source != torch.arange(50))).sum()), 20000, 0.6 * 49 / 50)


def test_every_position_is_selected_equally_often() -> None:
    selected, _ = draws(40, PAPER, 3000)
    assert all(within(int(count), 3000, 6 / 40) for count in selected.sum(0))


@pytest.mark.parametrize(("width", "gap"), [(1, 2), (1, 1), (3, 2), (4, 7)])
def test_a_gap_separates_the_places_of_spans(width: int, gap: int) -> None:
    config = TaskConfig(mask_proportion=0.2, mask_consecutive=width, mask_gap=gap)
    selected, _ = draws(60, config, 1000)
    for row in selected[:200]:
        runs = torch.diff(row.int(), prepend=torch.zeros(1), append=torch.zeros(1)).nonzero().flatten().tolist()
        starts, ends = runs[::2], runs[1::2]
        assert all(end - start <= width for start, end in zip(starts, ends, strict=True))
        assert all(after - before >= gap for before, after in zip(ends, starts[1:], strict=False))
    if width == 1:  # the same places each time, each as often as any other
        places = torch.arange(60) % (gap + 1) == 0
        assert (selected.sum(1) == 12).all() and not selected[:, ~places].any()
        assert all(within(int(count), 1000, 12 / int(places.sum())) for count in selected.sum(0)[places])


def test_the_original_draws_from_every_third_token() -> None:
    task = load_model_config("original").task
    for tokens in (1, 2, 3, 7, 100):
        selected, _ = draws(tokens, task, 50)
        places = selected.nonzero()[:, 1]
        assert (places % 3 == 0).all() and (selected.sum(1) == max(1, round(0.15 * tokens))).all()


def test_the_shortest_utterance_of_the_original_has_two_places_to_mask() -> None:
    """The original runs skipped utterances with fewer; here they are below ``min_seconds`` already."""
    config = load_model_config("original")
    runner = from_dict(PretrainConfig, read_yaml(find_config("pretrain_original", "upstream_configs")))
    tokens = config.num_tokens(int(runner.datarc.min_seconds * SAMPLE_RATE))
    selected, _ = draws(int(tokens), config.task, 100)
    assert int(selected.any(0).sum()) >= 2


def test_a_gap_of_none_is_the_grid_as_it_was() -> None:
    """The draws of a resumed run must not change: these were recorded before there was a gap."""
    selected, source = draws(20, TaskConfig(mask_consecutive=2, mask_proportion=0.3), 2, seed=5)
    assert selected.nonzero()[:, 1].tolist() == [9, 10, 15, 16, 19, 12, 13, 14, 15, 16, 17]
    # fmt: off
    assert source.flatten().tolist() == [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, -1,
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, -1, -1, 14, 15, -1, -1, 18, 19,
    ]
    # fmt: on


def test_a_gap_that_cannot_be() -> None:
    for task in (TaskConfig(mask_gap=-1), TaskConfig(mask_gap=2, mask_layout="overlap")):
        assert [problem for problem in task.problems() if "task.mask_gap is" in problem]


def test_random_tokens_come_from_everywhere_in_the_utterance() -> None:
    config = TaskConfig(mask_proportion=1.0, zero_proportion=0.0, random_proportion=1.0)
    _, source = draws(20, config, 500)
    assert source.min() == 0 and source.max() == 19
    assert all(within(int((source == token).sum()), 10000, 1 / 20) for token in range(20))


@pytest.mark.parametrize("width", [1, 3, 7])
def test_the_proportion_holds_on_average_for_every_width_and_length(width: int) -> None:
    config = TaskConfig(mask_consecutive=width)
    lengths = range(60, 260)
    shares = [float(draws(n, config, 5, seed=n)[0].float().mean()) for n in lengths]
    assert abs(sum(shares) / len(shares) - 0.15) < 0.01


@pytest.mark.parametrize(("proportion", "width", "tokens"), [(1.0, 7, 100), (1.0, 7, 10), (0.5, 3, 20), (0.15, 3, 167)])
def test_the_proportion_is_that_of_the_spans(proportion: float, width: int, tokens: int) -> None:
    """However the grid falls: all of them are all tokens, and a share is that share on average."""
    selected, _ = draws(tokens, TaskConfig(mask_consecutive=width, mask_proportion=proportion), 2000)
    if proportion == 1:
        assert selected.all()
    spans = (tokens + width - 1) / width
    assert abs(float(selected.float().mean()) - proportion) < 0.5 / spans + 0.01


@pytest.mark.parametrize("width", [2, 3, 7])
def test_spans_do_not_overlap(width: int) -> None:
    """Selected tokens are whole cells of a grid of the width; such cells cannot overlap."""
    config = TaskConfig(mask_consecutive=width, mask_proportion=0.3)
    selected, source = draws(90, config, 200)
    phases = set()
    for chosen, shown in zip(selected, source, strict=True):
        fitting = []
        for phase in range(width):
            cell = (torch.arange(90) + phase) // width
            constant = all(chosen[cell == c].unique().numel() == 1 for c in cell.unique())
            same_dice = all((shown[(cell == c)] == ZERO).unique().numel() == 1 for c in cell.unique())
            fitting += [phase] if constant and same_dice else []
        assert fitting
        phases.update(fitting if len(fitting) == 1 else [])
    assert phases == set(range(width))  # the grid starts anywhere


@pytest.mark.parametrize("num_tokens", [1, 2, 3, 5])
@pytest.mark.parametrize("config", [PAPER, TaskConfig(mask_proportion=1e-4), TaskConfig(mask_consecutive=7)])
def test_a_short_utterance_has_a_masked_token(num_tokens: int, config: TaskConfig) -> None:
    selected, source = draws(num_tokens, config, 200)
    assert selected.any(1).all()
    assert source.min() >= ZERO and source.max() < num_tokens


def test_the_same_generator_state_gives_the_same_mask() -> None:
    first, second = draws(80, PAPER, 3, seed=5), draws(80, PAPER, 3, seed=5)
    other = draws(80, PAPER, 3, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0][0], first[0][1])


def test_no_randomness_but_the_generators() -> None:
    before = torch.get_rng_state()
    draws(80, PAPER, 3)
    assert torch.equal(before, torch.get_rng_state())


def test_one_dice_per_utterance() -> None:
    selected, source = draws(60, TaskConfig(dice="utterance", mask_proportion=0.3), 2000)
    own = torch.arange(60)
    zeroed = ((source == ZERO) & selected).sum(1)
    kept = ((source == own) & selected).sum(1)
    assert set(zeroed.tolist()) == {0, 18}
    all_zero, all_kept = zeroed == 18, kept == 18
    mixed = ~all_zero & ~all_kept  # random: other tokens, now and then its own
    assert (zeroed[mixed] == 0).all() and (kept[mixed] < 6).all()
    assert within(int(all_zero.sum()), 2000, 0.8) and within(int(mixed.sum()), 2000, 0.1)


def test_one_dice_per_token_mixes_within_an_utterance() -> None:
    selected, source = draws(200, PAPER, 1)
    zeroed = int((source == ZERO).sum())
    assert 0 < zeroed < int(selected.sum())


def test_padding_is_never_masked_nor_a_source() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = [1, 2, 37, 80, 5]
    config = TaskConfig(mask_proportion=0.9, zero_proportion=0.1, random_proportion=0.9)
    for _ in range(50):
        plan = collate_plans([sample_mask(n, config, generator) for n in lengths])
        assert plan.selected.shape == plan.source.shape == (5, 80)
        for row, length in enumerate(lengths):
            assert not plan.selected[row, length:].any()
            assert torch.equal(plan.source[row, length:], torch.arange(length, 80))
            assert plan.source[row, :length].max() < length


def test_applying_a_plan_by_hand() -> None:
    tokens = torch.arange(1, 13, dtype=torch.float32).reshape(2, 3, 2)
    plan = MaskPlan(torch.tensor([[True, True, False], [True, False, False]]), torch.tensor([[ZERO, 0, 2], [2, 1, 2]]))
    kept = tokens.clone()
    expected = torch.tensor([[[0, 0], [1, 2], [5, 6]], [[11, 12], [9, 10], [11, 12.0]]])
    assert torch.equal(apply_mask(tokens, plan), expected)  # token 1 shows token 0 as it was, not as zeroed
    assert torch.equal(tokens, kept)


def test_length_mask_by_hand() -> None:
    expected = torch.tensor([[False, False, False], [True, True, False], [True, True, True]])
    assert torch.equal(length_mask(torch.tensor([0, 2, 3]), 3), expected)
