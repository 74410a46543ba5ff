"""``aalbert submit``: checked predictions of SUPERB's tasks as the zip file that the leaderboard takes."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.printable import printable

EXAMPLES = """examples:
  aalbert submit --pr result/superb/pr/best --sid result/superb/sid/best -o submission
  aalbert submit --all result/superb -o submission     # what scripts/superb/all.sh left there
  aalbert submit --er result/superb/er/best -o submission   # fold1 to fold5 in there; or --er_fold1 DIR ...
"""
_OTHER_NAMES = {"sv": ("--asv",), "asr_no_lm": ("--asr",)}
# A task's folder below --all -> the option; er and asr stand for several.
_SCRIPTS = {name: name for name in ("pr", "sid", "ks", "ic", "qbe", "sf", "sd")} | {"asv": "sv", "asr": "asr_no_lm"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: S3PRL's, and three for several experiments at once."""
    from s3prl_aalbert.submission.superb_options import OPTIONS

    experiments = parser.add_argument_group("experiment folders, each with its predictions for the test set")
    for option, name in OPTIONS.items():
        flags = (f"--{option}", *_OTHER_NAMES.get(option, ()))
        experiments.add_argument(*flags, dest=option, type=Path, metavar="EXP", help=name)
    experiments.add_argument("--er", type=Path, metavar="DIR", help="ER: a folder with fold1 to fold5")
    experiments.add_argument("--all", type=Path, metavar="DIR", help="a folder with TASK/best for each task")
    add = parser.add_argument
    add("-o", "--output_dir", type=Path, required=True, metavar="DIR", help="gets predict.zip and form.yaml")
    add("--any_count", action="store_true", help="accept test sets of other sizes than the official ones, for a trial")


def main(args: argparse.Namespace) -> int:
    """Check, write predict.zip and form.yaml, and return 0."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    from s3prl_aalbert.submission.superb_form import write_form
    from s3prl_aalbert.submission.superb_tasks import collect, write_zip

    experiments = _experiments(args)
    if not experiments:
        raise AalbertError("no experiment: give one per task, e.g. --pr EXP --sid EXP, or --all DIR")
    predictions = collect(experiments, args.any_count)
    write_form(args.output_dir / "form.yaml", predictions)
    write_zip(args.output_dir / "predict.zip", predictions)
    for prediction in predictions:
        print(f"{prediction.task.name:<12} {prediction.utterances:>6} predictions  {printable(prediction.experiment)}")
    print(f"wrote {args.output_dir / 'predict.zip'} and {args.output_dir / 'form.yaml'}")
    return 0


def _experiments(args: argparse.Namespace) -> dict[str, Path]:
    """Return the experiment of each option, given one by one, by --er or by --all."""
    from s3prl_aalbert.submission.superb_options import OPTIONS

    found = _below(args.all) if args.all else {}
    if args.er:
        found |= _folds(args.er)
    found |= {option: getattr(args, option) for option in OPTIONS if getattr(args, option)}
    return {option: path.expanduser() for option, path in found.items()}


def _below(folder: Path) -> dict[str, Path]:
    folder = folder.expanduser()
    best = {task: folder / task / "best" for task in (*_SCRIPTS, "er")}
    found = {option: best[task] for task, option in _SCRIPTS.items() if best[task].exists()}
    if (best["asr"] / "test-clean-LM-hyp.ark").is_file():
        found["asr_with_lm"] = best["asr"]
    if best["er"].exists():
        found |= _folds(best["er"])
    if not found:
        raise AalbertError(f"--all {folder}: no TASK/best in there, expected some of {', '.join(best)}")
    return found


def _folds(folder: Path) -> dict[str, Path]:
    folds = {f"er_fold{fold}": folder.expanduser() / f"fold{fold}" for fold in range(1, 6)}
    found = {option: path for option, path in folds.items() if path.is_dir()}
    if not found:
        raise AalbertError(f"--er {folder}: no fold1 to fold5 in there")
    return found
