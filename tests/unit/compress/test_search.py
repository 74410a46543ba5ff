"""Drawing and searching sub-networks."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from naming import mentions, naming

from s3prl_aalbert.cli import main
from s3prl_aalbert.commands.search import load_run
from s3prl_aalbert.compress import search
from s3prl_aalbert.compress.search import Candidate, Problem, evolutionary_search, pareto, random_search
from s3prl_aalbert.compress.space import SearchSpace, architectures_of_step, count_architectures, draw, extreme
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import ConfigError, TransformerConfig, from_dict
from s3prl_aalbert.model.sub_network import Architecture, full_architecture, load_architecture
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus

CONFIG = TransformerConfig(hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=40)
SPACE = SearchSpace((8, 16, 24), (1, 2, 3), (1, 2, 4), (10, 40))


def size(arch: Architecture) -> float:
    return arch.hidden_size * (4 * sum(arch.num_attention_heads) + 2 * sum(arch.intermediate_size))


def distance_from_ideal(arch: Architecture) -> float:
    """Best at hidden size 16, two layers, one head in each, all inner values: not at an edge of the space."""
    heads, inner = sum(arch.num_attention_heads), sum(arch.intermediate_size)
    return abs(arch.hidden_size - 16) + 5 * abs(arch.num_hidden_layers - 2) + abs(heads - 2) + abs(inner - 80) / 10


def problem(budget: float = 1e9) -> Problem:
    return Problem(SPACE, CONFIG, size, budget, distance_from_ideal)


def test_drawn_sizes_are_uniform_and_independent_by_layer() -> None:
    dice = random.Random(0)
    drawn = [draw(SPACE, CONFIG, dice) for _ in range(6000)]
    assert all(not arch.problems(CONFIG) for arch in drawn)
    for values, choices in (
        ([arch.hidden_size for arch in drawn], 3),
        ([arch.num_hidden_layers for arch in drawn], 3),
        ([arch.num_attention_heads[0] for arch in drawn], 3),
        ([arch.num_attention_heads[:2] for arch in drawn if arch.num_hidden_layers > 1], 9),
    ):
        counts = Counter(values)
        assert len(counts) == choices
        assert all(abs(count / len(values) - 1 / choices) < 0.03 for count in counts.values())


def test_counting_by_listing() -> None:
    dice = random.Random(0)
    small = SearchSpace((8, 24), (1, 2, 3), (4,), (10, 40))
    assert (
        len({draw(small, CONFIG, dice) for _ in range(2000)}) == count_architectures(small, CONFIG) == 2 * (2 + 4 + 8)
    )


def test_reusing_layers_draw_no_more_heads_than_their_source() -> None:
    config = replace(CONFIG, reuse_pattern=(0, 1, 1))
    dice = random.Random(0)
    drawn = [draw(SPACE, config, dice) for _ in range(500)]
    assert all(not arch.problems(config) for arch in drawn)
    assert len({arch.num_attention_heads for arch in drawn}) > 10
    found = evolutionary_search(replace(problem(), config=config), 100, dice)
    assert all(not candidate.arch.problems(config) for candidate in found)


def test_a_step_has_the_same_sub_networks_everywhere() -> None:
    full = full_architecture(CONFIG)
    assert architectures_of_step(None, CONFIG, 1, 5) == [None]
    (one,) = architectures_of_step(SPACE, CONFIG, 1, 5)
    assert [one] == architectures_of_step(SPACE, CONFIG, 1, 5)
    assert len({architectures_of_step(SPACE, CONFIG, 1, step)[0] for step in range(20)}) > 10
    largest, drawn, smallest = architectures_of_step(replace(SPACE, sampling="sandwich"), CONFIG, 1, 5)
    assert (largest, drawn) == (full, one) and smallest == Architecture(8, (1,), (10,))


def test_a_space_that_does_not_fit_the_model_is_refused() -> None:
    assert SPACE.fit_problems(CONFIG) == []
    assert mentions(SearchSpace(hidden_size=(8, 32)).fit_problems(CONFIG)[0], "hidden_size", 32, 24)
    assert mentions(
        SearchSpace(hidden_size=(8, 16)).fit_problems(CONFIG)[0], "largest", "hidden_size=16", "whole model"
    )
    with pytest.raises(ConfigError, match='did you mean "sandwich"'):
        from_dict(SearchSpace, {"sampling": "sandwhich"})


@pytest.mark.parametrize("search", [random_search, evolutionary_search])
def test_a_search_stays_within_budget_and_evaluates_nothing_twice(search) -> None:
    budget = (size(extreme(SPACE, CONFIG, max)) + size(extreme(SPACE, CONFIG, min))) / 3
    found = search(problem(budget), 60, random.Random(1))
    assert len(found) == len({candidate.arch for candidate in found}) == 60
    assert max(candidate.cost for candidate in found) <= budget
    assert all(c.cost == size(c.arch) and c.loss == distance_from_ideal(c.arch) for c in found)


def test_a_child_has_each_layer_of_one_of_its_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without mutations, layer by layer and with even odds; of layers that one parent alone has, that parent's."""
    monkeypatch.setattr(search, "MUTATION", 0.0)
    shallow, deep = Architecture(24, (1, 1), (10, 10)), Architecture(24, (4, 4, 4), (40, 40, 40))
    parents = [Candidate(arch, 0.0, 0.0) for arch in (shallow, deep)]
    dice = random.Random(0)
    children = [search._child(problem(), parents, dice) for _ in range(4000)]
    assert {heads for child in children for heads in child.num_attention_heads} == {1, 4}
    assert {size for child in children for size in child.intermediate_size} == {10, 40}
    first = Counter(child.num_attention_heads[0] for child in children)
    assert abs(first[1] - first[4]) < 400  # three standard deviations are 190, and twice that for parents drawn alike
    assert {child.num_attention_heads[2] for child in children if child.num_hidden_layers > 2} == {4}


@pytest.mark.parametrize("evaluations", [1, 2, 5])
def test_evolution_evaluates_as_many_as_asked(evaluations: int) -> None:
    assert len(evolutionary_search(problem(), evaluations, random.Random(0))) == evaluations


def test_evolution_finds_what_chance_rarely_does() -> None:
    """800 sub-networks with one ideal: over 20 seeds evolution with 120 evaluations beats as many random draws."""
    best = {
        search: [min(c.loss for c in search(problem(), 120, random.Random(seed))) for seed in range(20)]
        for search in (random_search, evolutionary_search)
    }
    assert best[evolutionary_search].count(0) > best[random_search].count(0)
    assert sum(best[evolutionary_search]) < 0.5 * sum(best[random_search])


def test_an_impossible_budget_names_the_smallest() -> None:
    with pytest.raises(AalbertError, match=naming(10, 192)):
        random_search(problem(10), 5, random.Random(0))


@pytest.mark.parametrize("search", [random_search, evolutionary_search])
def test_a_budget_for_the_smallest_alone_finds_it(search) -> None:
    """A draw in 648 meets it, and no other fits."""
    space = replace(SPACE, num_hidden_layers=())
    smallest = extreme(space, CONFIG, min)
    for seed in range(5):
        found = search(replace(problem(size(smallest)), space=space), 10, random.Random(seed))
        assert [candidate.arch for candidate in found] == [smallest]


def test_pareto_by_hand() -> None:
    points = [(1, 9), (2, 5), (3, 7), (4, 5), (5, 1), (2, 6)]
    arch = full_architecture(CONFIG)
    front = pareto(Candidate(arch, cost, loss) for cost, loss in points)
    assert [(c.cost, c.loss) for c in front] == [(1, 9), (2, 5), (5, 1)]


def test_a_supernet_is_trained_and_searched(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    speech = synthesise_corpus(
        tmp_path / "speech", num_speakers=3, utterances_per_speaker=4, seconds=(0.5, 0.8), seed=1
    )
    settings = {
        "config.runner.total_steps": 2,
        "config.supernet.hidden_size": "[8, 16]",
        "config.supernet.num_hidden_layers": "[1, 2]",
        "config.pretrain_expert.datarc.train_batch_size": 2,
        "model.transformer.hidden_size": 16,
    }
    override = ",,".join(f"{key}={value}" for key, value in settings.items())
    run = str(tmp_path / "run")
    options = ["-g", "debug", "-c", "pretrain_debug", "--speech", str(speech), "-p", run, "--device", "cpu"]
    assert main(["pretrain", *options, "--seed", "2", "-o", override]) == 0
    before = {path: path.stat().st_mtime_ns for path in Path(run).rglob("*")}
    output = tmp_path / "search"
    command = ["search", run, "--params-max", "1e9", "--evaluations", "3", "-o", str(output), "--device", "cpu"]
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in Path(run).rglob("*")} == before
    assert {path.name for path in output.iterdir()} == {"arch.yaml", "pareto.csv", "candidates.csv", "pareto.png"}
    assert load_architecture(output / "arch.yaml").hidden_size in (8, 16)
    table = (output / "candidates.csv").read_bytes()
    assert table.count(b"\n") == 4 and b"\r" not in table
    assert main(["search", run, "--params-max", "5", "-o", str(tmp_path / "none"), "--device", "cpu"]) == 2
    assert "the smallest costs" in capsys.readouterr().err and not (tmp_path / "none").exists()
    assert main(command) == 2
    assert mentions(capsys.readouterr().err, output, "not empty")
    assert main(["search", str(Path(run) / "model.safetensors"), *command[2:4], "-o", str(tmp_path / "none")]) == 2
    assert mentions(capsys.readouterr().err, "model.safetensors", "training state")


def test_sub_networks_are_compared_by_the_units_of_the_run(tmp_path: Path) -> None:
    speech = synthesise_corpus(
        tmp_path / "speech", num_speakers=3, utterances_per_speaker=4, seconds=(0.5, 0.8), seed=1
    )
    settings = {
        "config.runner.total_steps": 1,
        "config.supernet.num_hidden_layers": "[1, 2]",
        "model.task.unit_weight": 1,
        "model.task.num_units": 4,
    }
    override = ",,".join(f"{key}={value}" for key, value in settings.items())
    run = tmp_path / "run"
    options = ["-g", "debug", "-c", "pretrain_debug", "--speech", str(speech), "-p", str(run), "--device", "cpu"]
    assert main(["pretrain", *options, "-o", override]) == 0
    (labels,) = run.glob("*.npy")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    found = load_run(run, None, "cpu").corpus.units
    assert found is not None and np.array_equal(found.read(0, 0, np.load(labels).size)[:, 0], np.load(labels))
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
