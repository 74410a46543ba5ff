"""The one exception that means "the user can mend this"; the command line prints it without a stack trace."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

from s3prl_aalbert.printable import printable

EXIT_USER_ERROR = 2
"""A mistake that the message tells how to mend."""
EXIT_STOPPED = 75
"""A signal ended the run after it saved: the same command with -a goes on."""
EXIT_INTERRUPTED = 130
"""Ctrl-C, with nothing to save."""

# What the disk, its permissions or a path did; other operating system errors are bugs of ours.
_ENVIRONMENT = "EACCES EPERM EROFS ENOSPC EDQUOT EFBIG ENOENT EISDIR ENOTDIR EEXIST ENAMETOOLONG EMFILE EIO ELOOP"

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EFBIG: "the file would be larger than files may be here",
}


class AalbertError(Exception):
    """A mistake in input, configuration or environment, told in one clear sentence.

    The message names the file or key, what was found and what was expected. Whatever a name in it holds is shown.
    """

    def __str__(self) -> str:
        """Return the message as one line in which every character shows."""
        return printable(super().__str__())


def did_you_mean(found: str, choices: Iterable[str]) -> str:
    """Return ``' (did you mean "x"?)'`` for the nearest of ``choices``, or an empty string."""
    near = difflib.get_close_matches(found, list(choices), n=1, cutoff=0.5)
    return f' (did you mean "{near[0]}"?)' if near else ""


def is_url(path: object) -> bool:
    """Tell whether a path is none; pathlib makes one slash of two."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)) is not None


def near_folder(missing: Path) -> str:
    """Return ``did_you_mean`` of the folders beside one that does not exist."""
    return did_you_mean(missing.name, [path.name for path in missing.parent.glob("*/") if path.name != missing.name])


def check_new_folder(output: Path) -> None:
    """Raise AalbertError where a path to write to is a file, or a folder that holds something already."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise AalbertError(f"{output}: is {'not empty' if output.is_dir() else 'a file'}; name a new folder")


def environment_fault(error: OSError | RuntimeError) -> str | None:
    """Return in one sentence what the disk or a path did, or None for an error that only a bug can cause."""
    if isinstance(error, RuntimeError):
        if fault := lost_worker(error) or lost_process(error):
            return fault
        # Of Path.expanduser.
        no_user = "Could not determine home directory" in str(error)
        return "a path begins with ~ and the name of no user of this machine" if no_user else None
    if type(error).__module__.partition(".")[0] in ("requests", "urllib"):
        return f"a download failed: {error}"
    if errno.errorcode.get(error.errno or 0) not in _ENVIRONMENT.split():
        return None
    reason = disk_fault(error)
    return reason if error.filename is None else f"{error.filename}: {reason}"


def disk_fault(error: Exception) -> str:
    """Return why a file could not be read or written, in a few words."""
    if not isinstance(error, OSError) or not error.errno:
        return str(error)
    known, reason = _REASONS.get(error.errno), os.strerror(error.errno)
    return f"{known} ({reason})" if known else reason


def lost_worker(error: RuntimeError) -> str | None:
    """Return in one sentence that a loader process of torch's is gone, or None for another error.

    torch raises this wherever the program happens to be when the system says that a child has ended.
    """
    if "DataLoader worker (pid" not in str(error):
        return None
    return (
        "a process that loads audio was killed: out of memory, most likely; lower num_workers of the configuration's "
        "datarc, or the batch size, and go on with -a"
    )


def lost_process(error: RuntimeError) -> str | None:
    """Return in one sentence that another process of a distributed run is gone, or None for another error."""
    text = str(error)
    if not (type(error).__name__.startswith("Dist") or "monitoredBarrier" in text or " by peer" in text):
        return None
    return f"this process lost the others of its run; the first one that ended says why ({' '.join(text.split()[:40])})"
