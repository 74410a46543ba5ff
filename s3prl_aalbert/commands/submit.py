"""``aalbert submit``: checked predictions of SUPERB's tasks as the zip file that the leaderboard takes."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_aalbert.commands import run_command
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.printable import printable
from s3prl_aalbert.typed_options import add_options

if TYPE_CHECKING:
    from s3prl_aalbert.submission.superb_tasks import Prediction

EXAMPLES = """examples:
  aalbert submit --pr result/superb/pr/best --sid result/superb/sid/best -o submission
  aalbert submit --all result/superb -o submission     # what scripts/superb/all.sh left there
  aalbert submit --er result/superb/er/best -o submission   # fold1 to fold5 in there; or --er_fold1 DIR ...

EXP is an experiment folder with its predictions for the test set.
"""


def submit(
    *,
    output_dir: Path,
    all: Path | None = None,
    er: Path | None = None,
    any_count: bool = False,
    pr: Path | None = None,
    sid: Path | None = None,
    ks: Path | None = None,
    ic: Path | None = None,
    er_fold1: Path | None = None,
    er_fold2: Path | None = None,
    er_fold3: Path | None = None,
    er_fold4: Path | None = None,
    er_fold5: Path | None = None,
    asr_no_lm: Path | None = None,
    asr_with_lm: Path | None = None,
    qbe: Path | None = None,
    sf: Path | None = None,
    sv: Path | None = None,
    sd: Path | None = None,
    se: Path | None = None,
    ss: Path | None = None,
    st: Path | None = None,
) -> None:
    """Check the predictions of the experiments, and write predict.zip and form.yaml.

    Args:
        output_dir: folder for predict.zip and form.yaml
        all: a folder with TASK/best for each task
        er: emotion recognition, a folder with fold1 to fold5
        any_count: for a trial: accept test sets of any size
        pr: phoneme recognition
        sid: speaker identification
        ks: keyword spotting
        ic: intent classification
        er_fold1: emotion recognition, fold 1
        er_fold2: fold 2
        er_fold3: fold 3
        er_fold4: fold 4
        er_fold5: fold 5
        asr_no_lm: speech recognition
        asr_with_lm: speech recognition with a language model
        qbe: query by example
        sf: slot filling
        sv: speaker verification
        sd: speaker diarisation
        se: speech enhancement
        ss: source separation
        st: speech translation

    Raises:
        AalbertError: no experiment, or predictions that are missing, incomplete or malformed.
    """
    given = {option: path for option, path in locals().items() if option in TASKS and path}
    from s3prl_aalbert.submission.superb_folders import find_experiments, find_folds
    from s3prl_aalbert.submission.superb_tasks import collect

    experiments = {**(find_experiments(all) if all else {}), **(find_folds(er) if er else {}), **given}
    if not experiments:
        raise AalbertError("no experiment: give one per task, e.g. --pr EXP --sid EXP, or --all DIR")
    _write(output_dir, collect({option: path.expanduser() for option, path in experiments.items()}, any_count))


TASKS = tuple(
    name for name in inspect.signature(submit).parameters if name not in ("output_dir", "all", "er", "any_count")
)
"""S3PRL's options, one experiment each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: S3PRL's, and two for several experiments at once."""
    flags: dict[str, tuple[str, ...]] = {name: (f"--{name}",) for name in (*TASKS, "any_count")}
    flags |= {"output_dir": ("-o", "--output_dir"), "sv": ("--sv", "--asv"), "asr_no_lm": ("--asr_no_lm", "--asr")}
    metavars = dict.fromkeys(TASKS, "EXP") | dict.fromkeys(("output_dir", "all", "er"), "DIR")
    add_options(parser, submit, flags, metavars)


def main(args: argparse.Namespace) -> int:
    """Check, write and return 0."""
    return run_command(submit, args)


def _write(folder: Path, predictions: Sequence[Prediction]) -> None:
    from s3prl_aalbert.submission.superb_form import write_form
    from s3prl_aalbert.submission.superb_tasks import write_zip

    write_form(folder / "form.yaml", predictions)
    write_zip(folder / "predict.zip", predictions)
    for prediction in predictions:
        print(f"{prediction.task.name:<12} {prediction.utterances:>6} predictions  {printable(prediction.experiment)}")
    print(f"wrote {folder / 'predict.zip'} and {folder / 'form.yaml'}")
