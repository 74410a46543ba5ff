"""``aalbert features``: the features of files and folders, of any upstream, as npy or safetensors."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from s3prl_aalbert.errors import AalbertError

EXAMPLES = """\
examples:
  aalbert features speech.flac features                       # the packaged model's last layer: features/speech.npy
  aalbert features -u aalbert_local -k CKPT -l 3 my_wavs features
  aalbert features -u hubert_base -l all --format safetensors train dev features      # features/train/..., dev/...
  aalbert features -u aalbert_features -s no_cmvn my_wavs features                    # the input acoustic features
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("speech", nargs="+", type=Path, metavar="IN", help="audio files, or folders of them")
    add("out", type=Path, metavar="OUT", help="folder; a second run adds what is missing there")
    add("-u", "--upstream", default="aalbert", help="any upstream of S3PRL or of this plugin; default: %(default)s")
    add("-k", "--upstream_ckpt", metavar="CKPT", help="its checkpoint, where it takes one")
    add("-g", "--upstream_model_config", metavar="YAML", help="its configuration, where it takes one")
    add("-l", "--layer", default="-1", metavar="N", help="hidden state, 0 is the first, or all; default: the last")
    add("-s", "--upstream_feature_selection", default="hidden_states", metavar="KEY", help="default: %(default)s")
    add("--format", choices=("npy", "safetensors"), default="npy", help="default: %(default)s")
    add("--device", help="cuda or cpu; default: cuda if there is one")
    add("--seed", type=int, default=0, help="of an untrained upstream; default: %(default)s")


def main(args: argparse.Namespace) -> int:
    """Write the features, say how many, and return 0."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    layer = _layer(args.layer)
    import torch

    from s3prl_aalbert.device import checked_device
    from s3prl_aalbert.downstream.features import FeatureOptions, name_utterances, write_features
    from s3prl_aalbert.toolkit.upstreams import build_upstream

    device = checked_device(args.device, numbered=True)
    utterances = name_utterances([path.expanduser() for path in args.speech])
    torch.manual_seed(args.seed)
    upstream = build_upstream(args.upstream, args.upstream_ckpt, args.upstream_model_config).eval().to(device)
    options = FeatureOptions(layer, args.upstream_feature_selection, args.format)
    described = {"upstream": args.upstream, "ckpt": args.upstream_ckpt, "model_config": args.upstream_model_config}
    done = write_features(upstream, utterances, args.out.expanduser(), options, described)
    left_out = f", {len(done.left_out)} left out (left_out.tsv)" if done.left_out else ""
    kept = f", {done.kept} were there" if done.kept else ""
    print(f"{args.out}: features of {done.written} files written{kept}{left_out}")
    return 0


def _layer(typed: str) -> int | str:
    if typed == "all":
        return typed
    try:
        return int(typed)
    except ValueError:
        raise AalbertError(f"-l {typed}: expected the number of a hidden state, or all") from None
