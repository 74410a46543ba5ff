"""Run the cells of a sweep, each in a process of its own that starts with S3PRL imported already.

A run that is done is skipped, one that was interrupted is resumed, a failed one is reported and tried again next time.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from tqdm import tqdm

from s3prl_aalbert.toolkit.sweep import RECORD, SweepRun

logger = logging.getLogger(__name__)


def execute(runs: Sequence[SweepRun], every: Sequence[SweepRun]) -> list[SweepRun]:
    """Run what is not done, one after the other, and return those that failed; each keeps its output in a log file.

    Args:
        runs: those to run.
        every: all of the sweep, among them what ``runs`` need.
    """
    waiting = [run for run in runs if not run.done]
    logger.info("%d runs, %d already done", len(runs), len(runs) - len(waiting))
    by_name = {run.name: run for run in every}
    context, failed = _context(), []
    with tqdm(waiting, unit="run", desc="sweep") as progress:
        for run in progress:
            progress.set_postfix_str(run.name)
            if run.done:  # by another sweep over the same folder, meanwhile
                continue
            problem = _obstacle(run, by_name) or _run(run, context)
            if problem:
                failed.append(run)
                progress.write(f"{run.name}: {problem}")
    return failed


def _obstacle(run: SweepRun, by_name: dict[str, SweepRun]) -> str:
    if run.needs and not by_name[run.needs].done:
        return f"needs {run.needs}, which is not done"
    recorded = run.recorded()
    if recorded and recorded["argv"] != list(run.argv):
        return f"{run.expdir} holds a run with other settings ({RECORD}); remove it, or choose another folder with -p"
    return ""


def _run(run: SweepRun, context: BaseContext) -> str:
    run.record(done=False)
    log = run.expdir / "log.txt"
    process = context.Process(target=_command, args=(run.argv, log))  # type: ignore[attr-defined]
    process.start()
    try:
        with _terminated_too(process):
            process.join()
    except KeyboardInterrupt:
        process.join()  # the terminal has interrupted it as well, or it was terminated: let it save
        raise
    if process.exitcode:
        return f"ended with code {process.exitcode}, see {log}"
    run.record(done=True)
    return ""


@contextmanager
def _terminated_too(process: BaseProcess) -> Iterator[None]:
    """Hand SIGTERM (job managers) on to a process, and stop as if interrupted."""

    def hand_on(number: int, frame: object) -> None:
        process.terminate()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, hand_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _context() -> BaseContext:
    """Return processes that fork from one in which S3PRL is imported, where the system can."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["s3prl_aalbert.toolkit.warm"])
    return context


def _command(argv: Sequence[str], log: Path) -> None:
    """Be `python -m s3prl_aalbert ARGV` with its output in a file."""
    with log.open("a", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    sys.argv = ["aalbert", *argv]
    print(" ".join(sys.argv), flush=True)
    runpy.run_module("s3prl_aalbert", run_name="__main__", alter_sys=True)
