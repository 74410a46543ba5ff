"""The YAML of ``-g``: everything that shapes a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

from s3prl_aalbert.config_kinds import read_config
from s3prl_aalbert.yaml_config import (
    INVALID_YAML,
    ConfigError,
    find_config,
    from_dict,
    packaged_configs,
    read_yaml,
    shown,
    to_dict,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = [
    "INVALID_YAML",
    "AudioConfig",
    "ConfigError",
    "ModelConfig",
    "TaskConfig",
    "TransformerConfig",
    "find_config",
    "from_dict",
    "load_model_config",
    "packaged_configs",
    "read_config",
    "read_yaml",
    "reuse_problems",
    "shown",
    "to_dict",
]

SAMPLE_RATE = 16000
"""Hz; all audio is read at this rate."""
# No model comes near these limits. A typing error does, and would fill the memory or run for ever.
LARGEST_SIZE, MOST_LAYERS, MOST_NEIGHBOURS = 1 << 16, 1000, 16
Cmvn = Literal["utterance", "corpus", "none"]
Count = TypeVar("Count", int, "Tensor", "np.ndarray")
LARGEST_AUDIO = {"win_ms": 10_000, "hop_ms": 10_000, "n_fft": 1 << 20, "num_mel_bins": 10_000}


def samples_in(seconds: float) -> int:
    """Return the whole samples in a number of seconds, which may be infinite."""
    return int(min(seconds * SAMPLE_RATE, 1 << 62))


@dataclass(frozen=True)
class AudioConfig:
    """Waveform to input features and reconstruction target (paper section 3.1)."""

    sample_rate: int = SAMPLE_RATE
    """Hz; the only value, to which all audio is resampled when read."""
    win_ms: float = 25.0
    """Analysis window."""
    hop_ms: float = 10.0
    """Frame shift."""
    n_fft: int = 512
    """FFT size; the linear spectrogram has n_fft / 2 + 1 bins."""
    num_mel_bins: int = 80
    """Log-mel bins."""
    delta: bool = True
    """Append first-order differences: 80 -> 160 dimensions."""
    cmvn: Cmvn = "utterance"
    """Normalisation of each dimension of the input features: "utterance" (its own mean and variance over real frames,
    which removes most of the speaker), "corpus" (those of the training speech, stored in the checkpoint) or "none".
    The values true and false of older files mean "utterance" and "none"."""
    log_floor: float = 1e-6
    """Added to mel energies (and to target power) before the logarithm."""
    target: Literal["log", "db", "mel"] = "log"
    """The reconstruction target: the linear spectrogram as "log" (log power) or "db" (decibels scaled and clipped to
    [0, 1]), or "mel", the log-mel (and delta) frames themselves."""
    target_preemphasis: float = 0.0
    """First-order pre-emphasis of the waveform, for the target only; 0 switches it off."""
    target_cmvn: bool = True
    """Normalise the target per utterance and bin."""
    front_end: Literal["aalbert", "s3prl", "librosa"] = "aalbert"
    """How frames are computed. "aalbert": centred on the middle of their hop, zeros at the edges. "s3prl", for models
    converted from S3PRL: as its preprocessor, centred on the start of their hop, mirrored edges, CMVN with n - 1.
    "librosa": as the code behind the paper, like "s3prl" but with mel filters of unit area on Slaney's scale and delta
    over nine frames."""
    target_level_db: float | None = None
    """Scale every waveform to this level first (S3PRL: -25); null: do not scale."""

    @classmethod
    def from_older(cls, values: Mapping[str, object]) -> Mapping[str, object]:
        """Return the values in today's form: ``cmvn`` was true or false once."""
        if isinstance(values.get("cmvn"), bool):
            return {**values, "cmvn": "utterance" if values["cmvn"] else "none"}
        return values

    @property
    def hop_samples(self) -> int:
        """Frame shift in samples."""
        return round(self.hop_ms * self.sample_rate / 1000)

    @property
    def win_samples(self) -> int:
        """Window length in samples."""
        return round(self.win_ms * self.sample_rate / 1000)

    def num_frames(self, num_samples: Count) -> Count:
        """Return the number of frames of ``num_samples`` samples, a number or a tensor."""
        if self.mirrored_edges:
            return num_samples // self.hop_samples + 1
        return -(-num_samples // self.hop_samples)

    @property
    def mirrored_edges(self) -> bool:
        """Whether frame i is centred on sample hop * i and the waveform is mirrored at its ends."""
        return self.front_end in ("s3prl", "librosa")

    @property
    def feature_dim(self) -> int:
        """Dimensions of one input frame."""
        return self.num_mel_bins * (2 if self.delta else 1)

    @property
    def spectrum_bins(self) -> int:
        """Bins of the linear spectrogram."""
        return self.n_fft // 2 + 1

    @property
    def target_dim(self) -> int:
        """Values of one target frame."""
        return self.feature_dim if self.target == "mel" else self.spectrum_bins

    def problems(self) -> list[str]:
        """Return what makes these values unusable, one sentence each."""
        found = []
        if self.sample_rate != SAMPLE_RATE:
            found.append(f"audio.sample_rate is {shown(self.sample_rate)}, expected {SAMPLE_RATE}")
        for name, most in LARGEST_AUDIO.items():  # the other checks compute with these
            value = getattr(self, name)
            if not 0 < value <= most:
                found.append(f"audio.{name} is {shown(value)}, expected more than 0 and at most {most}")
        for name in ("target_preemphasis", "target_level_db", "log_floor"):
            if math.isinf(getattr(self, name) or 0):
                found.append(f"audio.{name} is infinite")
        if found:
            return found
        if self.n_fft < self.win_samples:
            found.append(f"audio.n_fft is {self.n_fft}, expected at least the window of {self.win_samples} samples")
        if self.hop_samples < 2 or self.hop_samples % 2 or self.n_fft % 2:
            found.append("audio.hop_ms and audio.n_fft must each give an even number of samples")
        if self.win_samples < 1:
            found.append(f"audio.win_ms is {self.win_ms}, expected at least one sample")
        if self.log_floor <= 0:
            found.append(f"audio.log_floor is {self.log_floor}, expected more than 0")
        return found


@dataclass(frozen=True)
class TransformerConfig:
    """The one encoder: shared layers make AALBERT, unshared ones Mockingjay (paper Table 1)."""

    hidden_size: int = 768
    """Width of the tokens between the layers."""
    num_hidden_layers: int = 3
    """Number of layers, whether or not they share weights."""
    num_attention_heads: int = 12
    """Attention heads of a layer."""
    intermediate_size: int = 3072
    """Width inside a feed-forward block."""
    hidden_act: Literal["gelu", "relu"] = "gelu"
    """Activation of the feed-forward blocks and of the heads."""
    hidden_dropout_prob: float = 0.0
    """Probability of dropping a value of the input embedding or of a block's output, in training."""
    attention_probs_dropout_prob: float = 0.0
    """Probability of dropping a weight of an attention map, in training."""
    initializer_range: float = 0.02
    """Standard deviation of new weights."""
    layer_norm_eps: float = 1e-12
    """Added to the variance in LayerNorms."""
    downsample_rate: int = 3
    """Consecutive frames stacked into one token ("downsampling one out of every three frames")."""
    share_layer: bool = True
    """True: every layer uses the same weights; false: each has its own."""
    num_hidden_groups: int | None = None
    """Number of sets of weights, each used by equally many consecutive layers (ALBERT); overrides share_layer."""
    layer_groups: tuple[int, ...] | None = None
    """The set of weights of each layer, e.g. [0, 1, 0, 1]; an alternative to num_hidden_groups."""
    reuse_pattern: tuple[int, ...] | None = None
    """For each layer 0 or 1: with 1 it reuses the attention map of the layer before and has no query and key
    (ARMHuBERT)."""
    embedding_size: int | None = None
    """Factorises input and output projections through this width (ALBERT); null: none."""
    attention_head_size: int | None = None
    """Width of a head; null: hidden_size / num_attention_heads."""
    positions: Literal["sinusoid", "convolutional", "rotary"] = "sinusoid"
    """How positions are encoded: "sinusoid" (absolute, added to the input; the paper), "convolutional" (a grouped
    convolution over the input tokens, added to them; wav2vec 2.0, HuBERT) or "rotary" (queries and keys turned by
    their position; RoFormer). The last two are relative, so that a
    longer utterance has no unseen position."""
    conv_position_kernel: int = 31
    """Width of the convolution in tokens; odd."""
    conv_position_group_size: int = 16
    """Channels in each group of the convolution. A sub-network keeps it, so that its channels keep their inputs."""
    position_encoding_size: int | None = None
    """Width of the sinusoid table, of which the first hidden_size columns are used; null: hidden_size. An extracted
    sub-network keeps the width of its supernet, since a prefix of a wide sinusoid is not a narrow one."""
    centred: bool = False
    """Whether hidden states are given less their mean over training speech, which the checkpoint holds. The mean tells
    no phones apart, but distances by the angle (ABX) count it."""
    layer_attention_heads: tuple[int, ...] | None = None
    """Attention heads of each layer, at most num_attention_heads; null: num_attention_heads in all."""
    layer_intermediate_sizes: tuple[int, ...] | None = None
    """Inner width of each layer, at most intermediate_size; null: intermediate_size in all."""

    @classmethod
    def from_older(cls, values: Mapping[str, object]) -> Mapping[str, object]:
        """Return the values in today's form: files once had a ``position_scale``, of which only 1 is left."""
        return {name: value for name, value in values.items() if (name, value) != ("position_scale", 1)}

    @property
    def group_of_layer(self) -> tuple[int, ...]:
        """The set of weights of each layer, e.g. (0, 0, 0) when all share one."""
        if self.layer_groups is not None:
            return self.layer_groups
        layers, groups = self.num_hidden_layers, self.num_hidden_groups
        if groups is None:
            groups = 1 if self.share_layer else layers
        return tuple(layer * groups // layers for layer in range(layers))

    @property
    def reuses_attention(self) -> tuple[bool, ...]:
        """Whether each layer reuses the attention map of the layer before."""
        return tuple(map(bool, self.reuse_pattern or (0,) * self.num_hidden_layers))

    @property
    def heads_of_layer(self) -> tuple[int, ...]:
        """Attention heads of each layer."""
        return self.layer_attention_heads or (self.num_attention_heads,) * self.num_hidden_layers

    @property
    def intermediate_size_of_layer(self) -> tuple[int, ...]:
        """Inner width of each layer."""
        return self.layer_intermediate_sizes or (self.intermediate_size,) * self.num_hidden_layers

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.attention_head_size or self.hidden_size // self.num_attention_heads

    def problems(self) -> list[str]:
        """Return what makes these values unusable, one sentence each."""
        found = []
        for name in (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "downsample_rate",
            "num_hidden_groups",
            "embedding_size",
            "attention_head_size",
            "position_encoding_size",
            "conv_position_kernel",
            "conv_position_group_size",
        ):
            value, most = getattr(self, name), MOST_LAYERS if name == "num_hidden_layers" else LARGEST_SIZE
            if value is not None and not 1 <= value <= most:
                found.append(f"transformer.{name} is {shown(value)}, expected 1 to {most}")
        # The following checks compute with the sizes, so that they need valid ones.
        if not found and self.attention_head_size is None and self.hidden_size % self.num_attention_heads:
            found.append(
                f"transformer.hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        found += [] if found else self._layer_problems()
        for name in ("initializer_range", "layer_norm_eps"):
            if not 0 <= getattr(self, name) < math.inf:
                found.append(f"transformer.{name} is {getattr(self, name)}, expected at least 0 and finite")
        if self.positions == "convolutional" and self.conv_position_kernel % 2 == 0:
            found.append(f"transformer.conv_position_kernel is {self.conv_position_kernel}, expected an odd number")
        if self.positions == "rotary" and not found and self.head_dim % 2:
            found.append(f"transformer.positions: rotary needs heads of an even width, they have {self.head_dim}")
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not 0 <= getattr(self, name) < 1:
                found.append(f"transformer.{name} is {getattr(self, name)}, expected within [0, 1)")
        return found

    def _layer_problems(self) -> list[str]:
        layers, found = self.num_hidden_layers, []
        for name in ("layer_groups", "reuse_pattern", "layer_attention_heads", "layer_intermediate_sizes"):
            value = getattr(self, name)
            if value is not None and len(value) != layers:
                found.append(f"transformer.{name} has {len(value)} entries, expected {layers}, one a layer")
        if found:
            return found
        if self.num_hidden_groups is not None:
            if self.layer_groups is not None:
                found.append("transformer.num_hidden_groups and layer_groups both group the layers; give one of them")
            if self.num_hidden_groups > layers:
                found.append(f"transformer.num_hidden_groups is {self.num_hidden_groups}, expected at most {layers}")
        if set(self.reuse_pattern or ()) - {0, 1}:
            found.append(f"transformer.reuse_pattern is {list(self.reuse_pattern or ())}, expected 0 and 1 alone")
        if self.layer_groups is not None and list(dict.fromkeys(self.layer_groups)) != list(
            range(max(self.layer_groups) + 1)
        ):
            found.append(
                f"transformer.layer_groups is {list(self.layer_groups)}, expected 0, then 1, ... as they appear"
            )
        if self.position_encoding_size is not None and self.position_encoding_size < self.hidden_size:
            found.append(
                f"transformer.position_encoding_size is {self.position_encoding_size}, "
                f"expected at least hidden_size {self.hidden_size}"
            )
        for name, most in (("layer_attention_heads", "num_attention_heads"),
                           ("layer_intermediate_sizes", "intermediate_size")):  # fmt: skip
            for value in getattr(self, name) or ():
                if not 1 <= value <= getattr(self, most):
                    found.append(f"transformer.{name} has {value}, expected 1 to {most} {getattr(self, most)}")
        return found + reuse_problems(self.reuses_attention, self.heads_of_layer)


def reuse_problems(reuses: tuple[bool, ...], heads: tuple[int, ...]) -> list[str]:
    """Return why some layers cannot reuse the attention map of the layer before."""
    found = ["reuse_pattern: the first layer has no map to reuse"] if reuses and reuses[0] else []
    source = 0
    for layer in range(len(reuses)):
        source = source if reuses[layer] else layer
        if heads[layer] > heads[source]:
            found.append(
                f"layer {layer} reuses the attention of layer {source} and cannot have more heads "
                f"({heads[layer]} against {heads[source]})"
            )
    return found


@dataclass(frozen=True)
class TaskConfig:
    """The targets of masked prediction: the spectrogram (paper section 3.1), discrete units (HuBERT), or both."""

    reconstruction_weight: float = 1.0
    """Weight of the L1 distance to the spectrogram; with 0 the model has no spectrogram head."""
    unit_weight: float = 0.0
    """Weight of the cross-entropy of the units; with 0 the model has no unit head."""
    num_units: int = 100
    """Number of different units: the clusters of their codebook."""
    units_per_token: int = 1
    """1 for one unit per token; transformer.downsample_rate for one per frame."""
    unit_neighbours: int = 0
    """A token also predicts the units of so many tokens before it and after it."""
    neighbour_weight: float = 0.5
    """Share of ``unit_weight`` that the units of neighbours have."""

    mask_proportion: float = 0.15
    """Share of the tokens that are selected."""
    zero_proportion: float = 0.8
    """Share of the selected tokens that are set to zero."""
    random_proportion: float = 0.1
    """Share of the selected tokens that a random token of the utterance replaces. The rest stays unchanged."""
    mask_consecutive: int = 1
    """Width of a masked span, in tokens."""
    mask_layout: Literal["grid", "overlap"] = "grid"
    """"grid": spans side by side from a random start, never overlapping; mask_proportion is the share of tokens.
    "overlap": spans begin anywhere and may overlap. mask_proportion is then the number of spans times their width,
    divided by the number of tokens, so that fewer tokens are masked (HuBERT: 0.8, width 10, about half the tokens)."""
    mask_gap: int = 0
    """Tokens between two places of the grid, which are never masked; 2 draws from every third token (as run)."""
    dice: Literal["token", "utterance"] = "token"
    """"token": zero / random / keep is drawn per span (the paper's text); "utterance": once per utterance (as run)."""

    def problems(self) -> list[str]:
        """Return what makes these values unusable, one sentence each."""
        found = []
        if not 0 < self.mask_proportion <= 1:
            found.append(f"task.mask_proportion is {self.mask_proportion}, expected within (0, 1]")
        if (
            min(self.zero_proportion, self.random_proportion) < 0
            or self.zero_proportion + self.random_proportion > 1 + 1e-9
        ):
            found.append("task.zero_proportion and task.random_proportion must be positive and sum to at most 1")
        if self.mask_consecutive < 1:
            found.append(f"task.mask_consecutive is {self.mask_consecutive}, expected at least 1")
        if not 0 <= self.mask_gap <= LARGEST_SIZE or (self.mask_gap and self.mask_layout != "grid"):
            found.append(
                f'task.mask_gap is {shown(self.mask_gap)}, expected at least 0, and 0 unless mask_layout is "grid"'
            )
        weights = self.reconstruction_weight, self.unit_weight
        if min(weights) < 0 or not 0 < max(weights) < math.inf:
            found.append("task.reconstruction_weight and unit_weight must not be negative, nor both zero")
        if not 2 <= self.num_units <= LARGEST_SIZE:
            found.append(f"task.num_units is {shown(self.num_units)}, expected 2 to {LARGEST_SIZE}")
        if self.units_per_token < 1:
            found.append(f"task.units_per_token is {self.units_per_token}, expected at least 1")
        if not 0 <= self.unit_neighbours <= MOST_NEIGHBOURS:
            found.append(f"task.unit_neighbours is {self.unit_neighbours}, expected 0 to {MOST_NEIGHBOURS}")
        if not 0 <= self.neighbour_weight <= 1:
            found.append(f"task.neighbour_weight is {self.neighbour_weight}, expected within [0, 1]")
        return found


@dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes a model: the YAML of ``-g``."""

    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    """The encoder."""
    audio: AudioConfig = field(default_factory=AudioConfig)
    """From waveforms to input features and targets."""
    task: TaskConfig = field(default_factory=TaskConfig)
    """What pre-training predicts."""

    def problems(self) -> list[str]:
        """Return which sections do not fit together, one sentence each."""
        per_token, stack = self.task.units_per_token, self.transformer.downsample_rate
        if self.task.unit_weight and per_token not in (1, stack):
            return [f"task.units_per_token is {per_token}, expected 1 or transformer.downsample_rate {stack}"]
        return []

    @property
    def input_dim(self) -> int:
        """Dimensions of one token: stacked frames."""
        return self.audio.feature_dim * self.transformer.downsample_rate

    def num_tokens(self, num_samples: Count) -> Count:
        """Return the number of tokens of ``num_samples`` samples, a number or a tensor."""
        return -(-self.audio.num_frames(num_samples) // self.transformer.downsample_rate)

    @property
    def samples_per_token(self) -> int:
        """The upstream's exact downsample rate, in samples."""
        return self.audio.hop_samples * self.transformer.downsample_rate


def load_model_config(name: str) -> ModelConfig:
    """Load the model YAML of ``-g``: a path or a packaged name such as ``aalbert_6l``."""
    path = find_config(name, "upstream_configs")
    return from_dict(ModelConfig, read_config(path, "model"), str(path))


Sections = Mapping[str, Mapping[str, object]]
"""A model's configuration as ``to_dict`` gives it."""


def model_differences(model: Sections, other: Sections) -> dict[str, tuple[object, object]]:
    """Return the settings of transformer and features, by name, in which two models differ: (model's, other's)."""
    return {
        f"{section}.{key}": (value, other[section].get(key))
        for section in ("transformer", "audio")
        for key, value in model[section].items()
        if value != other[section].get(key)
    }
