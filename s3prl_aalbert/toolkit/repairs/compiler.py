"""torch's compiler is imported when something is compiled, and not by every optimiser."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

NAME = "torch._dynamo"


def import_compiler_when_used() -> None:
    """Put a stand-in for ``torch._dynamo`` that is replaced by it at the first use of the compiler.

    Reason: torch's optimisers import it for two marks, ``disable`` and ``graph_break``, which mean something to code
    that is being compiled and nothing to any other.
    Symptom: a task starts a second later, which sympy and triton take to be imported.
    Remove when: torch's optimisers no longer import it.
    """
    import torch  # noqa: F401 - whole, before anything stands in for a part of it

    if NAME not in sys.modules:
        sys.modules[NAME] = _Compiler(NAME)


class _Compiler(ModuleType):
    """The two marks; whatever else is asked for comes from the compiler itself."""

    def disable(self, function: Callable[..., Any], recursive: bool = True, **options: Any) -> Callable[..., Any]:
        """Return the function, marked as not to be compiled once there is a compiler."""

        def call(*args: Any, **kwargs: Any) -> Any:
            real = sys.modules[NAME]
            marked = function if real is self else real.disable(function, recursive, **options)
            return marked(*args, **kwargs)

        return call

    def graph_break(self, *args: Any, **options: Any) -> None:
        """End a compiled part here; nothing is compiled yet."""
        real = sys.modules[NAME]
        if real is not self:
            real.graph_break(*args, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # asked of every module, e.g. by ``inspect``
            raise AttributeError(name)
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
            importlib.import_module(NAME)
        return getattr(sys.modules[NAME], name)
