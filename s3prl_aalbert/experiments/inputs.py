"""What a run of a sweep reads but its command only names: the YAML files of -c and -g, the weights of a pre-training.

Content counts, not the place: a moved folder, another path or a new comment changes nothing.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import safetensors
import yaml

from s3prl_aalbert.checkpoint.release import CHECKSUM, WEIGHTS_FILE, newest_in
from s3prl_aalbert.model.config import ConfigError, find_config, read_yaml

CONFIG_OPTIONS = ("-c", "--config", "-g", "--upstream_config", "--upstream_model_config")


def named_configs(argv: Sequence[str]) -> dict[str, str]:
    """Return the files or packaged names that a command gives to -c and -g, by option."""
    return {option: value for option, value in itertools.pairwise(argv) if option in CONFIG_OPTIONS}


def config_digest(argv: Sequence[str], option: str) -> str | None:
    """Return a digest of the content of the file that a command gives to an option; None if there is no such file."""
    task = option in ("-c", "--config") and argv[0] != "pretrain"
    try:
        path = find_config(named_configs(argv)[option], "downstream_configs" if task else "upstream_configs")
    except ConfigError:
        return None
    return _yaml_digest(path.absolute(), *_stamp(path))


def identity_of_weights(folder: Path) -> str | None:
    """Return what identifies the weights that ``-k FOLDER`` loads; None if there are none.

    It is the checksum that the release holds, or the name of a state that is newer than the release.
    """
    found = newest_in(folder)
    if found is None:
        return None
    return _checksum(found.absolute(), *_stamp(found)) if found.name == WEIGHTS_FILE else found.name


def _stamp(path: Path) -> tuple[int, int]:
    """Return what tells whether a file has changed while this process runs."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@functools.cache
def _yaml_digest(path: Path, *stamp: int) -> str:
    try:
        content = yaml.safe_dump(read_yaml(path)).encode()  # without comments, sorted
    except ConfigError:
        content = path.read_bytes()  # e.g. of an S3PRL upstream whose -g is not YAML
    return hashlib.sha256(content).hexdigest()


@functools.cache
def _checksum(path: Path, *stamp: int) -> str:
    """Return the checksum that a release holds, which takes no time; where it holds none, the file's."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return (file.metadata() or {})[CHECKSUM]
    except (safetensors.SafetensorError, KeyError):
        return hashlib.sha256(path.read_bytes()).hexdigest()
