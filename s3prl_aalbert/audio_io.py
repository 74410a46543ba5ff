"""Reading audio files: any format libsndfile knows, as mono float32 at one rate."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio

from s3prl_aalbert.errors import AalbertError

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".sph"})

LOWEST_RATE, HIGHEST_RATE = 1000, 768_000
"""Hz; anything else is a damaged header."""
UNCOMMON_RATE = 2000
"""A rate above this many times the greatest common divisor with ours is resampled by scipy."""


class AudioError(AalbertError):
    """A file that holds no usable audio."""


def read_audio(path: Path | str, sample_rate: int = 16000) -> np.ndarray:
    """Decode a whole file.

    Channels are averaged; another rate is resampled.

    Returns:
        (num_samples,) float32 in [-1, 1] at ``sample_rate`` Hz.

    Raises:
        AudioError: missing, corrupt, empty, or with samples that are not finite.
    """
    try:
        # By its bytes: soundfile itself cannot encode a name that is no UTF-8.
        name = os.fsencode(path) if os.name == "posix" else str(path)
        samples, rate = soundfile.read(name, dtype="float32", always_2d=True)  # (num_samples, channels)
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError, MemoryError) as error:
        # ValueError: a zero byte in the name; MemoryError: a damaged header that promises terabytes.
        reason = "no such file" if not Path(path).exists() else f"cannot be decoded ({error})"
        raise AudioError(f"{path}: {reason}") from error
    if samples.shape[0] == 0:
        raise AudioError(f"{path}: holds no samples")
    mono = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    if not np.isfinite(mono).all():
        raise AudioError(f"{path}: holds NaN or infinite samples")
    if rate != sample_rate:
        mono = _resampled(path, mono, rate, sample_rate)
        if not mono.size:
            raise AudioError(f"{path}: holds no samples at {sample_rate} Hz")
    return np.ascontiguousarray(mono, dtype=np.float32)


def _resampled(path: Path | str, mono: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioError(f"{path}: has a sample rate of {rate} Hz, expected {LOWEST_RATE} to {HIGHEST_RATE}")
    common = math.gcd(rate, sample_rate)
    if rate // common > UNCOMMON_RATE:
        # torchaudio's kernel grows with the product of both rates, to gigabytes for 16001 Hz; scipy's with the larger.
        from scipy.signal import resample_poly  # slow to import, seldom needed

        return resample_poly(mono, sample_rate // common, rate // common)
    return torchaudio.functional.resample(torch.from_numpy(mono), rate, sample_rate).numpy()
