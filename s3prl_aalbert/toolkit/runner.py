"""Runs S3PRL's ``run_downstream.py``, unmodified, with the plugin registered."""

from __future__ import annotations

import builtins
import logging
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from s3prl_aalbert import toolkit
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit.bars import counting_bars
from s3prl_aalbert.toolkit.replace import replaced


def run(argv: Sequence[str]) -> int:
    """Train, evaluate or run inference with S3PRL's own options, and return the exit code 0.

    Args:
        argv: the options of ``run_downstream.py``, without the program name.

    Raises:
        AalbertError: a mistake in the options, or one that a task reported.
        SystemExit: the option parser refused the options, or ``--help`` was asked for.
    """
    toolkit.activate()
    from s3prl import run_downstream

    from s3prl_aalbert.toolkit import arguments

    logging.basicConfig(level=logging.INFO)  # as S3PRL's main() does a moment later
    typed = [arguments.PROGRAM, *arguments.complete(argv)]
    # main() replaces the builtin isinstance, for torch before 1.8; it is put back afterwards.
    own_isinstance = replaced(builtins, "isinstance", isinstance)
    with replaced(sys, "argv", typed), own_isinstance, closed_writers(), counting_bars():
        _run_main(run_downstream.main)
    return 0


@contextmanager
def closed_writers() -> Iterator[None]:
    """Close the TensorBoard writers that S3PRL leaves open when training is interrupted or fails.

    An open one loses its last events, and from Python 3.12 on prints a stack trace at exit: ``can't
    create new thread at interpreter shutdown``.
    """
    from s3prl.downstream import runner

    writers = []

    def open_writer(*args: Any, **options: Any) -> Any:
        writers.append(original(*args, **options))
        return writers[-1]

    original = runner.SummaryWriter
    with replaced(runner, "SummaryWriter", open_writer):
        try:
            yield
        finally:
            for writer in writers:
                writer.close()


def _run_main(main: Callable[[], None]) -> None:
    try:
        main()
    except AalbertError as error:
        raise AalbertError(_sentence(error)) from error
    except pickle.UnpicklingError as error:
        raise AalbertError(_unpickling_sentence(error)) from error


def _sentence(error: AalbertError) -> str:
    """Return the message, freed of the traceback that a DataLoader worker wraps around it."""
    message = str(error)
    if not message.startswith("Caught "):
        return message
    return message.rpartition("Error: ")[2].strip()


def _unpickling_sentence(error: pickle.UnpicklingError) -> str:
    return (
        "a checkpoint holds Python objects that torch does not load for safety "
        f"({_first_clause(str(error))}); save its weights alone and load those"
    )


def _first_clause(message: str) -> str:
    for line in message.splitlines():
        if "GLOBAL" in line:
            return line.strip().removeprefix("WeightsUnpickler error: ")
    return message.splitlines()[0] if message else "no reason given"
