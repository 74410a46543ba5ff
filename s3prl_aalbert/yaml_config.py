"""Dataclasses filled from YAML, checked as a whole so that every problem is reported at once."""

from __future__ import annotations

import dataclasses
import math
import reprlib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import yaml

from s3prl_aalbert.errors import AalbertError, did_you_mean

T = TypeVar("T")
_SHORTENED = reprlib.Repr()  # a few lines of YAML can expand to gigabytes by their aliases
_SHORTENED.maxstring = _SHORTENED.maxother = 80
_SHORTENED.maxlist = _SHORTENED.maxtuple = _SHORTENED.maxdict = 8
_SHORTENED.maxlevel = 3


# On impossible values (2001-99-99, `!!bool x`, a thousand brackets) PyYAML raises Python's own errors.
INVALID_YAML = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


LARGEST_YAML = 200_000
"""Largest file in bytes: PyYAML already takes seconds for it."""
MOST_VALUES, DEEPEST = 100_000, 50
"""Bounds of a YAML file with its aliases and merges expanded; a checkpoint's configuration has the same."""


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field]]


class ConfigError(AalbertError):
    """A configuration that cannot be used; the message lists every problem found."""


def from_dict(cls: type[T], values: object, where: str = "config") -> T:
    """Build dataclass ``cls`` from a mapping, reporting every unknown key, wrong type and bad value at once.

    Args:
        cls: a dataclass, its fields possibly dataclasses themselves; an optional ``problems()`` lists bad values.
        values: nested mapping, as YAML gives it; missing keys take the dataclass's defaults.
        where: what to call the source in messages, e.g. the file's path.

    Raises:
        ConfigError: with one line per problem.
    """
    problems: list[str] = []
    result = _build(cls, values, "", problems)
    if problems:
        raise ConfigError(f"{where}: " + "; ".join(problems))
    return typing.cast(T, result)


def to_dict(config: _Dataclass) -> dict[str, Any]:
    """Return a configuration as nested plain dictionaries, ready for YAML or JSON."""
    return dataclasses.asdict(config)


def _build(cls: type, values: object, prefix: str, problems: list[str]) -> object:
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        problems.append(f"{prefix.rstrip('.') or 'the file'} is {shown(values)}, expected a mapping of keys")
        return None
    given: Mapping[str, object] = getattr(cls, "from_older", lambda same: same)(values)
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    # Every key is checked, so that one message lists all problems of a file.
    before = len(problems)
    kwargs = {}
    no_choice: list[str] = []
    for key, value in given.items():
        name = f"{prefix}{key}"
        if key not in fields:
            problems.append(f'unknown key "{name}"{did_you_mean(str(key), fields)}')
        elif (section := _section(hints[key])) is not None:
            optional = value is None and section is not hints[key]
            kwargs[key] = None if optional else _build(section, value, f"{name}.", problems)
        elif isinstance(value, str) and (choices := _choices(hints[key])) and value not in choices:
            hint = did_you_mean(value, choices)
            no_choice.append(f'{name} is "{shown(value)[1:-1]}"{hint}, expected one of {", ".join(choices)}')
        else:
            kwargs[key] = _convert(hints[key], value, name, problems)
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in given:
            problems.append(f'missing key "{prefix}{name}"')
    # Without valid keys there is no dataclass to build, and its own checks could not run.
    if len(problems) > before:
        problems.extend(no_choice)
        return None
    result = cls(**kwargs)  # with a default where there is no such choice, so that the other values are checked too
    problems.extend([*no_choice, *getattr(result, "problems", list)()])
    return result


def _section(hint: object) -> type | None:
    """Return the dataclass that a field holds, or may hold, else None."""
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    return next((o for o in options if isinstance(o, type) and dataclasses.is_dataclass(o)), None)


def _convert(hint: object, value: object, name: str, problems: list[str]) -> object:
    """Return ``value`` converted to type ``hint``, or add the mismatch to ``problems``."""
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    for option in options:
        accepted, converted = _try_type(option, value)
        if accepted:
            return converted
    expected = " or ".join(_type_name(option) for option in options)
    problems.append(f'"{name}" is {shown(value)}, expected {expected}')
    return None


def _choices(option: object) -> tuple[str, ...]:
    """Return the texts that a field may hold, if it names them."""
    return typing.get_args(option) if typing.get_origin(option) is typing.Literal else ()


def _try_type(option: object, value: object) -> tuple[bool, object]:
    origin = typing.get_origin(option) or option
    if option is type(None):
        return value is None, None
    if origin is typing.Literal:
        return isinstance(value, str) and value in typing.get_args(option), value
    if origin is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:  # YAML 1.1 reads 1e-4 (no dot) as a string
            number = float(value)
        except (ValueError, OverflowError):
            return False, None
        return not math.isnan(number), number
    if origin is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    if origin in (list, tuple):
        return _try_sequence(option, origin, value)
    if origin is dict:
        return isinstance(value, Mapping), dict(value) if isinstance(value, Mapping) else None
    return isinstance(origin, type) and isinstance(value, origin), value


def _try_sequence(option: object, origin: object, value: object) -> tuple[bool, object]:
    if not isinstance(value, (list, tuple)):
        return False, None
    item_hints = typing.get_args(option) or (object,)
    if origin is tuple and len(item_hints) > 1 and item_hints[-1] is not Ellipsis:
        if len(item_hints) != len(value):
            return False, None
        pairs = [_try_type(hint, item) for hint, item in zip(item_hints, value, strict=True)]
    else:
        pairs = [_try_type(item_hints[0], item) for item in value]
    items = [item for _, item in pairs]
    return all(ok for ok, _ in pairs), tuple(items) if origin is tuple else items


def _is_union(hint: object) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _type_name(option: object) -> str:
    if option is type(None):
        return "null"
    names: dict[object, str] = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        dict: "a mapping",
    }
    if choices := _choices(option):
        return f"one of {', '.join(choices)}"
    if typing.get_origin(option) in (list, tuple):
        items = [_type_name(item) for item in typing.get_args(option) if item not in (Ellipsis, object)]
        return "a list" + (f", each entry {items[0]}" if len(set(items)) == 1 else "")
    return names.get(option, str(option))


def shown(value: object) -> str:
    """Return a value shortened for a message: a few lines of YAML can expand to gigabytes."""
    return "null" if value is None else _SHORTENED.repr(value)


def read_yaml(path: Path) -> dict[str, object]:
    """Read a YAML file holding a mapping.

    Raises:
        ConfigError: the file is missing, is not a regular file or valid YAML, expands too far, has a key twice, or
            holds no mapping.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ConfigError(f"{path}: is a device or a pipe, expected a regular file")
        if path.is_file() and path.stat().st_size > LARGEST_YAML:
            raise ConfigError(f"{path}: has {path.stat().st_size:,} bytes, expected at most {LARGEST_YAML:,}")
        loaded = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except INVALID_YAML as error:
        raise ConfigError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: holds {type(loaded).__name__}, expected a mapping of keys")
    return loaded


def load_yaml(text: str) -> object:
    """Return the plain values of a YAML text.

    Raises:
        One of INVALID_YAML: the text is not YAML, has a key twice, or its aliases and merges expand to more than
            MOST_VALUES values.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_extent(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_extent(root: yaml.Node) -> None:
    """Raise ValueError where aliases expand a few lines to gigabytes, or refer to themselves."""
    sizes: dict[int, int] = {}  # each node is measured once, however many aliases name it

    def size(node: yaml.Node, depth: int) -> int:
        if id(node) in sizes:
            return sizes[id(node)]
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} deep")
        items: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            items = node.value
        elif isinstance(node, yaml.MappingNode):
            _check_keys(node)
            items = [part for pair in node.value for part in pair]
        total = 1 + sum(size(item, depth + 1) for item in items)
        if total > MOST_VALUES:
            raise ValueError(f"its aliases expand to more than {MOST_VALUES:,} values")
        sizes[id(node)] = total
        return total

    size(root, 0)


def _check_keys(node: yaml.MappingNode) -> None:
    """Raise ValueError for a key that is there twice: PyYAML would silently keep the last, a whole section perhaps."""
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise ValueError(f'line {key.start_mark.line + 1} has "{key.value}" a second time')
            seen.add(key.value)


def leaves(value: object, most: int = MOST_VALUES) -> Iterator[tuple[str, object]]:
    """Yield each key and single value of nested mappings and sequences with its dotted path.

    Raises:
        ValueError: nested deeper than DEEPEST, or more than ``most`` values.
    """
    count = 0
    waiting: list[tuple[str, object, int]] = [("", value, 0)]
    while waiting:
        place, current, depth = waiting.pop()
        count += 1
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} deep")
        if count > most:
            raise ValueError(f"more than {most:,} values")
        if isinstance(current, Mapping):
            yield from ((place, key) for key in current)
            waiting += [(f"{place}.{key}" if place else str(key), item, depth + 1) for key, item in current.items()]
        elif isinstance(current, (list, tuple, set, frozenset)):
            waiting += [(place, item, depth + 1) for item in current]
        else:
            yield place, current


def packaged_configs(folder: str) -> Path:
    """Return the packaged folder ``upstream_configs`` or ``downstream_configs``, installed or in a checkout."""
    here = Path(__file__).resolve().parent
    for candidate in (here / folder, here.parent / folder):
        if candidate.is_dir():
            return candidate
    raise AalbertError(f"the packaged folder {folder} is missing; re-install s3prl-aalbert")


CONFIG_FOLDERS = ("upstream_configs", "downstream_configs")


def find_config(name: str, folder: str) -> Path:
    """Resolve a config given as a path or as the name of a packaged one.

    Args:
        name: a path, or e.g. ``aalbert_3l`` or ``aalbert_3l.yaml``.
        folder: ``upstream_configs`` or ``downstream_configs``. A name from the other folder is found too, so that the
            caller's message can name the kind that it is.

    Raises:
        ConfigError: neither exists; the message suggests near matches.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    for place in sorted(CONFIG_FOLDERS, key=lambda each: each != folder):
        candidate = packaged_configs(place) / f"{name.removesuffix('.yaml')}.yaml"
        if path.name == name and candidate.is_file():
            return candidate
    known = sorted(p.stem for p in packaged_configs(folder).glob("*.yaml"))
    raise ConfigError(
        f"{name}: no such file, and no packaged config of that name{did_you_mean(path.stem, known)}; "
        f"packaged: {', '.join(known)}"
    )
