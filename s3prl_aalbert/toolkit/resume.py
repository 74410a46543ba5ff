"""Reads and checks the experiment that ``-e`` or ``-a`` continues.

S3PRL takes nearly every option from the checkpoint and ignores what was typed. A typed option that
contradicts the checkpoint is therefore an error if it changes what is measured, and else a warning.
"""

from __future__ import annotations

import argparse
import copy
import logging
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch

from s3prl_aalbert.checkpoint.content import UNREADABLE, CheckpointError, check_content, check_regular
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit.building import unpickling_sentence
from s3prl_aalbert.toolkit.options import Options, flag_of, kind_of, problem_of
from s3prl_aalbert.toolkit.overrides import Overrides
from s3prl_aalbert.toolkit.parts import States
from s3prl_aalbert.toolkit.positions import POSITION, WEIGHTS, checked_position
from s3prl_aalbert.toolkit.repairs.imports import allow_s3prl_checkpoints
from s3prl_aalbert.yaml_config import leaves, shown

logger = logging.getLogger(__name__)

# Recorded options that are never taken from a checkpoint: where to write, what to upload, whose code to run.
_NOT_TAKEN = {"cache_dir", "push_to_hf_hub", "hf_hub_org", "from_hf_hub"}
# S3PRL keeps these as typed; they cannot contradict the checkpoint.
_AS_TYPED = {"mode", "evaluate_split", "override", "backend", "local_rank", "past_exp", "device"}
_AS_TYPED |= {"auto_resume", "init_ckpt", *_NOT_TAKEN}
# Options that are compared as files; a packaged configuration is recorded with its whole path.
_PATHS = {"config", "expdir", "upstream_ckpt", "upstream_model_config"}
# Options that define the experiment.
_IDENTITY = {"upstream", "upstream_ckpt", "upstream_model_config", "upstream_trainable", "downstream"}
_IDENTITY |= {"upstream_feature_selection", "upstream_layer_selection"}


def resumed_settings(past: Path, recorded: Mapping[str, object], given: Options, overrides: Overrides) -> Options:
    """Return the options with which S3PRL will resume from ``past``.

    Args:
        recorded: the options in the checkpoint.
        given: the typed options.

    Raises:
        AalbertError: a typed option contradicts the checkpoint.
    """
    typed = {name: value for name, value in given.items() if name in _AS_TYPED}
    for name, value in given.items():
        if name not in _AS_TYPED and name not in overrides.args:
            _compare(past, name, value, recorded.get(name))
    settings = cast(Options, {**recorded, "evaluate_split": "test", "init_ckpt": None, **typed, **overrides.args})
    if settings.get("hub") == "huggingface" != (given | overrides.args).get("hub"):
        raise AalbertError(
            f"{past}: its upstream {shown(settings['upstream'])} comes from the Hugging Face Hub with code that "
            "would run; type --hub huggingface if you trust it"
        )
    return settings


def load_experiment(path: Path) -> States:
    """Load a checkpoint of S3PRL's downstream runner onto the CPU, without running code from it.

    Only options that S3PRL has are kept, after a check of their types; ``expdir`` is the checkpoint's folder.

    Raises:
        AalbertError: the file is not such a checkpoint.
    """
    states = load_states(path, "-e")
    if not {"Args", "Config"} <= states.keys():
        raise AalbertError(
            f"-e {path}: not an experiment of S3PRL's downstream runner "
            "(expected the keys Args and Config); a pre-trained model goes to -k"
        )
    if not isinstance(states["Config"], dict):
        raise CheckpointError(f"-e {path}: is damaged: Config is not what S3PRL saves there")
    try:
        list(leaves(states["Config"]))
    except ValueError as error:
        raise CheckpointError(f"-e {path}: is damaged: Config is {error}") from error
    return states | {"Args": argparse.Namespace(**_recorded_options(path, states["Args"]))}


def load_states(path: Path, flag: str) -> States:
    """Load the weights and states that S3PRL's runner saved, by name.

    Raises:
        AalbertError: the file is not a checkpoint, or holds something that S3PRL does not save there.
    """
    allow_s3prl_checkpoints()
    try:
        check_regular(path)
        if not zipfile.is_zipfile(path):
            raise CheckpointError(f"{path}: not a file written by torch.save")
        states = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(states, dict):
            raise CheckpointError(f"{path}: not an experiment of S3PRL's downstream runner")
        check_content(path, {name: vars(v) if isinstance(v, argparse.Namespace) else v for name, v in states.items()})
        wrong = [name for name in ("Step", "Epoch") if not _is_count(states.get(name, 0))]
        wrong += [POSITION] if POSITION in states and not checked_position(states[POSITION]) else []
        wrong += [] if isinstance(states.get(WEIGHTS, ""), str) else [WEIGHTS]
        if wrong:
            raise CheckpointError(f"{path}: is damaged: {wrong[0]} is not what the runner saves there")
    except CheckpointError as error:
        raise CheckpointError(f"{flag} {error}") from error
    except UNREADABLE as error:
        raise CheckpointError(f"{flag} {path}: {_unreadable(error)}") from error
    return cast(States, states)


def _unreadable(error: Exception) -> str:
    """Describe why torch cannot load a file, and where it refuses a type which."""
    if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
        return unpickling_sentence(error)
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"not a readable checkpoint ({reason})"


def _is_count(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= 0


def _recorded_options(path: Path, args: object) -> dict[str, object]:
    """Return the recorded options of a checkpoint that S3PRL has and that resuming uses."""
    recorded = getattr(args, "__dict__", {})
    kept = {name: value for name, value in recorded.items() if kind_of(name) and name not in _NOT_TAKEN}
    wrong = [name for name in ("upstream", "downstream", "expdir") if not isinstance(recorded.get(name), str)]
    wrong += [name for name, value in kept.items() if problem_of(name, value)]
    if wrong:
        raise CheckpointError(f"-e {path}: is damaged: {wrong[0]} is not what S3PRL saves there")
    if Path(kept["expdir"]).resolve() != path.parent.resolve():
        logger.warning(
            "results go to %s, where the checkpoint is (it records %s); -o args.expdir=DIR writes elsewhere",
            path.parent,
            shown(kept["expdir"]),
        )
    return {"local_rank": None, **kept, "expdir": str(path.parent)}


class Reader:
    """Reads the checkpoints of ``-e``, ``-a`` and ``-i`` once each, in place of S3PRL's ``torch.load``."""

    def __init__(self) -> None:
        self._loaded: dict[str, States] = {}

    def past(self, path: str, **_: object) -> States:
        """Return an experiment as ``load_experiment`` does."""
        return self._read(path, load_experiment)

    def initial(self, path: str, **_: object) -> States:
        """Return the states with which the runner starts: of the experiment, or of ``-i``."""
        return self._read(path, lambda file: load_states(file, "-i"))

    def _read(self, path: str, load: Callable[[Path], States]) -> States:
        if path not in self._loaded:
            self._loaded[path] = load(Path(path))
        states = self._loaded[path].items()
        changed = ("Args", "Config")  # S3PRL changes options and configuration in place
        return cast(States, {name: copy.deepcopy(each) if name in changed else each for name, each in states})


def _compare(past: Path, name: str, typed: object, recorded: object) -> None:
    """Raise or warn if S3PRL will ignore a typed option for another, recorded value."""
    if typed == recorded or (name in _PATHS and recorded and _same_file(typed, recorded)):
        return
    if name in _IDENTITY:
        raise AalbertError(
            f"{flag_of(name)} {typed} would be ignored: {past} was trained with {recorded}, which "
            f"is kept on resuming; remove the option, or set it with -o args.{name}=VALUE"
        )
    logger.warning("%s: %s is ignored, %s keeps %s", name, typed, past, recorded)


def _same_file(typed: object, recorded: object) -> bool:
    return Path(str(typed)).resolve() == Path(str(recorded)).resolve() or typed == Path(str(recorded)).stem
