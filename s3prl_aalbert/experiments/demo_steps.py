"""Runs the steps of the demo: ``aalbert`` commands in processes of their own, with logs, progress bars and Ctrl-C."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.pretrain.signals import Stopped, StopSignal
from s3prl_aalbert.printable import printable_lines

GRACE_SECONDS = {"pretrain": 60.0}
"""Seconds that a command may take to end after Ctrl-C, in which pre-training saves its state."""
OTHER_GRACE_SECONDS = 3.0
POLL_SECONDS = 0.1
_BAR = re.compile(rb"(?:overall|pre-training):\s+\d+%\|[^|]*\|\s*(\d+)/(\d+) \[([^\]\r\n]*)")
"""The bars of S3PRL's training and of pre-training, as tqdm writes them: step, steps, times and speed."""
_TAIL_BYTES = 8192


@dataclass(frozen=True)
class Step:
    """One command of the demo."""

    name: str
    argv: tuple[str, ...]
    """Arguments of `aalbert`."""
    writes: Path
    """File that exists once the step is done."""


@dataclass
class _Running:
    """A step with a running process."""

    step: Step
    title: str
    log: Path
    process: subprocess.Popen[bytes]
    bar: tqdm
    begun: float = field(default_factory=time.monotonic)

    def show(self) -> None:
        """Update the bar from the log."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            found = _BAR.findall(file.read())
        if found:
            done, total, rest = found[-1]
            self.bar.n, self.bar.total = int(done), int(total)
            self.bar.set_postfix_str(rest.decode("utf-8", "replace").partition(", ")[2], refresh=False)
        self.bar.refresh()

    def kill(self) -> None:
        """End the step and all its processes."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def log_of(step: Step, output: Path) -> Path:
    """Return the log file of a step."""
    return output / "logs" / f"{re.sub('[^A-Za-z0-9]+', '_', step.name)}.log"


class StepRunner:
    """Runs the demo's steps and counts them.

    Args:
        output: the demo's folder.
        total: number of steps, for the count on the screen.
        stop: records a signal that asks the demo to stop.
    """

    def __init__(self, output: Path, total: int, stop: StopSignal):
        self.output, self.total, self.stop = output, total, stop
        self.number = 0

    def title(self, name: str) -> str:
        """Count a step and return its name with the count."""
        self.number += 1
        return f"[{self.number}/{self.total}] {name}"

    def run(self, steps: Sequence[Step], together: int = 1) -> None:
        """Run commands that do not depend on each other; skip what an earlier demo has done.

        Args:
            steps: the commands.
            together: number of commands at a time, which share the processor's cores.

        Raises:
            AalbertError: one failed; it is raised when the running ones have ended.
            KeyboardInterrupt: Ctrl-C, or another signal (``Stopped``); all have ended.
        """
        waiting, failed = list(steps), None
        running: list[_Running] = []
        with self.stop.deferred():
            try:
                while (waiting and not failed) or running:
                    while waiting and not failed and len(running) < together:
                        running += self._begin(waiting.pop(0), together)
                    for each in [each for each in running if each.process.poll() is not None]:
                        running.remove(each)
                        failed = failed or self._end(each)
                    self._check_stopped(running)
                    for each in running:
                        each.show()
                    time.sleep(POLL_SECONDS)
            finally:
                for each in running:
                    each.kill()
                    each.bar.close()
        if failed:
            raise failed

    def _begin(self, step: Step, together: int) -> list[_Running]:
        """Start a step, unless it is done."""
        title, log = self.title(step.name), log_of(step, self.output)
        done = log.with_suffix(".done")
        if done.is_file() and done.read_text(encoding="utf-8") == _shown(step) and step.writes.exists():
            say(f"{title}: done already")
            return []
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TQDM_MININTERVAL": "0.5"}
        if together > 1:
            environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // together))
        with log.open("ab") as file:  # appended to the log of an interrupted run
            file.write(f"{_shown(step)}\n".encode())
            file.flush()
            process = subprocess.Popen(
                [sys.executable, "-m", "s3prl_aalbert", *step.argv],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        form = "{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt}{postfix}"
        hidden = True if os.environ.get("TQDM_DISABLE") else None  # None: hidden without a terminal
        bar = tqdm(total=1, desc=title, bar_format=form, dynamic_ncols=True, leave=False, disable=hidden)
        if bar.disable:
            say(f"{title} ...")
        return [_Running(step, title, log, process, bar)]

    def _end(self, ended: _Running) -> AalbertError | None:
        """Print how a step ended, and return its error."""
        ended.bar.close()
        if ended.process.returncode:
            if self.stop.received is not None:
                return None
            tail = ended.log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
            say(printable_lines("\n".join(tail)), sys.stderr)
            return AalbertError(
                f'step "{ended.step.name}" ended with code {ended.process.returncode}; above is the end of {ended.log}'
            )
        ended.log.with_suffix(".done").write_text(_shown(ended.step), encoding="utf-8")
        say(f"{ended.title}: done in {time.monotonic() - ended.begun:.0f} s")
        return None

    def _check_stopped(self, running: list[_Running]) -> None:
        """End all steps if a signal arrived; pre-training saves its state first."""
        if self.stop.received is None:
            return
        for each in running:  # each process has a session of its own, which Ctrl-C does not reach
            each.process.send_signal(signal.SIGINT)
        for each in running:
            each.bar.close()
            grace = GRACE_SECONDS.get(each.step.argv[0], OTHER_GRACE_SECONDS)
            if grace > OTHER_GRACE_SECONDS:
                say(f"{each.title}: stops and saves ...")
            deadline = time.monotonic() + grace
            while each.process.poll() is None and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
            each.kill()
        running.clear()
        if self.stop.received == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(signal.Signals(self.stop.received).name)


def _shown(step: Step) -> str:
    return shlex.join(["aalbert", *step.argv])


def say(text: str, file: TextIO | None = None) -> None:
    """Print a line above the bars."""
    tqdm.write(text, file=file or sys.stdout)
    sys.stdout.flush()
