"""The weights of the weighted sum, as learned: from layer_weights.json or from the Featurizer in a checkpoint."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from s3prl_aalbert.analysis.runs import DamagedRun, DownstreamRun
from s3prl_aalbert.checkpoint import UNREADABLE

WEIGHTS_JSON = "layer_weights.json"
SUM_TOLERANCE = 1e-3


def learned_weights(run: DownstreamRun) -> list[float] | None:
    """Return the weight of each layer, summing to one; None where the run learned none.

    Raises:
        DamagedRun: the file that should hold them cannot be read.
    """
    if _selects_one(run):
        return None
    file = run.folder / WEIGHTS_JSON
    weights = _from_json(file, run.best_step) if file.is_file() else _from_checkpoint(run.folder)
    if weights is None or len(weights) < 2:
        return None
    return normalise(weights)


def first_layer(run: DownstreamRun) -> int:
    """Return the layer of the first weight: 0, the input embedding, unless the layers alone were summed."""
    return 1 if run.args.get("upstream_feature_selection") == "layer_states" else 0


def normalise(weights: Sequence[float]) -> list[float]:
    """Return weights as S3PRL applies them: as they are where they sum to one already, else their softmax."""
    if min(weights) >= 0 and math.isclose(sum(weights), 1, abs_tol=SUM_TOLERANCE):
        return list(weights)
    return torch.tensor(weights, dtype=torch.float64).softmax(0).tolist()


def _selects_one(run: DownstreamRun) -> bool:
    one = run.args.get("upstream_feature_selection") == "last_hidden_state"
    return one or run.args.get("upstream_layer_selection") is not None


def _from_json(file: Path, best_step: int) -> list[float]:
    """Read a plain list, or the entry of the best step (else the last one) of a list of {"step", "weights"}."""
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, list) and content and isinstance(content[0], dict):
            at_best = [entry for entry in content if entry["step"] == best_step]
            content = (at_best or content)[-1]
        if isinstance(content, dict):
            content = content["weights"]
        weights = [float(value) for value in content]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DamagedRun(f"{file.name} is damaged ({error!r})") from error
    if not all(map(math.isfinite, weights)):
        raise DamagedRun(f"{file.name} holds weights that are not finite")
    return weights


def _from_checkpoint(folder: Path) -> list[float] | None:
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
        raise DamagedRun(f"{candidates[0].name} cannot be read ({type(error).__name__})") from error
    featurizer = content.get("Featurizer") if isinstance(content, dict) else None
    weights = featurizer.get("weights") if isinstance(featurizer, dict) else None
    return weights.flatten().tolist() if isinstance(weights, torch.Tensor) else None
