"""The sub-networks of a supernet, and how they are drawn (LightHuBERT, arXiv 2203.15610, section 3.1)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from s3prl_aalbert.model.config import TransformerConfig
from s3prl_aalbert.model.sub_network import Architecture, full_architecture


@dataclass(frozen=True)
class SearchSpace:
    """The choices for each size; without choices it is the model's own. Heads and inner sizes vary by layer."""

    hidden_size: tuple[int, ...] = ()
    """Widths of the tokens."""
    num_hidden_layers: tuple[int, ...] = ()
    """Depths."""
    num_attention_heads: tuple[int, ...] = ()
    """Heads of a layer."""
    intermediate_size: tuple[int, ...] = ()
    """Widths inside a feed-forward block."""
    sampling: Literal["random", "sandwich"] = "random"
    """Sub-networks per training step: "random" is one, "sandwich" the largest, the smallest and a random one."""

    def problems(self) -> list[str]:
        """Return what makes these values unusable."""
        found = []
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
            if min(getattr(self, name), default=1) < 1:
                found.append(f"supernet.{name} has {min(getattr(self, name))}, expected at least 1")
        return found

    def fit_problems(self, config: TransformerConfig) -> list[str]:
        """Return why some of these are not sub-networks of a model with ``config``."""
        largest, smallest = extreme(self, config, max), extreme(self, config, min)
        found = [*largest.problems(config), *smallest.problems(config)]
        if not found and largest != full_architecture(config):
            found.append(f"the largest choice, {largest}, is not the whole model: some weights would stay untrained")
        return [f"supernet: {problem}" for problem in dict.fromkeys(found)]


def extreme(space: SearchSpace, config: TransformerConfig, best: Callable[[Sequence[int]], int]) -> Architecture:
    """Return the largest (``max``) or smallest (``min``) sub-network."""
    full = full_architecture(config)
    depth = best(space.num_hidden_layers or (config.num_hidden_layers,))
    heads = tuple(best(space.num_attention_heads or (most,)) for most in full.num_attention_heads[:depth])
    inner = tuple(best(space.intermediate_size or (most,)) for most in full.intermediate_size[:depth])
    return Architecture(best(space.hidden_size or (config.hidden_size,)), heads, inner)


def draw(space: SearchSpace, config: TransformerConfig, dice: random.Random) -> Architecture:
    """Draw a sub-network, each choice with equal probability; a reusing layer has at most its source's heads."""
    full = full_architecture(config)
    depth = dice.choice(space.num_hidden_layers or (config.num_hidden_layers,))
    heads: list[int] = []
    source = 0
    for layer in range(depth):
        choices = space.num_attention_heads or (full.num_attention_heads[layer],)
        if config.reuses_attention[layer]:
            choices = tuple(choice for choice in choices if choice <= heads[source]) or (heads[source],)
        else:
            source = layer
        heads.append(dice.choice(choices))
    inner = tuple(dice.choice(space.intermediate_size or (full.intermediate_size[layer],)) for layer in range(depth))
    return Architecture(dice.choice(space.hidden_size or (config.hidden_size,)), tuple(heads), inner)


def architectures_of_step(
    space: SearchSpace | None, config: TransformerConfig, seed: int, step: int
) -> list[Architecture | None]:
    """Return the sub-networks that a training step runs, the same on every process; [None] is the whole model."""
    if space is None:
        return [None]
    drawn = draw(space, config, random.Random(f"{seed} {step}"))
    if space.sampling == "random":
        return [drawn]
    return [extreme(space, config, max), drawn, extreme(space, config, min)]


def count_architectures(space: SearchSpace, config: TransformerConfig) -> int:
    """Return the number of sub-networks, without regard to attention reuse."""
    per_layer = max(1, len(set(space.num_attention_heads))) * max(1, len(set(space.intermediate_size)))
    depths = set(space.num_hidden_layers) or {config.num_hidden_layers}
    return max(1, len(set(space.hidden_size))) * sum(per_layer**depth for depth in depths)
