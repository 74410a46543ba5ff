"""Exports a plain model in the form that S3PRL's own ``audio_albert_local`` and ``mockingjay_local`` read."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from s3prl_aalbert.checkpoint.content import CheckpointError
from s3prl_aalbert.checkpoint.interop.importing import s3prl_audio
from s3prl_aalbert.checkpoint.interop.names import (
    HEAD,
    HEAD_NAMES,
    MODEL,
    S3PRL,
    TRANSFORMER_KEYS,
    encoder_table,
    with_kinds,
)
from s3prl_aalbert.checkpoint.release import Checkpoint
from s3prl_aalbert.model.config import AudioConfig, TransformerConfig

TARGET_LEVEL_DB = -25
"""S3PRL's own default."""
S3PRL_HOP, S3PRL_FFT = 160, 400
"""Fixed in S3PRL: its get_downsample_rates, and the size of its mel filter bank."""


@dataclass(frozen=True)
class Exported:
    """The content for torch.save, and what S3PRL will compute differently from this project."""

    content: dict[str, object]
    differences: list[str]


def export_s3prl(checkpoint: Checkpoint) -> Exported:
    """Convert a model to the form of S3PRL's ``states-*.ckpt``.

    A model that was converted from S3PRL gets its original front end back, so that nothing differs.

    Raises:
        CheckpointError: S3PRL cannot represent the model; the message lists every reason.
    """
    config = checkpoint.config
    problems = _encoder_problems(config.transformer) + _audio_problems(config.audio)
    if problems:
        raise CheckpointError(f"{checkpoint.path}: S3PRL cannot represent this model: " + "; ".join(problems))
    audio, differences = _audio_section(checkpoint)
    state = checkpoint.state
    table = encoder_table(S3PRL, config.transformer)
    content = {
        "Transformer": {theirs: _tensor(state, MODEL + ours, checkpoint.path) for theirs, ours in table},
        "Config": {},
        "Upstream_Config": {
            "transformer": _transformer_section(config.transformer),
            "task": {"sequence_length": 0, "position_encoding_size": config.transformer.hidden_size},
            "audio": audio,
        },
        "Step": checkpoint.info.get("step"),
    }
    if HEAD + "output.weight" in state and audio["target"]["feat_type"] == "linear":
        names = with_kinds(list(HEAD_NAMES.items()))
        content["SpecHead"] = {theirs: _tensor(state, HEAD + ours, checkpoint.path) for theirs, ours in names}
    return Exported(content, differences)


def _tensor(state: dict[str, Tensor], name: str, path: Path) -> Tensor:
    if name not in state:
        raise CheckpointError(f"{path}: does not fit its own configuration: lacks {name}")
    return state[name].float()


def _encoder_problems(transformer: TransformerConfig) -> list[str]:
    """Return which settings of the encoder S3PRL has no option for."""
    found = []
    if transformer.downsample_rate != 1:
        found.append(
            f"it stacks {transformer.downsample_rate} frames into a token (transformer.downsample_rate), and S3PRL none"
        )
    layers, heads = transformer.num_hidden_layers, transformer.num_attention_heads
    plain = {
        "reuse_pattern": (0,) * layers,
        "attention_head_size": transformer.hidden_size // heads,
        "position_encoding_size": transformer.hidden_size,
        "layer_attention_heads": (heads,) * layers,
        "layer_intermediate_sizes": (transformer.intermediate_size,) * layers,
    }
    known = {*TRANSFORMER_KEYS, "downsample_rate", "share_layer", "num_hidden_groups", "layer_groups"}
    for field in fields(transformer):
        value = getattr(transformer, field.name)
        if field.name not in known and value not in (None, field.default, plain.get(field.name)):
            found.append(f"transformer.{field.name} is {value}, which S3PRL's encoder does not have")
    return found


def _audio_problems(audio: AudioConfig) -> list[str]:
    """Return which settings of the front end S3PRL has no option for."""
    found = []
    if audio.hop_samples != S3PRL_HOP:
        found.append(f"audio.hop_ms is {audio.hop_ms:g}, and S3PRL always reports one frame every 10 ms")
    if audio.n_fft != S3PRL_FFT:
        found.append(f"audio.n_fft is {audio.n_fft}, S3PRL's mel filters are made for {S3PRL_FFT}")
    if audio.front_end == "librosa":
        found.append("audio.front_end is librosa, whose mel filters and deltas S3PRL does not have")
    if audio.cmvn == "corpus":
        found.append("audio.cmvn is corpus, and S3PRL keeps no statistics of a corpus")
    if audio.cmvn == "none" and audio.target_level_db is None:
        found.append("audio.cmvn is none without a target_level_db, and S3PRL always scales waveforms to one level")
    return found


def _transformer_section(transformer: TransformerConfig) -> dict[str, object]:
    section = {key: getattr(transformer, key) for key in TRANSFORMER_KEYS}
    groups = len(set(transformer.group_of_layer))
    # S3PRL has one set of weights, or one per layer; other numbers of groups are written layer by layer.
    return section | {"input_dim": -1, "share_layer": groups == 1, "pre_layer_norm": False}


def _audio_section(checkpoint: Checkpoint) -> tuple[dict[str, Any], list[str]]:
    audio = checkpoint.config.audio
    original = checkpoint.info.get("s3prl_audio")
    if original is not None and s3prl_audio(original, checkpoint.path)[0] == audio:
        return {**original, "target": original.get("target", original["input"])}, []
    features = {"channel": 0, "log": True, "cmvn": audio.cmvn == "utterance"}
    ours = audio.target == "log" and audio.target_cmvn and not audio.target_preemphasis
    linear = {**features, "cmvn": True, "channel": 1, "feat_type": "linear", "delta": 0}
    section = {
        "target_level": TARGET_LEVEL_DB if audio.target_level_db is None else audio.target_level_db,
        "win_ms": audio.win_ms,
        "hop_ms": audio.hop_ms,
        "n_freq": audio.n_fft // 2 + 1,
        "n_mels": audio.num_mel_bins,
        "n_mfcc": 13,
        "eps": audio.log_floor,
        "input": {**features, "feat_type": "mel", "delta": int(audio.delta)},
        "target": linear if ours else {**linear, "feat_type": "mel"},
    }
    differences = []
    if audio.front_end != "s3prl":
        differences += [
            "S3PRL centres frame i on sample hop * i, mirrors the edges and gives n // hop + 1 frames of n samples; "
            "the model's centre is hop * (i + 1/2), with zeros at the edges and ceil(n / hop) frames",
            "S3PRL's CMVN divides by the standard deviation with n - 1, the model's with n",
        ]
    if audio.target_level_db is None:
        differences.append(f"S3PRL scales waveforms to {TARGET_LEVEL_DB} dB, which CMVN undoes except near silence")
    return section, differences
