"""Multiply-accumulate operations (MACs) of one utterance, counted from the configuration alone.

Matrix products and convolutions count, as in SUPERB's profiling tool. The Fourier transform and element-wise operations
(normalisation, activation, softmax) do not. Sharing weights saves no MACs.

Legend: F frames, T tokens, D hidden size, A attention width (heads * head_dim), I inner width, K spectrogram bins.
"""

from __future__ import annotations

from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.model.sub_network import Architecture, full_architecture

FEATURES = "acoustic features"
EMBEDDING = "input embedding"
PROJECTIONS = "attention projections"
MAPS = "attention maps"
FEED_FORWARD = "feed-forward"
MODULES = (FEATURES, EMBEDDING, PROJECTIONS, MAPS, FEED_FORWARD)
"""The parts of the representation model, in the order in which they are computed."""
DELTA_TAPS = {"aalbert": 5, "s3prl": 5, "librosa": 9}
"""Width of the regression window for deltas, by front end."""


def module_macs(config: ModelConfig, num_samples: int, arch: Architecture | None = None) -> dict[str, int]:
    """Return the MACs of one unpadded utterance of ``num_samples`` samples, by module (keys: ``MODULES``).

    Args:
        config: the model.
        num_samples: length at the configured rate, at least 1.
        arch: a sub-network; None is the whole model.
    """
    arch = arch or full_architecture(config.transformer)
    tokens = config.num_tokens(num_samples)
    projections, maps, feed_forward = (sum(parts) for parts in zip(*_layers(config, arch, tokens), strict=True))
    return {
        FEATURES: _features(config, num_samples),
        EMBEDDING: tokens * _embedding(config, arch),
        PROJECTIONS: projections,
        MAPS: maps,
        FEED_FORWARD: feed_forward,
    }


def encoder_macs(config: ModelConfig, num_samples: int, arch: Architecture | None = None) -> int:
    """Return the MACs of input embedding and encoder: all but the acoustic features."""
    macs = module_macs(config, num_samples, arch)
    return sum(macs.values()) - macs[FEATURES]


def _features(config: ModelConfig, num_samples: int) -> int:
    audio = config.audio
    frames = audio.num_frames(num_samples)
    delta = DELTA_TAPS[audio.front_end] * audio.num_mel_bins if audio.delta else 0
    return frames * (audio.spectrum_bins * audio.num_mel_bins + delta)  # F * (K * mel bins + deltas)


def _embedding(config: ModelConfig, arch: Architecture) -> int:
    transformer = config.transformer
    narrow = transformer.embedding_size
    projection = config.input_dim * arch.hidden_size
    if narrow:
        projection = config.input_dim * narrow + narrow * arch.hidden_size
    if transformer.positions != "convolutional":
        return projection
    # Each output channel sees the channels of its group; the last group of a sub-network is filled with zeros.
    group = transformer.conv_position_group_size
    return projection + -(-arch.hidden_size // group) * group**2 * transformer.conv_position_kernel


def _layers(config: ModelConfig, arch: Architecture, tokens: int) -> list[tuple[int, int, int]]:
    """Return (projections, maps, feed-forward) of each layer."""
    size, head_dim = arch.hidden_size, config.transformer.head_dim
    counts = []
    for layer in arch.layers(config.transformer):
        width = layer.num_attention_heads * head_dim  # A
        # A layer that reuses a map has neither query nor key and forms no scores.
        projections = tokens * size * width * (2 if layer.reuses else 4)
        maps = tokens * tokens * width * (1 if layer.reuses else 2)
        counts.append((projections, maps, tokens * size * layer.intermediate_size * 2))
    return counts
