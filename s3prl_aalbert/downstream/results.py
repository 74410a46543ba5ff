"""results.json: what a run writes and every report reads."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from s3prl_aalbert.checkpoint import UNREADABLE, write_text
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.printable import printable

RESULTS_FILE = "results.json"
RECORDED_ARGS = (
    "upstream",
    "upstream_ckpt",
    "upstream_model_config",
    "upstream_feature_selection",
    "upstream_layer_selection",
    "upstream_feature_normalize",
    "upstream_trainable",
    "seed",
    "expname",
)
TRAINING_SECTIONS = ("runner", "optimizer", "scheduler", "specaug")
"""Of S3PRL's configuration."""


class Results:
    """The history of a run's evaluations, and the best step by dev accuracy alone.

    Args:
        expdir: experiment folder.
        task: name of the downstream.
        args: everything S3PRL hands to the expert; with ``mode: evaluate`` the history stays as it is, and evaluations
            are listed beside it with the checkpoint that they measured.
        facts: further plain values to record: config, data, model, majority.
        resume: continue the history that is there.
    """

    def __init__(self, expdir: Path, task: str, args: Mapping[str, Any], facts: Mapping[str, Any], resume: bool):
        self.path = Path(expdir) / RESULTS_FILE
        self.content: dict[str, Any] = {
            "format": 1,
            "task": task,
            "args": {key: args.get(key) for key in RECORDED_ARGS},
            "training": {section: args[section] for section in TRAINING_SECTIONS if args.get(section)},
            **facts,
            "history": [],
            "best": None,
        }
        self.evaluated: str | None = str(args.get("init_ckpt")) if args.get("mode") == "evaluate" else None
        self.evaluated_step = None if self.evaluated is None else _step_of(Path(self.evaluated))
        if resume and self.path.is_file():
            old = _read(self.path)
            if self.evaluated:
                self.content = old  # as trained, whatever this evaluation overrides
            self.content["history"], self.content["best"] = old["history"], old["best"]
            if "evaluations" in old:
                self.content["evaluations"] = old["evaluations"]

    def add(self, split: str, step: int, metrics: Mapping[str, float]) -> bool:
        """Record an evaluation and return whether it is the best dev accuracy so far.

        Entries of the same or a later step, left by a run that was resumed from an earlier checkpoint, are dropped. If
        the best was among them, dev-best.ckpt may hold weights that are lost: the next dev evaluation is then the best.
        """
        if self.evaluated:
            self._add_evaluation(split, metrics)
            return False
        history = self.content["history"]
        history[:] = [h for h in history if h["step"] < step or (h["step"] == step and h["split"] != split)]
        best = self.content["best"]
        if best is not None and (best["step"] > step or (best["step"] == step and split == "dev")):
            best = self.content["best"] = None
        history.append({"step": step, "split": split, "metrics": dict(metrics)})
        improved = split == "dev" and (best is None or metrics["acc"] > best["dev"]["acc"])
        if improved:
            self.content["best"] = {"step": step, "dev": dict(metrics), "test": None}
        elif split == "test" and best is not None and best["step"] == step:
            best["test"] = dict(metrics)
        if split != "train":
            self.save()
        return improved

    def _add_evaluation(self, split: str, metrics: Mapping[str, float]) -> None:
        """Record ``-m evaluate`` of a checkpoint, in place of an earlier one of the same checkpoint and split."""
        facts = {"checkpoint": self.evaluated, "step": self.evaluated_step}
        entry = {**facts, "split": split, "metrics": dict(metrics)}
        others = self.content.get("evaluations", [])
        same = (entry["checkpoint"], split)
        self.content["evaluations"] = [e for e in others if (e["checkpoint"], e["split"]) != same] + [entry]
        self.save()

    def place(self, step: int) -> str:
        """Say which weights an evaluation measured: those of ``step``, or with ``-m evaluate`` the checkpoint's."""
        if self.evaluated is None:
            return f"at step {step}"
        return f"of {printable(self.evaluated)}" + (
            "" if self.evaluated_step is None else f", step {self.evaluated_step}"
        )

    @property
    def best_step(self) -> int | None:
        """The step of the best dev accuracy."""
        best = self.content["best"]
        return None if best is None else best["step"]

    def save(self) -> None:
        """Write the file atomically."""
        text = json.dumps(self.content, indent=1, default=str)
        write_text(self.path, text)


def _step_of(checkpoint: Path) -> int | None:
    """Return the step at which S3PRL wrote a checkpoint, None where it does not say."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            step = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True).get("Step")
    except UNREADABLE:
        return None
    return step if isinstance(step, int) else None


def _read(path: Path) -> dict[str, Any]:
    """Return an earlier results.json.

    Raises:
        AalbertError: it is damaged; overwriting it could lose a history.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        evaluations = [(entry["step"] + 0, entry["split"], dict(entry["metrics"])) for entry in content["history"]]
        accuracies = [metrics["acc"] + 0.0 for _, split, metrics in evaluations if split == "dev"]
        best = content["best"]
        accuracies += [] if best is None else [best["step"] + 0, best["dev"]["acc"] + 0.0]
        [(entry["checkpoint"], entry["split"]) for entry in content.get("evaluations", [])]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise AalbertError(f"{path}: is damaged ({type(error).__name__}: {error}); restore or remove it") from error
    return content
