"""Downloads checkpoints by torch.hub to its folder and checks them; a file is there whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import logging
import re
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import torch

from s3prl_aalbert.checkpoint.content import CheckpointError, is_safetensors
from s3prl_aalbert.checkpoint.published import PUBLISHED, SCHEMES, packaged_file, packaged_names
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.locking import one_at_a_time

logger = logging.getLogger(__name__)

CACHE_FOLDER = "aalbert"
CHUNK_BYTES = 1 << 20


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

    Args:
        url: http, https or file; may end in ``#sha256=HEX``, which is checked as ``sha256`` is.
        sha256: the expected SHA-256 of the file, 64 hexadecimal digits.
        progress: show the progress on stderr.
        refresh: download again even if a copy exists.
        check: raises AalbertError for an unusable file, which is then not kept.

    Raises:
        CheckpointError: the URL is invalid or not reachable, or the file has another hash or is refused by ``check``.
    """
    try:
        url, expected = _split_hash(url, sha256)
        path = _cached_path(url)
    except ValueError as error:  # urllib.parse raises it
        raise CheckpointError(f"{url}: is not a URL ({error})") from error
    if not refresh and _is_there(path, expected, check):  # files appear whole, so that this check needs no lock
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(path):
            if refresh or not _is_there(path, expected, check):
                _replace(path, url, expected, progress, refresh, check)
    except OSError as error:
        raise CheckpointError(f"{path.parent}: cannot keep a download there ({error})") from error
    return path


def local_copy(url: str) -> Path:
    """Return the path of the local copy of a checkpoint at ``url``, whether or not it was fetched.

    Raises:
        CheckpointError: the URL is invalid.
    """
    try:
        return _cached_path(_split_hash(url, None)[0])
    except ValueError as error:  # urllib.parse raises it
        raise CheckpointError(f"{url}: is not a URL ({error})") from error


def _download(url: str, target: Path, expected: str | None, progress: bool) -> None:
    scheme, _, path, *_ = urllib.parse.urlsplit(url)
    if scheme == "file" and not (local := Path(urllib.request.url2pathname(path))).is_file():
        raise CheckpointError(f"{url}: {'is not a file' if local.exists() else 'no such file'}")
    try:
        torch.hub.download_url_to_file(url, str(target), expected, progress)
    except RuntimeError as error:  # another hash
        raise CheckpointError(f"{url}: {error}; nothing was kept") from error
    except (OSError, ValueError, http.client.HTTPException) as error:  # of the connection, the headers or the disk
        raise CheckpointError(f"{url}: could not be downloaded ({error})") from error


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


def _check_content(url: str, partial: Path, check: Callable[[Path], object] | None) -> None:
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


def _replace(
    path: Path, url: str, expected: str | None, progress: bool, refresh: bool, check: Callable[[Path], object] | None
) -> None:
    """Download ``path``; a copy that is not usable is replaced, and the user is told why."""
    if path.is_file():
        why = "refresh was requested" if refresh else "hash differs, or no checkpoint"
        logger.warning("%s: replacing the copy of %s (%s)", path, url, why)
    if expected is None:
        logger.warning("%s: downloaded without a hash to check; append #sha256=HEX to the URL", url)
    for old in path.parent.glob("*.part*"):  # of a killed process
        old.unlink()
    partial = path.with_name(path.name + ".part")
    try:
        _download(url, partial, expected, progress)
        _check_content(url, partial, check)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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
