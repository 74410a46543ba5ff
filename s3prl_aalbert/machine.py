"""The resources of this machine or container: memory, disk, open files, allocator."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
MAPS = Path("/proc/self/maps")
# (limit, use) of a container's memory, in version 2 and version 1 of control groups.
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
    """Return the bytes of memory still available, within a container's limit; None where unknown."""
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
    """Return the free bytes of the disk that holds a folder."""
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
    """Return the memory allocator of this program: a library's name, or the system's with its settings."""
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
