"""Which model a run used: its label in tables and figures, what it is, how many parameters it has."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from s3prl_aalbert.architecture import load_architecture
from s3prl_aalbert.checkpoint import CONFIG_FILE, WEIGHTS_FILE, load_checkpoint
from s3prl_aalbert.config import ModelConfig, from_dict, load_model_config, read_yaml
from s3prl_aalbert.encoder import Encoder, InputEmbedding
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model import count_parameters
from s3prl_aalbert.published import packaged_folder, packaged_names
from s3prl_aalbert.supernet.extraction import extracted_config

logger = logging.getLogger(__name__)

FEATURES = "aalbert_features"
PRESETS = {
    "aalbert_3l": "aalbert_3l",
    "aalbert_6l": "aalbert_6l",
    "aalbert_12l": "aalbert_12l",
    "aalbert_mockingjay_3l": "mockingjay_3l",
    "aalbert_mockingjay_6l": "mockingjay_6l",
    "aalbert_mockingjay_12l": "mockingjay_12l",
}
"""Untrained upstreams and the packaged YAML each is built from."""
OWN_CHECKPOINT = ("aalbert_local", "aalbert_url")
NO_PARAMETERS = frozenset({FEATURES, "fbank", "fbank_no_cmvn", "mfcc", "mel", "linear", "spectrogram"})
"""Acoustic features: nothing in them is trained."""


class Run(Protocol):
    """What a downstream and a probing run have in common."""

    @property
    def folder(self) -> Path:
        """Where it is."""

    @property
    def args(self) -> Mapping[str, Any]:
        """Options that it was started with."""

    @property
    def upstream_params(self) -> int | None:
        """Weights of the upstream, None if unknown."""


@dataclass(frozen=True)
class ModelKey:
    """What tells one model from another."""

    upstream: str
    checkpoint: str = ""
    config: str = ""


@dataclass(frozen=True)
class Model:
    """A model as the report shows it."""

    key: ModelKey
    label: str
    """Short and unique in this report."""
    description: str
    parameters: int | None
    """Of encoder and input block, without the pre-training head; None where not known."""


def model_key(run: Run) -> ModelKey:
    """Return which model a run used; relative checkpoints are looked for from here and from above the run."""
    args = run.args
    upstream = str(args.get("upstream") or "unknown")
    checkpoint, config = args.get("upstream_ckpt"), args.get("upstream_model_config")
    # A packaged configuration is a bare name, which a run's folder may have as well: only files are meant.
    return ModelKey(upstream, _resolve(checkpoint, run.folder), _resolve(config, run.folder, Path.is_file))


def _resolve(path: Any, folder: Path, is_meant: Callable[[Path], bool] = Path.exists) -> str:
    """Return a path recorded by a run, which may be relative to any folder above the run's; as it stands if gone."""
    if not path:
        return ""
    name = Path(str(path)).expanduser()
    candidates = (base / name for base in (Path(), *folder.resolve().parents))
    found = next((candidate.resolve() for candidate in candidates if is_meant(candidate)), None)
    if found is None:
        return str(path)
    return str(found.parent if found.name == WEIGHTS_FILE else found)


def name_models(runs: Iterable[Run]) -> dict[ModelKey, Model]:
    """Describe every model of some runs, with labels that are unique: features, untrained ones, then by size."""
    recorded: dict[ModelKey, int | None] = {}
    for run in runs:
        key = model_key(run)
        recorded[key] = recorded.get(key) or run.upstream_params
    configs = {key: _config_of(key) for key in recorded}
    labels = _unique_labels(list(recorded), configs)
    models = {}
    for key, params in recorded.items():
        config = configs[key]
        parameters = 0 if key.upstream in NO_PARAMETERS else count_of(config) if config else params
        models[key] = Model(key, labels[key], _describe(key, config), parameters)
    return dict(sorted(models.items(), key=lambda item: _order(item[1])))


def _order(model: Model) -> tuple[Any, ...]:
    upstream = model.key.upstream
    ours = upstream in (*OWN_CHECKPOINT, *packaged_names())
    kinds = (upstream in NO_PARAMETERS, upstream in PRESETS, ours, True)
    unknown = model.parameters is None
    return (kinds.index(True), unknown, model.parameters or 0, natural_order(model.label))


def natural_order(text: str) -> tuple[tuple[int, str], ...]:
    """Return a sorting key that puts 3l before 12l."""
    parts = re.split(r"(\d+)", text)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)


def _config_of(key: ModelKey) -> ModelConfig | None:
    """Read the configuration of one of our models; None for others and, with a warning, where it is gone."""
    try:
        return upstream_config(key.upstream, key.checkpoint, key.config)
    except AalbertError as error:
        logger.warning("parameters not known: %s", error)
    return None


def upstream_config(upstream: str, checkpoint: str | None, config: str | None) -> ModelConfig | None:
    """Return the configuration of what ``-u UPSTREAM -k CHECKPOINT -g CONFIG`` means; None if it is none of our models.

    Raises:
        AalbertError: a file is gone or damaged.
    """
    if upstream in OWN_CHECKPOINT and checkpoint:
        whole = checkpoint_config(Path(checkpoint))
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
    with torch.device("meta"):  # shapes alone: no memory, no random numbers drawn
        return count_parameters(nn.ModuleList([InputEmbedding(config.input_dim, transformer), Encoder(transformer)]))


def family_name(config: ModelConfig) -> str:
    """Return the paper's name of a configuration, e.g. AALBERT-6L."""
    family = "AALBERT" if config.transformer.share_layer else "Mockingjay"
    return f"{family}-{config.transformer.num_hidden_layers}L"


def _describe(key: ModelKey, config: ModelConfig | None) -> str:
    if key.upstream == FEATURES:
        return "input acoustic features, nothing trained"
    if config is None:
        gone = key.upstream in OWN_CHECKPOINT
        return "checkpoint not found" if gone else "an upstream of S3PRL"
    transformer = config.transformer
    trained = "untrained, random weights" if key.upstream in PRESETS else "pre-trained"
    rate = config.samples_per_token / config.audio.sample_rate * 1000
    return f"{family_name(config)}, hidden size {transformer.hidden_size}, {rate:g} ms a token; {trained}"


def _unique_labels(keys: Sequence[ModelKey], configs: Mapping[ModelKey, ModelConfig | None]) -> dict[ModelKey, str]:
    """Give each model the shortest label that no other has, adding folders above the checkpoint as needed."""
    for depth in range(1, 12):
        labels = {key: _label(key, configs[key], depth) for key in keys}
        if len(set(labels.values())) == len(labels):
            return labels
    return {key: f"{_label(key, configs[key], 1)} #{number}" for number, key in enumerate(keys, start=1)}


def _label(key: ModelKey, config: ModelConfig | None, depth: int) -> str:
    if key.upstream == FEATURES:
        return "input features" + (f" ({_tail(key.config, depth)})" if key.config and depth > 1 else "")
    if key.upstream in PRESETS:
        return f"untrained {_tail(key.config, depth) if key.config else PRESETS[key.upstream]}"
    if key.upstream not in OWN_CHECKPOINT:
        return key.upstream + (f" {_tail(key.checkpoint, depth)}" if key.checkpoint else "")
    name = _tail(key.checkpoint, depth) + (f" {_tail(key.config, depth)}" if key.config else "")
    if config is None or _plain(family_name(config)) in _plain(name):
        return name
    return f"{name} ({family_name(config)})"


def _tail(path: str, depth: int) -> str:
    """Return the last ``depth`` parts of a path without suffix; a file keeps its folder as well."""
    parts = Path(path).with_suffix("").parts if Path(path).suffix in (".ckpt", ".yaml", ".pt") else Path(path).parts
    keep = depth + 1 if Path(path).suffix == ".ckpt" else depth
    return "/".join(parts[-keep:]).lstrip("/") or path


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
