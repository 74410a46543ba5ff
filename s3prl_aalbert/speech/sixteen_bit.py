"""Stores speech as 16-bit samples with one scale, which is exact for 16-bit recordings."""

from __future__ import annotations

import numpy as np

SCALE = 32768
"""A power of two, so that conversion between integers and floats is exact."""


def quantise(wav: np.ndarray) -> np.ndarray:
    """Return float samples (S,) in [-1, 1] as int16 (S,)."""
    return np.round(wav * SCALE).clip(-SCALE, SCALE - 1).astype(np.int16)


def as_float(samples: np.ndarray) -> np.ndarray:
    """Return int16 samples (S,) as float32 (S,) in [-1, 1]."""
    wav = samples.astype(np.float32)
    wav *= 1 / SCALE
    return wav
