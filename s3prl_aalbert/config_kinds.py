"""The kinds of configuration, recognised by their keys: a message can name the kind that a file really is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from s3prl_aalbert.yaml_config import ConfigError, read_yaml

Kind = Literal["task", "pretraining", "sweep", "model", "sub-network"]
MARKS: dict[Kind, tuple[str, ...]] = {  # the first match counts: tasks and pre-trainings share keys
    "task": ("downstream_expert",),
    "pretraining": ("pretrain_expert", "distill", "stages", "units"),
    "sweep": ("models", "tasks"),
    "model": ("transformer", "audio"),
    "sub-network": ("num_attention_heads", "intermediate_size"),
}
MEANINGS: dict[Kind, str] = {
    "task": "a task's (-c of `aalbert downstream` and `probe`)",
    "pretraining": "a pre-training's (-c of `aalbert pretrain` and `distill`)",
    "sweep": "a grid's (`aalbert sweep`)",
    "model": "a model's (-g of `aalbert pretrain`, and of untrained upstreams)",
    "sub-network": "a sub-network's (-g beside -k, and --arch)",
}


def kind_of(values: Mapping[str, object]) -> Kind | None:
    """Return the kind of a configuration; None where its keys do not show it."""
    return next((kind for kind, marks in MARKS.items() if any(mark in values for mark in marks)), None)


def read_config(path: Path, kind: Kind) -> dict[str, object]:
    """Read a configuration of one kind.

    Raises:
        ConfigError: the file cannot be read, or is clearly a configuration of another kind.
    """
    values = read_yaml(path)
    found = kind_of(values)
    if found not in (None, kind):
        raise ConfigError(f"{path}: this configuration is {MEANINGS[found]}, expected {MEANINGS[kind]}")
    return values
