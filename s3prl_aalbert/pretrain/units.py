"""Discrete units of a corpus: clusters of acoustic features or of a model's layer (HuBERT, arXiv 2106.07447, 3.1).

The codebook and the labels lie beside the manifest. Their names contain a hash of what they were made of, so that
another source, setting or corpus gets labels of its own.

Legend: S samples, F frames, T tokens, U units a token, N rows, C features of a unit, K clusters.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from tqdm import tqdm

from s3prl_aalbert.checkpoint.release import content_digest
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.files import write_atomically
from s3prl_aalbert.model.config import SAMPLE_RATE, ModelConfig
from s3prl_aalbert.pretrain.config import UnitsConfig
from s3prl_aalbert.pretrain.unit_features import Facts, UnitFeatures, unit_features
from s3prl_aalbert.pretrain.utterances import SPLITS, UnitLabels, Utterances

logger = logging.getLogger(__name__)

FIT_BATCH, FIT_STARTS, FIT_PATIENCE = 10_000, 5, 50
"""Of k-means, as HuBERT's where speech of some hours allows."""
SAVE_UTTERANCES = 500
"""Labels reach the disk every so many utterances; a kill loses no more."""
UNSET = np.iinfo(np.uint16).max
"""A label that is still to be computed."""


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
        """A hash of everything."""
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
    mean, std, centroids = (
        torch.from_numpy(np.asarray(values, dtype=np.float32)) for values in (mean, std, kmeans.cluster_centers_)
    )
    return Codebook(mean, std, centroids, made_of)


def save_codebook(codebook: Codebook, path: Path) -> None:
    """Write a codebook with what it was made of."""
    metadata = {"made_of": json.dumps(codebook.made_of)}
    write_atomically(path, lambda temporary: safetensors.torch.save_file(codebook.tensors, temporary, metadata))


def load_codebook(path: Path, made_of: Facts) -> Codebook:
    """Read a codebook back.

    Raises:
        AalbertError: it is damaged, or was made of something else.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            found = json.loads((file.metadata() or {})["made_of"])
            mean, std, centroids = (file.get_tensor(name) for name in ("mean", "std", "centroids"))
    except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
        raise AalbertError(f"{path}: is a damaged codebook; remove it to make it anew ({error})") from error
    if found != made_of:
        raise AalbertError(f"{path}: was made of something else; remove it to make it anew")
    return Codebook(mean, std, centroids, found)


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
        AalbertError: an unusable source, or a damaged file.
    """
    features = unit_features(config, units, device)
    made_of = {**features.description, "num_units": config.task.num_units, "seed": seed, "fit_hours": units.fit_hours}
    key = _digest(json.dumps(made_of, sort_keys=True))
    path = manifest.with_name(f"{manifest.stem}.units-{key}.safetensors")
    if path.is_file():
        codebook = load_codebook(path, made_of)
    else:
        rows = _some_features(utterances, read, features, units.fit_hours, seed)
        logger.info("clustering %d rows of %d features into %d units", *rows.shape, config.task.num_units)
        codebook = fit_codebook(rows, config.task.num_units, seed, made_of)
        save_codebook(codebook, path)
    layout = f"{config.samples_per_token} {config.task.units_per_token}"  # others may share the codebook
    labels = manifest.with_name(f"{path.stem}-{_digest(codebook.digest + _corpus_digest(utterances) + layout)}.npy")
    return _labels(utterances, read, lambda wav: codebook(features(wav)), config, labels)


def random_units(utterances: Utterances, config: ModelConfig, seed: int) -> UnitLabels:
    """Return arbitrary units in the shape of real ones, for a dry run."""
    starts, total = _starts(utterances, config)
    values = np.random.default_rng(seed).integers(0, config.task.num_units, total, dtype=np.uint16)
    return UnitLabels(values, starts, config.task.units_per_token)


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
) -> UnitLabels:
    """Return the labels kept in ``path``, computed first where they are not."""
    starts, total = _starts(utterances, config)
    if not path.is_file():
        _compute(utterances, read, units_of, (starts, total), path)
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise AalbertError(f"{path}: is damaged; remove it to compute the units anew ({error})") from error
    if values.shape != (total,) or values.dtype != np.uint16:
        raise AalbertError(f"{path}: holds {values.shape} units, the manifest's utterances have {total}; remove it")
    return UnitLabels(values, starts, config.task.units_per_token)


def _compute(
    utterances: Utterances,
    read: Callable[[int], np.ndarray],
    units_of: Callable[[np.ndarray], Tensor],
    layout: tuple[np.ndarray, int],
    path: Path,
) -> None:
    starts, total = layout
    part = path.with_name(f".{path.name}.part")
    going_on = part.is_file() and part.stat().st_size == total * 2
    values = np.memmap(part, np.uint16, "r+" if going_on else "w+", shape=(total,))
    if not going_on:
        values[:] = UNSET
    ends = [*starts[1:].tolist(), total]
    disable = "TQDM_DISABLE" in os.environ
    for row in tqdm(range(len(utterances)), desc="units", unit="utterance", dynamic_ncols=True, disable=disable):
        start, end = int(starts[row]), ends[row]
        if values[start] != UNSET:
            continue
        units = units_of(read(row)).numpy()
        values[start + 1 : end] = 0  # frames that only fill the last token
        units = units[: end - start]
        values[start : start + len(units)] = units
        if row % SAVE_UTTERANCES == 0:
            values.flush()
    whole = np.array(values)
    write_atomically(path, lambda temporary: _save_array(whole, temporary))
    part.unlink()


def _save_array(values: np.ndarray, path: Path) -> None:
    with path.open("wb") as file:  # by name, numpy would add a suffix
        np.save(file, values)


def _starts(utterances: Utterances, config: ModelConfig) -> tuple[np.ndarray, int]:
    """Return where the units of each utterance begin (N,), and how many there are in all."""
    counts = config.num_tokens(utterances.samples) * config.task.units_per_token
    return np.cumsum(counts) - counts, int(counts.sum())


def _corpus_digest(utterances: Utterances) -> str:
    digest = hashlib.sha256(utterances.samples.tobytes())
    for path in utterances.paths:
        digest.update(path.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
