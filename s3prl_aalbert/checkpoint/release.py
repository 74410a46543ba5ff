"""Releases (safetensors with configuration and card), and reading a model from a release or a training state."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import yaml
from torch import Tensor, nn

from s3prl_aalbert.checkpoint.content import (
    FORMAT,
    CheckpointError,
    check_content,
    check_regular,
    check_version,
    is_safetensors,
    some_names,
)
from s3prl_aalbert.checkpoint.published import located
from s3prl_aalbert.checkpoint.training_state import STATES_PATTERN, latest_state, load_training_state, step_of_state
from s3prl_aalbert.errors import is_url
from s3prl_aalbert.files import write_atomically, write_text
from s3prl_aalbert.model.config import ModelConfig, from_dict, read_yaml, to_dict

logger = logging.getLogger(__name__)

RELEASE_VERSION = 3
"""Version 2 added the checksum ``sha256``; releases of version 1 still load, unchecked. Version 3 moved this program's
name from ``format`` to ``program``, since transformers reads only files whose ``format`` is ``pt``."""

CHECKSUM = "sha256"

WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "model.safetensors", "config.yaml", "README.md"

TRANSFORMERS_FILE = "config.json"

MODEL_PREFIX = "model."
"""Prefix of the representation model's weights; the others belong to pre-training heads."""

HIDDEN_MEANS = f"{MODEL_PREFIX}hidden_means"
"""What a centred model takes from its hidden states."""

PROJECTIONS = "projections."
"""Prefix of a student's projections to its teacher."""


@dataclass(frozen=True)
class Checkpoint:
    """A pre-trained model as read from disk."""

    path: Path
    config: ModelConfig
    state: dict[str, Tensor]
    """Weights by name, as ``objective.MaskedPrediction`` has them."""
    info: dict[str, Any]
    """Plain values recorded with the weights, such as ``step``."""

    @property
    def model_state(self) -> dict[str, Tensor]:
        """The weights of the representation model alone, as ``model.AalbertModel`` names them, in float32."""
        return {
            name.removeprefix(MODEL_PREFIX): tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in self.state.items()
            if name.startswith(MODEL_PREFIX)
        }


def save_release(
    folder: Path,
    config: ModelConfig,
    state: Mapping[str, Tensor],
    card: str,
    info: Mapping[str, object] | None = None,
) -> None:
    """Write a release: model.safetensors (its metadata alone suffices to load it), config.yaml and README.md.

    A student's projections to its teacher are not written.
    """
    metadata = {
        "format": "pt",
        "program": FORMAT,
        "format_version": str(RELEASE_VERSION),
        "config": json.dumps(to_dict(config)),
        "info": json.dumps(dict(info or {})),
    }
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(PROJECTIONS)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in kept.items()}
    metadata[CHECKSUM] = content_digest(metadata, tensors)
    write_atomically(folder / WEIGHTS_FILE, lambda temporary: safetensors.torch.save_file(tensors, temporary, metadata))
    write_text(folder / CONFIG_FILE, yaml.safe_dump(to_dict(config), sort_keys=False))
    write_text(folder / CARD_FILE, card)


def content_digest(metadata: Mapping[str, str], state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a release's content: its metadata without the checksum, then every tensor by name."""
    described = {key: value for key, value in metadata.items() if key != CHECKSUM}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(state):
        tensor = state[name].contiguous()
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a pre-trained model.

    Args:
        path: a release folder, its model.safetensors, a pre-training folder (the latest states-*.ckpt is read), one
            training state, or the name of a model that comes with the package.

    Raises:
        CheckpointError: there is no usable checkpoint.
    """
    if is_url(path):
        raise CheckpointError(f"{path}: is a URL, expected a file or folder; -u aalbert_url downloads")
    path = located(path)
    if path.is_dir():
        path = _find_in_folder(path)
    check_regular(path)
    if is_safetensors(path):
        return _load_release(path)
    content = load_training_state(path)
    config = from_dict(ModelConfig, content["config"], str(path))
    known: dict[str, Any] = {key: value for key, value in content.items() if key in ("step", "codebook")}
    return Checkpoint(path, config, content["model"], known)


def newest_in(folder: Path) -> Path | None:
    """Return the file that a folder is loaded from: its release, or a training state after it; None without either."""
    release, state = folder / WEIGHTS_FILE, latest_state(folder)
    if release.is_file() and (state is None or step_of_state(state) <= _step_of_release(release)):
        return release
    return state


def _find_in_folder(folder: Path) -> Path:
    found = newest_in(folder)
    if found is None:
        raise CheckpointError(f"{folder}: holds neither {WEIGHTS_FILE} nor {STATES_PATTERN}")
    if found.name != WEIGHTS_FILE:
        older = f", which is newer than {WEIGHTS_FILE}" if (folder / WEIGHTS_FILE).is_file() else ""
        logger.info("%s: taking the latest training state, %s%s", folder, found.name, older)
    return found


def _step_of_release(path: Path) -> float:
    """Return the step of a release; infinity if unknown, so that loading it reports what is wrong."""
    unreadable = (safetensors.SafetensorError, OSError, ValueError, TypeError, AttributeError, RecursionError)
    with contextlib.suppress(*unreadable):
        with safetensors.safe_open(path, framework="pt") as file:
            step = json.loads((file.metadata() or {}).get("info", "{}")).get("step")
        return math.inf if step is None else float(step)
    return math.inf


def _load_release(path: Path) -> Checkpoint:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: is damaged or no safetensors file ({error})") from error
    if metadata.get("program", metadata.get("format")) != FORMAT:
        metadata = _saved_by_transformers(path)
    try:
        version, values = int(metadata["format_version"]), json.loads(metadata["config"])
        info = json.loads(metadata.get("info", "{}"))
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its metadata is damaged ({error})") from error
    check_content(path, {"config": values, "info": info, "weights": state})
    if not isinstance(info, dict):
        raise CheckpointError(f"{path}: its metadata is damaged (info is {type(info).__name__}, expected a mapping)")
    check_version(path, version, RELEASE_VERSION)
    # Only version 1 was written without a checksum.
    if version > 1 and metadata.get(CHECKSUM) != content_digest(metadata, state):
        raise CheckpointError(f"{path}: does not match its own checksum: it was changed after it was written")
    config = from_dict(ModelConfig, values, str(path))
    beside = path.parent / CONFIG_FILE
    if beside.is_file() and from_dict(ModelConfig, read_yaml(beside), str(beside)) != config:
        raise CheckpointError(f"{beside}: differs from the configuration inside {path.name}; restore or remove it")
    return Checkpoint(path, config, state, info)


def _saved_by_transformers(path: Path) -> dict[str, str]:
    """Return a release's metadata from the config.json of a model that transformers saved.

    Raises:
        CheckpointError: the file is missing, or belongs to another model.
    """
    beside = path.parent / TRANSFORMERS_FILE
    try:
        content = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{beside}: is damaged ({error})") from error
    if not isinstance(content, dict) or content.get("model_type") != "aalbert":
        raise CheckpointError(f"{path}: is a safetensors file of another program (no {FORMAT} metadata)")
    sections = {key: content[key] for key in ("transformer", "audio", "task") if key in content}
    return {"format_version": "1", "config": json.dumps(sections)}  # 1 had no checksum


def load_weights(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Copy weights into a module, all of them or none.

    Raises:
        CheckpointError: weights are missing or unknown, or a shape or type differs.
    """
    own = module.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    wrong = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    problems = [f"lacks {some_names(missing)}"] if missing else []
    problems += [f"has unknown {some_names(extra)}"] if extra else []
    problems += [
        f"{name} has shape {tuple(state[name].shape)}, expected {tuple(own[name].shape)}" for name in sorted(wrong)[:3]
    ]
    problems += [
        f"{name} is of type {state[name].dtype}, expected floating point"
        for name in sorted(own.keys() & state.keys())
        if own[name].is_floating_point() and not state[name].is_floating_point()
    ][:3]
    if problems:
        raise CheckpointError(f"{path}: does not fit the model: " + "; ".join(problems))
    module.load_state_dict(dict(state))
