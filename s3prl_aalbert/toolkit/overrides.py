"""``-o``: assignments to options and to the configuration, read once for our checks and for S3PRL's runner."""

from __future__ import annotations

import argparse
import copy
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3prl_aalbert.errors import AalbertError, did_you_mean
from s3prl_aalbert.overrides import assignments
from s3prl_aalbert.toolkit.names import literal
from s3prl_aalbert.toolkit.options import Options

logger = logging.getLogger(__name__)

OPTIONAL_KEYS = (
    *("runner.precision", "runner.feature_cache", "runner.fp16", "runner.evaluate_ratio", "runner.train_dataloader"),
    "downstream_expert.modelrc.tasks",  # set by `aalbert probe`
)
"""Keys that are read although a configuration may lack them."""

OPTIONAL_SECTIONS = ("scheduler", "specaug", "optimizer")
"""Sections that S3PRL's runner reads if a configuration has them."""


@dataclass
class Overrides:
    """The assignments of ``-o``: command-line options by name, and configuration values by dotted key."""

    args: Options = field(default_factory=Options)
    config: dict[str, object] = field(default_factory=dict)


def parse_override(text: str | None) -> Overrides:
    """Read ``-o``: assignments separated by ``,,``, each ``args.X=V`` or ``config.X.Y=V``.

    A value is a Python literal such as a number or a list, or else a text. A value that contains ``,,`` must be quoted.
    A ``~`` in ``args.expdir`` is expanded.

    Raises:
        AalbertError: a part is not an assignment.
    """
    overrides = Overrides()
    if text is None or text.lower() == "none":
        return overrides
    for section, name, value in assignments(text, ("args", "config")):
        if section == "args" and "." in name:
            raise AalbertError(f"-o args.{name}: expected args.NAME=VALUE, since an option has no parts")
        getattr(overrides, section)[name] = _value(value)
    if isinstance(expdir := overrides.args.get("expdir"), str):
        overrides.args["expdir"] = str(Path(expdir).expanduser()) if expdir.startswith("~") else expdir
    return overrides


def _value(text: str) -> object:
    try:
        return literal(text)
    except ValueError:
        return text.strip("'\"")


def apply_override(text: str, args: argparse.Namespace, config: dict[str, object]) -> None:
    """Replace S3PRL's ``override``, which evaluates each value as a program and splits it at every ``=``.

    Raises:
        AalbertError: an assignment sets a key below a value that is not a section.
    """
    overrides = parse_override(text)
    for name, value in overrides.args.items():
        setattr(args, name, value)
    _set_all(config, overrides)
    for where in ("args", "config"):
        for name, value in getattr(overrides, where).items():
            print(f"[Override] - {where}.{name} = {value}", file=sys.stderr)  # the form of S3PRL's message


def overridden(config: Mapping[str, object], overrides: Overrides) -> dict[str, Any]:
    """Return a configuration with ``-o`` applied.

    Raises:
        AalbertError: an assignment sets a key below a value that is not a section.
    """
    changed = copy.deepcopy(dict(config))
    _set_all(changed, overrides)
    return changed


def _set_all(config: dict[str, object], overrides: Overrides) -> None:
    for key, value in overrides.config.items():
        section: object = config
        *path, last = key.split(".")
        for name in path:
            section = section.setdefault(name, {}) if isinstance(section, dict) else None
        if not isinstance(section, dict):
            raise AalbertError(f"-o config.{key}: sets a key below a value of the configuration that is not a section")
        section[last] = value


def check_new_keys(overrides: Overrides, config: Mapping[str, object], own_task: bool = False) -> None:
    """Check each key that ``-o`` adds to the configuration, since it may be misspelt.

    Args:
        overrides: the assignments of ``-o``.
        config: the configuration without them.
        own_task: whether the task is one of this plugin's, which refuse unknown keys themselves.

    Raises:
        AalbertError: nothing reads the section, or the key resembles an existing one.
    """
    for key in overrides.config:
        names = key.split(".")
        if key in OPTIONAL_KEYS or (own_task and names[0] == "downstream_expert"):
            continue
        section: object = config
        for depth, name in enumerate(names):
            if isinstance(section, Mapping) and name in section:
                section = section[name]
                continue
            known = (*section, *(OPTIONAL_SECTIONS if depth == 0 else ())) if isinstance(section, Mapping) else ()
            if name in known:
                break
            near = did_you_mean(name, known)
            if near or depth == 0:
                raise AalbertError(f"-o config.{key}: the configuration has no {name}{near}")
            logger.warning("-o config.%s: the configuration has no %s", key, name)
            break
