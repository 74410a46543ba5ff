"""Training states: everything that resuming needs, as states-STEP.ckpt."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from torch import Tensor

from s3prl_aalbert.checkpoint.content import (
    FORMAT,
    UNREADABLE,
    CheckpointError,
    check_content,
    check_regular,
    check_tensors,
    check_version,
    is_safetensors,
    looks_pickled,
    some_names,
)
from s3prl_aalbert.files import write_atomically
from s3prl_aalbert.model.config import ModelConfig, to_dict

STATE_VERSION = 1

STATES_PATTERN = "states-*.ckpt"


class TrainingState(TypedDict, total=False):
    """What a training state holds; ``config`` and ``model`` are always there."""

    format: str
    format_version: int
    step: int
    config: dict[str, object]
    """The model's."""
    pretrain_config: dict[str, Any]
    model: dict[str, Tensor]
    optimizer: dict[str, object]
    precision: dict[str, object]
    batches: dict[str, Any]
    """Where the stream of batches stands."""
    budget: dict[str, float]
    """Not in older states."""
    best_dev: float
    lowest_loss: float
    smoothed_loss: float | None
    seed: int
    codebook: str
    """Digest of the codebook whose units the unit head has learnt; empty without units."""


def save_training_state(path: Path, config: ModelConfig, state: Mapping[str, object]) -> None:
    """Write everything that resuming needs; ``state["model"]`` holds the weights, the rest plain values and tensors."""
    content = {"format": FORMAT, "format_version": STATE_VERSION, "config": to_dict(config), **state}
    write_atomically(path, lambda temporary: torch.save(content, temporary))


def load_training_state(path: Path) -> TrainingState:
    """Read a training state; only tensors and plain values are unpickled.

    Raises:
        CheckpointError: the file is missing, truncated, or a checkpoint of another kind.
    """
    check_regular(path)
    if is_safetensors(path):
        raise CheckpointError(f"{path}: is a release; expected a training state, {STATES_PATTERN}")
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = "holds pickled objects of another program, or is damaged" if looks_pickled(path) else "is damaged"
        raise CheckpointError(f"{path}: {reason}; expected a checkpoint written by `aalbert pretrain`") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: is a checkpoint of another kind; expected one written by `aalbert pretrain`")
    check_version(path, content.get("format_version"), STATE_VERSION)
    lacking = [key for key in ("config", "model") if not isinstance(content.get(key), Mapping)]
    if lacking:
        raise CheckpointError(f"{path}: is damaged: it lacks {some_names(lacking)}")
    seed = content.get("seed", 0)
    if not (isinstance(seed, int) and 0 <= seed < 2**63):
        raise CheckpointError(f"{path}: is damaged: its seed is {seed!r}")
    step = content.get("step")
    if step is not None and not (isinstance(step, int) and step >= 0):
        raise CheckpointError(f"{path}: is damaged: its step is {step!r}")
    check_tensors(path, content["model"])
    check_content(path, content)
    return cast(TrainingState, content)


def latest_state(folder: Path) -> Path | None:
    """Return the training state of the highest step in a folder, or None."""
    states = training_states(folder)
    return states[-1] if states else None


def training_states(folder: Path) -> list[Path]:
    """Return the states-STEP.ckpt of a folder, sorted by step; files with other names do not count."""
    states = [p for p in folder.glob(STATES_PATTERN) if p.stem.removeprefix("states-").isdecimal()]
    return sorted(states, key=step_of_state)


def step_of_state(path: Path) -> int:
    """Return STEP of a states-STEP.ckpt."""
    return int(path.stem.removeprefix("states-"))


def _check_archive(path: Path) -> None:
    """Compare the checksums that torch.save wrote, which torch.load does not check."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"bad checksum of {damaged}")
