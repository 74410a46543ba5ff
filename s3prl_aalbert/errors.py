"""The one exception that means "the user can fix this"; the command line prints it without a stack trace."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

from s3prl_aalbert.printable import printable

EXIT_USER_ERROR = 2
"""Exit code of a mistake that the user can correct, as the message explains."""
EXIT_STOPPED = 75
"""Exit code after a signal: the run saved its state, and the same command with -a continues it."""
EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C with nothing to save."""

# Errors of the disk, of permissions or of a path; any other error of the operating system is our bug.
_ENVIRONMENT = "EACCES EPERM EROFS ENOSPC EDQUOT EFBIG ENOENT EISDIR ENOTDIR EEXIST ENAMETOOLONG EMFILE EIO ELOOP"

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than the limit on file sizes allows",
}


class AalbertError(Exception):
    """A mistake in input, configuration or environment, described in one clear sentence.

    The message names the file or key, what was found and what was expected. Control characters are shown escaped.
    """

    def __str__(self) -> str:
        """Return the message as one line in which every character shows."""
        return printable(super().__str__())


def did_you_mean(found: str, choices: Iterable[str]) -> str:
    """Return ``' (did you mean "x"?)'`` for the nearest of ``choices``, or an empty string."""
    near = difflib.get_close_matches(found, list(choices), n=1, cutoff=0.5)
    return f' (did you mean "{near[0]}"?)' if near else ""


def is_url(path: object) -> bool:
    """Tell whether a path is really a URL; pathlib turns its two slashes into one."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)) is not None


def near_folder(missing: Path) -> str:
    """Return ``did_you_mean`` over the folders beside a missing one."""
    return did_you_mean(missing.name, [path.name for path in missing.parent.glob("*/") if path.name != missing.name])


def check_new_folder(output: Path) -> None:
    """Raise AalbertError where an output path is a file, or a folder that is not empty."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise AalbertError(f"{output}: is {'not empty' if output.is_dir() else 'a file'}; name a new folder")


def environment_fault(error: OSError | RuntimeError) -> str | None:
    """Describe an error of the disk or of a path in one sentence; return None for one that only a bug can cause."""
    if isinstance(error, RuntimeError):
        if fault := lost_worker(error) or lost_process(error):
            return fault
        # Path.expanduser raises this.
        no_user = "Could not determine home directory" in str(error)
        return "a path begins with ~ and the name of no user of this machine" if no_user else None
    if type(error).__module__.partition(".")[0] in ("requests", "urllib"):
        return f"a download failed: {error}"
    if errno.errorcode.get(error.errno or 0) not in _ENVIRONMENT.split():
        return None
    reason = disk_fault(error)
    return reason if error.filename is None else f"{error.filename}: {reason}"


def disk_fault(error: Exception) -> str:
    """Describe in a few words why a file could not be read or written."""
    if not isinstance(error, OSError) or not error.errno:
        return str(error)
    known, reason = _REASONS.get(error.errno), os.strerror(error.errno)
    return f"{known} ({reason})" if known else reason


def lost_worker(error: RuntimeError) -> str | None:
    """Describe the loss of a torch loader process in one sentence; return None for another error.

    torch raises this error at any point of the program, as soon as the system reports that a child has ended.
    """
    if "DataLoader worker (pid" not in str(error):
        return None
    return (
        "a process that loads audio was killed, most likely because memory ran out; lower num_workers in the "
        "configuration's datarc, or the batch size, and continue with -a"
    )


def lost_process(error: RuntimeError) -> str | None:
    """Describe the loss of another process of a distributed run; return None for another error."""
    text = str(error)
    if not (type(error).__name__.startswith("Dist") or "monitoredBarrier" in text or " by peer" in text):
        return None
    return f"this process lost the others of its run; the first one that ended says why ({' '.join(text.split()[:40])})"
