"""Configuration: dataclasses filled from YAML, checked as a whole so that every problem is reported at once."""

from __future__ import annotations

import dataclasses
import logging
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from s3prl_aalbert.errors import AalbertError, did_you_mean

logger = logging.getLogger(__name__)
T = TypeVar("T")


class ConfigError(AalbertError):
    """A configuration that cannot be used; the message lists every problem found."""


# --------------------------------------------------------------------------------------- model (-g)


@dataclass(frozen=True)
class AudioConfig:
    """Waveform to input features and reconstruction target (paper section 3.1)."""

    sample_rate: int = 16000
    """Hz; other rates are resampled when read."""
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
    cmvn: bool = True
    """Mean and variance normalisation per utterance and dimension, over real frames alone."""
    log_floor: float = 1e-6
    """Added to mel energies (and to target power) before the logarithm."""
    target: str = "log"
    """Target scale: "log" (log power) or "db" (decibels scaled and clipped to [0, 1])."""
    target_preemphasis: float = 0.0
    """First-order pre-emphasis of the waveform for the target alone; 0 is off."""
    target_cmvn: bool = True
    """Normalise the target per utterance and bin."""

    @property
    def hop_samples(self) -> int:
        """Frame shift in samples."""
        return round(self.hop_ms * self.sample_rate / 1000)

    @property
    def win_samples(self) -> int:
        """Window length in samples."""
        return round(self.win_ms * self.sample_rate / 1000)

    @property
    def feature_dim(self) -> int:
        """Dimensions of one input frame."""
        return self.num_mel_bins * (2 if self.delta else 1)

    @property
    def target_dim(self) -> int:
        """Bins of one target frame."""
        return self.n_fft // 2 + 1

    def problems(self) -> list[str]:
        """Return what makes these values unusable, one sentence each."""
        found = []
        for name in ("sample_rate", "win_ms", "hop_ms"):  # the other checks compute with these
            value = getattr(self, name)
            if not 0 < value < math.inf:
                found.append(f"audio.{name} is {value}, expected more than 0 and finite")
        if found:
            return found
        if self.target not in ("log", "db"):
            found.append(f'audio.target is "{self.target}", expected "log" or "db"')
        if self.n_fft < self.win_samples:
            found.append(f"audio.n_fft is {self.n_fft}, expected at least the window of {self.win_samples} samples")
        if self.hop_samples < 2 or self.hop_samples % 2 or self.n_fft % 2:
            found.append("audio.hop_ms and audio.n_fft must each give an even number of samples")
        if self.num_mel_bins < 1:
            found.append(f"audio.num_mel_bins is {self.num_mel_bins}, expected at least 1")
        if self.win_samples < 1:
            found.append(f"audio.win_ms is {self.win_ms}, expected at least one sample")
        if self.log_floor <= 0:
            found.append(f"audio.log_floor is {self.log_floor}, expected more than 0")
        return found


@dataclass(frozen=True)
class TransformerConfig:
    """The one encoder: shared layers make AALBERT, unshared ones Mockingjay (paper Table 1)."""

    hidden_size: int = 768
    num_hidden_layers: int = 3
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    downsample_rate: int = 3
    """Consecutive frames stacked into one token ("downsampling one out of every three frames")."""
    share_layer: bool = True
    """True: every layer uses the same weights; false: each has its own."""

    @property
    def layer_groups(self) -> tuple[int, ...]:
        """Which set of weights each layer uses, e.g. (0, 0, 0) when shared."""
        layers = range(self.num_hidden_layers)
        return tuple(0 if self.share_layer else layer for layer in layers)

    def problems(self) -> list[str]:
        """Return what makes these values unusable, one sentence each."""
        found = []
        for name in (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "downsample_rate",
        ):
            if getattr(self, name) < 1:
                found.append(f"transformer.{name} is {getattr(self, name)}, expected at least 1")
        if not found and self.hidden_size % self.num_attention_heads:
            found.append(
                f"transformer.hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        if self.hidden_act not in ("gelu", "relu"):
            found.append(f'transformer.hidden_act is "{self.hidden_act}", expected "gelu" or "relu"')
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not 0 <= getattr(self, name) < 1:
                found.append(f"transformer.{name} is {getattr(self, name)}, expected within [0, 1)")
        return found


@dataclass(frozen=True)
class TaskConfig:
    """Masked reconstruction (paper section 3.1)."""

    mask_proportion: float = 0.15
    """Share of tokens selected."""
    zero_proportion: float = 0.8
    """Of the selected: set to zero."""
    random_proportion: float = 0.1
    """Of the selected: replaced by a random token of the utterance. The rest is kept."""
    mask_consecutive: int = 1
    """Width of a masked span, in tokens."""
    dice: str = "token"
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
        if self.dice not in ("token", "utterance"):
            found.append(f'task.dice is "{self.dice}", expected "token" or "utterance"')
        return found


@dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes a model: the YAML of ``-g``."""

    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    task: TaskConfig = field(default_factory=TaskConfig)

    @property
    def input_dim(self) -> int:
        """Dimensions of one token: stacked frames."""
        return self.audio.feature_dim * self.transformer.downsample_rate

    @property
    def samples_per_token(self) -> int:
        """The upstream's exact downsample rate, in samples."""
        return self.audio.hop_samples * self.transformer.downsample_rate


# --------------------------------------------------------------------------------- loading and checks


def from_dict(cls: type[T], values: Mapping[str, Any] | None, where: str = "config") -> T:
    """Build dataclass ``cls`` from a mapping, reporting every unknown key, wrong type and bad value at once.

    Args:
        cls: a dataclass, its fields possibly dataclasses themselves; an optional ``problems()`` lists bad values.
        values: nested mapping, as YAML gives it; missing keys take the dataclass's defaults.
        where: what to call the source in messages, e.g. the file's path.

    Raises:
        ConfigError: with one line per problem.
    """
    problems: list[str] = []
    result = _build(cls, values, "", problems)
    if problems:
        raise ConfigError(f"{where}: " + "; ".join(problems))
    return typing.cast(T, result)


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as nested plain dictionaries, ready for YAML or JSON."""
    return dataclasses.asdict(config)


def _build(cls: type, values: Any, prefix: str, problems: list[str]) -> Any:
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        problems.append(f"{prefix.rstrip('.') or 'the file'} is {_describe(values)}, expected a mapping of keys")
        return None
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    before = len(problems)
    kwargs = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in fields:
            problems.append(f'unknown key "{name}"{did_you_mean(str(key), fields)}')
        elif dataclasses.is_dataclass(hints[key]):
            kwargs[key] = _build(typing.cast(type, hints[key]), value, f"{name}.", problems)
        else:
            kwargs[key] = _convert(hints[key], value, name, problems)
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            problems.append(f'missing key "{prefix}{name}"')
    if len(problems) > before:
        return None
    result = cls(**kwargs)
    problems.extend(getattr(result, "problems", list)())
    return result


def _convert(hint: Any, value: Any, name: str, problems: list[str]) -> Any:
    """Return ``value`` as type ``hint``, or note the mismatch in ``problems``."""
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    for option in options:
        accepted, converted = _try_type(option, value)
        if accepted:
            return converted
    expected = " or ".join(_type_name(option) for option in options)
    problems.append(f'"{name}" is {_describe(value)}, expected {expected}')
    return None


def _try_type(option: Any, value: Any) -> tuple[bool, Any]:
    origin = typing.get_origin(option) or option
    if option is Any:
        return True, value
    if option is type(None):
        return value is None, None
    if origin is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:  # YAML 1.1 reads 1e-4 (no dot) as a string
            number = float(value)
        except (ValueError, OverflowError):
            return False, None
        return not math.isnan(number), number
    if origin is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    if origin in (list, tuple):
        return _try_sequence(option, origin, value)
    if origin is dict:
        return isinstance(value, Mapping), dict(value) if isinstance(value, Mapping) else None
    return isinstance(value, origin), value


def _try_sequence(option: Any, origin: Any, value: Any) -> tuple[bool, Any]:
    if not isinstance(value, (list, tuple)):
        return False, None
    item_hints = typing.get_args(option) or (Any,)
    if origin is tuple and len(item_hints) > 1 and item_hints[-1] is not Ellipsis:
        if len(item_hints) != len(value):
            return False, None
        pairs = [_try_type(hint, item) for hint, item in zip(item_hints, value, strict=True)]
    else:
        pairs = [_try_type(item_hints[0], item) for item in value]
    return all(ok for ok, _ in pairs), origin(item for _, item in pairs)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _type_name(option: Any) -> str:
    if option is type(None):
        return "null"
    names = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        dict: "a mapping",
    }
    if typing.get_origin(option) in (list, tuple):
        return "a list"
    return names.get(option, str(option))


def _describe(value: Any) -> str:
    return "null" if value is None else f"{value!r}"


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file holding a mapping.

    Raises:
        ConfigError: the file is missing, is no YAML, or holds something else.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: holds {type(loaded).__name__}, expected a mapping of keys")
    return loaded


def packaged_configs(folder: str) -> Path:
    """Return the packaged folder ``upstream_configs`` or ``downstream_configs``, installed or in a checkout."""
    here = Path(__file__).resolve().parent
    for candidate in (here / folder, here.parent / folder):
        if candidate.is_dir():
            return candidate
    raise AalbertError(f"the packaged folder {folder} is missing; re-install s3prl-aalbert")


def find_config(name: str, folder: str) -> Path:
    """Resolve a config given as a path or as the name of a packaged one.

    Args:
        name: a path, or e.g. ``aalbert_3l`` or ``aalbert_3l.yaml``.
        folder: ``upstream_configs`` or ``downstream_configs``.

    Raises:
        ConfigError: neither exists; names the near matches.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    packaged = packaged_configs(folder)
    candidate = packaged / f"{name.removesuffix('.yaml')}.yaml"
    if path.name == name and candidate.is_file():
        return candidate
    known = sorted(p.stem for p in packaged.glob("*.yaml"))
    raise ConfigError(
        f"{name}: no such file, and no packaged config of that name{did_you_mean(path.stem, known)}; "
        f"packaged: {', '.join(known)}"
    )


def load_model_config(name: str) -> ModelConfig:
    """Load the model YAML of ``-g``: a path or a packaged name such as ``aalbert_6l``."""
    path = find_config(name, "upstream_configs")
    return from_dict(ModelConfig, read_yaml(path), str(path))
