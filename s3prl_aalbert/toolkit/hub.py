"""Reads the names of upstreams from source files, and lets S3PRL's hub import an upstream only when it is used.

``s3prl.hub`` itself imports all of S3PRL's upstreams, and with them transformers, scikit-learn and torch._dynamo, which
takes twice the time of importing torch. This module imports nothing heavy.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from s3prl_aalbert import upstream

S3PRL = "s3prl."


def s3prl_folder() -> Path | None:
    """Return the folder of the installed S3PRL; None if it is not installed."""
    spec = importlib.util.find_spec("s3prl")
    return Path(spec.origin).parent if spec and spec.origin else None


@functools.cache
def plugin_upstreams() -> tuple[str, ...]:
    """Return the names of this plugin's upstreams."""
    return tuple(_bound(_parsed(Path(str(upstream.__file__)).with_name("hubconf.py"))))


@functools.cache
def s3prl_upstreams() -> tuple[str, ...]:
    """Return the names of S3PRL's upstreams: the functions of hubconf modules in its hub."""
    folder = s3prl_folder()
    if folder is None:
        return ()
    sources = _sources(folder)
    functions = {module: set(_functions(_parsed(_file(folder, module)))) for module in set(sources.values())}
    return tuple(name for name, module in sources.items() if name in functions[module])


def functions_of(module: str) -> tuple[str, ...]:
    """Return the names of the functions that a module of S3PRL defines."""
    folder = s3prl_folder()
    return tuple(_functions(_parsed(_file(folder, module)))) if folder else ()


def run_lazily(module: ModuleType, loader: SourceFileLoader) -> None:
    """Run ``s3prl.hub`` without its imports from S3PRL; each name is imported when it is first used."""
    path = Path(loader.get_filename())
    tree = _parsed(path)
    vars(module)["_sources"] = _sources(path.parent)
    tree.body = [node for node in tree.body if not _imports_s3prl(node)]
    module.__class__ = _LazyHub
    exec(compile(tree, str(path), "exec"), vars(module))
    options = module.options

    @functools.wraps(options)
    def all_options(*args: object, **keywords: object) -> object:
        for name in vars(module)["_sources"]:
            getattr(module, name)
        return options(*args, **keywords)

    vars(module)["options"] = all_options


class _LazyHub(ModuleType):
    def __getattr__(self, name: str) -> object:
        sources = self.__dict__.get("_sources", {})
        if name == "__all__":  # read by ``import *``
            return [each for each in dir(self) if not each.startswith("_")]
        if name not in sources:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(sources[name]), name)
        self.__dict__[name] = value
        return value

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *self.__dict__.get("_sources", {})})


def _imports_s3prl(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and (node.module or "").startswith(S3PRL)


def _sources(folder: Path) -> dict[str, str]:
    """Return the module of S3PRL from which each name of its hub comes; of several the last, as in Python."""
    sources: dict[str, str] = {}
    for node in _parsed(folder / "hub.py").body:
        match node:
            case ast.ImportFrom(module=str(module), names=aliases) if module.startswith(S3PRL):
                names = [each.asname or each.name for each in aliases]
                sources |= dict.fromkeys(_bound(_parsed(_file(folder, module))) if names == ["*"] else names, module)
    return sources


def _file(folder: Path, module: str) -> Path:
    return folder.joinpath(*module.removeprefix(S3PRL).split(".")).with_suffix(".py")


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _bound(tree: ast.Module) -> list[str]:
    """Return the public names that a module binds, or those of its ``__all__``."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                return [str(name) for name in ast.literal_eval(value)]
    return [name for name in _names(tree) if not name.startswith("_")]


def _names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import(names=aliases):
                yield from (each.asname or each.name.partition(".")[0] for each in aliases)
            case ast.ImportFrom(names=aliases):
                yield from (each.asname or each.name for each in aliases)
            case ast.Assign(targets=targets):
                yield from (each.id for each in targets if isinstance(each, ast.Name))


def _functions(tree: ast.Module) -> Iterator[str]:
    """Yield the functions that a hubconf defines or imports from another hubconf; other imports are not upstreams."""
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name):
                yield name
            case ast.ImportFrom(module=str(module), names=aliases) if module.endswith("hubconf"):
                yield from (each.asname or each.name for each in aliases)
