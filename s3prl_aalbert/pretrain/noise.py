"""Noise in the model's input, never in its target: the model needs a token's neighbours to clean it.

After WavLM (arXiv 2110.13900): another utterance of the corpus, here also white noise, at a random level.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

OTHER_SPEECH = 0.5
"""Share of the noise that is another utterance; the rest is white."""


def add_noise(
    wav: np.ndarray, snr_db: tuple[float, float], other_speech: Callable[[], np.ndarray], generator: torch.Generator
) -> np.ndarray:
    """Mix noise into an utterance.

    Args:
        wav: (num_samples,) float32.
        snr_db: smallest and largest signal-to-noise ratio; it is drawn between them.
        other_speech: returns another utterance (any length), which is repeated or cut to fit.
        generator: source of all randomness.

    Returns:
        (num_samples,) float32; ``wav`` as it is if either of them is silent.
    """
    kind, level = torch.rand(2, generator=generator).tolist()
    if kind < OTHER_SPEECH:
        noise = np.resize(other_speech(), len(wav))
    else:
        noise = torch.randn(len(wav), generator=generator).numpy()
    signal_power, noise_power = np.mean(np.square(wav, dtype=np.float64)), np.mean(np.square(noise, dtype=np.float64))
    if not noise_power:
        return wav
    snr = 10 ** ((snr_db[0] + level * (snr_db[1] - snr_db[0])) / 10)
    return wav + noise * np.float32(np.sqrt(signal_power / noise_power / snr))
