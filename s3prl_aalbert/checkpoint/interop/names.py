"""Tables of the names that each program gives to its weights and settings.

All programs name a layer's weights as BERT does, so that one table serves all of them in both directions.
"""

from __future__ import annotations

from dataclasses import dataclass

from s3prl_aalbert.model.config import TransformerConfig

LAYER_NAMES = {  # theirs -> ours, inside one layer
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "attention_output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "intermediate",
    "output.dense": "output",
    "output.LayerNorm": "output_norm",
}
INPUT_NAMES = {"spec_transform": "projection", "LayerNorm": "norm"}
HEAD_NAMES = {"dense": "dense", "LayerNorm": "norm", "output": "output"}
MODEL, HEAD = "model.", "head."


@dataclass(frozen=True)
class Layout:
    """The names of the modules that hold those weights."""

    inputs: str
    """The input block."""
    layer: str
    """A layer, with ``{}`` for its number; without it, all layers are one module."""


S3PRL = Layout("input_representations", "encoder.layer.{}")
ALBERT_NEW_SHARED = Layout("input_representations", "encoder.layer")
LIGHTNING = Layout("input_reps", "encoder.layer.{}")

TRANSFORMER_KEYS = (  # S3PRL and AlbertNew use the names of ours
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
    "layer_norm_eps",
)
LIGHTNING_KEYS = {  # pohanchi/AALBERT's section and key -> ours
    ("common", "hidden_dim"): "hidden_size",
    ("common", "num_layers"): "num_hidden_layers",
    ("attention", "attention_head"): "num_attention_heads",
    ("fully_connected", "intermediate_dim"): "intermediate_size",
    ("common", "act_fn"): "hidden_act",
    ("common", "init_range"): "initializer_range",
    ("common", "norm_eps"): "layer_norm_eps",
    ("common", "share_across_layer"): "share_layer",
    ("transform", "downsample_rate"): "downsample_rate",
}


def with_kinds(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return (theirs, ours) of the weight and the bias of each module."""
    return [(f"{theirs}.{kind}", f"{ours}.{kind}") for theirs, ours in pairs for kind in ("weight", "bias")]


def encoder_table(layout: Layout, transformer: TransformerConfig) -> list[tuple[str, str]]:
    """Return (theirs, ours) for every tensor of the encoder; our names repeat where layers share weights."""
    pairs = [(f"{layout.inputs}.{theirs}", f"embedding.{ours}") for theirs, ours in INPUT_NAMES.items()]
    for layer, group in enumerate(transformer.group_of_layer):
        where = layout.layer.format(layer)
        pairs += [(f"{where}.{theirs}", f"encoder.groups.{group}.{ours}") for theirs, ours in LAYER_NAMES.items()]
    return with_kinds(pairs)
