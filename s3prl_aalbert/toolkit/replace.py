"""Replaces attributes within a ``with`` block, or parts of a module for its users."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def replaced(owner: object, **values: object) -> Iterator[None]:
    """Set attributes of ``owner``, and restore the previous ones afterwards."""
    originals = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in originals.items():
            setattr(owner, name, value)


class Changed:
    """A module with a few parts replaced."""

    def __init__(self, module: ModuleType, **parts: object):
        self._module = module
        self.__dict__.update(parts)

    def __getattr__(self, name: str) -> object:
        """Return the module's own attribute."""
        return getattr(self._module, name)
