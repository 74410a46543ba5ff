"""Runs S3PRL's ``run_downstream.py``, unmodified, with the plugin registered.

Options are checked before torch and S3PRL are imported.
"""

from __future__ import annotations

import argparse
import builtins
import glob
import logging
import pickle
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from s3prl_aalbert import toolkit
from s3prl_aalbert.errors import EXIT_STOPPED, AalbertError
from s3prl_aalbert.locking import locked
from s3prl_aalbert.pretrain.signals import OF_BATCH_SYSTEMS, StopSignal
from s3prl_aalbert.toolkit import arguments
from s3prl_aalbert.toolkit.experiments import glob_in_folder
from s3prl_aalbert.toolkit.leftovers import no_leftovers
from s3prl_aalbert.toolkit.overrides import apply_override
from s3prl_aalbert.toolkit.parser import PROGRAM
from s3prl_aalbert.toolkit.replace import Changed, replaced

logger = logging.getLogger(__name__)


def run(argv: Sequence[str]) -> int:
    """Train, evaluate or run inference with S3PRL's own options.

    Args:
        argv: the options of ``run_downstream.py``, without the program name.

    Returns:
        0, or EXIT_STOPPED if a signal ended a training after it saved its state.

    Raises:
        AalbertError: the options have a mistake, or a task reported one.
        SystemExit: the parser refused the options, or ``--help`` was given.
    """
    logging.basicConfig(level=logging.INFO)  # as S3PRL's main() does a moment later
    trains = arguments.typed_options(argv)["mode"] == "train"
    with StopSignal(OF_BATCH_SYSTEMS if trains else ()) as stop, stop.deferred():
        folder = arguments.training_folder(argv)
        with nullcontext() if folder is None else locked(folder):
            return _run([PROGRAM, *arguments.complete(argv)], stop, folder)


def _run(typed: Sequence[str], stop: StopSignal, folder: Path | None) -> int:
    toolkit.activate()
    from s3prl import run_downstream

    from s3prl_aalbert.toolkit.continuation import Stopped
    from s3prl_aalbert.toolkit.resume import Reader
    from s3prl_aalbert.toolkit.runner import Runner

    reader = Reader()
    runners: list[Runner] = []

    def build(args: argparse.Namespace, config: dict[str, object]) -> Runner:
        runners.append(Runner(args, config, stop, reader.initial))
        return runners[-1]

    # S3PRL's main() reads these names from its module, so that replacing them leaves its files unchanged.
    parts = {
        "Runner": build,
        "override": apply_override,
        "torch": Changed(run_downstream.torch, load=reader.past),
        "glob": Changed(glob, glob=glob_in_folder),
    }
    try:
        with (
            no_leftovers(folder, lambda: any(runner.stepped for runner in runners)),
            replaced(sys, argv=typed),
            # main() replaces the builtin isinstance, for torch before 1.8; it is restored afterwards.
            replaced(builtins, isinstance=isinstance),
            replaced(run_downstream, **parts),
        ):
            _run_main(run_downstream.main)
    except Stopped as stopped:
        logger.warning("%s", stopped)
        return EXIT_STOPPED
    return 0


def _run_main(main: Callable[[], None]) -> None:
    try:
        main()
    except AalbertError as error:
        raise AalbertError(_sentence(error)) from error
    except pickle.UnpicklingError as error:
        from s3prl_aalbert.toolkit.building import unpickling_sentence

        raise AalbertError(unpickling_sentence(error)) from error


def _sentence(error: AalbertError) -> str:
    """Return the message without the traceback that a DataLoader worker adds."""
    message = str(error.args[0]) if error.args else ""  # str(error) would join the traceback to one line
    if not message.startswith("Caught "):
        return message
    return message.rpartition("Error: ")[2].strip()
