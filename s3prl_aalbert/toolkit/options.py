"""Reads and checks options of S3PRL's ``run_downstream.py``: typed, overridden with -o, or from a checkpoint."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping, Sequence
from typing import TypedDict, cast

from s3prl_aalbert.errors import AalbertError, did_you_mean
from s3prl_aalbert.model.config import shown
from s3prl_aalbert.toolkit.parser import options_parser


class Options(TypedDict, total=False):
    """The options of S3PRL's runner that this package reads; the others are passed through."""

    mode: str
    downstream: str
    config: str
    expname: str | None
    expdir: str | None
    auto_resume: bool
    past_exp: str
    init_ckpt: str | None
    override: str
    evaluate_split: str
    upstream: str
    upstream_ckpt: str | None
    upstream_model_config: str | None
    hub: str
    seed: int
    device: str | None


# Options that S3PRL reads before it applies -o.
_TOO_LATE = ("config", "override", "past_exp", "auto_resume", "expname", "mode", "init_ckpt")


def given_options(argv: Sequence[str]) -> Options:
    """Return the options in ``argv`` by S3PRL's own names, without defaults."""
    parser = options_parser()
    absent = object()
    for action in parser._actions:
        action.required = False
    parsed = parser.parse_args(list(argv), argparse.Namespace(**dict.fromkeys(_actions(), absent)))
    options = cast(Options, {name: value for name, value in vars(parsed).items() if value is not absent})
    if "mode" not in options:
        raise AalbertError("-m is missing: expected train, evaluate or inference")
    return options


@functools.cache
def _actions() -> dict[str, argparse.Action]:
    return {action.dest: action for action in options_parser()._actions if action.dest != "help"}


def flag_of(name: str) -> str:
    """Return the flag of option ``name`` of S3PRL, such as -u."""
    return _actions()[name].option_strings[0]


def kind_of(name: str) -> str:
    """Describe the value that option ``name`` of S3PRL expects; "" if there is no such option."""
    action = _actions().get(name)
    if action is None:
        return ""
    if action.choices:
        return " or ".join(map(str, action.choices))
    return "true or false" if action.nargs == 0 else "a whole number" if action.type is int else "text"


def problem_of(name: str, value: object) -> str:
    """Describe what option ``name`` expects if ``value`` does not fit; "" if it fits."""
    action, expected = _actions()[name], kind_of(name)
    if action.choices:
        fits = value in action.choices
    elif action.nargs == 0:
        fits = isinstance(value, bool)
    elif action.type is int:
        fits = value is None or (isinstance(value, int) and not isinstance(value, bool))
    else:  # a path cannot contain a zero byte
        fits = value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and "\0" not in value)
    return "" if fits else expected


def check_overridden(options: Mapping[str, object]) -> None:
    """Check the options that ``-o args.NAME=VALUE`` sets.

    Raises:
        AalbertError: S3PRL has no such option, reads it earlier, or expects another value.
    """
    for name, value in options.items():
        if not kind_of(name):
            raise AalbertError(f"-o args.{name}: there is no such option{did_you_mean(name, _actions())}")
        if name in _TOO_LATE:
            raise AalbertError(f"-o args.{name} would be ignored; give {flag_of(name)} instead")
        if problem_of(name, value):
            raise AalbertError(f"-o args.{name} is {shown(value)}, expected {problem_of(name, value)}")
