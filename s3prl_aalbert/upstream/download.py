"""Downloads checkpoints to torch.hub's folder and checks their hash; a file is there whole or not at all.

The module needs only the standard library and torch, which torch.hub's users have.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import torch

from s3prl_aalbert.checkpoint.content import CheckpointError, is_safetensors
from s3prl_aalbert.checkpoint.published import PUBLISHED, SCHEMES, packaged_file, packaged_names
from s3prl_aalbert.errors import AalbertError

try:
    import fcntl
except ImportError:  # without POSIX two processes may fetch the same file, and the last one wins
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

CACHE_FOLDER = "aalbert"
ATTEMPTS = 3
TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 20
LARGEST_BYTES = 8 << 30
LONGEST_SECONDS = 6 * 3600
"""Limit of all attempts of one download together, so that a very slow server does not keep it alive for ever."""


def fetch_published(name: str, progress: bool = True, refresh: bool = False) -> Path:
    """Return the local file of a published name's weights, after checking its hash.

    Raises:
        CheckpointError: see ``fetch``; also if the packaged file was changed.
    """
    published = PUBLISHED[name]
    if name not in packaged_names():
        return fetch(published.location, published.sha256, progress, refresh)
    path = packaged_file(name)
    if not path.is_file():
        raise CheckpointError(f"{path}: the weights of {name} are missing; re-install s3prl-aalbert")
    found = _digest(path)
    if found != published.sha256:
        raise CheckpointError(f"{path}: has the SHA-256 {found}, expected {published.sha256}; re-install s3prl-aalbert")
    return path


def fetch(
    url: str,
    sha256: str | None = None,
    progress: bool = True,
    refresh: bool = False,
    check: Callable[[Path], object] | None = None,
) -> Path:
    """Return the local copy of a checkpoint; download it unless it exists.

    An interrupted download continues where it stopped if the hash is known, and starts again otherwise.

    Args:
        url: http, https or file; may end in ``#sha256=HEX``, which is checked as ``sha256`` is.
        sha256: the expected SHA-256 of the file, 64 hexadecimal digits.
        progress: show the progress on stderr.
        refresh: download again even if a copy exists.
        check: raises AalbertError for an unusable file, which is then not kept.

    Raises:
        CheckpointError: the URL is invalid or not reachable, the connection broke repeatedly, or the file is larger
            than ``LARGEST_BYTES``, has another hash, or is refused by ``check``.
    """
    try:
        url, expected = _split_hash(url, sha256)
        path = _cached_path(url)
    except ValueError as error:  # urllib.parse raises it
        raise CheckpointError(f"{url}: is not a URL ({error})") from error
    if not refresh and _is_there(path, expected, check):  # files appear whole, so that this check needs no lock
        return path
    with _locked(path):
        if not refresh and _is_there(path, expected, check):
            return path
        # A copy that is not usable is replaced, and the user is told why.
        if path.is_file():
            why = "refresh was requested" if refresh else "hash differs, or no checkpoint"
            logger.warning("%s: replacing the copy of %s (%s)", path, url, why)
        if expected is None:
            logger.warning("%s: downloaded without a hash to check; append #sha256=HEX to the URL", url)
        # A partial file is kept only if its hash is known and the connection broke: then the rest can be appended.
        partial = path.with_name(path.name + ".part")
        try:
            _download(url, partial, resume=expected is not None, progress=progress)
            _check_content(url, partial, expected, check)
        except _Incomplete as error:
            if expected is None:  # without a hash the rest might belong to another file
                partial.unlink(missing_ok=True)
            raise CheckpointError(str(error)) from error
        except BaseException as error:
            if expected is None or isinstance(error, AalbertError):
                partial.unlink(missing_ok=True)
            raise
        partial.replace(path)
    return path


class _Incomplete(Exception):
    """A download that broke off and may continue later."""


# First bytes of what servers often send in place of a file.
_NO_CHECKPOINT = {
    rb"\s*<": "a web page",
    rb"\x1f\x8b": "a gzip archive",
    rb"version https://git-lfs": "a pointer of Git LFS in place of the file",
    rb"\s*\{": "a JSON text",
    rb"\Z": "an empty file",
}


def _what_else(path: Path) -> str | None:
    """Describe a file that is clearly not a checkpoint; None if it may be one."""
    with path.open("rb") as file:
        start = file.read(64)
    found = (what for pattern, what in _NO_CHECKPOINT.items() if re.match(pattern, start))
    return None if is_safetensors(path) else next(found, None)


def _check_content(url: str, partial: Path, expected: str | None, check: Callable[[Path], object] | None) -> None:
    found = _digest(partial)
    if expected is not None and found != expected:
        raise CheckpointError(f"{url}: has the SHA-256 {found}, expected {expected}; nothing was kept")
    if check is None:
        return
    what = _what_else(partial)
    if what:
        raise CheckpointError(f"{url}: gives {what}, expected a release or a training state; nothing was kept")
    try:
        check(partial)
    except AalbertError as error:
        reason = str(error).replace(str(partial), url)
        raise CheckpointError(f"{reason}; nothing was kept") from error


def _split_hash(url: str, sha256: str | None) -> tuple[str, str | None]:
    address, _, fragment = url.partition("#")
    if "%00" in address:
        raise ValueError("a zero byte")
    # As in browsers: invalid characters of a URL are escaped, and existing escapes stay.
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
    """Return where the file of ``url`` is kept; the whole URL makes the path unique."""
    name = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name or "model.safetensors"
    unique = hashlib.sha256(url.encode()).hexdigest()[:16]
    return Path(torch.hub.get_dir()) / CACHE_FOLDER / unique / name


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time fetch ``path``; the others wait and then find the file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(path.name + ".lock").open("wb") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise CheckpointError(f"{path.parent}: cannot keep a download there ({error})") from error


def _is_there(path: Path, expected: str | None, check: Callable[[Path], object] | None) -> bool:
    """Return whether the copy is usable; earlier versions also kept web pages and archives."""
    if not path.is_file() or (check is not None and _what_else(path)):
        return False
    return expected is None or _digest(path) == expected


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects only among http and https, and from https only to https."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in ("https", req.type):
            raise CheckpointError(f"{req.full_url}: is redirected to {newurl}; expected another https address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str, partial: Path, resume: bool, progress: bool) -> None:
    """Fill ``partial``, in several attempts if the connection breaks.

    Raises:
        _Incomplete: every attempt broke off, or the download took too long.
        CheckpointError: another attempt would not help.
    """
    deadline = time.monotonic() + LONGEST_SECONDS
    problem: Exception | None = None
    for attempt in range(1, ATTEMPTS + 1):
        try:
            start = partial.stat().st_size if resume and partial.is_file() else 0
            _attempt(url, partial, start, progress, deadline)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416 and partial.is_file():  # the part is at least as long as the file: start again
                partial.unlink()
            elif error.code < 500:
                raise CheckpointError(f"{url}: the server answers {error.code} {error.reason}") from error
            problem = error
        except (urllib.error.URLError, http.client.HTTPException) as error:
            problem = error
        logger.warning("%s: attempt %d of %d failed (%s)", url, attempt, ATTEMPTS, problem)
    raise _Incomplete(f"{url}: could not be downloaded in {ATTEMPTS} attempts ({problem})")


def _attempt(url: str, partial: Path, start: int, progress: bool, deadline: float) -> None:
    """Append the bytes from ``start`` on, or write the whole file if the server cannot start there."""
    with _open(url, start) as response:
        if start and response.status != http.HTTPStatus.PARTIAL_CONTENT:
            start = 0
        total = _total_bytes(url, response.headers.get("Content-Length"), start)
        with partial.open("ab" if start else "wb") as file, _progress(start, total, progress) as show:
            written = start
            for chunk in _chunks(response):
                written += file.write(chunk)
                show(written)
                if written > LARGEST_BYTES:
                    raise CheckpointError(f"{url}: sends more than {LARGEST_BYTES} bytes, expected a checkpoint")
                if time.monotonic() > deadline:
                    raise _Incomplete(f"{url}: incomplete after {LONGEST_SECONDS} seconds ({written} bytes received)")
    if total is not None and written < total:  # to urllib a broken connection is the end of the file
        raise http.client.IncompleteRead(b"", total - written)


def _open(url: str, start: int) -> http.client.HTTPResponse:
    scheme, _, path, *_ = urllib.parse.urlsplit(url)
    if scheme == "file" and not (local := Path(urllib.request.url2pathname(path))).is_file():
        raise CheckpointError(f"{url}: {'is not a file' if local.exists() else 'no such file'}")
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
        return urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT_SECONDS)
    except ValueError as error:  # of a host name, or of a redirect's target
        raise CheckpointError(f"{url}: is not a URL, or redirects to something else ({error})") from error
    except urllib.error.URLError:
        raise
    except OSError as error:  # while the server answers
        raise urllib.error.URLError(error) from error


def _total_bytes(url: str, length: str | None, start: int) -> int | None:
    """Return the size of the whole file from the header Content-Length; None without one."""
    if length is None:
        return None
    if not re.fullmatch("[0-9]{1,18}", length.strip()):
        raise CheckpointError(f"{url}: the server gives {length[:40]!r} as Content-Length, expected a number of bytes")
    total = start + int(length)
    if total > LARGEST_BYTES:
        raise CheckpointError(f"{url}: has {total} bytes, expected at most {LARGEST_BYTES}")
    return total


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the received bytes as they arrive."""
    while True:
        try:
            chunk = response.read1(CHUNK_BYTES)
        except (OSError, ValueError) as error:  # errors of the connection, not of the disk
            raise urllib.error.URLError(error) from error
        if not chunk:
            return
        yield chunk


@contextlib.contextmanager
def _progress(start: int, total: int | None, shown: bool) -> Iterator[Callable[[int], None]]:
    """Give a function that shows the number of received bytes on stderr."""
    reached = start
    of = "" if total is None else f" of {total / 1e6:.1f}"

    def show(written: int) -> None:
        nonlocal reached
        reached = written
        if shown:
            print(f"\rdownloading {written / 1e6:.1f}{of} MB", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if shown and reached > start:
            print(file=sys.stderr)
