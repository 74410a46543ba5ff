"""Restricts S3PRL's ``eval`` to its purpose: existing names and plain values.

S3PRL evaluates names of optimisers, schedulers, models and metrics, and some sizes, as text of a configuration or a
checkpoint. Without the restriction any such text could be a program.
"""

from __future__ import annotations

import ast
import inspect
import math
import operator
import pickle
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType, FrameType, ModuleType
from typing import BinaryIO

from s3prl_aalbert.errors import AalbertError, did_you_mean
from s3prl_aalbert.model.config import shown
from s3prl_aalbert.toolkit.replace import Changed

LONGEST_TEXT = 2000
LONGEST_LIST = 10_000
"""Largest number of entries in a list that an expression returns, so that ``[0] * 10**12`` is refused."""
_KALDI = "torchaudio.compliance.kaldi"
_OPERATORS: dict[type, Callable[[object, object], object]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}


class UnknownNameError(AalbertError):
    """A text that S3PRL would evaluate, but that names nothing in its module."""

    def __init__(self, text: str, module: str, known: Sequence[str]):
        names = did_you_mean(text, known) or (f", such as {', '.join(sorted(known)[:5])}" if known else "")
        super().__init__(
            f"{shown(text)} is not a name that {module} knows{names}; S3PRL would run any other text as a program"
        )
        self.text = text


def literal(text: str) -> object:
    """Return the plain value of a text: numbers, strings, lists, dictionaries and arithmetic with numbers.

    Raises:
        ValueError: the text is something else.
    """
    return _evaluated(text, None)


def evaluate(text: object, *_scopes: object) -> object:
    """Replace ``eval`` in S3PRL's modules: return what ``text`` names there, or its plain value.

    A name is one of the module's models, losses or own functions, or a method or part of the caller's ``self``.

    Raises:
        UnknownNameError: the text is anything else.
    """
    frame = sys._getframe(1)
    try:
        return _evaluated(text, frame)
    except ValueError as error:
        known = [name for name, value in frame.f_globals.items() if not name.startswith("_") and _is_usable(value)]
        raise UnknownNameError(str(text), frame.f_globals.get("__name__", "S3PRL"), known) from error


def _evaluated(text: object, frame: FrameType | None) -> object:
    if not isinstance(text, str) or len(text) > LONGEST_TEXT:
        raise ValueError("not a short text")
    try:
        return _value(ast.parse(text.strip(), mode="eval").body, frame)
    except (SyntaxError, MemoryError, RecursionError, ArithmeticError, TypeError, LookupError) as error:
        raise ValueError(f"not a plain value ({type(error).__name__})") from error


def _value(node: ast.expr, frame: FrameType | None) -> object:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return node.value
        case ast.List(elts=items):
            return [_value(item, frame) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item, frame) for item in items)
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {_value(key, frame): _value(value, frame) for key, value in pairs if key is not None}
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            number = _value(operand, frame)
            if isinstance(number, (int, float)):
                return -number if isinstance(node.op, ast.USub) else +number
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _combined(op, _value(left, frame), _value(right, frame))
        case ast.Name() | ast.Attribute() | ast.Subscript() if frame is not None:
            return _named(node, frame)
    raise ValueError(f"{type(node).__name__} is not a plain value")


def _combined(op: ast.operator, left: object, right: object) -> object:
    """Return ``left op right`` of numbers, or of lists that stay short."""
    if (
        isinstance(left, (int, float))
        and isinstance(right, (int, float))
        and (not isinstance(op, ast.Pow) or (abs(left) <= 1e6 and 0 <= right <= 10))
    ):
        return _OPERATORS[type(op)](left, right)
    lists = [value for value in (left, right) if isinstance(value, (list, tuple))]
    length = sum(map(len, lists)) if isinstance(op, ast.Add) else math.prod(map(len, lists)) * _factor(left, right)
    if isinstance(op, (ast.Add, ast.Mult)) and lists and length <= LONGEST_LIST:
        return _OPERATORS[type(op)](left, right)
    raise ValueError("not arithmetic with numbers or short lists")


def _factor(left: object, right: object) -> int:
    return next((value for value in (left, right) if isinstance(value, int)), LONGEST_LIST + 1)


def _named(node: ast.expr, frame: FrameType) -> object:
    """Return the object of a dotted name in the frame that evaluates it."""
    if isinstance(node, ast.Name):
        found = frame.f_globals.get(node.id)
        if _is_usable(found) and not node.id.startswith("_"):
            return found
        raise ValueError("no such name")
    first, *steps = _steps(node)
    if first in ("self", "runner"):
        return _part(frame.f_locals.get(first), steps)
    found = frame.f_globals.get(first)
    for step in steps:
        if not isinstance(found, ModuleType) or step.startswith("_"):
            raise ValueError("no part of a module")
        found = getattr(found, step, None)
    from torch import nn

    of_kaldi = isinstance(found, types.FunctionType) and found.__module__ == _KALDI
    if of_kaldi or isinstance(found, float) or (inspect.isclass(found) and issubclass(found, nn.Module)):
        return found
    raise ValueError("no such name")


def _steps(node: ast.expr) -> list[str]:
    """Return a.b[3].c as ["a", "b", "3", "c"]."""
    match node:
        case ast.Name(id=name):
            return [name]
        case ast.Attribute(value=owner, attr=name):
            return [*_steps(owner), name]
        case ast.Subscript(value=owner, slice=ast.Constant(value=int() as index)):
            return [*_steps(owner), str(index)]
    raise ValueError("not a dotted name")


def _part(owner: object, steps: Sequence[str]) -> object:
    """Return a part of an object, or a method that S3PRL defines; the parts in between must be torch modules."""
    from torch import nn

    for position, step in enumerate(steps):
        if step.startswith("_") or (position and not isinstance(owner, nn.Module)):
            raise ValueError("no part of a model")
        owner = getattr(owner, step, None)  # torch keeps item 3 of a list of modules under the name "3"
    own_method = isinstance(owner, types.MethodType) and _is_of_s3prl(owner.__func__.__module__)
    if isinstance(owner, nn.Module) or own_method:
        return owner
    raise ValueError("no part of a model")


def _is_usable(value: object) -> bool:
    """Return whether S3PRL may evaluate a name to this: a model or loss, or a function of its own."""
    if inspect.isclass(value):
        from torch import nn

        return issubclass(value, nn.Module)
    return isinstance(value, types.FunctionType) and _is_of_s3prl(value.__module__) and value is not evaluate


def _is_of_s3prl(module: str) -> bool:
    return module.partition(".")[0] in ("s3prl", "s3prl_aalbert")


def guard(module: ModuleType, loader: object) -> None:
    """Replace ``eval`` by ``evaluate`` in a module of S3PRL that uses it, before the module runs."""
    code = loader.get_code(module.__name__) if hasattr(loader, "get_code") else None
    if code is not None and _mentions_eval(code):
        vars(module)["eval"] = evaluate


def _mentions_eval(code: CodeType) -> bool:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return "eval" in code.co_names or any(map(_mentions_eval, inner))


def guard_pickle(module: ModuleType) -> None:
    """Replace ``pickle.load`` by ``load_plain`` in a module of S3PRL that uses it, after the module has run."""
    if vars(module).get("pickle") is pickle:
        vars(module)["pickle"] = Changed(pickle, load=load_plain)


def load_plain(file: BinaryIO) -> object:
    """Replace ``pickle.load`` in S3PRL's tasks, whose configuration names the file: load plain values and paths."""
    return _PlainUnpickler(file).load()


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        if module == "pathlib._local":  # as Python 3.13 writes it
            module = "pathlib"
        if (module, name) in (("pathlib", "PosixPath"), ("pathlib", "Path"), ("collections", "defaultdict")):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")


def key_of(text: str, values: object) -> str:
    """Return the dotted key of the configuration that holds most of ``text``, in whole words; "" if there is none."""
    found = [(len(value), key) for key, value in _texts(values) if re.search(rf"{_NO}{re.escape(value)}{_MORE}", text)]
    return max(found, key=lambda each: each[0], default=(0, ""))[1]


_NO, _MORE = r"(?<![^\W_])", r"(?![^\W_])"
"""Before and after a word: neither letter nor digit."""


def _texts(values: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted key of each text of a configuration, and the text."""
    items = values.items() if isinstance(values, Mapping) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, str) and value:
            yield name, value
        yield from _texts(value, name)
