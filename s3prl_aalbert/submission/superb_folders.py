"""Finds the experiments of SUPERB's tasks in a folder, by S3PRL's options."""

from __future__ import annotations

from pathlib import Path

from s3prl_aalbert.errors import AalbertError

SCRIPTS = {name: name for name in ("pr", "sid", "ks", "ic", "qbe", "sf", "sd")} | {"asv": "sv", "asr": "asr_no_lm"}
"""Folder of a task in scripts/superb -> its option; er and asr have several options."""


def find_experiments(folder: Path) -> dict[str, Path]:
    """Return the experiments that scripts/superb/all.sh wrote to a folder, TASK/best for each task.

    Raises:
        AalbertError: there is none.
    """
    folder = folder.expanduser()
    best = {task: folder / task / "best" for task in (*SCRIPTS, "er")}
    found = {option: best[task] for task, option in SCRIPTS.items() if best[task].exists()}
    if (best["asr"] / "test-clean-LM-hyp.ark").is_file():
        found["asr_with_lm"] = best["asr"]
    if best["er"].exists():
        found |= find_folds(best["er"])
    if not found:
        raise AalbertError(f"--all {folder}: has no TASK/best, expected some of {', '.join(best)}")
    return found


def find_folds(folder: Path) -> dict[str, Path]:
    """Return the experiments of emotion recognition in a folder, fold1 to fold5.

    Raises:
        AalbertError: there is none.
    """
    folds = {f"er_fold{fold}": folder.expanduser() / f"fold{fold}" for fold in range(1, 6)}
    found = {option: path for option, path in folds.items() if path.is_dir()}
    if not found:
        raise AalbertError(f"--er {folder}: has no fold1 to fold5")
    return found
