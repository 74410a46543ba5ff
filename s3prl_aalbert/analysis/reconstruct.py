"""A reconstruction by a pre-trained model, of an utterance of its own corpus."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from s3prl_aalbert.analysis.runs import MANIFEST_FILE, DamagedRun
from s3prl_aalbert.audio_io import read_audio
from s3prl_aalbert.checkpoint import load_checkpoint, load_training_state, load_weights
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.masking import collate_plans, sample_mask
from s3prl_aalbert.objective import MaskedPrediction, Picture, Speech

MAX_SECONDS = 4.0
MASK_SEED = 0


@dataclass(frozen=True)
class ReconstructedUtterance:
    """One utterance, masked and predicted."""

    path: str
    split: str
    """Of the manifest: "dev" was not trained on."""
    step: int | None
    """Of the checkpoint."""
    selected: Tensor
    """(tokens,) bool, the predicted tokens, which the loss is of; not all of them need be hidden."""
    errors: Tensor
    """(tokens,) mean absolute error of each token's real frames."""
    loss: float
    """Mean absolute error of the selected tokens, as pre-training minimises it."""
    stages: Picture


@torch.no_grad()
def reconstruct_one(folder: Path) -> ReconstructedUtterance:
    """Load the model of a pre-training folder and let it fill in the first dev (else train) utterance of its manifest.

    Raises:
        DamagedRun: no model, no manifest, or its audio is gone.
    """
    path, split = _choose_utterance(_manifest_of(folder))
    try:
        objective, step = load_objective(folder)
        rate = objective.config.audio.sample_rate
        wav = torch.from_numpy(read_audio(path, rate))[: int(MAX_SECONDS * rate)]
    except AalbertError as error:
        raise DamagedRun(str(error)) from error
    wavs, num_samples = wav.unsqueeze(0), torch.tensor([wav.numel()])
    real = objective.model.acoustics(wavs, num_samples).frame_mask[0]  # (T, stack)
    plan = sample_mask(len(real), objective.config.task, torch.Generator().manual_seed(MASK_SEED))
    batch_plan = collate_plans([plan])
    stages = objective.picture(Speech(wavs, num_samples, batch_plan))
    assert stages is not None
    frame_errors = (stages.predicted - stages.target)[0].abs().mean(dim=2)  # (T, stack, K) -> (T, stack)
    errors = (frame_errors * real).sum(dim=1) / real.sum(dim=1)
    loss = float((frame_errors * real)[plan.selected].sum() / real[plan.selected].sum())
    return ReconstructedUtterance(path, split, step, plan.selected, errors, loss, stages)


def load_objective(folder: Path) -> tuple[MaskedPrediction, int | None]:
    """Return the pre-trained model with its head, ready to evaluate, and its step."""
    checkpoint = load_checkpoint(folder)
    if not any(name.startswith("head.") for name in checkpoint.state):
        raise AalbertError("has no spectrogram head: distilled, or left out")
    objective = MaskedPrediction(checkpoint.config)
    load_weights(objective, {name: t.float() for name, t in checkpoint.state.items()}, checkpoint.path)
    return objective.eval(), checkpoint.info.get("step")


def _manifest_of(folder: Path) -> Path:
    """Return the manifest of the run: in its folder, or where its configuration keeps one for several runs."""
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
        raise DamagedRun(f"no {MANIFEST_FILE} to take an utterance from") from error
    except (OSError, KeyError, IndexError, UnicodeDecodeError, csv.Error) as error:
        raise DamagedRun(f"{MANIFEST_FILE} is damaged or empty") from error
    return chosen["path"], chosen["split"]
