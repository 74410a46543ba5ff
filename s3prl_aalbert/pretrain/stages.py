"""Recipes: a runner YAML with ``stages``, runs one after the other, each of which may learn from an earlier one.

A stage changes keys of the model and the runner. Each but the last is a run of its own in EXPDIR/NAME; the last one's
folder is EXPDIR, so that ``-k EXPDIR`` is the recipe's model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from s3prl_aalbert.errors import did_you_mean
from s3prl_aalbert.model.config import ConfigError, ModelConfig, from_dict
from s3prl_aalbert.pretrain.config import PretrainConfig
from s3prl_aalbert.speech.finding import UNLISTABLE

STAGES = "stages"
RECIPE_FILE = "recipe.yaml"
"""What a recipe's folder keeps, so that it can be gone on with by its name alone."""


@dataclass(frozen=True)
class StageConfig:
    """One entry of ``stages``."""

    name: str
    """Of the stage; later ones can name it in ``init`` and ``units.source``."""
    init: str | None = None
    """An earlier stage whose weights this one starts from; null: from new weights."""
    model: dict[str, object] = field(default_factory=dict)
    """Keys of ``-g`` that differ from the file's."""
    config: dict[str, object] = field(default_factory=dict)
    """Keys of ``-c`` that differ from the recipe's own."""


@dataclass(frozen=True)
class RecipeConfig:
    """The key ``stages``."""

    stages: list[object] = field(default_factory=list)


@dataclass(frozen=True)
class Stage:
    """A run of a recipe."""

    name: str
    expdir: Path
    corpus: Path
    """Folder of the recipe: all stages share one manifest, audio cache and units."""
    init: Path | None
    model: dict[str, object]
    """The YAML of ``-g``, as this stage has it."""
    config: dict[str, object]
    """The YAML of ``-c``, as this stage has it."""


def recipe_stages(model: Mapping[str, object], config: Mapping[str, object], expdir: Path, where: str) -> list[Stage]:
    """Return the runs of a recipe, checked as a whole; an empty list where ``config`` is none.

    Args:
        model: the YAML of ``-g``.
        config: the YAML of ``-c``.
        expdir: of the recipe.
        where: what to call the file in messages.

    Raises:
        ConfigError: a stage, or what it makes of the configurations, cannot be used.
    """
    if config.get(STAGES) is None:
        return []
    listed = from_dict(RecipeConfig, {STAGES: config[STAGES]}, where).stages
    entries = [from_dict(StageConfig, each, f"{where}: stage {n}") for n, each in enumerate(listed, 1)]
    if not entries:
        raise ConfigError(f"{where}: stages is empty, expected one stage or more")
    own = {key: value for key, value in config.items() if key != STAGES}
    folders: dict[str, Path] = {}
    found = []
    for entry in entries:
        _check_name(entry.name, folders, where)
        init = _earlier(entry.init, folders, f"{where}: init of stage {entry.name}") if entry.init else None
        stage_config = merged(own, entry.config)
        units = stage_config.get("units")
        if isinstance(units, dict) and units.get("source") in folders:
            stage_config["units"] = {**units, "source": str(folders[units["source"]])}
        folder = expdir if entry is entries[-1] else expdir / entry.name
        stage = Stage(entry.name, folder, expdir, init, merged(model, entry.model), stage_config)
        from_dict(ModelConfig, stage.model, f"{where}: stage {entry.name}")
        from_dict(PretrainConfig, stage.config, f"{where}: stage {entry.name}")
        folders[entry.name] = folder.absolute()
        found.append(stage)
    return found


def merged(values: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """Return nested values with changes put in, section by section; neither is altered."""
    result = copy.deepcopy(dict(values))
    for key, value in changes.items():
        before = result.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            result[key] = merged(before, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _check_name(name: str, folders: Mapping[str, Path], where: str) -> None:
    if not name or name in (".", "..") or any(c in name for c in f"/\\{UNLISTABLE}"):
        raise ConfigError(f'{where}: "{name}" is no name of a stage, which is a folder')
    if name in folders:
        raise ConfigError(f'{where}: two stages are called "{name}"')


def _earlier(name: str, folders: Mapping[str, Path], what: str) -> Path:
    if name not in folders:
        raise ConfigError(f'{what} is "{name}"{did_you_mean(name, folders)}, expected an earlier stage')
    return folders[name]
