"""The front end of the code behind the paper, by librosa itself.

That code called librosa 0.7, which mirrored the edges of a waveform; today's does so with ``pad_mode="reflect"``.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s3prl_aalbert.model.acoustics import Acoustics, slaney_filters
from s3prl_aalbert.model.config import AudioConfig, load_model_config

numba = pytest.importorskip("numba", reason="librosa needs it")
librosa = pytest.importorskip("librosa", reason="librosa is the reference of this front end: pip install librosa")


def _uncompiled(*arguments: Any, **_: object) -> Any:
    """Stand for a decorator of numba, with or without arguments."""
    return arguments[0] if len(arguments) == 1 and callable(arguments[0]) else lambda function: function


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """Import the parts of librosa that are used here; it would compile for 40 seconds what these tests never call."""
    with pytest.MonkeyPatch.context() as patch:
        for decorator in ("jit", "vectorize", "guvectorize", "stencil"):
            patch.setattr(numba, decorator, _uncompiled)
        librosa.feature.melspectrogram, librosa.feature.delta, librosa.stft  # noqa: B018


ORIGINAL = load_model_config("original").audio
FRAMING = {"n_fft": 2048, "hop_length": 200, "win_length": 800, "pad_mode": "reflect"}


def normalised(features: np.ndarray) -> np.ndarray:
    """Return (dim, F) as (F, dim) of mean 0 and variance 1."""
    return ((features - features.mean(1, keepdims=True)) / (features.std(1, keepdims=True) + 1e-16)).T


def librosa_input(wave: np.ndarray, delta: bool = True) -> np.ndarray:
    """Return (F, 80 or 160): log-mel, with its delta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of waveforms shorter than the transform
        log_mel = np.log(librosa.feature.melspectrogram(y=wave, sr=16000, n_mels=80, **FRAMING) + 1e-6)
    return normalised(np.concatenate([log_mel, librosa.feature.delta(log_mel)]) if delta else log_mel)


def librosa_target(wave: np.ndarray) -> np.ndarray:
    """Return (F, 1025): decibels of the pre-emphasised waveform, cut to [0, 1]."""
    emphasised = np.concatenate([wave[:1], wave[1:] - 0.97 * wave[:-1]])
    amplitude = np.abs(librosa.stft(emphasised, **FRAMING))
    return normalised(np.clip((20 * np.log10(np.maximum(1e-5, amplitude)) - 20 + 100) / 100, 0, 1))


def compute(wave: Tensor, audio: AudioConfig = ORIGINAL, double: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return input (F, dim) and target (F, 1025)."""
    acoustics = Acoustics(audio, 1)
    features = (acoustics.double() if double else acoustics)(wave.unsqueeze(0), torch.tensor([len(wave)]), True)
    assert features.target is not None
    return features.tokens[0].numpy(), features.target[0, :, 0].numpy()


@pytest.mark.parametrize("num_samples", [16000, 15999, 16200, 7777, 4001])
def test_the_features_are_librosas(num_samples: int, voice) -> None:
    wave = voice(num_samples, 1)
    found, _ = compute(wave)
    expected = librosa_input(wave.numpy())
    assert found.shape == expected.shape == (num_samples // 200 + 1, 160)
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("num_samples", [12345, 2001])
def test_in_float64_features_and_target_are_librosas_still_closer(num_samples: int, voice) -> None:
    wave = voice(num_samples, 2)
    found, target = compute(wave.double(), double=True)
    assert found.dtype == target.dtype == np.float64
    assert np.abs(found - librosa_input(wave.double().numpy())).max() < 1e-5
    assert np.abs(target - librosa_target(wave.double().numpy())).max() < 1e-6


def test_the_target_is_librosas(voice) -> None:
    """The run computed it in float64, as scipy's filter returns it; float32 differs where a bin is nearly silent."""
    wave = voice(16000, 3)
    _, found = compute(wave)
    assert np.abs(found - librosa_target(wave.double().numpy())).max() < 5e-3
    assert np.abs(found - librosa_target(wave.double().numpy())).mean() < 1e-4


def test_without_delta(voice) -> None:
    wave = voice(5000, 4)
    found, _ = compute(wave, replace(ORIGINAL, delta=False))
    assert np.abs(found - librosa_input(wave.numpy(), delta=False)).max() < 1e-4


@pytest.mark.parametrize("frames", range(1, 9))
def test_fewer_frames_than_librosas_delta_takes_have_the_slope_of_them_all(frames: int, voice) -> None:
    wave = voice(200 * frames - 1, 5)
    audio = replace(ORIGINAL, cmvn="none")
    found, _ = compute(wave.double(), audio, double=True)
    assert len(found) == frames
    for log_mel, delta in zip(found[:, :80].T, found[:, 80:].T, strict=True):
        slope = np.polyfit(np.arange(frames), log_mel, 1)[0] if frames > 1 else 0
        np.testing.assert_allclose(delta, slope, atol=1e-9)


def test_an_utterance_is_the_same_alone_and_in_any_batch(voice) -> None:
    wavs = [voice(n, n) for n in (9000, 2401, 1700, 1599, 300, 1)]
    lengths = torch.tensor([len(wave) for wave in wavs])
    acoustics = Acoustics(ORIGINAL, 3).double()
    batch = acoustics(pad_sequence(wavs, batch_first=True), lengths, True)
    for row, wave in enumerate(wavs):
        alone = acoustics(wave.unsqueeze(0), lengths[row : row + 1], True)
        tokens = int(alone.lengths)
        assert int(batch.lengths[row]) == tokens and not batch.tokens[row, tokens:].any()
        torch.testing.assert_close(batch.tokens[row, :tokens], alone.tokens[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(batch.target[row, :tokens], alone.target[0], atol=1e-6, rtol=0)


def test_the_filters_are_librosas() -> None:
    for n_fft, bins in ((2048, 80), (400, 40), (512, 128)):
        found = slaney_filters(AudioConfig(n_fft=n_fft, num_mel_bins=bins)).numpy()
        np.testing.assert_allclose(found, librosa.filters.mel(sr=16000, n_fft=n_fft, n_mels=bins).T, atol=1e-9)


def test_digital_silence_is_zero() -> None:
    found, target = compute(torch.zeros(16000))
    assert not found.any() and not target.any()
