"""What a run of a sweep reads but its command only names: the YAML files of -c and -g, the weights of a pre-training.

Content counts, not the place: a moved folder, another path or a new comment changes nothing.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import safetensors
import yaml

from s3prl_aalbert.checkpoint.release import CHECKSUM, WEIGHTS_FILE
from s3prl_aalbert.checkpoint.training_state import latest_state, step_of_state
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


def weights_digest(folder: Path) -> str | None:
    """Return what identifies the weights that ``-k FOLDER`` loads; None if there are none.

    It is the checksum that the release holds, or the name of a state that is newer than the release.
    """
    release, state = folder / WEIGHTS_FILE, latest_state(folder)
    if release.is_file():
        checksum, step = _release(release.absolute(), *_stamp(release))
        if state is None or step_of_state(state) <= step:
            return checksum
    return state.name if state else None


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
def _release(path: Path, *stamp: int) -> tuple[str, float]:
    """Return the checksum and the step that a release holds, which takes no time; where it holds none, the file's."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        checksum, step = metadata[CHECKSUM], json.loads(metadata["info"])["step"]
        return checksum, math.inf if step is None else float(step)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError):
        return hashlib.sha256(path.read_bytes()).hexdigest(), math.inf
