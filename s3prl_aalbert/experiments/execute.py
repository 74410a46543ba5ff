"""Runs the cells of a sweep, each in a process of its own that starts with S3PRL already imported.

A finished run is skipped, an interrupted one is resumed, and a failed one is reported and repeated the next time.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
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

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.experiments.grid import RECORD, Sweep, SweepRun
from s3prl_aalbert.locking import FolderInUse, locked
from s3prl_aalbert.pretrain.signals import OF_BATCH_SYSTEMS, Stopped, not_ignored
from s3prl_aalbert.printable import printable
from s3prl_aalbert.speech.finding import existing_folders

logger = logging.getLogger(__name__)
LOG = "log.txt"
SHOWN = 6
"""Largest number of names in a log message."""


def check_data(sweep: Sweep, runs: Sequence[SweepRun], given: str | None) -> None:
    """Refuse a missing folder of speech once, instead of letting every remaining run fail.

    Args:
        sweep: the sweep; ``runs`` are the chosen runs of it.
        given: ``--data``, if given.
    """
    folder = given or sweep.data
    if folder is None or all(run.done for run in runs):
        return
    try:
        existing_folders([folder])
    except AalbertError as error:
        message = f"--data {error}" if given else f"{error}; the sweep expects its speech there without --data"
        raise AalbertError(message) from error


def to_do(runs: Sequence[SweepRun], every: Sequence[SweepRun]) -> list[SweepRun]:
    """Return the runs that are not done, and those that need one of these, which may give them other weights.

    Args:
        runs: the chosen runs.
        every: these and others, each after the one that it needs.
    """
    names: set[str] = set()
    for run in every:
        if run.needs in names or not run.done:
            names.add(run.name)
    return [run for run in runs if run.name in names]


def log_runs(runs: Sequence[SweepRun]) -> None:
    """Log the number of unfinished runs and the first names; ``--dry-run`` shows the command of each."""
    names = [run.name for run in to_do(runs, runs)]
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    logger.info(printable(f"{len(names)} of {len(runs)} runs to do{': ' if names else ''}{shown}"))


def execute(runs: Sequence[SweepRun], every: Sequence[SweepRun], jobs: int = 1) -> list[SweepRun]:
    """Run the unfinished runs in order, and return those that failed; each has a log file.

    Args:
        runs: the chosen runs.
        every: all runs of the sweep, with those that the chosen ones need.
        jobs: number of runs at a time, which share the processor's threads.
    """
    waiting = to_do(runs, runs)
    logger.info("%d runs, %d already done", len(runs), len(runs) - len(waiting))
    by_name = {run.name: run for run in every}
    context, failed = _context(), []
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 and "OMP_NUM_THREADS" not in os.environ else 0
    running: dict[SweepRun, BaseProcess] = {}
    with tqdm(total=len(waiting), unit="run", desc="sweep") as progress, _stopped_together(running):
        while waiting or running:
            run = _next(waiting, running) if len(running) < jobs else None
            problem = ""
            if run is None:  # all jobs are busy, or the waiting runs need one of them
                run, problem = _one_that_ended(running)
            elif not run.done:  # its pre-training may be the same again, or another sweep may have done it meanwhile
                problem = _obstacle(run, by_name)
                if not problem:
                    running[run] = _start(run, context, threads)
                    progress.set_postfix_str(", ".join(printable(each.name) for each in running))
                    continue
            progress.update()
            if problem:
                failed.append(run)
                progress.write(printable(f"{run.name}: {problem}"))
    return failed


def _next(waiting: list[SweepRun], running: dict[SweepRun, BaseProcess]) -> SweepRun | None:
    """Remove and return the first waiting run that does not need a waiting or running one; ``None`` if all do."""
    to_come = {run.name for run in (*waiting, *running)}
    for run in waiting:
        if run.needs not in to_come:
            waiting.remove(run)
            return run
    return None


def _obstacle(run: SweepRun, by_name: dict[str, SweepRun]) -> str:
    if run.needs and not by_name[run.needs].done:
        return f"needs {run.needs}, which is not done"
    if run.expdir.is_dir():
        try:
            with locked(run.expdir):
                pass
        except FolderInUse as error:
            return str(error)
    recorded = run.recorded()
    changes = run.changes(recorded) if recorded else []
    if recorded and changes and (recorded["done"] or _left_something(run.expdir)):
        return (
            f"{run.expdir} holds a run with other settings ({RECORD}: {', '.join(changes)}); "
            "remove it, or choose another folder with -p"
        )
    return ""


def _left_something(expdir: Path) -> bool:
    """Return whether a run has a checkpoint or results; without them its settings may change."""
    kinds = (".ckpt", ".safetensors", ".json", ".csv")
    return any(path.suffix in kinds and path.name != RECORD for path in expdir.iterdir())


def _start(run: SweepRun, context: BaseContext, threads: int) -> BaseProcess:
    run.record(done=False)
    process: BaseProcess = context.Process(  # type: ignore[attr-defined]
        target=_command, args=(run.argv, run.expdir / LOG, threads)
    )
    process.start()
    return process


def _one_that_ended(running: dict[SweepRun, BaseProcess]) -> tuple[SweepRun, str]:
    """Wait until a run ends, record that it is done, and return it with its error."""
    multiprocessing.connection.wait([process.sentinel for process in running.values()])
    run = next(run for run, process in running.items() if process.exitcode is not None)
    code = running.pop(run).exitcode
    if code:
        return run, f"ended with code {code}, see {run.expdir / LOG}"
    run.record(done=True)
    return run, ""


@contextmanager
def _stopped_together(running: dict[SweepRun, BaseProcess]) -> Iterator[None]:
    """Forward signals of batch systems to the running processes; after an interrupt, let them save their state.

    Raises:
        Stopped: after the first such signal, when the processes have ended.
        KeyboardInterrupt: Ctrl-C, or a second signal, which ends the processes at once.
    """
    received: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        received.append(number)
        for process in running.values():
            process.terminate()
        raise KeyboardInterrupt if len(received) > 1 else Stopped(signal.Signals(number).name)

    before = {number: signal.signal(number, hand_on) for number in not_ignored(OF_BATCH_SYSTEMS)}
    try:
        yield
    except KeyboardInterrupt:
        for process in running.values():
            process.join()  # the terminal has interrupted it too, or it was terminated
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _context() -> BaseContext:
    """Return a context whose processes fork from one with S3PRL imported, if the system supports it."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["s3prl_aalbert.toolkit.preload"])
    return context


def _command(argv: Sequence[str], log: Path, threads: int) -> None:
    """Run `python -m s3prl_aalbert ARGV` in this process, with output to a file and a number of threads."""
    with log.open("a", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    if threads:
        import torch

        torch.set_num_threads(threads)
    sys.argv = ["aalbert", *argv]
    print(" ".join(sys.argv), flush=True)
    runpy.run_module("s3prl_aalbert", run_name="__main__", alter_sys=True)
