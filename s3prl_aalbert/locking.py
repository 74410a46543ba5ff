"""One training at a time in a folder, since two runs would mix their states; and one change at a time of a file."""

from __future__ import annotations

import contextlib
import datetime
import logging
import math
import os
import platform
import time
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
POLL_INTERVAL = 0.02
"""Seconds."""


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


@contextmanager
def one_at_a_time(path: Path, longest_wait: float = math.inf) -> Iterator[None]:
    """Let one process or thread at a time make or change a file; the others wait, and find what it has written.

    The lock is on a hidden file beside it, which stays: over NFS, a process that waits may not see that it was removed.
    After ``longest_wait`` seconds, or where nothing can be locked, it goes on without a lock: a finished file in
    a read-only folder is fine, and if anything has to be written, that fails by itself.
    """
    handle = _wait_for(path, longest_wait)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _wait_for(path: Path, longest: float) -> int | None:
    """Return the open and locked file beside ``path``; None if it cannot be had."""
    if fcntl is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        logger.info("%s: is used without a lock (%s)", path, error.strerror)
        return None
    start, told = time.monotonic(), False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except (BlockingIOError, PermissionError):
            waited = time.monotonic() - start
            if waited < longest:
                if waited > 1 and not told:
                    logger.info("%s: another process is writing it, waiting", path)
                    told = True
                time.sleep(POLL_INTERVAL)
                continue
            logger.warning("%s: another process has been changing it for too long; is changed without a lock", path)
        except OSError as error:
            logger.warning("%s: cannot be locked (%s)", path, error.strerror)
        os.close(handle)
        return None


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
