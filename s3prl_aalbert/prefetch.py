"""Prepares the next items in a thread while the caller uses the present one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

T = TypeVar("T")


class _End:
    """Marks the end of a thread's items, with the error that ended it if there was one."""

    def __init__(self, error: BaseException | None):
        self.error = error


def prefetch(items: Iterator[T], ready: int) -> Generator[T]:
    """Yield ``items``; a thread produces them, stays ``ready`` items ahead, and ends with this generator."""
    waiting: queue.Queue[T | _End] = queue.Queue(ready)
    stop = threading.Event()

    # The timeout lets the thread notice that nobody reads any more.
    def put(item: T | _End) -> None:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return
            except queue.Full:
                pass

    def produce() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
        except BaseException as error:  # raised again where the items are used
            put(_End(error))
        else:
            put(_End(None))

    # A daemon thread does not keep the program alive if the generator is never closed.
    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        if threading.current_thread() is not thread:  # garbage collection may close this generator from any thread
            thread.join()
