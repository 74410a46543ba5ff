"""The tasks of a SUPERB submission and the zip file that the leaderboard takes.

Options, folders and file names are those of S3PRL 0.4.18's ``submit/submit.py``.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.files import write_atomically
from s3prl_aalbert.submission import superb_checks as checks

logger = logging.getLogger(__name__)

LARGEST_FILE = 4 << 30
"""Largest prediction file in bytes, which QbE's many scores determine."""
FOLDS = tuple(f"er_fold{fold}" for fold in range(1, 6))


@dataclass(frozen=True)
class Task:
    """A task of the submission."""

    name: str
    """For people."""
    folder: str
    """Folder in the zip file, below predict/."""
    source: str
    """Name of the prediction file or folder in the experiment."""
    target: str
    """Its name in the task's folder of the zip file."""
    check: checks.Check
    utterances: int | None = None
    """Number of utterances in the official test set; None if it is not published."""
    reference: str | None = None
    """Name of the reference that S3PRL writes beside the predictions, with the same form and the same utterances."""
    extra: tuple[str, checks.Check] | None = None
    """A further file of the task, and its check."""
    checkpoint: str = "dev-best.ckpt"
    """Checkpoint from which the predictions are made."""
    command: str = "aalbert downstream -m evaluate -e {experiment}/{checkpoint}"
    """Command that makes the predictions."""


def _emotion(fold: int, utterances: int) -> Task:
    source, truth = (f"test_fold{fold}_{side}.txt" for side in ("predict", "truth"))
    emotions = checks.labels(checks.EMOTIONS)
    return Task(f"ER, fold {fold}", f"er_fold{fold}_public", source, "predict.txt", emotions, utterances, truth)


def _recognition(name: str, folder: str, kind: str) -> Task:
    source, truth = (f"test-clean-{kind}-{side}.ark" for side in ("hyp", "ref"))
    command = f"{Task.command} -t test-clean" if kind == "noLM" else "LM=FILE LEXICON=FILE scripts/superb/asr.sh"
    return Task(
        *(name, folder, source, "predict.ark", checks.transcripts, 2620, truth),
        checkpoint="dev-clean-best.ckpt",
        command=command,
    )


# Option of S3PRL -> task; the numbers are those of the test sets in docs/submission.md.
TASKS: dict[str, Task] = {
    "pr": Task("PR", "pr_public", "test-hyp.ark", "predict.ark", checks.transcripts, 2620, "test-ref.ark"),
    "sid": Task("SID", "sid_public", "test_predict.txt", "predict.txt", checks.speakers, 8251, "test_truth.txt"),
    "ks": Task(
        *("KS", "ks_public", "test_predict.txt", "predict.txt", checks.labels(checks.KEYWORDS), 3081, "test_truth.txt")
    ),
    "ic": Task("IC", "ic_public", "test_predict.csv", "predict.csv", checks.intents, 3793, "test_truth.csv"),
    **{f"er_fold{fold}": _emotion(fold, count) for fold, count in enumerate((1085, 1023, 1151, 1031, 1241), start=1)},
    "asr_no_lm": _recognition("ASR", "asr_public", "noLM"),
    "asr_with_lm": _recognition("ASR with a language model", "asr_lm_public", "LM"),
    "qbe": Task(
        *("QbE", "qbe_public", "benchmark.stdlist.xml", "benchmark.stdlist.xml", checks.detections),
        command="scripts/superb/qbe.sh",
    ),
    "sf": Task("SF", "sf_public", "test-hyp.ark", "predict.ark", checks.transcripts, reference="test-ref.ark"),
    "sv": Task(
        *("ASV", "sv_public", "test_predict.txt", "predict.txt", checks.scores, 37720), checkpoint="states-*.ckpt"
    ),
    "sd": Task(
        *("SD", "sd_public", "scoring/predictions", "scoring/predictions", checks.diarisations, 3000),
        extra=("frame_shift", checks.frame_shift),
        checkpoint="best-states-dev.ckpt",
    ),
    "se": Task("SE", "se_public", "test_metrics.txt", "metrics.txt", checks.metrics),
    "ss": Task("SS", "ss_public", "test_metrics.txt", "metrics.txt", checks.metrics),
    "st": Task("ST", "st_public", "output-st-test.tsv", "predict.tsv", checks.translations),
}


@dataclass(frozen=True)
class Prediction:
    """A task's checked predictions."""

    option: str
    experiment: Path
    utterances: int
    files: tuple[tuple[str, Path], ...]
    """(name in the zip file, file on disk)."""

    @property
    def task(self) -> Task:
        """The row of TASKS."""
        return TASKS[self.option]


def collect(experiments: Mapping[str, Path], any_count: bool = False) -> list[Prediction]:
    """Check the predictions of every experiment, in the order of TASKS.

    Args:
        experiments: experiment folder by option.
        any_count: accept test sets of other sizes than the official ones.

    Raises:
        AalbertError: a file is missing or wrong; the message names the file, and the line if there is one.
    """
    found = [_check(option, experiments[option], any_count) for option in TASKS if option in experiments]
    folds = [prediction.task.name for prediction in found if prediction.option in FOLDS]
    if folds and len(folds) < len(FOLDS):
        logger.warning("ER is scored only with all five folds, found %s", "; ".join(folds))
    return found


def _check(option: str, experiment: Path, any_count: bool) -> Prediction:
    task = TASKS[option]
    root = PurePosixPath("predict") / task.folder
    source = _find(option, experiment, task.source)
    files = [(str(root / task.target), source)]
    if source.is_dir() and not source.suffix:  # a folder in place of a file is refused below
        files = [(str(root / task.target / path.name), path) for path in sorted(source.iterdir())]
    for _, path in files:
        _check_own_file(option, experiment, path)
    names = task.check(source)
    if task.reference and (experiment / task.reference).is_file():
        _compare(source, names, experiment / task.reference, task.check)
    if task.utterances not in (None, len(names)) and not any_count:
        raise AalbertError(
            f"{source}: {len(names)} predictions, but the official test set of {task.name} has {task.utterances}; "
            "--any_count accepts this for a trial"
        )
    if task.extra:
        name, check = task.extra
        path = _find(option, experiment, name)
        _check_own_file(option, experiment, path)
        check(path)
        files.append((str(root / name), path))
    return Prediction(option, experiment, len(names), tuple(files))


def _find(option: str, experiment: Path, name: str) -> Path:
    path = experiment / name
    if not experiment.is_dir():
        raise AalbertError(f"--{option} {experiment}: no such folder")
    if not path.exists():
        task = TASKS[option]
        command = task.command.format(experiment=experiment, checkpoint=task.checkpoint)
        raise AalbertError(f"--{option} {experiment}: {name} is missing; evaluate first: {command}")
    return path


def _check_own_file(option: str, experiment: Path, path: Path) -> None:
    """Refuse files on which reading would hang, and links that lead outside the experiment."""
    real = path.resolve()
    if not real.is_relative_to(experiment.resolve()):
        raise AalbertError(f"--{option} {path}: is a link to {real}, outside the experiment; replace it by a copy")
    if not real.is_file():
        raise AalbertError(f"--{option} {path}: is not a regular file")
    if real.stat().st_size > LARGEST_FILE:
        raise AalbertError(f"--{option} {path}: has {real.stat().st_size:,} bytes, expected at most {LARGEST_FILE:,}")


def _compare(source: Path, names: list[str], reference: Path, check: checks.Check) -> None:
    expected = set(check(reference))
    lacking, unknown = sorted(expected - set(names)), sorted(set(names) - expected)
    for these, what in ((lacking, "has no prediction for"), (unknown, "has a prediction for the unknown")):
        if these:
            more = f" and {len(these) - 1} more" if len(these) > 1 else ""
            raise AalbertError(f"{source}: {what} {these[0]}{more}, according to {reference.name} beside it")


def write_zip(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write predict.zip: the files and, as the program zip does, an entry for every folder."""
    files = sorted(entry for prediction in predictions for entry in prediction.files)
    folders = sorted({f"{parent}/" for name, _ in files for parent in list(PurePosixPath(name).parents)[:-1]})

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            for folder in folders:
                archive.writestr(folder, b"")
            for name, source in files:
                archive.write(source, name)

    write_atomically(path, write)
