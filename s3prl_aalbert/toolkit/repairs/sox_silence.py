"""SoX's effect ``silence``: cuts silence from the beginning, and from the middle or the end (see ``sox_effects``).

Tests compare it with the program SoX after ``gain``, as in S3PRL. Directly on a 16-bit file SoX rounds the loudness to
16 bits. Legend: C channels, S samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

_WINDOWS_PER_SECOND = 50  # loudness is the root mean square of the last 20 ms


@dataclass(frozen=True)
class Silence:
    """``silence 1 DURATION THRESHOLD% [-1 DURATION THRESHOLD%]``; durations in samples."""

    start_samples: int
    """The recording begins at the first sound of at least this length."""
    start_threshold: float
    """Fraction of full scale above which there is sound."""
    stop_samples: int | None = None
    """Silence of at least this length is cut; None keeps everything after the beginning."""
    stop_threshold: float = 0.0


def parse(arguments: list[str], rate: int) -> Silence:
    """Read the effect's arguments.

    Raises:
        ValueError, IndexError: the arguments have another form than these two.
    """
    start_periods, start_seconds, start_threshold, *stop = arguments
    if start_periods != "1" or (stop and (stop[0] != "-1" or len(stop) != 3)):
        raise ValueError("only one period of sound, and all silence after it")
    return Silence(
        round(float(start_seconds) * rate),
        _fraction(start_threshold),
        round(float(stop[1]) * rate) if stop else None,
        _fraction(stop[2]) if stop else 0.0,
    )


def _fraction(threshold: str) -> float:
    if not threshold.endswith("%"):
        raise ValueError("only thresholds in percent")
    return float(threshold[:-1]) / 100


def kept(wav: np.ndarray, rate: int, silence: Silence) -> np.ndarray:
    """Return which samples stay.

    Args:
        wav: (C, S) in [-1, 1].
        rate: in Hz.
        silence: what to cut.

    Returns:
        (S,) bool.
    """
    keep = np.zeros(wav.shape[1], dtype=bool)
    position = 0
    while position < wav.shape[1]:
        loud = _loudness(wav[:, position:], rate)  # loudness starts anew after a cut
        begin = _first_run(loud > silence.start_threshold, silence.start_samples)
        if begin is None:
            break
        position += begin
        if silence.stop_samples is None:
            keep[position:] = True
            break
        quiet = loud[begin:] <= silence.stop_threshold
        # The sound that marked the beginning is kept without another check.
        quiet[: silence.start_samples] = False
        end = _first_run(quiet, silence.stop_samples)
        if end is None:  # a silence that the end cuts short stays, since sound might have followed
            keep[position:] = True
            break
        keep[position : position + end] = True
        position += end + silence.stop_samples
    return keep


def _loudness(wav: np.ndarray, rate: int) -> np.ndarray:
    """Return the louder channel's root mean square over the last window, (S,), silence before the first sample."""
    window = rate // _WINDOWS_PER_SECOND
    power = np.cumsum(np.square(wav, dtype=np.float64), axis=1)  # (C, S)
    power[:, window:] -= power[:, :-window].copy()
    return np.asarray(np.sqrt(np.maximum(power, 0.0).max(axis=0) / window))


def _first_run(flags: np.ndarray, length: int) -> int | None:
    """Return where the first run of at least ``length`` true values begins."""
    return next((start for start, stop in _runs(flags) if stop - start >= length), None)


def _runs(flags: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of each run of true values."""
    padded = np.concatenate([[False], flags, [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    yield from list(pairwise(edges.tolist()))[::2]
