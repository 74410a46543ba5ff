"""Builds a command's options from one typed function: the signature names them, the docstring is their help."""

from __future__ import annotations

import argparse
import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, TypedDict, TypeVar

T = TypeVar("T")


class _Settings(TypedDict, total=False):
    """The keywords of argparse's ``add_argument``."""

    help: str
    action: str
    type: Callable[[str], object]
    choices: Sequence[str]
    default: object
    nargs: str
    metavar: str


S3PRL_LETTERS = {
    "upstream": "u",
    "upstream_config": "g",  # of run_pretrain.py
    "upstream_ckpt": "k",
    "upstream_model_config": "g",
    "upstream_feature_selection": "s",
    "layer": "l",
    "config": "c",
    "expname": "n",
    "expdir": "p",
    "past_exp": "e",
    "auto_resume": "a",
    "override": "o",
}
"""S3PRL's options and ``-l``, which keep its letters and its spelling in every command that has them."""


def add_options(
    parser: argparse.ArgumentParser,
    function: Callable[..., object],
    flags: Mapping[str, tuple[str, ...]] | None = None,
    metavars: Mapping[str, str] | None = None,
    types: Mapping[str, Callable[[str], object]] | None = None,
    *,
    one_of: Sequence[str] = (),
    repeated: Collection[str] = (),
) -> None:
    """Declare a function's arguments: keyword-only ones as options, the others as positional arguments.

    A ``Literal`` is a choice, a ``bool`` a switch, a ``list`` one or more values, a ``tuple[..., ...]`` none or more. A
    positional argument with a default may be absent. ``None`` is left to the function.

    Args:
        parser: the command's.
        function: has a type for every argument, and a line for each in the section "Args" of its docstring.
        flags: the names of an argument's option, where they are neither S3PRL's nor just ``--name``.
        metavars: the placeholder of an argument's value in the help; completion reads it.
        types: the function that parses an argument's text, where its type does not show it.
        one_of: arguments of which exactly one must be given.
        repeated: lists whose option is given once for each value.
    """
    hints, texts = typing.get_type_hints(function), argument_texts(function)
    alternatives = parser.add_mutually_exclusive_group(required=True) if one_of else None
    for name, parameter in inspect.signature(function).parameters.items():
        kind, nargs = _plain(hints[name])
        default = None if parameter.default is parameter.empty else parameter.default
        settings: _Settings = {"help": _help(texts[name], default)}
        if kind is bool:
            settings["action"] = "store_true"
        else:
            settings.update(_value((types or {}).get(name, kind), default))
            if name in repeated:
                settings["action"] = "append"
            elif nargs:
                settings["nargs"] = nargs
            if metavars and name in metavars:
                settings["metavar"] = metavars[name]
        place = alternatives if alternatives and name in one_of else parser
        required = parameter.default is parameter.empty
        if parameter.kind is parameter.KEYWORD_ONLY:
            names = (flags or {}).get(name) or _names(name)
            place.add_argument(*names, dest=name, required=required, **settings)
        else:
            place.add_argument(name, **settings if required else {"nargs": "?", **settings})


def _names(argument: str) -> tuple[str, ...]:
    if argument in S3PRL_LETTERS:
        return f"-{S3PRL_LETTERS[argument]}", f"--{argument}"
    return (f"--{argument.replace('_', '-')}",)


def given(function: Callable[..., object], args: argparse.Namespace) -> dict[str, Any]:
    """Return the values of the options that ``add_options`` declared for a function, by argument."""
    return {name: getattr(args, name) for name in inspect.signature(function).parameters}


def call(function: Callable[..., T], args: argparse.Namespace) -> T:
    """Call a function with the options that ``add_options`` declared."""
    signature, by_name = inspect.signature(function), given(function, args)
    plain = [by_name.pop(p.name) for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    return function(*plain, **by_name)


def argument_texts(function: Callable[..., object]) -> dict[str, str]:
    """Return the texts of a docstring's section "Args", by argument, each as one line."""
    section = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
    entries = re.split(r"^    (\w+): ", section, flags=re.MULTILINE)[1:]
    return {name: " ".join(text.split()) for name, text in zip(entries[::2], entries[1::2], strict=True)}


def _help(text: str, default: object) -> str:
    """Return a help text for argparse, with the default unless the text names it."""
    named = default is None or isinstance(default, bool) or "default" in text
    return (text if named else f"{text}; default: {default}").replace("%", "%%")


def _value(kind: object, default: object) -> _Settings:
    if typing.get_origin(kind) is Literal:
        return {"choices": typing.get_args(kind), "default": default}
    assert callable(kind)
    return {"type": kind, "default": default}


def _plain(hint: object) -> tuple[object, str | None]:
    """Return the type of one value, and the ``nargs`` of argparse if the argument takes several."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    several: dict[object, str] = {list: "+", tuple: "*"}
    many = several.get(typing.get_origin(hint))
    return (typing.get_args(hint)[0], many) if many else (hint, None)
