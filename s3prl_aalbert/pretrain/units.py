"""Discrete units of a corpus: clusters of acoustic features or of a model's layer (HuBERT, arXiv 2106.07447, 3.1).

The codebook and the labels lie beside the manifest. Their names contain a hash of what they were made of: source and
settings, and for the labels the corpus too. A changed corpus gets new labels from the same codebook, since a model that
goes on with its training knows the units of that one.

Legend: S samples, F frames, T tokens, U units a token, N rows, C features of a unit, K clusters.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from tqdm import tqdm

from s3prl_aalbert.checkpoint.release import content_digest
from s3prl_aalbert.errors import AalbertError, disk_fault
from s3prl_aalbert.files import FileError, write_atomically
from s3prl_aalbert.locking import one_at_a_time
from s3prl_aalbert.model.config import SAMPLE_RATE, ModelConfig
from s3prl_aalbert.pretrain.config import UnitsConfig
from s3prl_aalbert.pretrain.unit_features import Facts, UnitFeatures, unit_features
from s3prl_aalbert.pretrain.utterances import SPLITS, UnitLabels, Utterances

logger = logging.getLogger(__name__)

FIT_BATCH, FIT_STARTS, FIT_PATIENCE = 10_000, 5, 50
"""Of k-means, as HuBERT's where speech of some hours allows."""
LABEL = np.dtype(np.uint16)


@dataclass(frozen=True)
class Codebook:
    """Clusters of standardised features."""

    mean: Tensor
    """(C,)."""
    std: Tensor
    """(C,)."""
    centroids: Tensor
    """(K, C) of standardised features."""
    made_of: Facts
    speech: str = ""
    """A hash of the training files that were clustered; empty if not known. The digest does without it."""

    def __call__(self, features: Tensor) -> Tensor:
        """Return the nearest centroid of each row (N, C): (N,)."""
        rows = (features - self.mean) / self.std
        return (self.centroids.square().sum(1) - 2 * rows @ self.centroids.T).argmin(1)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its values by name, as they are saved."""
        return {"mean": self.mean, "std": self.std, "centroids": self.centroids.contiguous()}

    @property
    def digest(self) -> str:
        """A hash of everything that decides the units."""
        return content_digest({"made_of": json.dumps(self.made_of, sort_keys=True)}, self.tensors)


def fit_codebook(rows: np.ndarray, num_units: int, seed: int, made_of: Facts) -> Codebook:
    """Cluster features (N, C) by k-means.

    Raises:
        AalbertError: there are fewer rows than units.
    """
    from sklearn.cluster import MiniBatchKMeans

    if len(rows) < num_units:
        raise AalbertError(f"{len(rows)} rows of features are too few for task.num_units {num_units}")
    mean, std = rows.mean(0), rows.std(0) + 1e-6
    kmeans = MiniBatchKMeans(
        num_units,
        batch_size=FIT_BATCH,
        n_init=FIT_STARTS,
        max_no_improvement=FIT_PATIENCE,
        reassignment_ratio=0.0,
        random_state=seed,
    )
    kmeans.fit((rows - mean) / std)
    shift, scale, centroids = (
        torch.from_numpy(np.asarray(values, dtype=np.float32)) for values in (mean, std, kmeans.cluster_centers_)
    )
    return Codebook(shift, scale, centroids, made_of)


def save_codebook(codebook: Codebook, path: Path) -> None:
    """Write a codebook with what it was made of."""
    metadata = {"made_of": json.dumps(codebook.made_of), "speech": codebook.speech}
    write_atomically(path, lambda temporary: safetensors.torch.save_file(codebook.tensors, temporary, metadata))


def load_codebook(path: Path, made_of: Facts) -> Codebook:
    """Read a codebook back.

    Raises:
        AalbertError: it is damaged, or was made of something else.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            found, speech = json.loads(metadata["made_of"]), metadata.get("speech", "")
            mean, std, centroids = (file.get_tensor(name) for name in ("mean", "std", "centroids"))
    except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
        raise AalbertError(f"{path}: is a damaged codebook; remove it to make it anew ({error})") from error
    if found != made_of:
        raise AalbertError(f"{path}: was made of something else; remove it to make it anew")
    return Codebook(mean, std, centroids, found, speech)


# ------------------------------------------------------------------------------------------------ a corpus


def label_corpus(
    utterances: Utterances,
    read: Callable[[int], np.ndarray],
    config: ModelConfig,
    units: UnitsConfig,
    manifest: Path,
    seed: int,
    device: torch.device,
) -> UnitLabels:
    """Return the units of all utterances, computing what is not there yet.

    Args:
        utterances: of every split.
        read: returns the waveform (S,) of a row.
        config: the model to be trained; its task says how many units, and how many a token.
        units: what they are made of.
        manifest: beside which they are kept.
        seed: of the clustering.
        device: for a model whose layer is clustered.

    Raises:
        AalbertError: an unusable source, a damaged file, a full disk, or audio of another length than is known.
    """
    features = unit_features(config, units, device)
    made_of = {**features.description, "num_units": config.task.num_units, "seed": seed, "fit_hours": units.fit_hours}
    key = _digest(json.dumps(made_of, sort_keys=True))
    path = manifest.with_name(f"{manifest.stem}.units-{key}.safetensors")
    speech = utterances.split("train").digest

    def whole(row: int) -> np.ndarray:
        wav = read(row)
        utterances.check_length(row, len(wav))
        return wav

    def cluster() -> None:
        rows = _some_features(utterances, whole, features, units.fit_hours, seed)
        logger.info("clustering %d rows of %d features into %d units", *rows.shape, config.task.num_units)
        codebook = fit_codebook(rows, config.task.num_units, seed, made_of)
        save_codebook(replace(codebook, speech=speech), path)

    _make_once(path, cluster)
    codebook = load_codebook(path, made_of)
    if codebook.speech not in ("", speech):
        logger.warning("%s: its clusters are of other training files; remove it before a new run to make it anew", path)
    layout = f"{config.samples_per_token} {config.task.units_per_token}"  # others may share the codebook
    labels = manifest.with_name(f"{path.stem}-{_digest(codebook.digest + utterances.digest + layout)}.npy")
    return _labels(utterances, whole, lambda wav: codebook(features(wav)), config, labels, codebook.digest)


def random_units(utterances: Utterances, config: ModelConfig, seed: int) -> UnitLabels:
    """Return arbitrary units in the shape of real ones, for a dry run."""
    starts, total = _starts(utterances, config)
    values = np.random.default_rng(seed).integers(0, config.task.num_units, total, dtype=np.uint16)
    return UnitLabels(values, starts, config.task.units_per_token)


def _make_once(path: Path, make: Callable[[], None]) -> None:
    """Make a file that is not there yet; another process that needs it meanwhile waits, and finds it complete."""
    if path.is_file():
        return
    with one_at_a_time(path):
        if not path.is_file():  # made while this process waited
            make()


def _some_features(
    utterances: Utterances, read: Callable[[int], np.ndarray], features: UnitFeatures, hours: float, seed: int
) -> np.ndarray:
    """Return the features (N, C) of some training utterances drawn at random."""
    found, seconds = [], 0.0
    train = np.flatnonzero(utterances.splits == SPLITS.index("train"))
    for row in np.random.default_rng(seed).permutation(train).tolist():
        found.append(features(read(row)).numpy())
        seconds += int(utterances.samples[row]) / SAMPLE_RATE
        if seconds >= hours * 3600:
            break
    return np.concatenate(found)


def _labels(
    utterances: Utterances,
    read: Callable[[int], np.ndarray],
    units_of: Callable[[np.ndarray], Tensor],
    config: ModelConfig,
    path: Path,
    codebook: str,
) -> UnitLabels:
    """Return the labels kept in ``path``, computed first where they are not."""
    starts, total = _starts(utterances, config)
    _make_once(path, lambda: _compute(lambda row: units_of(read(row)), np.append(starts, total), path))
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise AalbertError(f"{path}: is damaged; remove it to compute the units anew ({error})") from error
    if values.shape != (total,) or values.dtype != LABEL:
        raise AalbertError(f"{path}: holds {values.shape} units, the manifest's utterances have {total}; remove it")
    return UnitLabels(values, starts, config.task.units_per_token, codebook)


def _compute(units_of: Callable[[int], Tensor], bounds: np.ndarray, path: Path) -> None:
    """Label one utterance after the other and write all labels to ``path``.

    Those that are done are kept in a file that only grows: it holds nothing else, whatever ends the process.

    Args:
        units_of: returns the units of a row, one for each token or frame.
        bounds: (N + 1,) where the labels of each utterance begin, and where the last one's end.
        path: of the labels.
    """
    part = path.with_name(f".{path.name}.part")
    part.touch()
    labels = np.zeros(int(bounds[-1]), LABEL)
    rows = len(bounds) - 1
    with part.open("r+b", buffering=0) as file:
        found = np.fromfile(file, LABEL, len(labels))
        done = int(np.searchsorted(bounds, len(found), side="right")) - 1  # of the next one, some may be there
        labels[: bounds[done]] = found[: bounds[done]]
        file.seek(int(bounds[done]) * LABEL.itemsize)
        left, disable = range(done, rows), "TQDM_DISABLE" in os.environ
        for row in tqdm(left, "units", rows, unit="utterance", initial=done, dynamic_ncols=True, disable=disable):
            units, own = units_of(row).numpy(), labels[bounds[row] : bounds[row + 1]]
            own[: len(units)] = units[: len(own)]
            own[len(units) :] = units[-1]  # of a front end with a frame less, or frames that only fill the last token
            _append(file, own.tobytes())
    write_atomically(path, lambda temporary: _save_array(labels, temporary))
    part.unlink(missing_ok=True)  # without file locks, another process may have finished before


def _append(file: FileIO, rest: bytes) -> None:
    try:
        while rest:  # a disk that is almost full takes some of it
            rest = rest[file.write(rest) :]
    except OSError as error:
        reason = disk_fault(error)
        raise FileError(f"{file.name}: could not be written; the labels that it holds are kept ({reason})") from error


def _save_array(values: np.ndarray, path: Path) -> None:
    with path.open("wb") as file:  # by name, numpy would add a suffix
        np.save(file, values)


def _starts(utterances: Utterances, config: ModelConfig) -> tuple[np.ndarray, int]:
    """Return where the units of each utterance begin (N,), and how many there are in all."""
    counts = config.num_tokens(utterances.samples) * config.task.units_per_token
    return np.cumsum(counts) - counts, int(counts.sum())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
