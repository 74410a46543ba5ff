"""``python -m s3prl_aalbert.submission.superb_best NAME DIR...`` finds the run with the best score on dev.

Each DIR is one learning rate. It holds the checkpoint NAME, or several folders (folds) with one each, whose dev scores
are averaged. Scores go to stderr and the best DIR to stdout, or with ``--count N`` the N best, one per line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch

from s3prl_aalbert.checkpoint.content import UNREADABLE
from s3prl_aalbert.errors import EXIT_USER_ERROR, AalbertError
from s3prl_aalbert.model.config import shown
from s3prl_aalbert.printable import LONGEST_MESSAGE, printable
from s3prl_aalbert.toolkit.parts import States
from s3prl_aalbert.toolkit.repairs.imports import allow_s3prl_checkpoints


@dataclass(frozen=True)
class DevScore:
    """A run's best score on dev."""

    value: float
    higher_is_better: bool


def load_states(path: Path) -> States:
    """Load a checkpoint of S3PRL's downstream runner onto the CPU, without running code from it.

    Raises:
        AalbertError: the file is not such a checkpoint.
    """
    allow_s3prl_checkpoints()
    if not path.is_file():
        raise AalbertError(f"{path}: is not a file")
    try:
        states: States = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise AalbertError(f"{path}: not a readable checkpoint") from error
    kinds = {"Args": argparse.Namespace, "Config": dict, "Downstream": Mapping}
    if not isinstance(states, dict) or not all(isinstance(states.get(key), kind) for key, kind in kinds.items()):
        raise AalbertError(f"{path}: not a checkpoint of S3PRL's downstream runner")
    return states


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Turn errors from odd values in a checkpoint into a message that names it."""
    try:
        yield
    except UNREADABLE as error:
        raise AalbertError(f"{path}: is damaged ({type(error).__name__}: {error})") from error


def dev_score(states: States) -> DevScore | None:
    """Return the score by which S3PRL chose the checkpoint; None if the task records none."""
    best = states["Downstream"].get("best_score")
    if best is None:
        return None
    task = states["Args"].downstream
    expert = states["Config"]["downstream_expert"]
    lower = task in ("asr", "sv_voxceleb1") or (task == "ctc" and not expert["metric_higher_better"])
    return DevScore(float(best), not lower)


def _dev_score_of(path: Path) -> DevScore | None:
    with naming_damage(path):
        return dev_score(load_states(path))


def rank_runs(name: str, folders: Sequence[Path]) -> list[Path]:
    """Return the folders sorted by mean score, the best first; a folder without the checkpoint is dropped.

    Args:
        name: name of the checkpoint.
        folders: one per learning rate; equal scores keep their order.

    Raises:
        AalbertError: no folder has a checkpoint, or a checkpoint has no score.
    """
    scores: dict[Path, list[DevScore]] = {}
    for folder in folders:
        found = [_dev_score_of(path) for path in sorted(folder.rglob(name))]
        if any(score is None for score in found):
            raise AalbertError(f"{folder}: this task records no dev score")
        if not found:
            print(f"{folder}: no {name}: the run never improved on its start", file=sys.stderr)
            continue
        scores[folder] = [score for score in found if score]
        print(f"{folder}: {fmean(score.value for score in scores[folder]):.5g} on dev", file=sys.stderr)
    if not scores:
        raise AalbertError(f"no {name} in {', '.join(map(str, folders))}: train longer, or at other learning rates")
    whole = max(map(len, scores.values()))
    rank = {
        folder: fmean(score.value if score.higher_is_better else -score.value for score in found)
        for folder, found in scores.items()
        if len(found) == whole
    }
    return sorted(rank, key=lambda folder: -rank[folder])


def main() -> int:
    """Print the best folders."""
    parser = argparse.ArgumentParser(prog="superb_best", description=__doc__)
    parser.add_argument("name", metavar="NAME", help="e.g. dev-best.ckpt")
    parser.add_argument("folders", metavar="DIR", nargs="+", type=Path)
    parser.add_argument("--count", metavar="N", default="1", help="how many to print; default: %(default)s")
    args = parser.parse_args()
    try:
        if not args.count.isdecimal() or int(args.count) < 1:
            raise AalbertError(f"--count (KEEP) is {shown(args.count)}, expected a whole number of at least 1")
        for folder in rank_runs(args.name, args.folders)[: int(args.count)]:
            print(folder)
    except (AalbertError, OSError) as error:
        print(f"superb_best: {printable(error, LONGEST_MESSAGE)}", file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
