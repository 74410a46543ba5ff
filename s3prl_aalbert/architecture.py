"""The sizes that one forward pass uses: those of the whole model, or of a sub-network made of prefix slices.

A sub-network keeps the first values of the hidden size, the first heads and the first inner values of each layer, and
the first layers (LightHuBERT, arXiv 2203.15610). It is an argument of ``forward``; no module remembers one.
"""

from __future__ import annotations

from dataclasses import dataclass

from s3prl_aalbert.config import TransformerConfig, reuse_problems


@dataclass(frozen=True)
class LayerArchitecture:
    """One layer of a sub-network."""

    num_attention_heads: int
    intermediate_size: int
    reuses: bool
    """Takes the attention map of the layer before instead of computing its own."""
    lends: bool
    """The next layer takes its map: it must be formed explicitly."""


@dataclass(frozen=True)
class Architecture:
    """A sub-network's sizes; sequences have one entry a layer."""

    hidden_size: int
    num_attention_heads: tuple[int, ...]
    intermediate_size: tuple[int, ...]

    @property
    def num_hidden_layers(self) -> int:
        """How many of the first layers are run."""
        return len(self.num_attention_heads)

    def layers(self, config: TransformerConfig) -> list[LayerArchitecture]:
        """Return what each layer does, with the reuse pattern of ``config``."""
        reuses = config.reuses_attention[: self.num_hidden_layers]
        lends = [*reuses[1:], False]
        sizes = zip(self.num_attention_heads, self.intermediate_size, reuses, lends, strict=True)
        return [LayerArchitecture(*size) for size in sizes]

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


def full_architecture(config: TransformerConfig) -> Architecture:
    """Return the sizes of the whole model."""
    return Architecture(config.hidden_size, config.heads_of_layer, config.intermediate_size_of_layer)
