"""Decodes many files at once, in their order, to check them and to fill the audio cache."""

from __future__ import annotations

import itertools
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import SAMPLE_RATE
from s3prl_aalbert.pretrain.utterances import UNKNOWN
from s3prl_aalbert.speech.reading import SILENT_REASON, AudioError, is_silent, read_audio
from s3prl_aalbert.speech.sixteen_bit import quantise

logger = logging.getLogger(__name__)

CHUNK = 16
"""Files per task of a worker."""
FEW = 64
"""Up to this many files are decoded without workers and without a progress bar."""


class Decoded(NamedTuple):
    """What a file holds."""

    samples: int
    """At 16 kHz; UNKNOWN with a fault."""
    audio: np.ndarray | None
    """(samples,) int16, if it was asked for."""
    fault: str | None
    """Why it cannot be used."""
    notes: tuple[str, ...] = ()
    """What is to be counted and logged."""


def decode_all(paths: Sequence[str], workers: int | None, wants_audio: Callable[[], bool]) -> Iterator[Decoded]:
    """Yield what each file holds, in order, with a progress bar.

    Args:
        paths: files.
        workers: processes; None is one per core.
        wants_audio: returns whether the samples are wanted as well; it is called for every few files.

    Raises:
        AalbertError: a worker was killed; the message names the files that it may have been decoding.
    """
    workers = workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()) or 1
    if len(paths) <= FEW or workers == 1:
        results: Iterable[Decoded] = (_decode(path, wants_audio()) for path in paths)
    else:
        results = _decode_in_processes(paths, workers, wants_audio)
    if len(paths) > FEW:
        logger.info("checking %d audio files by decoding them, with %d processes", len(paths), workers)
    hidden = len(paths) <= FEW or "TQDM_DISABLE" in os.environ or None  # None: shown on a terminal
    yield from tqdm(results, total=len(paths), desc="checking audio", unit="file", disable=hidden)


def _decode_in_processes(paths: Sequence[str], workers: int, wants_audio: Callable[[], bool]) -> Iterator[Decoded]:
    # Few chunks are under way at a time, because finished ones hold decoded audio in memory.
    with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        under_way: deque[tuple[Sequence[str], Future[list[Decoded]]]] = deque()
        chunks = (paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK))
        try:
            while True:
                for chunk in itertools.islice(chunks, 3 * workers - len(under_way)):
                    under_way.append((chunk, pool.submit(_decode_chunk, chunk, wants_audio())))
                if not under_way:
                    return
                oldest, future = under_way.popleft()
                yield from future.result()
        except BrokenProcessPool as error:
            raise AalbertError(
                f"a decoding process was killed (out of memory, or a crash of the decoder) at {oldest[0]} or one of "
                f"the next {CHUNK * workers} files; prepare_workers: 1 finds out which"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _decode_chunk(paths: Sequence[str], want_audio: bool) -> list[Decoded]:
    return [_decode(path, want_audio) for path in paths]


def _decode(path: str, want_audio: bool) -> Decoded:
    notes: list[str] = []
    try:
        wav = read_audio(path, SAMPLE_RATE, notes)
    except AudioError as error:
        return Decoded(UNKNOWN, None, " ".join(str(error).removeprefix(f"{path}: ").split()))
    if is_silent(wav):
        return Decoded(UNKNOWN, None, SILENT_REASON)
    return Decoded(len(wav), quantise(wav) if want_audio else None, None, tuple(notes))
