"""Processes that do one piece of work whenever they are told to, so that systems take turns in one run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

MEASURED = "MEASURED "
"""Begins the line of a worker's answer; what else it prints is passed over."""


class Worker:
    """A process.

    Args:
        arguments: of this Python: a script and its options; the script calls ``serve``.
    """

    def __init__(self, arguments: Sequence[str]):
        command = [sys.executable, *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, count: int) -> dict[str, float]:
        """Do ``count`` pieces of work and return what was measured."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(MEASURED):
                return json.loads(line.removeprefix(MEASURED))
        raise RuntimeError(f"{self.process.args} ended with code {self.process.wait()}")

    def end(self) -> None:
        """Wait for its end."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def serve(work: Callable[[int], Mapping[str, float]]) -> None:
    """Answer ``Worker.ask`` until nothing more is asked."""
    for line in sys.stdin:
        print(MEASURED + json.dumps(work(int(line))), flush=True)
