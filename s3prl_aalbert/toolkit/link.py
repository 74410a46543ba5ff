"""Adds the plugin to an S3PRL checkout or installation, and can undo it byte for byte.

Three S3PRL files get a marked block at their end: ``__init__.py`` (the compatibility workarounds and the
tasks, before anything else of S3PRL is imported), ``hub.py`` (the upstreams) and ``optimizers.py`` (the
optimiser of the fine-tuning configurations). Each task gets ``downstream/NAME/config.yaml``, where S3PRL
looks for it. A record beside them keeps the original bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from s3prl_aalbert import __version__
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import find_config
from s3prl_aalbert.toolkit.hub import s3prl_folder
from s3prl_aalbert.toolkit.register import DOWNSTREAMS

logger = logging.getLogger(__name__)

S3PRL_VERSION = "0.4.18"
RECORD = ".s3prl_aalbert_link.json"
MARK = "# >>> s3prl-aalbert: added by `aalbert link`, removed by `aalbert link --undo` >>>"
END_MARK = "# <<< s3prl-aalbert <<<"

# Without the plugin the block only warns, so that uninstalling it leaves S3PRL usable.
_INIT_BLOCK = """
import importlib.util as _importlib_util
import warnings as _warnings

if _importlib_util.find_spec("s3prl_aalbert") is None:
    _warnings.warn("linked to s3prl-aalbert, which this Python does not have")
else:
    from s3prl_aalbert.toolkit import compat as _compat, register as _register

    _compat.apply()
    _register.register_downstreams(_register.DOWNSTREAMS)
"""
_HUB_BLOCK = """
import importlib.util as _importlib_util
import sys as _sys

if _importlib_util.find_spec("s3prl_aalbert") is not None:
    from s3prl_aalbert.toolkit import register as _register

    _register.register_upstreams(_sys.modules[__name__], _register.upstream_entries())
"""
_OPTIMIZERS_BLOCK = """
import importlib.util as _importlib_util

if _importlib_util.find_spec("s3prl_aalbert") is not None:
    from s3prl_aalbert.toolkit.optimizers import get_aalbert_adamw as get_AalbertAdamW
"""
_BLOCKS = {"__init__.py": _INIT_BLOCK, "hub.py": _HUB_BLOCK, "optimizers.py": _OPTIMIZERS_BLOCK}


@dataclass(frozen=True)
class Change:
    """One file of S3PRL before and after linking.

    ``before`` is base64 of the original bytes, or None for a file that linking creates.
    ``after`` is the SHA-256 of what linking wrote.
    """

    file: str
    before: str | None
    after: str

    @property
    def original(self) -> bytes | None:
        """The file's bytes before linking; None if it did not exist."""
        return None if self.before is None else base64.b64decode(self.before)


def link(path: Path, dry_run: bool = False) -> list[str]:
    """Add the plugin to the S3PRL at ``path``.

    Args:
        path: a checkout, the ``s3prl`` package in it, or the ``s3prl`` folder of an installation.
        dry_run: return what would change without changing it.

    Returns:
        One line for each change; none if already linked.

    Raises:
        AalbertError: ``path`` is not S3PRL or not writable, or its linked files were edited.
    """
    package = find_package(path)
    _warn_of_other_version(package)
    contents = _linked_contents(package)
    stale = [name for name, data in contents.items() if _read(package / name) != data]
    if not stale and (package / RECORD).exists():
        return []
    _check_writable(package, contents)
    lines = [f"{'change' if (package / name).exists() else 'create'} {package / name}" for name in stale]
    if not dry_run:
        undo(path)  # an earlier link, by another version of the plugin
        _write_all(package, _linked_contents(package))
    return lines


def undo(path: Path, dry_run: bool = False) -> list[str]:
    """Restore the S3PRL at ``path`` to the bytes it had before ``link``.

    Returns:
        One line for each change; none if it is not linked.

    Raises:
        AalbertError: ``path`` is not S3PRL, or its linked files were edited.
    """
    package = find_package(path)
    changes = _read_record(package)
    pending = [change for change in changes if _is_linked(package, change)]
    lines = [f"{'restore' if c.before is not None else 'remove'} {package / c.file}" for c in pending]
    if dry_run or not (package / RECORD).exists():
        return lines
    for change in pending:
        _restore(package, change)
    (package / RECORD).unlink()
    return lines


def find_package(path: Path) -> Path:
    """Return the ``s3prl`` package folder that ``path`` is or contains.

    Raises:
        AalbertError: there is none.
    """
    path = path.expanduser()
    for package in (path, path / "s3prl"):
        if all((package / name).exists() for name in ("hub.py", "version.txt", "downstream")):
            return package.resolve()
    raise AalbertError(
        f"{path} is not S3PRL: expected its checkout or its package folder, with hub.py, version.txt and downstream/"
    )


def imported_elsewhere(path: Path) -> Path | None:
    """Return the ``s3prl`` package that this Python imports, if it is not the one at ``path``."""
    package, imported = find_package(path), s3prl_folder()
    return imported.resolve() if imported and imported.resolve() != package else None


def _warn_of_other_version(package: Path) -> None:
    version = (package / "version.txt").read_text().strip()
    if version != S3PRL_VERSION:
        logger.warning("%s is S3PRL %s; the plugin is tested with %s", package, version, S3PRL_VERSION)


def _linked_contents(package: Path) -> dict[str, bytes]:
    """Return the linked content of each file, by its path in the package."""
    originals = {change.file: change for change in _read_record(package)}
    contents = {}
    for name, block in _BLOCKS.items():
        original = originals[name].original if name in originals else _unmarked(package / name)
        contents[name] = (original or b"") + f"\n\n{MARK}{block}{END_MARK}\n".encode()
    for task in DOWNSTREAMS:
        name = f"downstream/{task}/config.yaml"
        if name not in originals and (package / name).exists():
            raise AalbertError(f"{package / name} exists and was not made by `aalbert link`")
        contents[name] = find_config(task, "downstream_configs").read_bytes()
    return contents


def _unmarked(path: Path) -> bytes:
    original = path.read_bytes()
    if MARK.encode() in original:
        raise AalbertError(f"{path} holds a block of `aalbert link` but {RECORD} is missing beside it")
    return original


def _check_writable(package: Path, contents: Mapping[str, bytes]) -> None:
    folders = {package, package / "downstream", *((package / name).parent for name in contents)}
    for folder in sorted(folders):
        if folder.exists() and not os.access(folder, os.W_OK):
            raise AalbertError(f"{folder} is not writable; link a checkout or an installation of yours")


def _write_all(package: Path, contents: Mapping[str, bytes]) -> None:
    changes = [
        Change(name, _encode(_read(package / name)), hashlib.sha256(data).hexdigest())
        for name, data in contents.items()
    ]
    record = {"format": 1, "plugin": __version__, "changes": [asdict(change) for change in changes]}
    # The record is written first, so that `--undo` has the original bytes whatever interrupts the rest.
    _write(package / RECORD, json.dumps(record, indent=1).encode())
    for name, data in contents.items():
        _write(package / name, data)


def _read_record(package: Path) -> list[Change]:
    data = _read(package / RECORD)
    if data is None:
        return []
    try:
        return [Change(**change) for change in json.loads(data)["changes"]]
    except (ValueError, KeyError, TypeError) as error:
        raise AalbertError(f"{package / RECORD} is not a record of `aalbert link`") from error


def _is_linked(package: Path, change: Change) -> bool:
    """Return whether the file is as linking wrote it (True) or as it was before (False).

    Raises:
        AalbertError: the file is neither.
    """
    now = _read(package / change.file)
    if now == change.original:
        return False
    if now is not None and hashlib.sha256(now).hexdigest() == change.after:
        return True
    raise AalbertError(
        f"{package / change.file} was edited after `aalbert link`; nothing was changed: restore the "
        f"file, or if S3PRL was installed anew, delete {package / RECORD}"
    )


def _restore(package: Path, change: Change) -> None:
    path = package / change.file
    if change.original is not None:
        _write(path, change.original)
        return
    path.unlink()
    if not any(path.parent.iterdir()):
        path.parent.rmdir()


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, and keep its permissions."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    if path.exists():
        partial.chmod(path.stat().st_mode)
    partial.replace(path)


def _encode(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()
