"""Finds and checks the experiment that ``-e`` or ``-a`` continues.

S3PRL takes nearly every option from the checkpoint and drops what was typed; a typed option that
contradicts the checkpoint is therefore an error where it changes what is measured, else a warning.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from s3prl_aalbert.checkpoint import UNREADABLE
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit.checks import Overrides, place_of

logger = logging.getLogger(__name__)

# S3PRL keeps these as typed; they cannot contradict the checkpoint.
_AS_TYPED = {"mode", "evaluate_split", "override", "backend", "local_rank", "past_exp", "device"}
_AS_TYPED |= {"auto_resume", "init_ckpt"}
# Compared as files; a packaged configuration is recorded with its whole path.
_PATHS = {"config", "expdir", "upstream_ckpt", "upstream_model_config"}
# A run with another of these would be another experiment.
_IDENTITY = {
    "upstream": "-u",
    "upstream_ckpt": "-k",
    "upstream_model_config": "-g",
    "upstream_feature_selection": "-s",
    "upstream_layer_selection": "-l",
    "upstream_trainable": "-f",
    "downstream": "-d",
}


def find_past_experiment(given: Mapping[str, Any]) -> Path | None:
    """Return the checkpoint that S3PRL will resume from, or None for a new experiment.

    Raises:
        AalbertError: ``-e`` names nothing, or a folder without ``states-*.ckpt``.
    """
    if given.get("auto_resume"):
        expdir = place_of(given)
        if _states(expdir):
            return _states(expdir)[-1]
    if "past_exp" not in given:
        return None
    past = Path(given["past_exp"])
    if not past.exists():
        raise AalbertError(f"-e {past}: no such file or folder")
    if past.is_dir() and not _states(past):
        raise AalbertError(f"-e {past}: no states-*.ckpt in this folder{_other_checkpoints(past)}")
    return _states(past)[-1] if past.is_dir() else past


def _states(expdir: Path) -> list[Path]:
    """Return the checkpoints of training in ``expdir``, oldest step first, as S3PRL sorts them.

    Raises:
        AalbertError: the name of one ends in no step, which S3PRL would stumble over.
    """
    found = list(expdir.glob("states-*.ckpt"))
    for path in found:
        if not path.stem.split("-")[-1].isdecimal():
            raise AalbertError(f"{path}: S3PRL expects states-STEP.ckpt; give it a name that begins otherwise")
    return sorted(found, key=lambda path: int(path.stem.split("-")[-1]))


def _other_checkpoints(folder: Path) -> str:
    others = sorted(folder.glob("*.ckpt"))
    return f"; name a file to use it, e.g. -e {others[0]}" if others else ""


def resumed_settings(
    past: Path, recorded: Mapping[str, Any], given: Mapping[str, Any], overrides: Overrides
) -> dict[str, Any]:
    """Return the options that S3PRL will run with when it resumes from ``past``.

    Args:
        recorded: the options in the checkpoint.
        given: the options typed now.

    Raises:
        AalbertError: a typed option contradicts the checkpoint.
    """
    typed = {name: value for name, value in given.items() if name in _AS_TYPED}
    for name, value in given.items():
        if name not in _AS_TYPED and name not in overrides.args:
            _compare(past, name, value, recorded.get(name))
    _warn_about_place(past, overrides.args.get("expdir") or recorded["expdir"])
    return {**recorded, "evaluate_split": "test", "init_ckpt": None, **typed, **overrides.args}


def load_experiment(path: Path) -> dict[str, Any]:
    """Load a checkpoint of S3PRL's downstream runner onto the CPU, without running code from it.

    Raises:
        AalbertError: the file is not one.
    """
    if not zipfile.is_zipfile(path):
        raise AalbertError(f"-e {path}: not a file written by torch.save")
    try:
        states = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise AalbertError(f"-e {path}: not a readable checkpoint ({reason})") from error
    if not isinstance(states, dict) or not {"Args", "Config"} <= states.keys():
        raise AalbertError(
            f"-e {path}: not an experiment of S3PRL's downstream runner "
            "(expected the keys Args and Config); a pre-trained model goes to -k"
        )
    recorded = getattr(states["Args"], "__dict__", {})
    wrong = [name for name in ("upstream", "downstream", "expdir") if not isinstance(recorded.get(name), str)]
    wrong += [name for name, value in recorded.items() if isinstance(value, str) and "\0" in value]  # no path has one
    if wrong or not isinstance(states["Config"], Mapping):
        raise AalbertError(f"-e {path}: is damaged: {wrong[0] if wrong else 'Config'} is not what S3PRL saves there")
    return states


def _compare(past: Path, name: str, typed: Any, recorded: Any) -> None:
    """Raise or warn where S3PRL will drop a typed option for another, recorded value."""
    if typed == recorded or (name in _PATHS and recorded and _same_file(typed, recorded)):
        return
    if name in _IDENTITY:
        raise AalbertError(
            f"{_IDENTITY[name]} {typed} would be ignored: {past} was trained with {recorded}, which "
            f"is kept on resuming; leave it out, or set it with -o args.{name}=VALUE"
        )
    logger.warning("%s: %s is ignored, %s keeps %s", name, typed, past, recorded)


def _same_file(typed: str, recorded: Any) -> bool:
    return Path(typed).resolve() == Path(str(recorded)).resolve() or typed == Path(str(recorded)).stem


def _warn_about_place(past: Path, expdir: str) -> None:
    if Path(expdir).resolve() != past.parent.resolve():
        logger.warning(
            "results go to %s, as recorded in %s; -o args.expdir=%s writes beside it",
            expdir,
            past,
            past.parent,
        )
