"""Computes the cost of a sub-network: multiply-accumulates, parameters, or time on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from s3prl_aalbert.compress.extraction import extracted_config
from s3prl_aalbert.model.aalbert import AalbertModel, count_parameters
from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.model.encoder import Encoder, InputEmbedding
from s3prl_aalbert.model.macs import encoder_macs
from s3prl_aalbert.model.sub_network import Architecture

MACS_SECONDS, LATENCY_SECONDS = 10, 5
"""Length of the audio for each cost."""
TIMED = 5
"""Number of timed forward passes, whose median counts, after one that is not timed."""


def macs(config: ModelConfig, arch: Architecture) -> float:
    """Return the multiply-accumulates of the encoder for one second of audio."""
    return encoder_macs(config, MACS_SECONDS * config.audio.sample_rate, arch) / MACS_SECONDS


def params(config: ModelConfig, arch: Architecture) -> float:
    """Return the parameters of encoder and input block."""
    small = extracted_config(config, arch)
    with torch.device("meta"):  # counts shapes without memory
        parts = InputEmbedding(small.input_dim, small.transformer), Encoder(small.transformer)
    return float(sum(map(count_parameters, parts)))


def latency(config: ModelConfig, arch: Architecture) -> float:
    """Return the milliseconds of a forward pass on the CPU, with random weights."""
    model = AalbertModel(extracted_config(config, arch)).eval()
    samples = LATENCY_SECONDS * config.audio.sample_rate
    wavs, lengths = torch.randn(1, samples), torch.tensor([samples])
    times = []
    with torch.inference_mode():
        for _ in range(TIMED + 1):
            started = time.perf_counter()
            model(wavs, lengths)
            times.append(time.perf_counter() - started)
    return 1000 * sorted(times[1:])[TIMED // 2]


COSTS: dict[str, tuple[Callable[[ModelConfig, Architecture], float], str]] = {
    "macs": (macs, f"MACs per second (encoder, {MACS_SECONDS} s of audio)"),
    "params": (params, "parameters"),
    "latency": (latency, f"ms for {LATENCY_SECONDS} s of audio"),
}
"""Each cost with its function and its unit."""
