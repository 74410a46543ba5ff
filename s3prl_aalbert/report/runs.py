"""Finds finished experiments below some folders and reads them; unusable ones are listed with the reason.

There are three kinds of folder: a downstream run (results.json), a probing run (probes.csv beside it) and a
pre-training run (TensorBoard events with the tag ``pretrain/``, manifest.tsv or a release).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s3prl_aalbert.checkpoint.release import WEIGHTS_FILE
from s3prl_aalbert.checkpoint.training_state import STATES_PATTERN
from s3prl_aalbert.downstream.result_tables import PROBES_FILE, ProbeResult, read_probes
from s3prl_aalbert.downstream.results import RESULTS_FILE, DataFacts, Metrics, ResultsError, RunResults
from s3prl_aalbert.errors import AalbertError, did_you_mean

logger = logging.getLogger(__name__)

MANIFEST_FILE = "manifest.tsv"


class UnusableRun(AalbertError):
    """A run folder that cannot be used; the message is the reason without the folder's name."""


@dataclass(frozen=True)
class DownstreamRun:
    """A finished downstream run."""

    folder: Path
    results: RunResults
    dev: Metrics
    """Dev metrics of the best step, which is chosen by them."""
    test: Metrics
    """Test metrics of the best step."""

    @property
    def data(self) -> DataFacts:
        """The data of its task."""
        return self.results.data if isinstance(self.results.data, DataFacts) else DataFacts()

    @property
    def train_fraction(self) -> float:
        """Share of the training labels that was used; the default is 1."""
        datarc = self.results.config.get("datarc")
        value = datarc.get("train_fraction") if isinstance(datarc, dict) else None
        return float(value) if isinstance(value, (int, float)) and 0 < value <= 1 else 1.0


@dataclass(frozen=True)
class ProbeRun:
    """A finished probing run."""

    folder: Path
    results: RunResults
    probes: tuple[ProbeResult, ...]


Run = DownstreamRun | ProbeRun


@dataclass(frozen=True)
class PretrainRun:
    """A pre-training folder."""

    folder: Path


@dataclass(frozen=True)
class Skipped:
    """A folder that could not be used, with the reason."""

    folder: Path
    reason: str


@dataclass(frozen=True)
class RunCollection:
    """Everything found."""

    downstream: tuple[DownstreamRun, ...] = ()
    probing: tuple[ProbeRun, ...] = ()
    pretraining: tuple[PretrainRun, ...] = ()
    skipped: tuple[Skipped, ...] = ()


def collect(paths: Sequence[Path]) -> RunCollection:
    """Read every run below some folders, each once; a path may also be a results.json.

    Raises:
        AalbertError: a path does not exist, or no run is usable.
    """
    found: list[Run | PretrainRun] = []
    skipped: list[Skipped] = []
    for folder in _folders(paths):
        try:
            run = read_folder(folder)
        except UnusableRun as error:
            skipped.append(Skipped(folder, str(error)))
            continue
        found += [run] if run else []
    for item in skipped:
        logger.warning("%s: skipped: %s", item.folder, item.reason)
    if not found:
        raise AalbertError(_nothing_usable(paths, skipped))
    return RunCollection(
        tuple(run for run in found if isinstance(run, DownstreamRun)),
        tuple(run for run in found if isinstance(run, ProbeRun)),
        tuple(run for run in found if isinstance(run, PretrainRun)),
        tuple(skipped),
    )


def _nothing_usable(paths: Sequence[Path], skipped: Sequence[Skipped]) -> str:
    where = ", ".join(map(str, paths)) or "no folder given"
    if not skipped:
        return f"{where}: no run found, expected folders with {RESULTS_FILE}, {PROBES_FILE} or a pre-training"
    shown = "; ".join(f"{item.folder} ({item.reason})" for item in skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return f"{where}: none of {len(skipped)} runs is usable: {shown}{more}"


def _folders(paths: Sequence[Path]) -> list[Path]:
    """List all folders below the paths, sorted, each once; hidden folders are skipped."""
    found: dict[Path, Path] = {}
    for path in paths:
        path = Path(path).expanduser()
        if path.is_file():
            path = path.parent
        if not path.is_dir():
            near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            raise AalbertError(f"{path}: no such run folder{did_you_mean(path.name, near)}")
        for parent, names, _ in os.walk(path):
            names[:] = sorted(name for name in names if not name.startswith("."))
            found.setdefault(Path(parent).resolve(), Path(parent))
    return sorted(found.values())


def read_folder(folder: Path) -> Run | PretrainRun | None:
    """Read the run in one folder; None if there is none.

    Raises:
        UnusableRun: the run is unfinished or damaged.
    """
    try:
        if (folder / PROBES_FILE).is_file():
            return _probe_run(folder)
        if (folder / RESULTS_FILE).is_file():
            return _downstream_run(folder)
    except ResultsError as error:
        raise UnusableRun(str(error)) from error
    if any(folder.glob("args_*.yaml")):  # S3PRL's runner writes these when it starts
        raise UnusableRun(f"it has no {RESULTS_FILE} yet, or its task writes none")
    if (folder / WEIGHTS_FILE).is_file() or (folder / MANIFEST_FILE).is_file():
        return PretrainRun(folder)
    if any(folder.glob(STATES_PATTERN)) and any(folder.glob("events.out.tfevents.*")):
        return PretrainRun(folder)
    return None


def _downstream_run(folder: Path) -> DownstreamRun:
    results = RunResults.read(folder)
    if results.best is None:
        raise UnusableRun("unfinished: it has no best step yet")
    if results.best.test is None:
        raise UnusableRun("unfinished: it has no test of its best step yet")
    _check_finished(results)
    return DownstreamRun(folder, results, results.best.dev, results.best.test)


def _probe_run(folder: Path) -> ProbeRun:
    results, probes = RunResults.read(folder), read_probes(folder)
    if not probes:
        raise UnusableRun(f"unfinished: {PROBES_FILE} holds no probe yet")
    untested = sum(probe.test_acc is None for probe in probes)
    if untested:
        raise UnusableRun(f"unfinished: {untested} of {len(probes)} probes have no test of their best step yet")
    _check_finished(results)
    return ProbeRun(folder, results, tuple(probes))


def _check_finished(results: RunResults) -> None:
    """Raise UnusableRun if the last evaluation is before the configured end."""
    runner = results.training.get("runner")
    total, every = (runner.get(key) if isinstance(runner, dict) else None for key in ("total_steps", "eval_step"))
    if not (isinstance(total, int) and isinstance(every, int) and results.history):
        return
    last = max(entry.step for entry in results.history)
    if last + every <= total:
        raise UnusableRun(f"unfinished: last evaluated at step {last} of {total}")
