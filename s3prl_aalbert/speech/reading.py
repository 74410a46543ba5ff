"""Reads audio files of any format that libsndfile knows, as mono float32 at one rate.

Legend: C channels, S samples.
"""

from __future__ import annotations

import io
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import torch
import torchaudio

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.speech.containers import split_joined, with_length

logger = logging.getLogger(__name__)

LOWEST_RATE, HIGHEST_RATE = 1000, 768_000
"""Hz; a header with any other rate is damaged."""
UNCOMMON_RATE = 2000
"""scipy resamples a rate that is more than this many times its greatest common divisor with the target rate."""
UNKNOWN_LENGTH = 1 << 62
"""Samples; the header of a FLAC file that was written to a pipe states this many or more."""
BLOCK = 1 << 22
"""Samples read at once, so that a header that promises too many costs no memory."""
CANCELLED = 0.01
"""Channels whose mean has less than this share of their power cancel each other (20 dB)."""
LOUDEST = 8.0
"""Largest sample. Full scale is 1: decoders of lossy formats go a little beyond, 16-bit values saved as floats far."""
SILENT = 2.0**-15
"""Largest range of a silent recording: one step of 16 bits, above what lossy codecs make of zeros."""

SILENT_REASON = "is silent from beginning to end"


class AudioError(AalbertError):
    """A file that holds no usable audio."""


class SoundStream(soundfile.SoundFile):
    """Reads to the end whatever the header states; soundfile itself seeks after it reads, which such files refuse."""

    def seekable(self) -> bool:
        """Return False, so that soundfile does not seek."""
        return False

    def skip(self, count: int) -> int:
        """Skip ``count`` samples, or as many as there are, and return their number."""
        if self.frames < UNKNOWN_LENGTH:
            count = min(max(0, count), self.frames)
            return self.seek(count) if count else 0
        return len(self.read_all(most=max(0, count)))

    def read_all(self, dtype: str = "float32", most: int = -1) -> np.ndarray:
        """Return the samples (S, C) from the current position on, all or at most ``most``."""
        blocks: list[np.ndarray] = []
        remaining = self.frames - self.tell()
        remaining = remaining if most < 0 else min(most, remaining)
        while remaining > 0:
            block = self.read(min(BLOCK, remaining), dtype=dtype, always_2d=True)
            blocks.append(block)
            remaining = remaining - len(block) if len(block) else 0
        if len(blocks) == 1:
            return blocks[0]
        return np.concatenate(blocks) if blocks else np.zeros((0, self.channels), dtype)


def sound_streams(source: str | bytes | BinaryIO) -> Iterator[SoundStream]:
    """Yield the recordings of a file one after the other: several only for joined files.

    Args:
        source: a path or an open binary file.

    Raises:
        soundfile.SoundFileError, OSError: it cannot be opened.
    """
    for part in _parts(source):
        with SoundStream(part) as stream:
            yield stream


def _parts(source: str | bytes | BinaryIO) -> list[str | bytes | BinaryIO]:
    """Return what libsndfile opens: the file itself, or in memory its parts or its content with a corrected header."""
    opened = io.open(source, "rb") if isinstance(source, (str, bytes)) else None  # noqa: UP020, SIM115
    file: BinaryIO = opened or source  # type: ignore[assignment]
    try:
        start = file.tell()
        joined = split_joined(file)
        if not joined:
            file.seek(start)
            mended = with_length(file)
            joined = [] if mended is None else [mended]
        file.seek(start)
        return [io.BytesIO(part) for part in joined] or [source]
    finally:
        if opened:
            opened.close()


def length_of(source: str | bytes | BinaryIO) -> int:
    """Return the number of samples in a file from its header or, where that is unknown, by decoding it.

    Raises:
        soundfile.SoundFileError, OSError: it cannot be opened or decoded.
    """
    streams = sound_streams(source)
    return sum(each.frames if each.frames < UNKNOWN_LENGTH else len(each.read_all()) for each in streams)


def read_audio(path: Path | str, sample_rate: int = 16000, notes: list[str] | None = None) -> np.ndarray:
    """Decode a whole file.

    Channels are averaged; where they cancel each other, the loudest is taken. Another rate is resampled.

    Args:
        path: file.
        sample_rate: rate of the result in Hz.
        notes: collects remarks for the caller to count and report; None logs each kind once.

    Returns:
        (num_samples,) float32 in [-1, 1], apart from a codec's overshoot, at ``sample_rate`` Hz.

    Raises:
        AudioError: the file is missing, damaged or empty, or has samples that are not finite or far beyond [-1, 1].
    """
    try:
        streams = [(stream.read_all(), stream.samplerate) for stream in sound_streams(_system_name(path))]
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError, MemoryError) as error:
        # ValueError: a zero byte in the name; MemoryError: a damaged header that promises a million channels.
        raise AudioError(f"{path}: {_reason(path, error)}") from error
    if not any(len(samples) for samples, _ in streams):
        raise AudioError(f"{path}: holds no samples")
    mono = [_resampled(path, _mono(path, samples, notes), rate, sample_rate) for samples, rate in streams]
    wav = mono[0] if len(mono) == 1 else np.concatenate(mono)
    if not wav.size:
        raise AudioError(f"{path}: holds no samples at {sample_rate} Hz")
    return np.ascontiguousarray(wav, dtype=np.float32)


def is_silent(wav: np.ndarray) -> bool:
    """Return whether a waveform (S,) is constant to 16 bits, so that nothing was recorded."""
    return bool(np.ptp(wav) < SILENT) if wav.size else True


def header_of(path: Path) -> tuple[int, int] | None:
    """Return a file's sample rate (Hz) and number of samples; None where it cannot be opened."""
    name = _system_name(path)
    try:
        with soundfile.SoundFile(name) as file:
            return file.samplerate, length_of(name)
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError):
        return None


def _system_name(path: Path | str) -> str | bytes:
    # As bytes: soundfile cannot encode a name that is not UTF-8.
    return os.fsencode(path) if os.name == "posix" else str(path)


def _reason(path: Path | str, error: Exception) -> str:
    if not Path(path).exists():
        return "no such file"
    if Path(path).is_file() and not Path(path).stat().st_size:
        return "is empty (0 bytes)"
    return f"cannot be decoded ({getattr(error, 'error_string', error)})"


def _mono(path: Path | str, samples: np.ndarray, notes: list[str] | None) -> np.ndarray:
    """Return one channel (S,) of (S, C)."""
    if samples.shape[1] == 1:
        mono = samples[:, 0]
    else:
        mono = samples.mean(axis=1)
        power = np.square(samples, dtype=np.float64).sum(axis=0)  # (C,)
        if np.square(mono, dtype=np.float64).sum() < CANCELLED * power.mean():
            mono = samples[:, int(np.argmax(power))]
            note = "channels cancel each other, the loudest is taken"
            _log_once(note, str(path)) if notes is None else notes.append(note)
    if not np.isfinite(mono).all():
        raise AudioError(f"{path}: holds NaN or infinite samples")
    peak = float(np.abs(mono).max(initial=0))
    if peak > LOUDEST:
        raise AudioError(
            f"{path}: has samples up to {peak:g}, expected them within [-1, 1] (divide 16-bit ones by 32768)"
        )
    return mono


def _log_once(note: str, path: str) -> None:
    if note not in _LOGGED:
        _LOGGED.add(note)
        logger.warning("%s: %s; further files are not reported", path, note)


_LOGGED: set[str] = set()


def _resampled(path: Path | str, mono: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    if rate == sample_rate or not mono.size:
        return mono
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioError(f"{path}: has a sample rate of {rate} Hz, expected {LOWEST_RATE} to {HIGHEST_RATE}")
    common = math.gcd(rate, sample_rate)
    if rate // common > UNCOMMON_RATE:
        # torchaudio's kernel grows with the product of both rates, to gigabytes at 16001 Hz; scipy's with the larger.
        from scipy.signal import resample_poly  # slow to import, seldom needed

        return resample_poly(mono, sample_rate // common, rate // common)
    return torchaudio.functional.resample(torch.from_numpy(mono), rate, sample_rate).numpy()
