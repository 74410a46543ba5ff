"""Makes the plugin's names known to S3PRL, which has no mechanism for plugins of its own.

S3PRL finds an upstream as an attribute of ``s3prl.hub`` and a downstream task as the module
``s3prl.downstream.NAME.expert``.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit.optimizers import register_optimizers

# -d NAME -> the module with its DownstreamExpert.
DOWNSTREAMS = {
    "aalbert_phone": "s3prl_aalbert.downstream.phone.expert",
    "aalbert_speaker_utterance": "s3prl_aalbert.downstream.speaker.utterance",
    "aalbert_speaker_frame": "s3prl_aalbert.downstream.speaker.frame",
    "aalbert_probe": "s3prl_aalbert.downstream.probe.expert",
}

ALL_LAYERS_PREFIX = "aalbert_all_layers_of_"
"""``-u aalbert_all_layers_of_U`` is U with its layers side by side, see all_layers."""


def register() -> None:
    """Add the plugin's upstreams to ``s3prl.hub`` and its tasks to ``s3prl.downstream``.

    Raises:
        AalbertError: S3PRL already has something else of that name.
    """
    from s3prl import hub

    register_upstreams(hub, upstream_entries())
    register_downstreams(DOWNSTREAMS)
    register_optimizers()


def upstream_entries() -> dict[str, Callable[..., object]]:
    """Return the plugin's upstream entries by name."""
    from s3prl_aalbert.upstream import hubconf

    return {name: getattr(hubconf, name) for name in hubconf.__all__}


def register_upstreams(hub: ModuleType, entries: Mapping[str, Callable[..., object]]) -> None:
    """Set each entry as an attribute of ``hub``, all of them or none.

    Raises:
        AalbertError: ``hub`` already has another entry of that name.
    """
    for name, entry in entries.items():
        if getattr(hub, name, entry) is not entry:
            raise AalbertError(f'cannot register the upstream "{name}": {hub.__name__} already has one of that name')
    for name, entry in entries.items():
        setattr(hub, name, entry)


def register_downstreams(modules: Mapping[str, str]) -> None:
    """Let ``s3prl.downstream.NAME.expert`` import the module named for NAME, when it is asked for.

    Raises:
        AalbertError: S3PRL already has a task of that name.
    """
    for name in modules:
        _refuse_shadowing(name)
    for finder in sys.meta_path:
        if isinstance(finder, _DownstreamFinder):
            finder.modules.update(modules)
            return
    sys.meta_path.insert(0, _DownstreamFinder(dict(modules)))


def _refuse_shadowing(name: str) -> None:
    spec = importlib.util.find_spec("s3prl.downstream")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        expert = Path(folder) / name / "expert.py"
        if expert.exists():
            raise AalbertError(f'cannot register the downstream task "{name}": S3PRL already has {expert}')


class _DownstreamFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds ``s3prl.downstream.NAME`` (an empty package) and ``s3prl.downstream.NAME.expert``.

    The expert is the plugin's own module under a second name: one module, one identity, so that its
    classes pickle to worker processes that never heard of the second name.
    """

    def __init__(self, modules: dict[str, str]) -> None:
        self.modules = modules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        parts = fullname.split(".")
        if parts[:2] != ["s3prl", "downstream"] or len(parts) > 4 or parts[2:3] == []:
            return None
        if parts[2] not in self.modules or parts[3:] not in ([], ["expert"]):
            return None
        return ModuleSpec(fullname, self, is_package=len(parts) == 3)

    def create_module(self, spec: ModuleSpec) -> None:
        """Ask the import system for a fresh module; ``exec_module`` replaces it where needed."""

    def exec_module(self, module: ModuleType) -> None:
        _, _, name, *expert = module.__name__.split(".")
        if expert:  # the import system returns what stands in sys.modules afterwards
            sys.modules[module.__name__] = importlib.import_module(self.modules[name])
