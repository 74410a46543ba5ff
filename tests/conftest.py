"""Fixtures shared by all tests: a tiny model, synthetic waveforms, and the real speech where it is at hand."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from s3prl_aalbert.checkpoint.release import save_release
from s3prl_aalbert.model.config import AudioConfig, ModelConfig, TransformerConfig
from s3prl_aalbert.model.objective import MaskedPrediction

REPOSITORY = Path(__file__).resolve().parents[1]

# A shell without job control starts background jobs with Ctrl-C ignored; programs that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the checkout's root."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real speech that AALBERT_SHARED names, or skip."""
    named = os.environ.get("AALBERT_SHARED")
    if not named or not Path(named).is_dir():
        pytest.skip(f"real speech: AALBERT_SHARED is {named or 'not set'}, expected its folder")
    return Path(named).resolve()


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    """Return a model that runs in milliseconds: 3 shared layers of width 32, 20 log-mel + delta, 30 ms tokens."""
    transformer = TransformerConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, share_layer=True
    )
    return ModelConfig(transformer=transformer, audio=AudioConfig(num_mel_bins=20))


Voice = Callable[..., Tensor]


@pytest.fixture(scope="session")
def voice() -> Voice:
    """Return ``voice(num_samples, seed=0, amplitude=0.5)``: a vowel-like waveform (num_samples,) at 16 kHz."""

    def synthesise(num_samples: int, seed: int = 0, amplitude: float = 0.5) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        pitch = 90 + 160 * float(torch.rand(1, generator=generator))
        time = torch.arange(num_samples, dtype=torch.float64) / 16000
        weights = torch.rand(20, generator=generator)
        wave = sum(
            float(w) * torch.sin(2 * math.pi * pitch * (k + 1) * time + k * k) / (k + 1) for k, w in enumerate(weights)
        )
        syllables = 0.55 + 0.45 * torch.sin(2 * math.pi * (3 + seed % 3) * time)
        noise = 0.03 * torch.randn(num_samples, generator=generator, dtype=torch.float64)
        wave = wave * syllables + noise
        return (amplitude * wave / wave.abs().max()).float()

    return synthesise


@pytest.fixture(scope="session")
def awkward_wavs(voice: Voice) -> dict[str, Tensor]:
    """Return waveforms (num_samples,) by name that differ as much as users' files do."""
    noise = torch.Generator().manual_seed(7)
    return {
        "one second": voice(16000, 1),
        "one sample": torch.tensor([0.1]),
        "100 samples": voice(100, 2),
        "20 ms": voice(320, 3),
        "one token": voice(480, 4),
        "one sample more": voice(481, 5),
        "loud": voice(24001, 6, amplitude=1.0),
        "clipped": voice(12345, 8, amplitude=40.0).clamp(-1, 1),
        "quiet": voice(20000, 9, amplitude=1e-4),
        "near-silence": 1e-5 * torch.randn(30000, generator=noise),
        "deeper near-silence": 1e-6 * torch.randn(7000, generator=noise),
        "last bit": torch.randint(-1, 2, (9000,), generator=noise) / 32768,
        "digital silence": torch.zeros(16000),
        "half silence": torch.cat([voice(8000, 10), torch.zeros(8000)]),
    }


@pytest.fixture(scope="session")
def uneven_wavs(voice: Voice, awkward_wavs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a few waveforms by name of which one lasts 37 seconds."""
    few = ("one second", "100 samples", "20 ms", "near-silence", "digital silence")
    return {"37 seconds": voice(37 * 16000, 11)} | {name: awkward_wavs[name] for name in few}


@pytest.fixture(scope="session")
def tiny_release(tiny_config: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a release folder of the tiny model with random weights; read it only."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("release")
    save_release(folder, tiny_config, MaskedPrediction(tiny_config).state_dict(), "# A tiny model\n", {"step": 7})
    return folder
