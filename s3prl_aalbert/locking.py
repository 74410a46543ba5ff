"""One training at a time in a folder: two runs, such as a job submitted twice, would mix their states."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s3prl_aalbert.errors import AalbertError

try:
    import fcntl
except ImportError:  # no such locks on this system
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

LOCK_FILE = ".aalbert.lock"


class FolderInUse(AalbertError):
    """Another process trains in a folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from training in ``folder``, which is created if missing.

    The lock ends with the process, however the process ends. Of a distributed run, the first process holds it.

    Raises:
        FolderInUse: another process holds it.
    """
    if fcntl is None or not is_first_process():
        yield
        return
    made = _make(folder)
    handle = _acquire(folder / LOCK_FILE)
    try:
        yield
    finally:
        if handle is not None:
            (folder / LOCK_FILE).unlink(missing_ok=True)  # while locked: who opened it meanwhile checks again
            os.close(handle)
        for each in made:
            with contextlib.suppress(OSError):
                each.rmdir()  # the run wrote nothing


def _make(folder: Path) -> list[Path]:
    """Make a folder and return those that were missing, the innermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _acquire(path: Path) -> int | None:
    """Return the open lock file; None on a file system that has no locks."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            # The lock belongs to this process alone: forked workers do not keep it when the process is killed.
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            holder = os.read(handle, 200).decode("utf-8", "replace").strip()
            os.close(handle)
            raise FolderInUse(
                f"{path.parent}: another process trains there{f' ({holder})' if holder else ''}; "
                "wait until it ends, or choose another -n"
            ) from error
        except OSError as error:
            os.close(handle)
            logger.warning("%s: cannot be locked (%s); do not start a second run there", path.parent, error.strerror)
            return None
        if _is_still(path, handle):
            _sign(handle)
            return handle
        os.close(handle)


def _is_still(path: Path, handle: int) -> bool:
    """Tell whether the open file still has that name: the last holder removes it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _sign(handle: int) -> None:
    since = datetime.datetime.now().astimezone().isoformat(" ", "minutes")
    with contextlib.suppress(OSError):  # a full disk: the lock works without a signature
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {platform.node()}, since {since}".encode())


def is_first_process() -> bool:
    """Tell whether this is the first process of a run, as torchrun, Lightning or srun number them."""
    names = ["RANK", "LOCAL_RANK"]
    if int(os.environ.get("SLURM_NTASKS") or 1) > 1:
        names.append("SLURM_PROCID")
    return all(os.environ.get(name) in (None, "", "0") for name in names)
