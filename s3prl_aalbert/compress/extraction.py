"""Extracts a sub-network of a model as a smaller checkpoint with exactly the same outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from s3prl_aalbert.checkpoint.content import CheckpointError
from s3prl_aalbert.checkpoint.interop.releases import keep_training_list
from s3prl_aalbert.checkpoint.release import CARD_FILE, PROJECTIONS, Checkpoint, save_release
from s3prl_aalbert.model.aalbert import AalbertModel, count_parameters
from s3prl_aalbert.model.config import ModelConfig, TransformerConfig
from s3prl_aalbert.model.sub_network import Architecture

LAYER = re.compile(r"^(?P<prefix>(?:model\.)?encoder\.groups\.)(?P<group>\d+)\.(?P<part>\w+)\.(?P<kind>weight|bias)$")


def extracted_config(config: ModelConfig, arch: Architecture) -> ModelConfig:
    """Return the configuration of a sub-network as a model of its own.

    Raises:
        CheckpointError: ``arch`` is not a sub-network of a model with ``config``.
    """
    transformer = config.transformer
    problems = arch.problems(transformer)
    if problems:
        raise CheckpointError("not a sub-network of the model: " + "; ".join(problems))
    depth, heads, inner = arch.num_hidden_layers, arch.num_attention_heads, arch.intermediate_size
    groups = transformer.group_of_layer[:depth]
    names = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    reuse = transformer.reuse_pattern
    return replace(
        config,
        transformer=replace(
            transformer,
            hidden_size=arch.hidden_size,
            num_hidden_layers=depth,
            num_attention_heads=max(heads),
            intermediate_size=max(inner),
            # Explicit values: the defaults would follow from the smaller sizes, and differ from the supernet's.
            num_hidden_groups=None,
            layer_groups=tuple(names[group] for group in groups),
            reuse_pattern=None if reuse is None else reuse[:depth],
            attention_head_size=transformer.head_dim,
            position_encoding_size=transformer.position_encoding_size or transformer.hidden_size,
            layer_attention_heads=None if len(set(heads)) == 1 else heads,
            layer_intermediate_sizes=None if len(set(inner)) == 1 else inner,
        ),
    )


def extract(state: Mapping[str, Tensor], config: ModelConfig, arch: Architecture) -> dict[str, Tensor]:
    """Extract the weights of a sub-network from those of its model.

    Args:
        state: weights by name, of ``objective.MaskedPrediction`` or ``model.AalbertModel``.
        config: the model's configuration.
        arch: the sub-network.

    Returns:
        Contiguous copies, which load into a model of ``extracted_config(config, arch)``.
    """
    small = extracted_config(config, arch).transformer
    groups = list(dict.fromkeys(config.transformer.group_of_layer[: arch.num_hidden_layers]))
    computing = {
        group for group, reuses in zip(small.group_of_layer, small.reuses_attention, strict=True) if not reuses
    }
    result = {}
    for name, tensor in state.items():
        match = LAYER.match(name)
        if "acoustics." in name:  # statistics of the corpus, the same for every sub-network
            result[name] = tensor.clone()
            continue
        if name.endswith("hidden_means"):
            result[name] = _cut(tensor, (small.num_hidden_layers + 1, small.hidden_size))
            continue
        if match is None:
            result[name] = _cut(tensor, _sizes_outside_layers(name, tensor, small))
            continue
        if int(match["group"]) not in groups:
            continue  # the layer is not kept
        group = groups.index(int(match["group"]))
        if match["part"] in ("query", "key") and group not in computing:
            continue  # the layers that computed attention with it are not kept
        target = f"{match['prefix']}{group}.{match['part']}.{match['kind']}"
        result[target] = _cut(tensor, _layer_sizes(match["part"], small)[: tensor.dim()])
    return result


def _cut(tensor: Tensor, sizes: tuple[int, ...]) -> Tensor:
    return tensor[tuple(slice(size) for size in sizes)].clone()


def _layer_sizes(part: str, config: TransformerConfig) -> tuple[int, int]:
    """Return (outputs, inputs) of a part of a layer."""
    hidden, attention = config.hidden_size, config.num_attention_heads * config.head_dim
    if part in ("query", "key", "value"):
        return attention, hidden
    sizes = {"attention_output": (hidden, attention), "intermediate": (config.intermediate_size, hidden)}
    sizes["output"] = (hidden, config.intermediate_size)
    return sizes.get(part, (hidden, hidden))  # LayerNorms


def _sizes_outside_layers(name: str, tensor: Tensor, config: TransformerConfig) -> tuple[int, ...]:
    """Return the sizes of a weight of the input embedding or of a head."""
    rows, columns = tensor.shape[0], tensor.shape[-1]
    hidden, narrow = config.hidden_size, config.embedding_size
    module, part, _ = name.rsplit(".", 2)
    if (module.endswith("embedding"), part) == (True, "projection"):
        sizes = (rows if narrow else hidden, columns)  # the input keeps its size
    elif part == "position_convolution":
        sizes = (hidden, *tensor.shape[1:])
    elif part == "expansion":
        sizes = (hidden, columns)
    elif part == "reduction":
        sizes = (rows, hidden)
    elif part == "output":
        sizes = (rows, columns if narrow else hidden)
    else:  # dense, norm
        sizes = (hidden, hidden)
    return sizes[: tensor.dim()]


def write_sub_network(checkpoint: Checkpoint, arch: Architecture, folder: Path) -> tuple[int, int]:
    """Write a sub-network of a model as a release of its own.

    Returns:
        The parameters of encoder and input block, in the sub-network and in the model.

    Raises:
        CheckpointError: ``arch`` is not a sub-network of the model.
    """
    config = extracted_config(checkpoint.config, arch)
    kept = {name: tensor for name, tensor in checkpoint.state.items() if not name.startswith(PROJECTIONS)}
    state = extract(kept, checkpoint.config, arch)
    own, whole = (count_parameters(AalbertModel(each)) for each in (config, checkpoint.config))
    info = {**checkpoint.info, "extracted_from": str(checkpoint.path), "supernet": None}
    card = _front_matter(checkpoint.path.parent / CARD_FILE) + _card(checkpoint.path, own, whole)
    save_release(folder, config, state, card, info)
    keep_training_list(checkpoint, folder)
    return own, whole


def _front_matter(card: Path) -> str:
    """Return the fields of the whole model's card for the Hugging Face Hub, with its licence."""
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    found = re.match(r"---\n.*?\n---\n", text, flags=re.DOTALL)
    return f"{found.group()}\n" if found else ""


def _card(path: Path, own: int, whole: int) -> str:
    name = path.name if path.suffix == ".ckpt" else path.parent.name
    return f"""# Sub-network of {name}

{own:,} of {whole:,} parameters (encoder and input block), extracted with `aalbert convert --arch`.
Its outputs are exactly those of the supernet run with these sizes.

Use it with S3PRL: `aalbert downstream -m train -u aalbert_local -k THIS_FOLDER -d aalbert_phone -n NAME`.
"""
