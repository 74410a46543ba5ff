"""What this machine, or the container that it is, has: memory, disk, open files, allocator."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
MAPS = Path("/proc/self/maps")
# The limits of a container, and what it uses of them: version 2 and version 1 of control groups.
CONTROL_GROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
ALLOCATORS = ("jemalloc", "tcmalloc", "mimalloc")
MALLOC_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX")


def processor() -> str:
    """Return the processor's name."""
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown processor"


def available_memory() -> int | None:
    """Return the bytes that a program can have, in a container those that it has left; None where that is unknown."""
    found = [free for limit, used in CONTROL_GROUPS if (free := _left(limit, used)) is not None]
    for line in _lines(MEMINFO):
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024)
    return min(found) if found else None


def _left(limit: Path, used: Path) -> int | None:
    try:
        return max(0, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):  # no such file, or "max"
        return None


def free_disk(folder: Path) -> int:
    """Return the bytes that may be written below a folder."""
    return shutil.disk_usage(folder).free


def open_files() -> int | None:
    """Return how many files a program may have open at once; None: no limit, or unknown."""
    try:
        import resource
    except ImportError:
        return None
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return None if hard == resource.RLIM_INFINITY else hard


def allocator() -> str:
    """Return what gives this program its memory: a library's name, or the system's with the settings of it."""
    libraries = {line.rpartition("/")[2] for line in _lines(MAPS)}
    named = [name for name in ALLOCATORS if any(name in library for library in libraries)]
    if named:
        return named[0]
    settings = [f"{name}={os.environ[name]}" for name in MALLOC_VARIABLES if name in os.environ]
    return " ".join(["the system's", *settings])


def _lines(path: Path) -> Iterable[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
