"""The sizes that one forward pass uses: those of the whole model, or of a sub-network made of prefix slices.

A sub-network keeps the first values of the hidden size, the first heads and the first inner values of each layer, and
the first layers (LightHuBERT, arXiv 2203.15610). It is an argument of ``forward``; no module stores one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from s3prl_aalbert.model.config import TransformerConfig, from_dict, read_config, reuse_problems


class LayerArchitecture(NamedTuple):
    """One layer of a sub-network."""

    num_attention_heads: int
    intermediate_size: int
    reuses: bool
    """Whether the layer reuses the attention map of the layer before."""
    is_reused: bool
    """Whether the next layer reuses this layer's attention map, which must then be computed explicitly."""


class Architecture(NamedTuple):
    """A sub-network's sizes; sequences have one entry per layer."""

    hidden_size: int
    num_attention_heads: tuple[int, ...]
    intermediate_size: tuple[int, ...]

    @property
    def num_hidden_layers(self) -> int:
        """How many of the first layers are run."""
        return len(self.num_attention_heads)

    def layers(self, config: TransformerConfig) -> list[LayerArchitecture]:
        """Return the sizes of each layer, with the reuse pattern of ``config``."""
        reuses = config.reuses_attention[: self.num_hidden_layers]
        is_reused = [*reuses[1:], False]
        sizes = zip(self.num_attention_heads, self.intermediate_size, reuses, is_reused, strict=True)
        return [LayerArchitecture(*size) for size in sizes]

    def first_layers(self, depth: int) -> Architecture:
        """Return the sub-network of its first ``depth`` layers, 1 or more."""
        return self._replace(
            num_attention_heads=self.num_attention_heads[:depth], intermediate_size=self.intermediate_size[:depth]
        )

    def problems(self, config: TransformerConfig) -> list[str]:
        """Return why this is no sub-network of a model with ``config``, one sentence each."""
        depth = self.num_hidden_layers
        if depth != len(self.intermediate_size):
            return [f"{depth} layers have heads, {len(self.intermediate_size)} have an intermediate_size"]
        found = []
        largest = full_architecture(config)
        if not 1 <= depth <= largest.num_hidden_layers:
            return [f"num_hidden_layers is {depth}, expected 1 to {largest.num_hidden_layers}"]
        if not 1 <= self.hidden_size <= largest.hidden_size:
            found.append(f"hidden_size is {self.hidden_size}, expected 1 to {largest.hidden_size}")
        for name in ("num_attention_heads", "intermediate_size"):
            for layer, (value, most) in enumerate(zip(getattr(self, name), getattr(largest, name), strict=False)):
                if not 1 <= value <= most:
                    found.append(f"{name} of layer {layer} is {value}, expected 1 to {most}")
        return found + reuse_problems(config.reuses_attention[:depth], self.num_attention_heads)


@dataclass(frozen=True)
class ArchitectureConfig:
    """A sub-network as in YAML (``arch.yaml``): one number for all layers, or a list with one per layer."""

    hidden_size: int
    """Width of the tokens: the model's first values."""
    num_hidden_layers: int
    """Number of layers: the model's first ones."""
    num_attention_heads: int | tuple[int, ...]
    """Heads of a layer: the model's first ones."""
    intermediate_size: int | tuple[int, ...]
    """Inner width of a feed-forward block: the model's first values."""

    def problems(self) -> list[str]:
        """Return what makes these values unusable."""
        found = []
        for name in ("num_attention_heads", "intermediate_size"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != self.num_hidden_layers:
                found.append(f"{name} has {len(value)} entries, expected {self.num_hidden_layers}, one a layer")
        return found


def load_architecture(path: Path) -> Architecture:
    """Read a sub-network from YAML.

    Raises:
        ConfigError: the file or a value is unusable.
    """
    config = from_dict(ArchitectureConfig, read_config(path, "sub-network"), str(path))
    depth = config.num_hidden_layers

    def by_layer(value: int | tuple[int, ...]) -> tuple[int, ...]:
        return (value,) * depth if isinstance(value, int) else value

    return Architecture(config.hidden_size, by_layer(config.num_attention_heads), by_layer(config.intermediate_size))


def architecture_yaml(arch: Architecture) -> str:
    """Return what ``load_architecture`` reads."""
    values = {
        "hidden_size": arch.hidden_size,
        "num_hidden_layers": arch.num_hidden_layers,
        "num_attention_heads": list(arch.num_attention_heads),
        "intermediate_size": list(arch.intermediate_size),
    }
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None)


def full_architecture(config: TransformerConfig) -> Architecture:
    """Return the sizes of the whole model."""
    return Architecture(config.hidden_size, config.heads_of_layer, config.intermediate_size_of_layer)
