"""Import hooks that add modules to S3PRL, and run code before and after one of its modules is imported.

They are needed since S3PRL has no mechanism for plugins, and its files stay unchanged.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

from s3prl_aalbert.toolkit import hub, names

_BEFORE: dict[str, list[Callable[[], None]]] = {}
_AFTER: dict[str, list[Callable[[ModuleType], None]]] = {}


def alias(modules: Mapping[str, str | None], over_installed: bool = True) -> None:
    """Make names importable that are not files: each is an existing module, or an empty package for None.

    The module keeps its identity, so that its classes can be pickled to processes that do not know the second name.

    Args:
        modules: the existing module of each imported name.
        over_installed: False if an installed module of that name takes precedence.
    """
    kind = _Aliases if over_installed else _Replacements
    for finder in sys.meta_path:
        if type(finder) is kind:
            finder.modules.update(modules)
            return
    sys.meta_path.insert(0 if over_installed else len(sys.meta_path), kind(dict(modules)))


def before_import(name: str, prepare: Callable[[], None]) -> None:
    """Call ``prepare`` before a module of S3PRL is imported; again at the next attempt if it raises."""
    _BEFORE.setdefault(name, []).append(prepare)


def after_import(name: str, change: Callable[[ModuleType], None]) -> None:
    """Call ``change`` with a module of S3PRL after it has run, or now if it already has."""
    if name in sys.modules:
        change(sys.modules[name])
    else:
        _AFTER.setdefault(name, []).append(change)


def watch() -> None:
    """Guard S3PRL's modules (see ``names``), both imported and future ones; a second call changes nothing."""
    if any(isinstance(finder, _Watcher) for finder in sys.meta_path):
        return
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if name.partition(".")[0] == "s3prl" and spec is not None and spec.loader is not None:
            names.guard(module, spec.loader)
            names.guard_pickle(module)
    after_aliases = sum(type(finder) is _Aliases for finder in sys.meta_path)
    sys.meta_path.insert(after_aliases, _Watcher())


class _Aliases(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, modules: dict[str, str | None]) -> None:
        self.modules = modules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.modules:
            return None
        return ModuleSpec(fullname, self, is_package=self.modules[fullname] is None)

    def create_module(self, spec: ModuleSpec) -> None:
        """Let the import system create a module; ``exec_module`` replaces it where needed."""

    def exec_module(self, module: ModuleType) -> None:
        source = self.modules[module.__name__]
        if source:  # the import system returns the entry of sys.modules
            sys.modules[module.__name__] = importlib.import_module(source)


class _Replacements(_Aliases):
    """The same as the last finder, so that an installed module takes precedence."""


class _Watcher(importlib.abc.MetaPathFinder):
    """Finds S3PRL's modules in their files, with a loader that guards them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith("s3prl."):
            return None
        for prepare in _BEFORE.get(fullname, ()):
            prepare()
        _BEFORE.pop(fullname, None)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = WatchedLoader(spec.loader.name, str(spec.loader.path))
        return spec


class WatchedLoader(importlib.machinery.SourceFileLoader):
    """Runs a module of S3PRL, guarded."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module (the hub without its imports), then call what ``after_import`` registered."""
        names.guard(module, self)
        if module.__name__ == "s3prl.hub":
            hub.run_lazily(module, self)
        else:
            super().exec_module(module)
        names.guard_pickle(module)
        for change in _AFTER.pop(module.__name__, ()):
            change(module)
