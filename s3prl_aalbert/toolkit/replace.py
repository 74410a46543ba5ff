"""Replaces attributes for the length of a ``with`` block, or parts of a module for those who hold it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Set attributes of ``owner``, and put back afterwards what stood there before."""
    originals = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in originals.items():
            setattr(owner, name, value)


class Changed:
    """A module of which a few parts are others."""

    def __init__(self, module: ModuleType, **parts: Any):
        self._module = module
        self.__dict__.update(parts)

    def __getattr__(self, name: str) -> Any:
        """Return what the module has of that name."""
        return getattr(self._module, name)
