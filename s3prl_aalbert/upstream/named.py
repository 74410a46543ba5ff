"""The model that the options -u, -k and -g name: its configuration, its name in the paper, its parameters."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from s3prl_aalbert.checkpoint.published import BY_URL, LOCAL, PRESETS, packaged_folder, packaged_names
from s3prl_aalbert.checkpoint.release import CONFIG_FILE, WEIGHTS_FILE, load_checkpoint
from s3prl_aalbert.compress.extraction import extracted_config
from s3prl_aalbert.model.aalbert import count_parameters
from s3prl_aalbert.model.config import ModelConfig, from_dict, load_model_config, read_yaml
from s3prl_aalbert.model.encoder import Encoder, InputEmbedding
from s3prl_aalbert.model.sub_network import load_architecture
from s3prl_aalbert.upstream.download import local_copy

OWN_CHECKPOINT = (*LOCAL, BY_URL)


def upstream_config(upstream: str, checkpoint: str | None, config: str | None) -> ModelConfig | None:
    """Return the configuration of ``-u UPSTREAM -k CHECKPOINT -g CONFIG``; None if it is not one of our models.

    The model at a URL is read from its local copy; nothing is downloaded.

    Raises:
        AalbertError: a file is missing or damaged.
    """
    if upstream in OWN_CHECKPOINT and checkpoint:
        whole = checkpoint_config(local_copy(checkpoint) if upstream == BY_URL else Path(checkpoint))
        return extracted_config(whole, load_architecture(Path(config))) if config else whole
    if upstream in packaged_names():
        return checkpoint_config(packaged_folder(upstream))
    return load_model_config(config or PRESETS[upstream]) if upstream in PRESETS else None


def checkpoint_config(path: Path) -> ModelConfig:
    """Return the configuration of a checkpoint, from the YAML of a release where possible."""
    beside = path / CONFIG_FILE
    if beside.is_file() and (path / WEIGHTS_FILE).is_file():
        return from_dict(ModelConfig, read_yaml(beside), str(beside))
    return load_checkpoint(path).config


def count_of(config: ModelConfig) -> int:
    """Return the parameters of encoder and input block (SPEC: what the paper's Table 1 counts)."""
    transformer = config.transformer
    with torch.device("meta"):  # only shapes: no memory, no random numbers
        return count_parameters(nn.ModuleList([InputEmbedding(config.input_dim, transformer), Encoder(transformer)]))


def family_of(config: ModelConfig) -> str:
    """Return "Mockingjay" where every one of several layers has weights of its own, else "AALBERT"."""
    groups = len(set(config.transformer.group_of_layer))
    return "Mockingjay" if groups == config.transformer.num_hidden_layers > 1 else "AALBERT"


def family_name(config: ModelConfig) -> str:
    """Return the paper's name of a configuration, e.g. AALBERT-6L."""
    return f"{family_of(config)}-{config.transformer.num_hidden_layers}L"
