"""Signals that ask a run to stop. Imports nothing heavy: it stands before anything else does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# SIGUSR1, SIGUSR2 and SIGXCPU are what batch systems send some minutes before the time is up; SIGHUP ends a terminal.
OF_BATCH_SYSTEMS = tuple(
    signal.Signals[name]
    for name in ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGHUP")
    if name in signal.Signals.__members__
)
TAKEN_EVEN_IF_IGNORED = (signal.SIGINT, signal.SIGTERM)
"""A shell without job control starts background jobs with SIGINT ignored; nohup means its ignoring of SIGHUP."""


def not_ignored(numbers: Sequence[signal.Signals]) -> list[signal.Signals]:
    """Return the signals without those that are ignored on purpose, such as SIGHUP under nohup."""
    return [n for n in numbers if n in TAKEN_EVEN_IF_IGNORED or signal.getsignal(n) is not signal.SIG_IGN]


class Stopped(KeyboardInterrupt):
    """A batch system asked for an end before there was anything to save."""


class StopSignal:
    """Takes signals that ask for an end, until ``restore``.

    The first one interrupts at once, for there is nothing to save yet; inside ``deferred`` it is remembered in
    ``received``, so that the loop stops between two steps. A second one always interrupts at once.
    Outside the main thread, where Python refuses to set handlers, the signals are left as they are.
    """

    def __init__(self, numbers: Sequence[signal.Signals] = (signal.SIGINT, *OF_BATCH_SYSTEMS)) -> None:
        self.received: int | None = None
        self._deferred = False
        self._process = os.getpid()
        taken = not_ignored(numbers) if threading.current_thread() is threading.main_thread() else []
        self._previous = {number: signal.signal(number, self._handle) for number in taken}

    def __enter__(self) -> StopSignal:
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Remember the first signal, for as long as this lasts."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _handle(self, number: int, frame: object) -> None:
        if os.getpid() != self._process:  # a process that this one has forked has nothing to save
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        again, self.received = self.received is not None, number
        if again or (number == signal.SIGINT and not self._deferred):
            raise KeyboardInterrupt
        if not self._deferred:
            raise Stopped(signal.Signals(number).name)

    def restore(self) -> None:
        """Give the signals back to whoever handled them before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
