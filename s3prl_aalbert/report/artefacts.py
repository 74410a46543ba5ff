"""Reads the other files of a run: learned layer weights, confusions, training curves, a reconstruction."""

from __future__ import annotations

import argparse
import csv
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from s3prl_aalbert.audio_io import read_audio
from s3prl_aalbert.checkpoint.content import UNREADABLE
from s3prl_aalbert.checkpoint.release import load_checkpoint, load_weights
from s3prl_aalbert.checkpoint.training_state import load_training_state
from s3prl_aalbert.downstream.result_tables import Confusion
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.masking import collate_plans, sample_mask
from s3prl_aalbert.model.objective import MaskedPrediction, Picture, Speech
from s3prl_aalbert.report.runs import MANIFEST_FILE, DownstreamRun, UnusableRun
from s3prl_aalbert.report.summary import ResultRow, Scores

# ----------------------------------------------------------------------------------------- layer weights

SUM_TOLERANCE = 1e-3


def learned_weights(run: DownstreamRun) -> list[float] | None:
    """Return the weights of the layers, which sum to one; None if the run learned none.

    Raises:
        UnusableRun: the checkpoint that should hold them cannot be read.
    """
    args = run.results.args
    if args.upstream_feature_selection == "last_hidden_state" or args.upstream_layer_selection is not None:
        return None
    weights = _featurizer_weights(run.folder)
    return None if weights is None or len(weights) < 2 else normalise(weights)


def first_layer(run: DownstreamRun) -> int:
    """Return the layer of the first weight: 0, the input embedding, or 1 if only the layers were summed."""
    return 1 if run.results.args.upstream_feature_selection == "layer_states" else 0


def normalise(weights: Sequence[float]) -> list[float]:
    """Return weights as S3PRL applies them: unchanged if they sum to one, else their softmax."""
    if min(weights) >= 0 and math.isclose(sum(weights), 1, abs_tol=SUM_TOLERANCE):
        return list(weights)
    return torch.tensor(weights, dtype=torch.float64).softmax(0).tolist()


def _featurizer_weights(folder: Path) -> list[float] | None:
    """Read S3PRL's Featurizer from dev-best.ckpt, or from the latest state."""
    states = sorted(folder.glob("states-*.ckpt"), key=lambda path: path.stat().st_mtime)
    candidates = [path for path in (folder / "dev-best.ckpt", *reversed(states)) if path.is_file()]
    if not candidates:
        return None
    try:
        # S3PRL stores its command line as a Namespace, a plain container.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(candidates[0], map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise UnusableRun(f"{candidates[0].name} cannot be read ({type(error).__name__})") from error
    featurizer = content.get("Featurizer") if isinstance(content, dict) else None
    weights = featurizer.get("weights") if isinstance(featurizer, dict) else None
    return weights.flatten().tolist() if isinstance(weights, Tensor) else None


# -------------------------------------------------------------------------------------------- confusions


def shares_of(confusion: Confusion) -> np.ndarray:
    """Return the counts with each row scaled to sum to one; rows of classes without test data stay zero."""
    totals = confusion.counts.sum(axis=1, keepdims=True)
    return np.divide(confusion.counts, totals, out=np.zeros(confusion.counts.shape), where=totals > 0)


def most_confused(confusion: Confusion, number: int) -> list[tuple[str, str, float]]:
    """Return the largest confusions: (true class, predicted class, share of the true class)."""
    shares, labels = shares_of(confusion), confusion.labels
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None, kind="stable")[:number]
    pairs = [np.unravel_index(int(flat), shares.shape) for flat in order]
    return [(labels[i], labels[j], float(shares[i, j])) for i, j in pairs if shares[i, j] > 0]


def add_up(matrices: Sequence[Confusion]) -> Confusion:
    """Add matrices of repeated runs; classes of only some runs are kept."""
    labels = tuple(dict.fromkeys(label for matrix in matrices for label in matrix.labels))
    total = np.zeros((len(labels), len(labels)))
    for matrix in matrices:
        index = [labels.index(label) for label in matrix.labels]
        total[np.ix_(index, index)] += matrix.counts
    return Confusion(labels, total)


# ------------------------------------------------------------------------------------------------ curves

ScalarKind = Literal["loss", "dev_loss", "lr"]
Scalars = dict[ScalarKind, list[tuple[int, float]]]
"""(step, value) pairs ordered by step, for each logged quantity."""
PRETRAIN_TAGS: dict[ScalarKind, str] = {"loss": "pretrain/loss", "dev_loss": "pretrain/dev_loss", "lr": "pretrain/lr"}
LOSSES: tuple[ScalarKind, ...] = ("loss", "dev_loss")
SMOOTHING_SHARE = 50
"""The smoothed loss is a running mean over 1/50 of the points on either side."""
Point = tuple[int, Scores]
"""One step or layer of a curve over repeated runs."""


def dev_curve(row: ResultRow) -> list[Point]:
    """Return the dev accuracy at the steps where every run of the row was evaluated."""
    by_run = [(run, _dev_accuracies(run)) for run in row.runs]
    shared = sorted(set.intersection(*(set(values) for _, values in by_run)))
    return [(step, Scores.of((run, values[step]) for run, values in by_run)) for step in shared]


def _dev_accuracies(run: DownstreamRun) -> dict[int, float]:
    return {entry.step: entry.metrics["acc"] for entry in run.results.history if entry.split == "dev"}


def pretraining_scalars(folder: Path) -> Scalars:
    """Read loss, dev_loss and lr of a pre-training run from its TensorBoard events.

    Returns:
        The scalars; after a resume, the later value of a step counts.

    Raises:
        UnusableRun: there are no events, or none of pre-training.
    """
    if not any(folder.glob("events.out.tfevents.*")):
        raise UnusableRun("it has no TensorBoard events")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.WARNING)  # it announces the end of each event file
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    known = set(accumulator.Tags()["scalars"])
    found: Scalars = {}
    for name, tag in PRETRAIN_TAGS.items():
        if tag in known:
            found[name] = sorted({event.step: event.value for event in accumulator.Scalars(tag)}.items())
    if "loss" not in found and "dev_loss" not in found:
        raise UnusableRun("its TensorBoard events hold no loss yet")
    return found


def running_mean(values: Sequence[float]) -> list[float]:
    """Smooth a noisy curve by a centred running mean whose window shrinks towards both ends."""
    width = len(values) // SMOOTHING_SHARE
    array = np.asarray(values, dtype=float)
    ends = np.concatenate([[0.0], np.cumsum(array)])
    index = np.arange(len(array))
    low, high = np.maximum(index - width, 0), np.minimum(index + width + 1, len(array))
    return ((ends[high] - ends[low]) / (high - low)).tolist()


# ---------------------------------------------------------------------------------------- reconstruction

MAX_SECONDS = 4.0
MASK_SEED = 0


@dataclass(frozen=True)
class ReconstructedUtterance:
    """One utterance, masked and predicted."""

    split: str
    """Split in the manifest; "dev" was not trained on."""
    step: int | None
    """Step of the checkpoint."""
    selected: Tensor
    """(tokens,) bool, the predicted tokens, which define the loss; some of them may be unmasked."""
    errors: Tensor
    """(tokens,) mean absolute error of each token's real frames."""
    loss: float
    """Mean absolute error of the predicted tokens, which pre-training minimises."""
    stages: Picture


@torch.no_grad()
def reconstruct_one(folder: Path) -> ReconstructedUtterance:
    """Load the model of a pre-training folder and reconstruct the first dev (else train) utterance of its manifest.

    Raises:
        UnusableRun: the model, the manifest or its audio is missing.
    """
    path, split = _choose_utterance(_manifest_of(folder))
    try:
        objective, step = load_objective(folder)
        rate = objective.config.audio.sample_rate
        wav = torch.from_numpy(read_audio(path, rate))[: int(MAX_SECONDS * rate)]
    except AalbertError as error:
        raise UnusableRun(str(error)) from error
    wavs, num_samples = wav.unsqueeze(0), torch.tensor([wav.numel()])
    real = objective.model.acoustics(wavs, num_samples).frame_mask[0]  # (T, stack)
    plan = sample_mask(len(real), objective.config.task, torch.Generator().manual_seed(MASK_SEED))
    batch_plan = collate_plans([plan])
    stages = objective.picture(Speech(wavs, num_samples, batch_plan))
    assert stages is not None
    frame_errors = (stages.predicted - stages.target)[0].abs().mean(dim=2)  # (T, stack, K) -> (T, stack)
    errors = (frame_errors * real).sum(dim=1) / real.sum(dim=1)
    loss = float((frame_errors * real)[plan.selected].sum() / real[plan.selected].sum())
    return ReconstructedUtterance(split, step, plan.selected, errors, loss, stages)


def load_objective(folder: Path) -> tuple[MaskedPrediction, int | None]:
    """Return the pre-trained model with its head, ready to evaluate, and its step."""
    checkpoint = load_checkpoint(folder)
    if not any(name.startswith("head.") for name in checkpoint.state):
        raise AalbertError("has no spectrogram head: it predicts units, was distilled, or is released without the head")
    objective = MaskedPrediction(checkpoint.config)
    load_weights(objective, {name: t.float() for name, t in checkpoint.state.items()}, checkpoint.path)
    return objective.eval(), checkpoint.info.get("step")


def _manifest_of(folder: Path) -> Path:
    """Return the manifest of the run: in its folder, or at the path in its configuration."""
    own, states = folder / MANIFEST_FILE, sorted(folder.glob("*.ckpt"))
    if own.is_file() or not states:
        return own
    try:
        config = load_training_state(states[0])["pretrain_config"]
        elsewhere = config["pretrain_expert"]["datarc"]["manifest"]
    except (AalbertError, KeyError, TypeError):
        return own
    return Path(elsewhere).expanduser() if elsewhere else own


def _choose_utterance(manifest: Path) -> tuple[str, str]:
    try:
        with manifest.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        chosen = sorted(rows, key=lambda row: (row["split"] != "dev", row["path"]))[0]
    except FileNotFoundError as error:
        raise UnusableRun(f"has no {MANIFEST_FILE}, which names utterances") from error
    except (OSError, KeyError, IndexError, UnicodeDecodeError, csv.Error) as error:
        raise UnusableRun(f"{MANIFEST_FILE} is damaged or empty") from error
    return chosen["path"], chosen["split"]
