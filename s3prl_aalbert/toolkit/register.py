"""Registers the plugin's names in S3PRL, which has no mechanism for plugins.

S3PRL finds an upstream as an attribute of ``s3prl.hub`` and a downstream task as the module
``s3prl.downstream.NAME.expert``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit import finders
from s3prl_aalbert.toolkit.hub import s3prl_folder

# -d NAME -> the module with its DownstreamExpert.
DOWNSTREAMS = {
    "aalbert_phone": "s3prl_aalbert.downstream.phone.expert",
    "aalbert_speaker_utterance": "s3prl_aalbert.downstream.speaker.utterance",
    "aalbert_speaker_frame": "s3prl_aalbert.downstream.speaker.frame",
    "aalbert_probe": "s3prl_aalbert.downstream.probe.expert",
}

OPTIMIZERS = ("AalbertAdamW",)
"""Names for ``optimizer.name`` that the plugin adds to S3PRL's."""


def register() -> None:
    """Add the plugin's upstreams to ``s3prl.hub``, its tasks to ``s3prl.downstream``, and its optimiser.

    Raises:
        AalbertError: S3PRL already has another upstream or task of that name.
    """
    from s3prl import hub, optimizers

    from s3prl_aalbert.toolkit.optimizers import get_aalbert_adamw

    register_upstreams(hub, upstream_entries())
    register_downstreams(DOWNSTREAMS)
    optimizers.get_AalbertAdamW = get_aalbert_adamw  # S3PRL looks up get_NAME for optimizer.name


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
    """Let the import of ``s3prl.downstream.NAME.expert`` return the plugin's module for NAME.

    Raises:
        AalbertError: S3PRL already has a task of that name.
    """
    folder = s3prl_folder()
    for name, module in modules.items():
        expert = folder / "downstream" / name / "expert.py" if folder else None
        if expert and expert.exists():
            raise AalbertError(f'cannot register the downstream task "{name}": S3PRL already has {expert}')
        package = f"s3prl.downstream.{name}"
        finders.alias({package: None, f"{package}.expert": module})
