"""The names of models: with weights, in this package's folder ``pretrained`` or at a URL, or without weights."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass
from pathlib import Path

SCHEMES = ("http", "https", "file")
PACKAGED_WEIGHTS = Path(__file__).parents[1] / "pretrained"


@dataclass(frozen=True)
class Published:
    """Where the published weights of a name are."""

    location: str
    """URL of a model.safetensors, or its path below the packaged folder ``pretrained``."""
    sha256: str
    """Digest of that file."""


_AALBERT_UNITS = Published(
    "aalbert_units/model.safetensors", "6fc7d4da9893d98da2ed69f6cd6c57bfe65707ffd5fa1d92c52c1bc6fb992748"
)
PUBLISHED: dict[str, Published] = {
    "aalbert": _AALBERT_UNITS,  # the default
    "aalbert_units": _AALBERT_UNITS,
    "aalbert_tiny": Published(
        "aalbert_tiny/model.safetensors", "6fe512fab58ed738af1a9f8950e5173af86aa34a553c000eb58fb4d7a87cd71e"
    ),
}
"""Entry of the hub -> its published weights; hubconf.py needs an entry of each name, as a function."""

EVERY_FRAME = "aalbert_every_frame_local"
LOCAL = ("aalbert_local", EVERY_FRAME)
"""Entries of the hub that load any checkpoint, ``-k``."""

BY_URL = "aalbert_url"
"""Entry of the hub that loads the checkpoint at a URL, ``-k``."""

PRESETS = {
    "aalbert_3l": "aalbert_3l",
    "aalbert_6l": "aalbert_6l",
    "aalbert_12l": "aalbert_12l",
    "aalbert_mockingjay_3l": "mockingjay_3l",
    "aalbert_mockingjay_6l": "mockingjay_6l",
    "aalbert_mockingjay_12l": "mockingjay_12l",
}
"""Entry of the hub without weights -> the packaged YAML it is built from."""


def packaged_names() -> list[str]:
    """Return the published names whose weights come with the package."""
    return [name for name, each in PUBLISHED.items() if urllib.parse.urlsplit(each.location).scheme not in SCHEMES]


def packaged_file(name: str) -> Path:
    """Return the weights of a packaged name."""
    return PACKAGED_WEIGHTS / PUBLISHED[name].location


def packaged_folder(name: str) -> Path:
    """Return the folder of a packaged name: weights, configuration, card."""
    return packaged_file(name).parent


def located(name: str | Path) -> Path:
    """Return the path of a packaged name; an existing path takes precedence over a name."""
    path = Path(name).expanduser()
    return packaged_file(str(name)) if str(name) in packaged_names() and not path.exists() else path


def _release_at(url: str) -> Path:
    """Return the release at a URL: a packaged one by its hash, one of this machine, or a path that is not there."""
    parts = urllib.parse.urlsplit(url)
    for name in packaged_names():
        if parts.fragment.lower() == f"sha256={PUBLISHED[name].sha256}":
            return packaged_folder(name)
    return Path(urllib.parse.unquote(parts.path)) if parts.scheme == "file" else Path(url)


def release_of_upstream(name: str | None, ckpt: str | None) -> Path | None:
    """Return the release of this project that an upstream of S3PRL loads; None if it loads none.

    Args:
        name: of the upstream, ``-u``.
        ckpt: its checkpoint, ``-k``.
    """
    if name in LOCAL and ckpt:
        return located(ckpt)
    if name == BY_URL and ckpt:
        return _release_at(ckpt)
    return packaged_folder(name) if name in packaged_names() else None
