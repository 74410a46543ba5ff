"""``aalbert features``: the features of files and folders, of any upstream, as npy or safetensors."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Literal

from s3prl_aalbert.commands import run_command
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.seeds import checked_seed
from s3prl_aalbert.typed_options import add_options

EXAMPLES = """\
examples:
  aalbert features speech.flac features                       # the packaged model's last layer: features/speech.npy
  aalbert features -u aalbert_local -k CKPT -l 3 my_wavs features
  aalbert features -u hubert_base -l all --format safetensors train dev features      # features/train/..., dev/...
  aalbert features -u aalbert_features -s no_cmvn my_wavs features                    # the input acoustic features
"""


def features(
    speech: list[Path],
    out: Path,
    *,
    upstream: str = "aalbert",
    upstream_ckpt: str | None = None,
    upstream_model_config: str | None = None,
    layer: int | Literal["all"] = -1,
    upstream_feature_selection: str = "hidden_states",
    format: Literal["npy", "safetensors"] = "npy",
    device: str | None = None,
    seed: int = 0,
) -> None:
    """Write the features of audio files, each computed alone.

    Args:
        speech: audio files, or folders of them
        out: folder of the features; a second run adds what is missing there or has changed
        upstream: any upstream of S3PRL or of this plugin
        upstream_ckpt: its checkpoint, if it takes one
        upstream_model_config: its configuration, if it takes one
        layer: hidden state, 0 is the first, or all; default: the last
        upstream_feature_selection: key of the upstream's outputs
        format: file format of the features
        device: cuda or cpu; default: cuda if there is one
        seed: for the weights of an untrained upstream

    Raises:
        AalbertError: no usable audio, no such upstream or layer, or ``out`` holds features of another kind.
    """
    import torch

    from s3prl_aalbert.device import checked_device
    from s3prl_aalbert.downstream.features import ARCHITECTURE, FeatureOptions, name_utterances, write_features
    from s3prl_aalbert.model.config import ModelConfig, to_dict
    from s3prl_aalbert.toolkit.upstreams import build_upstream

    place = checked_device(device, numbered=True)
    utterances = name_utterances([path.expanduser() for path in speech])
    torch.manual_seed(checked_seed(seed))
    built = build_upstream(upstream, upstream_ckpt, upstream_model_config).eval().to(place)
    options = FeatureOptions(layer, upstream_feature_selection, format)
    described: dict[str, object] = {"upstream": upstream, "ckpt": upstream_ckpt, "model_config": upstream_model_config}
    described |= _config_digest(upstream_model_config)
    config = getattr(getattr(built, "model", None), "config", None)
    if isinstance(config, ModelConfig):
        described[ARCHITECTURE] = {name: to_dict(config)[name] for name in ("transformer", "audio")}
    done = write_features(built, utterances, out.expanduser(), options, described)
    skipped = f", {len(done.skipped)} skipped (left_out.tsv)" if done.skipped else ""
    kept = f", {done.kept} existed already" if done.kept else ""
    print(f"{out}: features of {done.written} files written{kept}{skipped}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    metavars = {"speech": "IN", "out": "OUT", "upstream": "NAME", "upstream_ckpt": "CKPT", "layer": "N"}
    metavars |= {"upstream_model_config": "YAML", "upstream_feature_selection": "KEY"}
    add_options(parser, features, metavars=metavars, types={"layer": _layer})


def main(args: argparse.Namespace) -> int:
    """Write the features and return 0."""
    return run_command(features, args, "%(message)s")


def _config_digest(model_config: str | None) -> dict[str, str]:
    """Return a digest of a configuration's file: the sizes of a sub-network, say, change no weights."""
    from s3prl_aalbert.downstream.features import DIGEST_OF_CONFIG

    path = Path(model_config or "").expanduser()
    return {DIGEST_OF_CONFIG: hashlib.sha256(path.read_bytes()).hexdigest()} if path.is_file() else {}


def _layer(typed: str) -> int | Literal["all"]:
    if typed == "all":
        return "all"
    try:
        return int(typed)
    except ValueError:
        raise AalbertError(f"-l {typed}: expected the number of a hidden state, or all") from None
