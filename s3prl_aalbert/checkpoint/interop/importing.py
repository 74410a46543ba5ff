"""Imports checkpoints of S3PRL's audio_albert, mockingjay and tera, of the paper's own code, and of pohanchi/AALBERT.

Their encoders equal ours. Differences of their front ends are returned as a list of sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s3prl_aalbert.checkpoint.content import FORMAT, UNREADABLE, CheckpointError, is_safetensors
from s3prl_aalbert.checkpoint.interop.names import (
    ALBERT_NEW_SHARED,
    HEAD,
    HEAD_NAMES,
    LIGHTNING,
    LIGHTNING_KEYS,
    MODEL,
    S3PRL,
    TRANSFORMER_KEYS,
    Layout,
    encoder_table,
    with_kinds,
)
from s3prl_aalbert.checkpoint.interop.pickled import read_foreign
from s3prl_aalbert.checkpoint.release import load_weights
from s3prl_aalbert.model.aalbert import AalbertModel, SpectrogramHead
from s3prl_aalbert.model.config import AudioConfig, ModelConfig, from_dict, load_model_config, to_dict


@dataclass(frozen=True)
class Imported:
    """Another program's model, converted to this project's form."""

    program: str
    config: ModelConfig
    state: dict[str, Tensor]
    """Weights as in a release: ``model.*``, and ``head.*`` if this project has the same pre-training target."""
    info: dict[str, object]
    differences: list[str]
    """What this project computes differently from that program, one sentence each."""


def import_checkpoint(path: Path, trust: bool = False) -> Imported:
    """Read a model of S3PRL, of the paper's own code (branch AlbertNew) or of pohanchi/AALBERT.

    Raises:
        CheckpointError: the file is unreadable, of none of these programs, or of a model that cannot be represented.
    """
    if path.is_dir() or (path.is_file() and is_safetensors(path)):
        raise CheckpointError(f"{path}: is a release already, or no file; -u aalbert_local reads releases as they are")
    content = read_foreign(path, trust)
    if content.get("format") == FORMAT:
        raise CheckpointError(f"{path}: is a training state of this project; -u aalbert_local reads it as it is")
    try:
        imported = _of_program(_unwrapped(content), path)
    except UNREADABLE as error:  # a value of an unexpected type anywhere in the file
        raise CheckpointError(f"{path}: is damaged: {type(error).__name__}: {error}") from error
    # Checks that every tensor has the right shape.
    load_weights(AalbertModel(imported.config), _below(imported.state, MODEL), path)
    return imported


def _unwrapped(content: Mapping[str, object]) -> dict[str, object]:
    """Return a checkpoint without the prefix ``module.`` that DataParallel adds to every name."""
    wrapper = "module."
    plain: dict[str, object] = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and value and all(str(name).startswith(wrapper) for name in value):
            value = _below(value, wrapper)
        plain[key] = value
    return plain


def _of_program(content: Mapping[str, object], path: Path) -> Imported:
    """Recognise the program by the checkpoint's keys, and convert it."""
    if "Transformer" in content:
        return _from_s3prl(content, path)
    if "Mockingjay" in content:
        return _from_albert_new(content, path)
    if "state_dict" in content and "hyper_parameters" in content:
        return _from_lightning(content, path)
    keys = ", ".join(map(str, list(content)[:5]))
    raise CheckpointError(
        f"{path}: is a checkpoint of none of the known programs (it holds {keys}); expected Transformer (S3PRL), "
        "Mockingjay (AlbertNew), or state_dict and hyper_parameters (pohanchi/AALBERT)"
    )


def _from_s3prl(content: Mapping[str, Any], path: Path) -> Imported:
    configs = [content.get(key) for key in ("Config", "Upstream_Config")]  # older files store the model's in Config
    found = [config for config in configs if isinstance(config, Mapping) and "transformer" in config]
    if not found:
        raise CheckpointError(f'{path}: neither Config nor Upstream_Config holds the section "transformer"')
    theirs = _section(found[0], "transformer", path)
    if theirs.get("pre_layer_norm"):
        raise CheckpointError(f"{path}: pre_layer_norm is true; this project's layers normalise after each block")
    audio, predicts_ours, differences = s3prl_audio(found[0].get("audio"), path)
    transformer = {key: theirs[key] for key in TRANSFORMER_KEYS if key in theirs}
    transformer |= {"share_layer": bool(theirs.get("share_layer", False)), "downsample_rate": 1}
    task = _section(found[0], "task", path)
    config = _model_config(transformer, audio, s3prl_masks(task), path)
    state = _encoder_state(content["Transformer"], S3PRL, config, path)
    length = task.get("sequence_length", 0)
    if length:
        differences.append(f"S3PRL cuts longer utterances into pieces of at most {length} frames; here they stay whole")
    state |= _head_state(content.get("SpecHead"), config, predicts_ours, differences, path)
    info = {"step": content.get("Step"), "converted_from": "S3PRL", "s3prl_audio": found[0]["audio"]}
    return Imported("S3PRL", config, state, info, differences)


def _from_albert_new(content: Mapping[str, Any], path: Path) -> Imported:
    weights = content["Mockingjay"]
    shared = not any(name.startswith("encoder.layer.0.") for name in weights)
    if shared and "encoder.layer.attention.self.key.weight" not in weights:
        raise CheckpointError(f"{path}: is the only-query variant of AlbertNew, which has no key and value projections")
    settings = _section(content, "Settings", path)
    theirs = _section(_section(settings, "Config", path), "albertmockingjay" if shared else "mockingjay", path)
    transformer = {key: theirs[key] for key in TRANSFORMER_KEYS if key in theirs}
    transformer |= {"share_layer": shared, "downsample_rate": theirs["downsample_rate"]}
    original = load_model_config("original")  # its dice are thrown once per utterance
    audio = _with_delta(original.audio, weights, "input_representations", transformer, path)
    config = _model_config(transformer, audio, to_dict(original.task), path)
    differences = [
        "AlbertNew's files do not record their front end; that of its utils/audio.py is assumed (preset original)",
        "it drops the frames of an incomplete last token; here they are padded with zeros",
    ]
    state = _encoder_state(weights, ALBERT_NEW_SHARED if shared else S3PRL, config, path)
    state |= _head_state(content.get("SpecHead"), config, True, differences, path)
    info = {"step": content.get("Global_step"), "converted_from": "AlbertNew"}
    return Imported("AlbertNew", config, state, info, differences)


def _from_lightning(content: Mapping[str, Any], path: Path) -> Imported:
    theirs = _section(_section(_section(content, "hyper_parameters", path), "model_config", path), "model", path)
    if _section(theirs, "position_embedding", path).get("trainable"):
        raise CheckpointError(f"{path}: its position embedding is trained; this project's is the fixed sinusoid")
    transformer = {
        ours: theirs[section][key] for (section, key), ours in LIGHTNING_KEYS.items() if key in theirs.get(section, {})
    }
    dropout = _section(theirs, "common", path).get("dropout", 0.0)
    transformer |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    weights = _below(content["state_dict"], "pretrained_model.extractor.")
    weights.pop("input_reps.position_embed.weight", None)  # the fixed sinusoid
    audio = AudioConfig(n_fft=2046, log_floor=1e-10, front_end="s3prl")
    config = _model_config(transformer, _with_delta(audio, weights, "input_reps", transformer, path), {}, path)
    differences = [
        "pohanchi/AALBERT's files do not record their front end; that of its input_config.yaml is assumed "
        "(25/10 ms, 1024 bins, 80 log-mel)",
        "its CMVN takes the padding of a batch into account; here padding changes nothing",
        "it drops the frames of an incomplete last token; here they are padded with zeros",
    ]
    if any(name.startswith("mask_token_embedding.") for name in content["state_dict"]):
        differences.append("its trained mask token is not converted; here masked tokens are zero")
    state = _encoder_state(weights, LIGHTNING, config, path)
    state |= _head_state(_below(content["state_dict"], "pretrained_heads.0."), config, True, differences, path)
    info = {"step": content.get("global_step"), "converted_from": "pohanchi/AALBERT"}
    return Imported("pohanchi/AALBERT", config, state, info, differences)


def s3prl_masks(task: Mapping[str, Any]) -> dict[str, object]:
    """Convert S3PRL's section ``task``, which defines its masks; its dice are thrown once per utterance."""
    masks: dict[str, object] = {"dice": "utterance"}
    share = task.get("mask_proportion", 0)
    if 0 < share <= 1:  # 0 means training without masks in time
        masks["mask_proportion"] = share
    width = task.get("mask_consecutive_min", 1)
    if width >= 1 and width == task.get("mask_consecutive_max"):
        masks["mask_consecutive"] = width
        masks["mask_gap"] = max(0, round(width * task.get("mask_bucket_ratio", 1)) - width)
    if task.get("mask_allow_overlap"):
        masks |= {"mask_layout": "overlap", "mask_gap": 0}
    return masks


def s3prl_audio(audio: object, path: Path) -> tuple[AudioConfig, bool, list[str]]:
    """Convert S3PRL's section ``audio``.

    Returns:
        The configuration, whether this project has the same pre-training target, and the differences.

    Raises:
        CheckpointError: the features are of another kind; the message lists every reason.
    """
    if not isinstance(audio, Mapping):
        raise CheckpointError(f"{path}: was trained on features extracted beforehand; it has no front end")
    if "kaldi" in audio:
        raise CheckpointError(f"{path}: uses Kaldi's features (audio.kaldi), which this project does not compute")
    # Other kinds of features have no counterpart here, so that every reason is collected for one message.
    feature, target = _section(audio, "input", path), audio.get("target", audio.get("input"))
    wrong = []
    if feature.get("feat_type") != "mel" or not feature.get("log"):
        wrong.append(f"audio.input is {feature.get('feat_type')} with log {feature.get('log')}, expected mel and true")
    if feature.get("delta", 0) not in (0, 1):
        wrong.append(f"audio.input.delta is {feature['delta']}, expected 0 or 1")
    if wrong:
        raise CheckpointError(f"{path}: " + "; ".join(wrong))
    # The defaults are those of S3PRL's OnlinePreprocessor, since its files record only what differs from them.
    config = AudioConfig(
        sample_rate=audio.get("sample_rate", 16000),
        win_ms=float(audio.get("win_ms", 25)),
        hop_ms=float(audio.get("hop_ms", 10)),
        n_fft=(audio.get("n_freq", 201) - 1) * 2,
        num_mel_bins=audio.get("n_mels", 40),
        delta=bool(feature.get("delta", 0)),
        cmvn="utterance" if feature.get("cmvn", False) else "none",
        log_floor=float(audio.get("eps", 1e-10)),
        front_end="s3prl",
        target_level_db=None if audio.get("target_level") is None else float(audio["target_level"]),
    )
    # The pre-training head is useful only if it predicts the same spectrogram as ours.
    ours = {"feat_type": "linear", "log": True, "delta": 0, "cmvn": True}
    differences = ["S3PRL's features change with the padding of a batch; here padding changes nothing"]
    return config, all(target.get(key, 0) == value for key, value in ours.items()), differences


# ---------------------------------------------------------------------------------------------- parts of reading


def _section(content: Mapping[str, object], key: str, path: Path) -> Mapping[str, Any]:
    section = content.get(key)
    if not isinstance(section, Mapping):
        raise CheckpointError(f'{path}: lacks the section "{key}"; its keys are {", ".join(map(str, content))}')
    return section


def _model_config(
    transformer: Mapping[str, object], audio: AudioConfig, task: Mapping[str, object], path: Path
) -> ModelConfig:
    sections = {"transformer": dict(transformer), "audio": to_dict(audio), "task": dict(task)}
    return from_dict(ModelConfig, sections, str(path))


def _with_delta(
    audio: AudioConfig, weights: Mapping[str, Tensor], inputs: str, transformer: Mapping[str, Any], path: Path
) -> AudioConfig:
    """Set ``audio.delta`` by the width of the input."""
    name = f"{inputs}.spec_transform.weight"
    if name not in weights:
        raise CheckpointError(f"{path}: lacks {name}")
    width = weights[name].size(1) / transformer["downsample_rate"]
    for candidate in (replace(audio, delta=False), replace(audio, delta=True)):
        if candidate.feature_dim == width:
            return candidate
    raise CheckpointError(
        f"{path}: was trained on {width:g}-dimensional features, expected 80 log-mel with or without delta"
    )


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _encoder_state(theirs: Mapping[str, Tensor], layout: Layout, config: ModelConfig, path: Path) -> dict[str, Tensor]:
    """Rename the encoder's tensors by the table.

    Raises:
        CheckpointError: tensors are missing or unknown, or layers that should share weights differ.
    """
    # The first checkpoints name their LayerNorms as TensorFlow does.
    theirs = {name.replace(".gamma", ".weight").replace(".beta", ".bias"): tensor for name, tensor in theirs.items()}
    table = encoder_table(layout, config.transformer)
    missing = [name for name, _ in table if name not in theirs]
    extra = sorted(theirs.keys() - {name for name, _ in table})
    if missing or extra:
        problem = f"lacks {missing[0]}" if missing else f"has {extra[0]}, which this project's encoder does not"
        raise CheckpointError(f"{path}: {problem} ({len(missing)} missing, {len(extra)} unknown)")
    state: dict[str, Tensor] = {}
    for name, ours in table:
        known = state.setdefault(MODEL + ours, theirs[name].detach().clone())
        if known.shape != theirs[name].shape or not torch.equal(known, theirs[name]):
            raise CheckpointError(f"{path}: share_layer is true, but {name} differs from the first layer's")
    return state


def _head_state(
    theirs: Mapping[str, Tensor] | None, config: ModelConfig, predicts_ours: bool, differences: list[str], path: Path
) -> dict[str, Tensor]:
    """Rename the pre-training head, or add to ``differences`` that it is not converted."""
    if not theirs:
        return {}
    names = with_kinds(list(HEAD_NAMES.items()))
    outputs = config.audio.target_dim * config.transformer.downsample_rate
    fits = {name for name, _ in names} == set(theirs) and theirs["output.bias"].numel() == outputs
    if not (predicts_ours and fits):
        differences.append("its pre-training head predicts a target that this project lacks, and is not converted")
        return {}
    state = {ours: theirs[name].detach().clone() for name, ours in names}
    load_weights(SpectrogramHead(config), state, path)
    return {HEAD + name: tensor for name, tensor in state.items()}
