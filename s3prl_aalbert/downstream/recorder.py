"""Records a run's evaluations in results.json, and chooses the best step by dev accuracy alone."""

from __future__ import annotations

import argparse
import logging
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
    changed_settings,
)
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.locking import one_at_a_time
from s3prl_aalbert.printable import printable

logger = logging.getLogger(__name__)

LONGEST_WAIT = 60.0
"""Seconds; a change takes milliseconds, unless its process was stopped or its machine was lost."""


class Recorder:
    """The history of a run's evaluations, and the best step by dev accuracy alone.

    A training and evaluations of its checkpoints may write the same results.json at the same time: history and best
    are the training's, and the list of evaluations is that of the file.

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
        self.evaluation = results  # with -m evaluate: its own settings
        self.evaluated_overlap = _overlap_of(results)
        self.of_earlier_run: list[CheckpointEvaluation] = []
        if resume and (self.expdir / RESULTS_FILE).is_file():
            try:
                old = RunResults.read(self.expdir)
            except ResultsError as error:
                raise AalbertError(f"{self.expdir}: {error}; restore or remove it") from error
            if self.evaluated:
                self.results = old  # the settings of the training, whatever this evaluation overrides
            self.results.history, self.results.best = old.history, old.best
            self.results.evaluations = old.evaluations
        elif not resume and (earlier := _recorded(self.expdir)):
            self.of_earlier_run = earlier.evaluations

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
            self._write_training()
        return improved

    def _write_training(self) -> None:
        """Write the record of the training, with the evaluations that others recorded meanwhile."""
        with one_at_a_time(self.expdir / RESULTS_FILE, LONGEST_WAIT):
            if found := _recorded(self.expdir):
                self.results.evaluations = [e for e in found.evaluations if e not in self.of_earlier_run]
            self.results.write(self.expdir)
        self.of_earlier_run = []

    def is_evaluation(self, split: str) -> bool:
        """Return whether a split is scored, printed and recorded: any but the training's own batches."""
        return split != "train" or self.evaluated is not None

    def _add_evaluation(self, checkpoint: str, split: str, metrics: Metrics) -> None:
        """Record ``-m evaluate``; it replaces an earlier record of the same checkpoint, split and settings."""
        overlap = self.evaluated_overlap if split == "test" else None  # other splits are not compared
        with one_at_a_time(self.expdir / RESULTS_FILE, LONGEST_WAIT):
            # The training may have gone on since this evaluation started.
            self.results = _recorded(self.expdir) or self.results
            changed = changed_settings(self.evaluation, self.results)
            entry = CheckpointEvaluation(checkpoint, self.evaluated_step, split, metrics, changed, overlap)
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


def _recorded(folder: Path) -> RunResults | None:
    """Return the record in a folder; None if there is none, or it is damaged."""
    if not (folder / RESULTS_FILE).is_file():
        return None
    try:
        return RunResults.read(folder)
    except ResultsError as error:
        logger.warning("%s: %s; it is written anew", folder, error)
        return None


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
