"""The options of S3PRL's ``run_downstream.py``, as its own parser has them: typed, overridden, or from a checkpoint."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from s3prl_aalbert import toolkit
from s3prl_aalbert.config import shown
from s3prl_aalbert.errors import AalbertError, did_you_mean
from s3prl_aalbert.toolkit.replace import replaced

PROGRAM = "aalbert downstream"
Options = dict[str, Any]
# S3PRL has read these before it applies -o.
_TOO_LATE = {
    "config": "-c",
    "override": "-o",
    "past_exp": "-e",
    "auto_resume": "-a",
    "expname": "-n",
    "mode": "-m",
    "init_ckpt": "-i",
}


def given_options(argv: Sequence[str]) -> Options:
    """Return the options that ``argv`` really names, by S3PRL's own names for them, without defaults."""
    parser = _s3prl_parser()
    for action in parser._actions:
        action.required = False
        if action.dest != "help":
            action.default = argparse.SUPPRESS
    options = vars(parser.parse_args(list(argv)))
    if "mode" not in options:
        raise AalbertError("-m is missing: expected train, evaluate or inference")
    return options


class _ParserFound(Exception):
    """Carries S3PRL's parser out of the function that builds it."""


@functools.cache
def _actions() -> dict[str, argparse.Action]:
    return {action.dest: action for action in _s3prl_parser()._actions if action.dest != "help"}


def kind_of(name: str) -> str:
    """Return what option ``name`` of S3PRL expects, in words; "" where it has none of that name."""
    action = _actions().get(name)
    if action is None:
        return ""
    if action.choices:
        return " or ".join(map(str, action.choices))
    return "true or false" if action.nargs == 0 else "a whole number" if action.type is int else "text"


def problem_of(name: str, value: Any) -> str:
    """Return what option ``name`` expects where ``value`` is something else, "" where it fits."""
    action, expected = _actions()[name], kind_of(name)
    if action.choices:
        fits = value in action.choices
    elif action.nargs == 0:
        fits = isinstance(value, bool)
    elif action.type is int:
        fits = value is None or (isinstance(value, int) and not isinstance(value, bool))
    else:  # no path holds a zero
        fits = value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and "\0" not in value)
    return "" if fits else expected


def check_overridden(options: Mapping[str, Any]) -> None:
    """Check what ``-o args.NAME=VALUE`` sets.

    Raises:
        AalbertError: S3PRL has no such option, has used it by then, or expects something else.
    """
    for name, value in options.items():
        if not kind_of(name):
            raise AalbertError(f"-o args.{name}: there is no such option{did_you_mean(name, _actions())}")
        if name in _TOO_LATE:
            raise AalbertError(f"-o args.{name} would be ignored; give {_TOO_LATE[name]} instead")
        if problem_of(name, value):
            raise AalbertError(f"-o args.{name} is {shown(value)}, expected {problem_of(name, value)}")


def _s3prl_parser() -> argparse.ArgumentParser:
    """Return the parser that S3PRL's ``run_downstream.py`` builds inside its ``get_downstream_args``."""
    toolkit.activate()  # without which S3PRL cannot be imported
    from s3prl_aalbert.toolkit import compat

    compat.apply()  # s3prl does not import by itself next to a current torchaudio
    from s3prl import run_downstream

    def surrender(parser: argparse.ArgumentParser, *args: object) -> NoReturn:
        raise _ParserFound(parser)

    typed = replaced(sys, "argv", [PROGRAM])
    try:
        with typed, replaced(argparse.ArgumentParser, "parse_args", surrender):
            run_downstream.get_downstream_args()
    except _ParserFound as found:
        parser: argparse.ArgumentParser = found.args[0]
        return parser
    raise AalbertError("S3PRL's run_downstream.py no longer parses its options; expected S3PRL 0.4.18")
