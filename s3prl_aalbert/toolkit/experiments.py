"""Finds the folder of an experiment, and the checkpoint that ``-e`` or ``-a`` continues."""

from __future__ import annotations

import glob
from pathlib import Path

from s3prl_aalbert.errors import AalbertError, is_url
from s3prl_aalbert.toolkit.options import Options


def place_of(given: Options) -> Path:
    """Return the folder of an experiment from -p or -n."""
    return Path(given.get("expdir") or f"result/downstream/{given.get('expname')}").expanduser()


def glob_in_folder(pattern: str) -> list[str]:
    """Replace ``glob.glob`` for S3PRL, which looks for ``{expdir}/states-*.ckpt``: no ``[`` in a folder is special."""
    folder, slash, name = pattern.rpartition("/")
    return glob.glob(f"{glob.escape(folder)}{slash}{name}")  # noqa: PTH207 - texts, as S3PRL expects


def check_unused_folder(expdir: Path) -> None:
    """Refuse to train a new experiment in the folder of another, whose checkpoints S3PRL would replace.

    Raises:
        AalbertError: the folder holds checkpoints.
    """
    held = sorted(expdir.glob("*.ckpt"))
    if held:
        raise AalbertError(f"{expdir}: holds {held[0].name} already; continue it with -a, or choose another -n")


def check_nothing_newer(expdir: Path, past: Path, step: int) -> None:
    """Refuse to train on from an earlier state, or another run's, in a folder whose checkpoints would be replaced.

    Args:
        expdir: where the training writes.
        past: the checkpoint that it continues.
        step: of ``past``.

    Raises:
        AalbertError: the folder holds a later state, or another experiment.
    """
    if expdir.resolve() != past.parent.resolve():
        check_unused_folder(expdir)
        return
    newest = states_in(expdir)[-1:]
    if newest and newest[0].name != past.name and _step_of(newest[0]) > step:
        raise AalbertError(
            f"{expdir}: holds {newest[0].name} already; continue it with -a, or continue from {past.name} "
            f"(step {step}) in another folder with -o args.expdir=DIR"
        )


def find_past_experiment(given: Options) -> Path | None:
    """Return the checkpoint that S3PRL will resume from, or None for a new experiment.

    Raises:
        AalbertError: ``-e`` names nothing, or a folder without ``states-*.ckpt``.
    """
    if given.get("auto_resume") and (states := states_in(place_of(given))):
        return states[-1]
    if "past_exp" not in given:
        return None
    past = Path(given["past_exp"])
    if not past.exists():
        what = "is a URL, expected a file or folder on this machine" if is_url(past) else "no such file or folder"
        raise AalbertError(f"-e {given['past_exp']}: {what}")
    if not past.is_dir():
        return past
    if states := states_in(past):
        return states[-1]
    others = sorted(past.glob("*.ckpt"))
    hint = f"; name a file to use it, e.g. -e {others[0]}" if others else ""
    raise AalbertError(f"-e {past}: no states-*.ckpt in this folder{hint}")


def states_in(expdir: Path) -> list[Path]:
    """Return the checkpoints of training in ``expdir``, oldest step first, as S3PRL sorts them.

    Raises:
        AalbertError: a name does not end in a step, on which S3PRL would fail.
    """
    found = list(expdir.glob("states-*.ckpt"))
    for path in found:
        if not path.stem.split("-")[-1].isdecimal():
            raise AalbertError(f"{path}: S3PRL expects states-STEP.ckpt; give it another beginning")
    return sorted(found, key=_step_of)


def _step_of(path: Path) -> int:
    return int(path.stem.split("-")[-1])
