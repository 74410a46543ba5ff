"""Checkpoints from a URL: kept in torch.hub's folder, checked against their hash, whole or absent.

Needs the standard library and torch alone, as torch.hub's users have them.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from s3prl_aalbert.checkpoint import CheckpointError

try:
    import fcntl
except ImportError:  # no POSIX: two processes may then fetch the same file, and the last one wins
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

CACHE_FOLDER = "aalbert"
ATTEMPTS = 3
TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 20
SCHEMES = ("http", "https", "file")
PACKAGED_WEIGHTS = Path(__file__).parents[1] / "pretrained"


@dataclass(frozen=True)
class Published:
    """Where the weights of a name are."""

    location: str
    """URL of a model.safetensors, or its path below the packaged folder ``pretrained``."""
    sha256: str
    """Of that file."""


_AALBERT_6L_7H = Published(
    "aalbert_6l_7h/model.safetensors", "1ec024fb2f94e07fbb019f2f1607ed4ff2ca5d88d49e6e59060ba24bd8c56eaa"
)
PUBLISHED: dict[str, Published] = {
    "aalbert": _AALBERT_6L_7H,  # the default
    "aalbert_6l_7h": _AALBERT_6L_7H,
    "aalbert_tiny": Published(
        "aalbert_tiny/model.safetensors", "76774a0bfb2b0aa04c4efde4862c22208c03dd9d5799a0012d3340f88472233d"
    ),
}
"""Entry of the hub -> its published weights; hubconf.py needs an entry of each name, as a function."""


def packaged_names() -> list[str]:
    """Return the published names whose weights come with the package."""
    return [name for name, each in PUBLISHED.items() if urllib.parse.urlsplit(each.location).scheme not in SCHEMES]


def packaged_folder(name: str) -> Path:
    """Return the folder of a packaged name: weights, configuration, card."""
    return (PACKAGED_WEIGHTS / PUBLISHED[name].location).parent


def fetch_published(name: str, progress: bool = True, refresh: bool = False) -> Path:
    """Return the local file of a published name's weights, after checking its hash.

    Raises:
        CheckpointError: see ``fetch``; or the packaged file was altered.
    """
    published = PUBLISHED[name]
    if name not in packaged_names():
        return fetch(published.location, published.sha256, progress, refresh)
    path = PACKAGED_WEIGHTS / published.location
    if not path.is_file():
        raise CheckpointError(f"{path}: the weights of {name} are missing; re-install s3prl-aalbert")
    found = _digest(path)
    if found != published.sha256:
        raise CheckpointError(f"{path}: has the SHA-256 {found}, expected {published.sha256}; re-install s3prl-aalbert")
    return path


def fetch(url: str, sha256: str | None = None, progress: bool = True, refresh: bool = False) -> Path:
    """Return the local copy of a checkpoint, downloading it unless it is there already.

    An interrupted download is taken up where it stopped if the hash is known, and started again otherwise.

    Args:
        url: http, https or file; may end in ``#sha256=HEX``, which is checked as ``sha256`` is.
        sha256: the expected SHA-256 of the file, 64 hexadecimal digits.
        progress: show on stderr how far it is.
        refresh: download again even if it is there.

    Raises:
        CheckpointError: not a URL, not reachable, cut off repeatedly, or not the file that the hash promises.
    """
    try:
        url, expected = _split_hash(url, sha256)
        path = _cached_path(url)
    except ValueError as error:  # of urllib.parse
        raise CheckpointError(f"{url}: is not a URL ({error})") from error
    if not refresh and _is_there(path, expected):  # files appear whole, so that looking needs no lock
        return path
    with _locked(path):
        if not refresh and _is_there(path, expected):
            return path
        if path.is_file():
            logger.warning("%s: replacing the copy of %s (%s)", path, url, "as asked" if refresh else "hash differs")
        if expected is None:
            logger.warning("%s: downloaded without a hash to check; append #sha256=HEX to the URL", url)
        partial = path.with_name(path.name + ".part")
        _download(url, partial, resume=expected is not None, progress=progress)
        found = _digest(partial)
        if expected is not None and found != expected:
            partial.unlink()
            raise CheckpointError(f"{url}: has the SHA-256 {found}, expected {expected}; nothing was kept")
        partial.replace(path)
    return path


def _split_hash(url: str, sha256: str | None) -> tuple[str, str | None]:
    address, _, fragment = url.partition("#")
    if "%00" in address:
        raise ValueError("a zero byte")
    # As browsers do: what a URL cannot hold is escaped, what is escaped already stays.
    address = urllib.parse.quote(address, safe="%:/?#[]@!$&'()*+,;=~")
    if urllib.parse.urlsplit(address).scheme not in SCHEMES:
        raise CheckpointError(f"{url}: is not a URL; expected http://, https:// or file:// (aalbert_local takes paths)")
    in_url = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else None
    if in_url and sha256 and in_url.lower() != sha256.lower():
        raise CheckpointError(f"{url}: names another SHA-256 than the one given, {sha256}")
    expected = (sha256 or in_url or "").lower() or None
    if expected is not None and (len(expected) != 64 or set(expected) - set("0123456789abcdef")):
        raise CheckpointError(f"{url}: its SHA-256 is given as {expected}, expected 64 hexadecimal digits")
    return address, expected


def _cached_path(url: str) -> Path:
    """Return where the file of ``url`` is kept: its own name, made unique by the whole URL."""
    name = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name or "model.safetensors"
    unique = hashlib.sha256(url.encode()).hexdigest()[:16]
    return Path(torch.hub.get_dir()) / CACHE_FOLDER / unique / name


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time fetch ``path``; the others find it when their turn comes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(path.name + ".lock").open("wb") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise CheckpointError(f"{path.parent}: cannot keep a download there ({error})") from error


def _is_there(path: Path, expected: str | None) -> bool:
    return path.is_file() and (expected is None or _digest(path) == expected)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _download(url: str, partial: Path, resume: bool, progress: bool) -> None:
    """Fill ``partial``, in several attempts if the connection breaks."""
    problem: Exception | None = None
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _attempt(url, partial, partial.stat().st_size if resume and partial.is_file() else 0, progress)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416 and partial.is_file():  # the part is as long as the file or longer: start again
                partial.unlink()
            elif error.code < 500:
                raise CheckpointError(f"{url}: the server answers {error.code} {error.reason}") from error
            problem = error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            problem = error
        logger.warning("%s: attempt %d of %d failed (%s)", url, attempt, ATTEMPTS, problem)
    raise CheckpointError(f"{url}: could not be downloaded in {ATTEMPTS} attempts ({problem})") from problem


def _attempt(url: str, partial: Path, start: int, progress: bool) -> None:
    """Write what follows byte ``start`` behind it, or the whole file where the server cannot start there."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        if start and response.status != http.HTTPStatus.PARTIAL_CONTENT:
            start = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        with partial.open("ab" if start else "wb") as file:
            written = start + _copy(response, file, start, total, progress)
    if total is not None and written < total:  # urllib takes a broken connection for the end of the file
        raise http.client.IncompleteRead(b"", total - written)


def _copy(response: BinaryIO, file: BinaryIO, start: int, total: int | None, progress: bool) -> int:
    written = 0
    try:
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            written += len(chunk)
            if progress:
                of = "" if total is None else f" of {total / 1e6:.1f}"
                print(f"\rdownloading {(start + written) / 1e6:.1f}{of} MB", end="", file=sys.stderr, flush=True)
    finally:
        if progress and written:
            print(file=sys.stderr)
    return written
