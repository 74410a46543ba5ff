"""Recipes: a runner YAML with ``stages``, runs one after the other, each of which may learn from an earlier one.

A stage changes keys of the model and the runner. Each but the last is a run of its own in EXPDIR/NAME; the last one's
folder is EXPDIR, so that ``-k EXPDIR`` is the recipe's model.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from s3prl_aalbert.checkpoint.release import WEIGHTS_FILE
from s3prl_aalbert.checkpoint.training_state import latest_state
from s3prl_aalbert.errors import did_you_mean
from s3prl_aalbert.model.config import ConfigError, ModelConfig, from_dict
from s3prl_aalbert.overrides import assignments
from s3prl_aalbert.pretrain.config import PretrainConfig, apply_overrides, section_of
from s3prl_aalbert.speech.finding import UNLISTABLE

logger = logging.getLogger(__name__)

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
class Recipe:
    """What ``recipe.yaml`` keeps."""

    model: dict[str, object] = field(default_factory=dict)
    """The YAML of ``-g`` with ``-o``."""
    config: dict[str, object] = field(default_factory=dict)
    """The YAML of ``-c`` with its stages, ``-o`` and ``--speech``."""
    seed: int | None = None
    """Of every stage; null in older files, which keep neither this nor ``init``."""
    init: str | None = None
    """The checkpoint that the first stage starts from."""

    def problems(self) -> list[str]:
        """Return what makes these values unusable."""
        return [] if STAGES in self.config else [f"config.{STAGES} is missing"]


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

    @property
    def done(self) -> bool:
        """Whether its release is there."""
        return (self.expdir / WEIGHTS_FILE).is_file()

    @property
    def begun(self) -> bool:
        """Whether its release or a state is there."""
        return self.done or latest_state(self.expdir) is not None

    def parsed(self) -> tuple[ModelConfig, PretrainConfig]:
        """Return its configurations with every default, so that equal ones compare equal."""
        where = f"stage {self.name}"
        return from_dict(ModelConfig, self.model, where), from_dict(PretrainConfig, self.config, where)


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


def override_recipe(model: dict[str, object], config: dict[str, object], text: str | None) -> None:
    """Apply ``-o`` to a recipe in place.

    ``config.KEY`` and ``model.KEY`` are for the whole recipe. The last stage, which trains its model, has them in any
    case; earlier ones often differ on purpose (a smaller model, fewer steps), so that what they set themselves stays
    and is logged. ``config.stages.NAME.config.KEY`` and ``config.stages.NAME.model.KEY`` are for one stage.

    Raises:
        ConfigError: no assignment, or for no stage.
    """
    whole: dict[str, object] = {"model": model, "config": config}
    listed = config.get(STAGES)
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    stages: dict[str, dict[str, object]] = {str(entry.get("name")): entry for entry in entries}
    general: list[tuple[str, str]] = []
    single: list[tuple[str, str, str]] = []
    for section, key, value in assignments(text, ("config", "model")):
        if section == "config" and key.split(".")[0] == STAGES:
            single.append((*_place_in_stage(key, stages), value))
        else:
            general.append((f"{section}.{key}", value))
    for place, value in general:
        _assign(whole, place, value)
        if entries:
            _assign(entries[-1], place, value)
    for name, place, value in single:  # after the general ones, in whatever order they were typed
        _assign(stages[name], place, value)
    typed = {(name, place) for name, place, _ in single}
    for name, entry in list(stages.items())[:-1]:
        own = merged(whole, entry)
        kept = [place for place, value in general if (name, place) not in typed and not _holds(own, place, value)]
        if kept:
            change = f"config.{STAGES}.{name}.{kept[0]}=..."
            logger.warning("-o: stage %s keeps its own %s; -o %s changes it there", name, ", ".join(kept), change)


def _place_in_stage(key: str, names: Collection[str]) -> tuple[str, str]:
    """Split ``stages.NAME.config.KEY`` into NAME and ``config.KEY``."""
    _, name, section, own = [*key.split(".", 3), "", "", ""][:4]
    if name not in names:
        hint = did_you_mean(name, names)
        raise ConfigError(f'-o config.{key}: "{name}"{hint} is no stage, expected one of {", ".join(names)}')
    if section not in ("config", "model") or not own:
        raise ConfigError(f"-o config.{key}: expected config.{STAGES}.{name}.config.KEY or .model.KEY")
    return name, f"{section}.{own}"


def _assign(values: dict[str, object], place: str, value: str) -> None:
    """Set ``model.KEY`` or ``config.KEY`` of a mapping that has both sections, as a recipe and a stage do."""
    apply_overrides(section_of(values, "model"), section_of(values, "config"), f"{place}={value}")


def _holds(values: dict[str, object], place: str, value: str) -> bool:
    """Return whether that would change nothing."""
    changed = copy.deepcopy(values)
    _assign(changed, place, value)
    return changed == values


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
