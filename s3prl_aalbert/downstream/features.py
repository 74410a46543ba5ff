"""Writes the features of many files to disk, one file per utterance, so that a stopped run can continue."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import numpy as np
import safetensors.numpy
from torch import Tensor, nn
from tqdm import tqdm

from s3prl_aalbert.audio_io import AudioError, read_audio
from s3prl_aalbert.checkpoint.release import content_digest
from s3prl_aalbert.downstream.audio_dataset import find_audio
from s3prl_aalbert.downstream.results import flatten
from s3prl_aalbert.downstream.states import hidden_states, samples_per_token
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.files import write_atomically, write_text
from s3prl_aalbert.prefetch import prefetch
from s3prl_aalbert.printable import printable
from s3prl_aalbert.speech.finding import SOUND_SUFFIXES, suffix_of
from s3prl_aalbert.speech.names import commonest

logger = logging.getLogger(__name__)

FORMATS = ("npy", "safetensors")
ALL_LAYERS = "all"
RECORD, SPEECH, LIST, LEFT_OUT = "features.json", "speech.json", "feats.scp", "left_out.tsv"
DIGEST_OF_CONFIG = "model_config_sha256"
"""Key of ``features.json`` for the digest of a configuration's file."""
ARCHITECTURE = "architecture"
"""Key of ``features.json`` for the sizes of a model of ours: layers that share weights, say, may differ in number."""
READ_AHEAD = 4
"""Number of files that a thread reads ahead while the upstream computes."""
TENSOR = "features"
"""Name of the features in a safetensors file."""
PSEUDO_WAVS = "_pseudo_wavs"
"""Buffer of S3PRL's OnlinePreprocessor: random noise that no hidden state depends on."""


class Weighted(Protocol):
    """What has weights, such as torch.nn.Module."""

    def named_parameters(self) -> Iterable[tuple[str, Tensor]]:
        """Yield the weights by name."""

    def named_buffers(self) -> Iterable[tuple[str, Tensor]]:
        """Yield the buffers by name."""


@dataclass(frozen=True)
class FeatureOptions:
    """Which features of an upstream are written, and how."""

    layer: int | str = -1
    """Number of a hidden state (0 is the first, negative ones count from the end), or ``all``."""
    selection: str = "hidden_states"
    """Key of the upstream's outputs."""
    format: str = "npy"


@dataclass(frozen=True)
class Written:
    """The result of ``write_features``."""

    written: int
    """Utterances written by this run."""
    kept: int
    """Utterances written by an earlier run."""
    skipped: Mapping[str, str]
    """Reason of each skipped file, by path."""


def name_utterances(inputs: Sequence[Path]) -> dict[str, Path]:
    """Return the name of the features of each audio file, with the file.

    Args:
        inputs: files and folders. A file is named by its stem. A file of a folder is named by its path below the folder
            without suffix, and with several folders the folder's name comes first.

    Raises:
        AalbertError: an input is missing or holds no audio, or two files would get the same name.
    """
    several = sum(path.is_dir() for path in inputs) > 1
    named: dict[str, Path] = {}
    for given in inputs:
        if given.is_file():
            found = {given: given.stem}
        elif suffix_of(given.name) in SOUND_SUFFIXES and not given.exists():
            raise AalbertError(f"{given}: no such file")
        else:
            root, first = given.expanduser(), f"{given.absolute().name}/" if several else ""
            files = find_audio([str(given)])
            found = {path: first + path.relative_to(root).with_suffix("").as_posix() for path in files}
        for path, name in found.items():
            if name in named:
                raise AalbertError(f"{named[name]} and {path} would both be named {name}; write them to two folders")
            named[name] = path
    return named


def write_features(
    upstream: nn.Module,
    utterances: Mapping[str, Path],
    folder: Path,
    options: FeatureOptions,
    described: Mapping[str, object],
) -> Written:
    """Write ``FOLDER/NAME.FORMAT`` for each utterance: float32 (tokens, width), or (layers, tokens, width) for "all".

    Each utterance is computed alone, so that it does not depend on others. Existing files are kept, unless their audio
    has changed. ``speech.json`` names the audio file of each with its size and time, ``feats.scp`` lists all features
    as Kaldi does (with %20 for blanks), and ``left_out.tsv`` lists the files that could not be used.

    Args:
        upstream: an upstream of S3PRL's form, in evaluation mode.
        utterances: audio files by name.
        folder: where the features are written.
        options: which features are written.
        described: description of the upstream for ``features.json``.

    Raises:
        AalbertError: the folder holds other features, or those of another file under a name; the layer does not exist,
            or no file could be used.
    """
    _check_record(folder, options, {**described, "weights": weights_digest(upstream)[:16]}, upstream)
    # Existing files are from an earlier run with the same record, so that only missing ones are computed.
    speech = _with_earlier(utterances, folder, options.format)
    content = {name: asdict(audio) for name, audio in speech.items()}
    write_text(folder / SPEECH, json.dumps(content, indent=1) + "\n")
    paths = {name: folder / f"{name}.{options.format}" for name in speech}
    missing = {name: path for name, path in utterances.items() if not paths[name].is_file()}
    skipped: dict[str, str] = {}
    hidden = "TQDM_DISABLE" in os.environ or None  # None: shown only on a terminal
    audio = prefetch(_read(missing), READ_AHEAD)
    for name, wav in tqdm(audio, total=len(missing), desc="features", unit="file", disable=hidden):
        path = missing[name]
        try:
            if isinstance(wav, AudioError):
                raise wav
            features = represent(upstream, wav, options)
        except (AudioError, RuntimeError, ValueError, AssertionError) as error:
            # S3PRL's upstreams raise these on a waveform that is too short, and torch on one that is too long.
            skipped[str(path)] = " ".join(str(error).removeprefix(f"{path}: ").split()) or type(error).__name__
            logger.warning("skipped: %s: %s", path, skipped[str(path)])
            continue
        _write(paths[name], features)
    if len(skipped) == len(utterances):
        raise AalbertError(f"none of {len(skipped)} files could be used{commonest(skipped.values())}")
    # The list is written at the end for all features in the folder, those of earlier runs included.
    present = {name: path for name, path in paths.items() if path.is_file()}
    write_text(folder / LIST, "".join(f"{quote(n, safe=_PLAIN)} {p.absolute()}\n" for n, p in sorted(present.items())))
    if skipped:
        rows = "".join(f"{printable(file)}\t{why}\n" for file, why in skipped.items())
        write_text(folder / LEFT_OUT, f"path\treason\n{rows}")
    else:
        (folder / LEFT_OUT).unlink(missing_ok=True)
    return Written(len(missing) - len(skipped), len(utterances) - len(missing), skipped)


_PLAIN = "".join(chr(code) for code in range(33, 127) if chr(code) != "%")


def represent(upstream: nn.Module, wav: np.ndarray, options: FeatureOptions) -> np.ndarray:
    """Return the features of one utterance (num_samples,): (tokens, width), or (layers, tokens, width) of all layers.

    Raises:
        AalbertError: the layer or key does not exist, or layers of different sizes cannot be stacked.
    """
    states = hidden_states(upstream, wav, options.selection)
    if options.layer == ALL_LAYERS:
        if len({state.shape for state in states}) > 1:
            raise AalbertError(f"-l {ALL_LAYERS}: the layers of this upstream have different sizes; choose one of them")
        return np.stack(states)
    layer = int(options.layer)
    if not -len(states) <= layer < len(states):
        raise AalbertError(f"-l {layer}: the upstream has the layers 0 to {len(states) - 1} under {options.selection}")
    return states[layer]


def _read(utterances: Mapping[str, Path]) -> Iterator[tuple[str, np.ndarray | AudioError]]:
    for name, path in utterances.items():
        try:
            yield name, read_audio(path)
        except AudioError as error:
            yield name, error


def _write(path: Path, features: np.ndarray) -> None:
    def write(temporary: Path) -> None:
        if path.suffix == ".npy":
            with temporary.open("wb") as file:
                np.save(file, features)
        else:
            safetensors.numpy.save_file({TENSOR: np.ascontiguousarray(features)}, temporary)

    write_atomically(path, write)


def _check_record(folder: Path, options: FeatureOptions, described: Mapping[str, object], upstream: nn.Module) -> None:
    """Refuse to mix the features of two upstreams in a folder; record the upstream of a new folder."""
    record = {
        **described,
        "selection": options.selection,
        "layer": options.layer,
        "format": options.format,
        "sample_rate": 16000,
        "samples_per_token": samples_per_token(upstream, options.selection),
    }
    path = folder / RECORD
    if not path.is_file():
        represent(upstream, np.zeros(16000, np.float32), options)  # a missing layer fails here
        write_text(path, json.dumps(record, indent=1) + "\n")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        old, new = flatten(before), json.loads(json.dumps(flatten(record)))
    except (ValueError, AttributeError) as error:
        raise AalbertError(f"{path}: is damaged; name a new folder") from error
    sizes = {key for key in new if key.startswith(f"{ARCHITECTURE}.")}  # earlier versions knew fewer or none
    differing = [key for key in new if new[key] != old.get(key) and not (key in sizes and key not in old)]
    # The weights and sizes decide, not where they are; a configuration's file is known by its digest.
    paths = {"ckpt"} if ARCHITECTURE in before or not sizes else set()
    paths |= {"model_config"} if DIGEST_OF_CONFIG in new else set()
    if set(differing) - paths:
        changes = ", ".join(f"{key} {old.get(key)!r} and not {new[key]!r}" for key in differing)
        raise AalbertError(f"{folder}: holds features of another kind ({changes}); name a new folder")


@dataclass(frozen=True)
class _Audio:
    """An audio file as it was when its features were computed."""

    path: str
    size: int | None = None
    """Bytes; None in folders of earlier versions."""
    mtime_ns: int | None = None
    """Time of the last change in ns; None in folders of earlier versions."""

    @classmethod
    def now(cls, path: Path) -> _Audio:
        """Describe a file as it is now; reading one that has vanished reports it."""
        try:
            found = path.stat()
        except OSError:
            return cls(os.path.realpath(path))
        return cls(os.path.realpath(path), found.st_size, found.st_mtime_ns)

    @classmethod
    def read(cls, value: object) -> _Audio:
        """Return what ``speech.json`` holds of a file; earlier versions wrote only its path. Raises TypeError."""
        audio = cls(**value) if isinstance(value, dict) else cls(value)  # type: ignore[arg-type]
        times = (audio.size, audio.mtime_ns)
        if not isinstance(audio.path, str) or not all(each is None or isinstance(each, int) for each in times):
            raise TypeError(f"{value!r} is no path, size and mtime_ns")
        return audio

    def changed(self, before: _Audio) -> bool:
        """Return whether the file has changed, as far as it is known."""
        return None not in (self.size, before.size) and self != before


def _with_earlier(utterances: Mapping[str, Path], folder: Path, suffix: str) -> dict[str, _Audio]:
    """Return the audio file of each name, of this run and of earlier ones; refuse to take one's features for another's.

    Features of a file that has changed are removed. Folders of earlier versions have no list of the files.
    """
    path = folder / SPEECH
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
        earlier = {name: _Audio.read(value) for name, value in content.items()}
    except (ValueError, TypeError) as error:
        raise AalbertError(f"{path}: is damaged; name a new folder") from error
    speech = {name: _Audio.now(audio) for name, audio in utterances.items()}
    outdated = []
    for name, audio in speech.items():
        features, before = folder / f"{name}.{suffix}", earlier.get(name, audio)
        if not features.is_file():
            continue
        if before.path != audio.path:
            raise AalbertError(f"{features}: is of {before.path}, not of {audio.path}; name a new folder")
        if audio.changed(before):
            outdated.append(features)
    # Before the list is written: after an interruption it must not describe new audio beside old features.
    for features in outdated:
        features.unlink()
    if outdated:
        logger.info("%d files have changed and are computed again, %s first", len(outdated), printable(outdated[0]))
    return {**earlier, **speech}


def weights_digest(model: Weighted, described: Mapping[str, str] | None = None, buffers: bool = True) -> str:
    """Return a SHA-256 of a model's weights, which changes with any of them.

    Args:
        model: a model on any device.
        described: texts that count as well.
        buffers: whether buffers count too, also those outside the state_dict such as filters and windows of features.
            Their last bit may differ between machines.
    """
    tensors = chain(model.named_parameters(), model.named_buffers() if buffers else ())
    kept = {name: value.detach().cpu() for name, value in tensors if not name.endswith(PSEUDO_WAVS)}
    return content_digest(described or {}, kept)
