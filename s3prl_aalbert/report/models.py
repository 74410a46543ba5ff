"""Identifies the model of a run: its label in tables and figures, its description and its parameters."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from s3prl_aalbert.checkpoint.published import EVERY_FRAME, PRESETS, packaged_folder, packaged_names
from s3prl_aalbert.checkpoint.release import WEIGHTS_FILE, load_checkpoint
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import AudioConfig, ModelConfig, TransformerConfig
from s3prl_aalbert.report.runs import Run
from s3prl_aalbert.upstream.named import OWN_CHECKPOINT, count_of, family_name, family_of, upstream_config

logger = logging.getLogger(__name__)

FEATURES = "aalbert_features"
NO_PARAMETERS = frozenset({FEATURES, "fbank", "fbank_no_cmvn", "mfcc", "mel", "linear", "spectrogram"})
"""Upstreams of acoustic features, which are not trained."""
DEEPEST = 12
"""Largest number of folders of a checkpoint's path in a label."""


@dataclass(frozen=True)
class ModelKey:
    """Identifies a model."""

    upstream: str
    checkpoint: str = ""
    config: str = ""

    @property
    def untrained(self) -> bool:
        """Whether its weights are random: those of a preset, or of a release that is marked as untrained."""
        return self.upstream in PRESETS or (self.upstream in OWN_CHECKPOINT and _is_marked_untrained(self.checkpoint))

    @property
    def every_frame(self) -> bool:
        """Whether it has a hidden state for every frame, not for every token."""
        return self.upstream == EVERY_FRAME


@dataclass(frozen=True)
class Model:
    """A model in the report."""

    key: ModelKey
    label: str
    """Short name, unique in the report."""
    description: str
    parameters: int | None
    """Parameters of encoder and input block, without the pre-training head; None if unknown."""
    config: ModelConfig | None = None
    """Configuration of one of our models; None for others."""

    @property
    def trained(self) -> bool:
        """Whether the model is trained: neither untrained nor acoustic features."""
        return self.key.upstream not in NO_PARAMETERS and not self.key.untrained

    def is_twin_of(self, other: Model) -> bool:
        """Return whether this is the other model before its training."""
        if self.config is None or other.config is None or not self.key.untrained or not other.trained:
            return False
        if self.config.audio.cmvn == "corpus" and self.key.upstream in PRESETS:
            return False  # it has no statistics of the corpus, and so another input
        same_rate = self.key.every_frame == other.key.every_frame
        return same_rate and _shape(self.config) == _shape(other.config)


def _shape(config: ModelConfig) -> tuple[TransformerConfig, AudioConfig]:
    """Return the parts of a configuration that are equal in models that differ only in their training."""
    transformer = replace(config.transformer, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, centred=False)
    return transformer, replace(config.audio, target="log", target_preemphasis=0.0, target_cmvn=True)


def model_key(run: Run) -> ModelKey:
    """Return the model of a run; relative checkpoints are searched from here and from folders above the run."""
    args = run.results.args
    upstream = args.upstream or "unknown"
    if upstream in packaged_names():
        return ModelKey(packaged_folder(upstream).name)  # "aalbert" is another name of one of them
    # A packaged name is a bare one, which may also be the name of a run's folder: accept only files and releases.
    config = _resolve(args.upstream_model_config, run.folder, Path.is_file)
    if args.upstream_ckpt in packaged_names():
        found = _resolve(args.upstream_ckpt, run.folder, lambda path: (path / WEIGHTS_FILE).is_file())
        packaged = str(packaged_folder(args.upstream_ckpt))
        return ModelKey(upstream, packaged if found == args.upstream_ckpt else found, config)
    return ModelKey(upstream, _resolve(args.upstream_ckpt, run.folder), config)


def _resolve(path: str | None, folder: Path, is_meant: Callable[[Path], bool] = Path.exists) -> str:
    """Resolve a recorded path relative to any folder above the run's; unchanged if it does not exist."""
    if not path:
        return ""
    name = Path(path).expanduser()
    candidates = (base / name for base in (Path(), *folder.resolve().parents))
    found = next((candidate.resolve() for candidate in candidates if is_meant(candidate)), None)
    if found is None:
        return path
    return str(found.parent if found.name == WEIGHTS_FILE else found)


def name_models(runs: Iterable[Run]) -> dict[ModelKey, Model]:
    """Describe the models of some runs with unique labels, in order: features, untrained, trained by size."""
    configs = {key: _config_of(key) for key in dict.fromkeys(model_key(run) for run in runs)}
    models = []
    for (key, config), label in zip(configs.items(), _labels(configs), strict=True):
        parameters = 0 if key.upstream in NO_PARAMETERS else count_of(config) if config else None
        models.append(Model(key, label, _describe(key, config), parameters, config))
    return {model.key: model for model in sorted(models, key=_order)}


@functools.cache
def _is_marked_untrained(checkpoint: str) -> bool:
    """Return whether a checkpoint is a release with ``untrained: true`` in its card, as of ``aalbert demo``."""
    weights = Path(checkpoint) / WEIGHTS_FILE
    try:
        return weights.is_file() and load_checkpoint(weights).info.get("untrained") is True
    except AalbertError:  # reported where its configuration is read
        return False


def _order(model: Model) -> tuple[object, ...]:
    upstream = model.key.upstream
    ours = upstream in (*OWN_CHECKPOINT, *packaged_names())
    kinds = (upstream in NO_PARAMETERS, model.key.untrained, ours, True)
    unknown = model.parameters is None
    return (kinds.index(True), unknown, model.parameters or 0, natural_order(model.label))


def natural_order(text: str) -> tuple[tuple[int, str], ...]:
    """Return a sorting key that puts 3l before 12l."""
    parts = re.split(r"(\d+)", text)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)


def _config_of(key: ModelKey) -> ModelConfig | None:
    """Read the configuration of one of our models; None for others and, with a warning, if it is missing."""
    try:
        return upstream_config(key.upstream, key.checkpoint, key.config)
    except AalbertError as error:
        logger.warning("parameters are unknown: %s", error)
    return None


def _describe(key: ModelKey, config: ModelConfig | None) -> str:
    if key.upstream == FEATURES:
        return "input acoustic features, nothing trained"
    if config is None:
        gone = key.upstream in OWN_CHECKPOINT
        return "checkpoint not found" if gone else "an upstream of S3PRL"
    transformer = config.transformer
    trained = "untrained, random weights" if key.untrained else "pre-trained"
    rate = f"{config.samples_per_token / config.audio.sample_rate * 1000:g} ms per token"
    if key.every_frame:
        rate += f", a hidden state every {config.audio.hop_ms:g} ms"
    return f"{family_name(config)}, hidden size {transformer.hidden_size}, {rate}; {trained}"


# ------------------------------------------------------------------------------------------------ labels


def describe_config(config: ModelConfig) -> str:
    """Describe a model, e.g. ``AALBERT, 3 shared layers of 128``."""
    transformer = config.transformer
    layers, groups = transformer.num_hidden_layers, len(set(transformer.group_of_layer))
    shared = "shared " if groups == 1 < layers else ""
    sharing = f" in {groups} groups" if 1 < groups < layers else ""
    noun = "layers" if layers > 1 else "layer"
    return f"{family_of(config)}, {layers} {shared}{noun} of {transformer.hidden_size}{sharing}"


def _labels(configs: dict[ModelKey, ModelConfig | None]) -> list[str]:
    """Name each model by its description; equal ones also get the shortest end of their path that differs."""
    plain = [_label(key, config) for key, config in configs.items()]
    labels: list[str] = []
    for key, label in zip(configs, plain, strict=True):
        rivals = [other for other, its in zip(configs, plain, strict=True) if its == label and other != key]
        labels.append(f"{label} ({_difference(key, rivals)})" if rivals else label)
    return labels


def _label(key: ModelKey, config: ModelConfig | None) -> str:
    if key.upstream == FEATURES:
        return "input features"
    if key.upstream in PRESETS:
        return f"{describe_config(config)}, untrained" if config else f"{PRESETS[key.upstream]}, untrained"
    if key.upstream in OWN_CHECKPOINT:
        untrained = ", untrained" if key.untrained else ""
        rate = ", every frame" if key.every_frame else ""
        return describe_config(config) + rate + untrained if config else _tail(key.checkpoint, 1)
    return key.upstream + (f" {_tail(key.checkpoint, 1)}" if key.checkpoint else "")


def _difference(key: ModelKey, rivals: Sequence[ModelKey]) -> str:
    """Return the shortest end of a model's path that none of its rivals has."""
    for depth in range(1, DEEPEST):
        own = _ends(key, depth)
        if own and all(_ends(rival, depth) != own for rival in rivals):
            return own
    return " ".join(filter(None, (key.upstream, *([_ends(key, DEEPEST)] if key.checkpoint or key.config else []))))


def _ends(key: ModelKey, depth: int) -> str:
    return " ".join(_tail(path, depth) for path in (key.checkpoint, key.config) if path) or key.upstream


def _tail(path: str, depth: int) -> str:
    """Return the last ``depth`` parts of a path without suffix; a file also keeps its folder."""
    parts = Path(path).with_suffix("").parts if Path(path).suffix in (".ckpt", ".yaml", ".pt") else Path(path).parts
    keep = depth + 1 if Path(path).suffix == ".ckpt" else depth
    return "/".join(parts[-keep:]).lstrip("/") or path
