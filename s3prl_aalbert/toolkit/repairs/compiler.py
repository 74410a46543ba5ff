"""Delays the import of torch's compiler until something is compiled."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TypeVar

NAME = "torch._dynamo"
T = TypeVar("T")


def import_compiler_when_used() -> None:
    """Replace ``torch._dynamo`` by a small module until the compiler is first used.

    Reason: torch's optimisers import it for two marks, ``disable`` and ``graph_break``, which only matter to code that
    is being compiled.
    Symptom: a task starts a second later, since sympy and triton are imported.
    Remove when: torch's optimisers no longer import it.
    """
    import torch  # noqa: F401 - whole, before anything stands in for a part of it

    if NAME not in sys.modules:
        sys.modules[NAME] = _Compiler(NAME)


class _Compiler(ModuleType):
    """Offers the two marks; every other attribute comes from the compiler itself."""

    def disable(
        self, function: Callable[..., T] | None = None, recursive: bool = True, **options: object
    ) -> Callable[..., object]:
        """Return the function; once the compiler is loaded, it is marked as not to be compiled.

        Without a function it returns a decorator, as the compiler does; transformers marks methods in this way.
        """
        if function is None:
            return lambda found: self.disable(found, recursive, **options)

        def call(*args: object, **kwargs: object) -> T:
            real = sys.modules[NAME]
            marked = function if real is self else real.disable(function, recursive, **options)
            return marked(*args, **kwargs)

        return call

    def graph_break(self, *args: object, **options: object) -> None:
        """Do nothing: no code is being compiled yet."""
        real = sys.modules[NAME]
        if real is not self:
            real.graph_break(*args, **options)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and name != "__path__":  # ``inspect`` and others ask every module for these
            raise AttributeError(name)
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
            importlib.import_module(NAME)
        return getattr(sys.modules[NAME], name)
