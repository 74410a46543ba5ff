"""The two kinds of checkpoint and how they reach the disk: release (safetensors + YAML) and training state.

Both are tensors plus plain values, load without unpickling, and are written to a temporary file that replaces the old
one only when whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import pickle
import struct
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import yaml
from torch import Tensor, nn

from s3prl_aalbert.config import ModelConfig, from_dict, read_yaml, to_dict
from s3prl_aalbert.errors import AalbertError, disk_fault, is_url
from s3prl_aalbert.published import located
from s3prl_aalbert.yaml_config import leaves

logger = logging.getLogger(__name__)

FORMAT = "s3prl-aalbert"
STATE_VERSION = 1
RELEASE_VERSION = 3
"""2 added the checksum ``sha256``; releases of version 1 keep loading, unchecked. 3 moved the name of this program from
``format`` to ``program``: transformers reads no file whose ``format`` is other than ``pt``."""
CHECKSUM = "sha256"
WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "model.safetensors", "config.yaml", "README.md"
TRANSFORMERS_FILE = "config.json"
STATES_PATTERN = "states-*.ckpt"
LARGEST_FILE = 64 * 1024**3
"""Bytes of a checkpoint."""
MOST_VALUES = 2_000_000
"""Single values of a checkpoint."""
MODEL_PREFIX = "model."
"""Of the weights of the representation model; the others are heads of pre-training."""
PROJECTIONS = "projections."
"""Prefix of the weights between a student and its teacher."""
# What torch.load raises on a damaged or foreign file: its restricted unpickler answers stray bytes with any of these.
UNREADABLE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
)


class CheckpointError(AalbertError):
    """A checkpoint that cannot be read or does not fit."""


@dataclass(frozen=True)
class Checkpoint:
    """A pre-trained model as read from disk."""

    path: Path
    config: ModelConfig
    state: dict[str, Tensor]
    """Weights by name, as ``objective.MaskedPrediction`` has them."""
    info: dict[str, Any]
    """Plain facts recorded with it, such as ``step``."""

    @property
    def model_state(self) -> dict[str, Tensor]:
        """The weights of the representation model alone, as ``model.AalbertModel`` names them, in float32."""
        return {
            name.removeprefix(MODEL_PREFIX): tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in self.state.items()
            if name.startswith(MODEL_PREFIX)
        }


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk, then rename it into place.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written; the previous file stays untouched.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        # torch reports a failed write as RuntimeError; anything else wrong with the tensors would be our own bug.
        reason = _why_not_written(error, temporary)
        raise CheckpointError(f"{path}: could not be written, the previous version is kept ({reason})") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()


def _why_not_written(error: Exception, temporary: Path | None) -> str:
    """Return what the disk did; torch and safetensors do not pass it on, so the same file is written to once more."""
    if isinstance(error, OSError) or temporary is None:
        return disk_fault(error)
    try:
        with temporary.open("ab") as file:
            file.write(bytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())
    except OSError as fault:
        return disk_fault(fault)
    return str(error)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save_training_state(path: Path, config: ModelConfig, state: Mapping[str, Any]) -> None:
    """Write everything that resuming needs; ``state["model"]`` holds the weights, the rest plain values and tensors."""
    content = {
        "format": FORMAT,
        "format_version": STATE_VERSION,
        "config": to_dict(config),
        **state,
    }
    write_atomically(path, lambda temporary: torch.save(content, temporary))


def load_training_state(path: Path) -> dict[str, Any]:
    """Read a training state back, with nothing unpickled but tensors and plain values.

    Raises:
        CheckpointError: missing, truncated, or a checkpoint of another kind.
    """
    check_regular(path)
    if is_safetensors(path):
        raise CheckpointError(f"{path}: is a release; expected a training state, {STATES_PATTERN}")
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = "holds pickled objects of another program, or is damaged" if looks_pickled(path) else "is damaged"
        raise CheckpointError(f"{path}: {reason}; expected a checkpoint written by `aalbert pretrain`") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: is a checkpoint of another kind; expected one written by `aalbert pretrain`")
    _check_version(path, content.get("format_version"), STATE_VERSION)
    lacking = [key for key in ("config", "model") if not isinstance(content.get(key), Mapping)]
    if lacking:
        raise CheckpointError(f"{path}: is damaged: it lacks {_some(lacking)}")
    seed = content.get("seed", 0)
    if not (isinstance(seed, int) and 0 <= seed < 2**63):
        raise CheckpointError(f"{path}: is damaged: its seed is {seed!r}")
    step = content.get("step")
    if step is not None and not (isinstance(step, int) and step >= 0):
        raise CheckpointError(f"{path}: is damaged: its step is {step!r}")
    _check_tensors(path, content["model"])
    check_content(path, content)
    return content


def check_regular(path: Path) -> None:
    """Raise CheckpointError unless this is a regular file of a sane size: a pipe waits, and /dev/zero never ends."""
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint")
    if not path.is_file():
        raise CheckpointError(f"{path}: is a {'folder' if path.is_dir() else 'device or a pipe'}, expected a file")
    size = path.stat().st_size
    if not size:
        raise CheckpointError(f"{path}: is empty (0 bytes)")
    if size > LARGEST_FILE:
        raise CheckpointError(f"{path}: has {size:,} bytes, expected a checkpoint of at most {LARGEST_FILE:,}")
    if _is_compressed(path):  # a few bytes may stand for gigabytes; torch writes none
        raise CheckpointError(f"{path}: is a compressed archive, expected a checkpoint")


def _is_compressed(path: Path) -> bool:
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
    except UNREADABLE:  # whoever reads it says what is wrong with it
        return False


def check_content(path: Path, content: Any) -> None:
    """Check what a checkpoint holds: plain values of a sane number, texts, and tensors of weights.

    Args:
        path: of the checkpoint.
        content: nested mappings and sequences.

    Raises:
        CheckpointError: nested or repeated beyond reason, a text that is none, or a tensor that is sparse, quantised,
            nested, without data, a view of fewer numbers than it shows, or not a number somewhere.
    """
    try:
        for place, value in leaves(content, MOST_VALUES):
            problem = _tensor_problem(value) if isinstance(value, Tensor) else _text_problem(value)
            if problem:
                raise CheckpointError(f"{path}: is damaged: {place or 'a key'} {problem}")
    except ValueError as error:
        raise CheckpointError(f"{path}: is damaged: {error}") from error


def _tensor_problem(tensor: Tensor) -> str:
    if tensor.is_nested or tensor.is_quantized or tensor.layout is not torch.strided:
        kind = "nested" if tensor.is_nested else "quantised" if tensor.is_quantized else "sparse"
        return f"is a {kind} tensor, expected a plain one"
    if tensor.is_meta:
        return "is a tensor without data"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"shows {tensor.numel():,} numbers and holds fewer"
    small = tensor.is_floating_point() and tensor.element_size() == 1  # float8, of which torch cannot ask it
    if torch.isnan(tensor.float() if small else tensor).any():
        return "holds values that are no numbers (NaN): the training that wrote it had failed"
    return ""


def _text_problem(value: Any) -> str:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "is a text with half a character"
    return ""


def save_release(
    folder: Path,
    config: ModelConfig,
    state: Mapping[str, Tensor],
    card: str,
    info: Mapping[str, Any] | None = None,
) -> None:
    """Write a release: model.safetensors (its metadata alone suffices to load it), config.yaml and README.md.

    A student's projections to its teacher are left out.
    """
    metadata = {
        "format": "pt",
        "program": FORMAT,
        "format_version": str(RELEASE_VERSION),
        "config": json.dumps(to_dict(config)),
        "info": json.dumps(dict(info or {})),
    }
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(PROJECTIONS)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in kept.items()}
    metadata[CHECKSUM] = content_digest(metadata, tensors)
    write_atomically(
        folder / WEIGHTS_FILE,
        lambda temporary: safetensors.torch.save_file(tensors, temporary, metadata),
    )
    text = yaml.safe_dump(to_dict(config), sort_keys=False)
    write_text(folder / CONFIG_FILE, text)
    write_text(folder / CARD_FILE, card)


def content_digest(metadata: Mapping[str, str], state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a release's content: its metadata but the checksum itself, then every tensor by name."""
    described = {key: value for key, value in metadata.items() if key != CHECKSUM}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(state):
        tensor = state[name].contiguous()
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # names that are no UTF-8

    write_atomically(path, write)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a pre-trained model.

    Args:
        path: a release folder, its model.safetensors, a pre-training folder (the latest states-*.ckpt is taken), one
            training state, or the name of a model that comes with the package.

    Raises:
        CheckpointError: nothing usable there, told in one sentence.
    """
    if is_url(path):
        raise CheckpointError(f"{path}: is a URL, expected a file or folder; -u aalbert_url downloads")
    path = located(path)
    if path.is_dir():
        path = _find_in_folder(path)
    check_regular(path)
    if is_safetensors(path):
        return _load_release(path)
    content = load_training_state(path)
    config = from_dict(ModelConfig, content["config"], str(path))
    return Checkpoint(path, config, content["model"], {"step": content.get("step")})


def is_safetensors(path: Path) -> bool:
    """Tell a safetensors file by its content, a length and JSON; by its name if it is no archive of torch either."""
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size - 8:
        return True
    return path.suffix == ".safetensors" and not start.startswith(b"PK\x03\x04")


def latest_state(folder: Path) -> Path | None:
    """Return the training state of the highest step in a folder, or None."""
    states = training_states(folder)
    return states[-1] if states else None


def training_states(folder: Path) -> list[Path]:
    """Return the states-STEP.ckpt of a folder, by step; what a user has named otherwise is none of them."""
    states = [p for p in folder.glob(STATES_PATTERN) if p.stem.removeprefix("states-").isdecimal()]
    return sorted(states, key=step_of_state)


def step_of_state(path: Path) -> int:
    """Return STEP of a states-STEP.ckpt."""
    return int(path.stem.removeprefix("states-"))


def _find_in_folder(folder: Path) -> Path:
    release, state = folder / WEIGHTS_FILE, latest_state(folder)
    if release.is_file() and (state is None or step_of_state(state) <= _step_of_release(release)):
        return release
    if state is None:
        raise CheckpointError(f"{folder}: holds neither {WEIGHTS_FILE} nor {STATES_PATTERN}")
    older = f", which is newer than {WEIGHTS_FILE}" if release.is_file() else ""
    logger.info("%s: taking the latest training state, %s%s", folder, state.name, older)
    return state


def _step_of_release(path: Path) -> float:
    """Return the step of a release; infinity where it does not tell, so that loading it says what is wrong."""
    unreadable = (safetensors.SafetensorError, OSError, ValueError, TypeError, AttributeError, RecursionError)
    with contextlib.suppress(*unreadable):
        with safetensors.safe_open(path, framework="pt") as file:
            step = json.loads((file.metadata() or {}).get("info", "{}")).get("step")
        return math.inf if step is None else float(step)
    return math.inf


def _load_release(path: Path) -> Checkpoint:
    check_regular(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: is damaged or no safetensors file ({error})") from error
    if metadata.get("program", metadata.get("format")) != FORMAT:
        metadata = _saved_by_transformers(path)
    try:
        version, values = int(metadata["format_version"]), json.loads(metadata["config"])
        info = json.loads(metadata.get("info", "{}"))
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its metadata is damaged ({error})") from error
    check_content(path, {"config": values, "info": info, "weights": state})
    if not isinstance(info, dict):
        raise CheckpointError(f"{path}: its metadata is damaged (info is {type(info).__name__}, expected a mapping)")
    _check_version(path, version, RELEASE_VERSION)
    # A damaged checksum or a missing one: only version 1 was written without.
    if version > 1 and metadata.get(CHECKSUM) != content_digest(metadata, state):
        raise CheckpointError(f"{path}: does not match its own checksum: it was altered after it was written")
    config = from_dict(ModelConfig, values, str(path))
    beside = path.parent / CONFIG_FILE
    if beside.is_file() and from_dict(ModelConfig, read_yaml(beside), str(beside)) != config:
        raise CheckpointError(f"{beside}: differs from the configuration inside {path.name}; restore or remove it")
    return Checkpoint(path, config, state, info)


def _saved_by_transformers(path: Path) -> dict[str, str]:
    """Return the metadata that a release would have, by the config.json of a model that transformers has saved.

    Raises:
        CheckpointError: there is none, or it is another model's.
    """
    beside = path.parent / TRANSFORMERS_FILE
    try:
        content = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{beside}: is damaged ({error})") from error
    if not isinstance(content, dict) or content.get("model_type") != "aalbert":
        raise CheckpointError(f"{path}: is a safetensors file of another program (no {FORMAT} metadata)")
    sections = {key: content[key] for key in ("transformer", "audio", "task") if key in content}
    return {"format_version": "1", "config": json.dumps(sections)}  # 1 had no checksum


def load_weights(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Copy weights into a module, all of them or none.

    Raises:
        CheckpointError: names missing or left over, or a shape or type differs.
    """
    own = module.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    wrong = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    problems = [f"lacks {_some(missing)}"] if missing else []
    problems += [f"has unknown {_some(extra)}"] if extra else []
    problems += [
        f"{name} has shape {tuple(state[name].shape)}, expected {tuple(own[name].shape)}" for name in sorted(wrong)[:3]
    ]
    problems += [
        f"{name} is of type {state[name].dtype}, expected floating point"
        for name in sorted(own.keys() & state.keys())
        if own[name].is_floating_point() and not state[name].is_floating_point()
    ][:3]
    if problems:
        raise CheckpointError(f"{path}: does not fit the model: " + "; ".join(problems))
    module.load_state_dict(dict(state))


def _check_tensors(path: Path, state: Mapping[Any, Any]) -> None:
    """Raise CheckpointError unless these are weights by name."""
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: is damaged: weight {name!r} is {type(value).__name__}, expected a tensor")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _check_version(path: Path, version: Any, newest: int) -> None:
    if not isinstance(version, int) or version < 1:
        raise CheckpointError(f"{path}: is damaged: its format version is {version!r}")
    if version > newest:
        raise CheckpointError(
            f"{path}: has format version {version}, this release reads up to {newest}; upgrade s3prl-aalbert"
        )


def _check_archive(path: Path) -> None:
    """Compare the checksums that torch.save wrote, which torch.load does not look at."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"bad checksum of {damaged}")


def looks_pickled(path: Path) -> bool:
    """Return whether a file begins as those that torch.save and pickle write."""
    with path.open("rb") as file:
        start = file.read(2)
    return start == b"PK" or start[:1] == b"\x80"
