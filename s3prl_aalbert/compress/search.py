"""Searches the best sub-network within a budget, at random or by evolution (LightHuBERT, arXiv 2203.15610).

The cost is cheap to compute, so a candidate over the budget is never evaluated.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from s3prl_aalbert.compress.space import SearchSpace, draw, extreme
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import TransformerConfig
from s3prl_aalbert.model.sub_network import Architecture, full_architecture

PARENTS = 8
"""Number of best candidates that are the parents of the next generation."""
MUTATION = 0.2
"""Probability that a size mutates: it is drawn anew."""
PATIENCE = 200
"""Number of draws without a new candidate within the budget after which the search ends."""


@dataclass(frozen=True)
class Candidate:
    """An evaluated sub-network."""

    arch: Architecture
    cost: float
    loss: float


@dataclass(frozen=True)
class Problem:
    """A search: its space, its budget, and how cost and loss are computed."""

    space: SearchSpace
    config: TransformerConfig
    cost: Callable[[Architecture], float]
    budget: float
    loss: Callable[[Architecture], float]


def random_search(problem: Problem, evaluations: int, dice: random.Random) -> list[Candidate]:
    """Evaluate different random sub-networks within the budget, or all of them if there are fewer.

    Raises:
        AalbertError: not even the smallest is within the budget.
    """
    return _evaluate_new(problem, evaluations, {}, lambda: draw(problem.space, problem.config, dice))


def evolutionary_search(problem: Problem, evaluations: int, dice: random.Random) -> list[Candidate]:
    """Evaluate a random quarter, then children of the best: crossings of two parents with mutations.

    Raises:
        AalbertError: not even the smallest is within the budget.
    """
    seen: dict[Architecture, Candidate] = {}
    first = min(evaluations, max(2, evaluations // 4))
    found = _evaluate_new(problem, first, seen, lambda: draw(problem.space, problem.config, dice))
    while len(found) < evaluations:
        parents = sorted(found, key=lambda candidate: candidate.loss)[:PARENTS]
        generation = min(PARENTS, evaluations - len(found))
        children = _evaluate_new(problem, generation, seen, lambda parents=parents: _child(problem, parents, dice))  # type: ignore[misc]
        if not children:
            break
        found += children
    return found


def _evaluate_new(
    problem: Problem, count: int, seen: dict[Architecture, Candidate], propose: Callable[[], Architecture]
) -> list[Candidate]:
    """Evaluate ``count`` proposals that are new and within the budget."""
    found: list[Candidate] = []
    failures = 0
    while len(found) < count and failures < PATIENCE:
        arch = propose()
        cost = problem.cost(arch) if arch not in seen else float("inf")
        if cost > problem.budget:
            failures += 1
            continue
        failures = 0
        seen[arch] = Candidate(arch, cost, problem.loss(arch))
        found.append(seen[arch])
    if not seen:
        found.append(_smallest(problem))
        seen[found[0].arch] = found[0]
    return found


def _smallest(problem: Problem) -> Candidate:
    """Evaluate the smallest sub-network, which is rarely drawn: the start of a search with a narrow budget."""
    arch = extreme(problem.space, problem.config, min)
    cost = problem.cost(arch)
    if cost > problem.budget:
        raise AalbertError(f"no sub-network is within {problem.budget:g}; the smallest costs {cost:g}")
    return Candidate(arch, cost, problem.loss(arch))


def _child(problem: Problem, parents: list[Candidate], dice: random.Random) -> Architecture:
    first, second = dice.choice(parents).arch, dice.choice(parents).arch
    fresh = draw(problem.space, problem.config, dice)

    def pick(own: int, other: int, new: int) -> int:
        return new if dice.random() < MUTATION else dice.choice((own, other))

    depth = pick(first.num_hidden_layers, second.num_hidden_layers, fresh.num_hidden_layers)
    full = full_architecture(problem.config)
    layers: dict[str, list[int]] = {"num_attention_heads": [], "intermediate_size": []}
    for name, values in layers.items():
        choices = getattr(problem.space, name)
        for layer in range(depth):
            known = [getattr(arch, name)[layer] for arch in (first, second) if arch.num_hidden_layers > layer]
            new = dice.choice(choices) if choices else getattr(full, name)[layer]
            values.append(pick(known[0], known[-1], new) if known else new)
    heads = _within_sources(layers["num_attention_heads"], problem.config)
    size = pick(first.hidden_size, second.hidden_size, fresh.hidden_size)
    return Architecture(size, heads, tuple(layers["intermediate_size"]))


def _within_sources(heads: list[int], config: TransformerConfig) -> tuple[int, ...]:
    """Give a layer that reuses a map no more heads than the layer that computed it."""
    result: list[int] = []
    source = 0
    for layer, count in enumerate(heads):
        if config.reuses_attention[layer]:
            result.append(min(count, result[source]))
        else:
            source = layer
            result.append(count)
    return tuple(result)


def pareto(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates that no other one beats in both cost and loss, cheapest first."""
    front: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.cost, c.loss)):
        if not front or candidate.loss < front[-1].loss:
            front.append(candidate)
    return front


def table(candidates: Iterable[Candidate], unit: str) -> str:
    """Return candidates as CSV; sizes of layers are separated by blanks.

    Args:
        candidates: the rows, in this order.
        unit: unit of the cost, which is the name of its column.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["dev_loss", unit, "hidden_size", "num_attention_heads", "intermediate_size"])
    for candidate in candidates:
        arch = candidate.arch
        sizes = (" ".join(map(str, values)) for values in (arch.num_attention_heads, arch.intermediate_size))
        writer.writerow([f"{candidate.loss:.6f}", f"{candidate.cost:g}", arch.hidden_size, *sizes])
    return text.getvalue()
