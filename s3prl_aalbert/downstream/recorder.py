"""Records a run's evaluations in results.json, and chooses the best step by dev accuracy alone."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from s3prl_aalbert.checkpoint.content import UNREADABLE
from s3prl_aalbert.downstream.results import (
    RESULTS_FILE,
    BestStep,
    CheckpointEvaluation,
    Evaluation,
    Metrics,
    Overlap,
    ResultsError,
    RunResults,
    changed_keys,
)
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.printable import printable


class Recorder:
    """The history of a run's evaluations, and the best step by dev accuracy alone.

    Args:
        expdir: experiment folder.
        results: the record of a new run.
        args: everything that S3PRL passes to the expert. With ``mode: evaluate`` the history stays unchanged, and
            evaluations are listed beside it with the checkpoint that they measured.
        resume: whether to continue an existing history.

    Raises:
        AalbertError: the existing history is damaged, and overwriting it would lose it.
    """

    def __init__(self, expdir: Path, results: RunResults, args: Mapping[str, object], resume: bool):
        self.expdir, self.results = Path(expdir), results
        self.evaluated: str | None = str(args.get("init_ckpt")) if args.get("mode") == "evaluate" else None
        self.evaluated_step = None if self.evaluated is None else _step_of(Path(self.evaluated))
        self.evaluated_data: dict[str, object] = {}
        self.evaluated_overlap = _overlap_of(results)
        if resume and (self.expdir / RESULTS_FILE).is_file():
            try:
                old = RunResults.read(self.expdir)
            except ResultsError as error:
                raise AalbertError(f"{self.expdir}: {error}; restore or remove it") from error
            if self.evaluated:
                self.evaluated_data = changed_keys(results.config.get("datarc"), old.config.get("datarc"))
                self.results = old  # the settings of the training, whatever this evaluation overrides
            self.results.history, self.results.best = old.history, old.best
            self.results.evaluations = old.evaluations

    def add(self, split: str, step: int, metrics: Mapping[str, float]) -> bool:
        """Record an evaluation and return whether it is the best dev accuracy so far.

        Entries of the same or a later step are dropped: the run was resumed from an earlier checkpoint. If the best
        step was among them, its weights may be lost, so that the next dev evaluation becomes the best.
        """
        if self.evaluated is not None:
            self._add_evaluation(self.evaluated, split, dict(metrics))
            return False
        history = self.results.history
        history[:] = [h for h in history if h.step < step or (h.step == step and h.split != split)]
        best = self.results.best
        if best is not None and (best.step > step or (best.step == step and split == "dev")):
            best = self.results.best = None
        history.append(Evaluation(step, split, dict(metrics)))
        improved = split == "dev" and (best is None or metrics["acc"] > best.dev["acc"])
        if improved:
            self.results.best = BestStep(step, dict(metrics))
        elif split == "test" and best is not None and best.step == step:
            best.test = dict(metrics)
        if split != "train":
            self.results.write(self.expdir)
        return improved

    def is_evaluation(self, split: str) -> bool:
        """Return whether a split is scored, printed and recorded: any but the training's own batches."""
        return split != "train" or self.evaluated is not None

    def _add_evaluation(self, checkpoint: str, split: str, metrics: Metrics) -> None:
        """Record ``-m evaluate``; it replaces an earlier record of the same checkpoint, split and data."""
        overlap = self.evaluated_overlap if split == "test" else None  # other splits are not compared
        entry = CheckpointEvaluation(checkpoint, self.evaluated_step, split, metrics, self.evaluated_data, overlap)
        self.results.evaluations = [
            other
            for other in self.results.evaluations
            if replace(other, metrics=metrics, step=entry.step, pretraining_overlap=overlap) != entry
        ]
        self.results.evaluations.append(entry)
        self.results.write(self.expdir)

    def place(self, step: int) -> str:
        """Describe which weights an evaluation measured: of ``step``, or with ``-m evaluate`` of the checkpoint."""
        if self.evaluated is None:
            return f"at step {step}"
        return f"of {printable(self.evaluated)}" + (
            "" if self.evaluated_step is None else f", step {self.evaluated_step}"
        )

    @property
    def best_step(self) -> int | None:
        """The step of the best dev accuracy."""
        return None if self.results.best is None else self.results.best.step


def _overlap_of(results: RunResults) -> Overlap | dict[str, Overlap]:
    """Return the overlap of the test and the upstream's pre-training; in a probing run by task."""
    data = results.data
    if isinstance(data, Mapping):
        return {task: facts.pretraining_overlap for task, facts in data.items()}
    return data.pretraining_overlap


def _step_of(checkpoint: Path) -> int | None:
    """Return the step at which S3PRL wrote a checkpoint; None if it does not record one."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            step = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True).get("Step")
    except UNREADABLE:
        return None
    return step if isinstance(step, int) else None
