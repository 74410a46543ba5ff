"""``aalbert abx``: how well the hidden states of any upstream tell phones apart, without training anything."""

from __future__ import annotations

import argparse
from pathlib import Path

from s3prl_aalbert.commands import run_command
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.seeds import checked_seed
from s3prl_aalbert.typed_options import add_options

EXAMPLES = """\
examples:
  aalbert abx -u aalbert --speech timit                             # every layer, beside the input features
  aalbert abx -u aalbert_local -k CKPT -l 3 --speech timit --out abx.csv
  aalbert abx -u fbank --against none --speech timit
  aalbert abx -u aalbert_6l -g aalbert_small --speech timit         # an untrained model
"""
NOTHING = "none"


def abx(
    *,
    upstream: str,
    speech: Path,
    upstream_ckpt: str | None = None,
    upstream_model_config: str | None = None,
    upstream_feature_selection: str = "hidden_states",
    layer: int | None = None,
    alignments: str | None = None,
    phone_set: str = "39",
    exclude: tuple[str, ...] = ("sa1", "sa2"),
    against: str = "aalbert_features",
    out: Path | None = None,
    seed: int = 0,
) -> None:
    """Print the ABX errors of an upstream and how they differ from those of another one.

    Args:
        upstream: any upstream of S3PRL or of this plugin
        speech: audio of several speakers, e.g. TIMIT
        upstream_ckpt: its checkpoint, if it takes one
        upstream_model_config: its configuration, if it takes one
        upstream_feature_selection: key of the upstream's outputs
        layer: one hidden state, 0 is the first; default: all
        alignments: labels as in aalbert_phone; default: the .phn beside the audio
        phone_set: 39, 48, 61 (TIMIT's) or as_found
        exclude: utterances to skip; default: sa1 sa2
        against: upstream whose errors are subtracted, or none
        out: write the value of every layer and pair of speakers to this file
        seed: for the weights of an untrained upstream

    Raises:
        AalbertError: unusable audio or labels, or no such upstream, layer or key.
    """
    import torch

    checked_seed(seed)
    from s3prl_aalbert.downstream.abx import load_segments
    from s3prl_aalbert.downstream.abx_scores import Scores, format_scores, score, write_scores
    from s3prl_aalbert.downstream.phone.config import PhoneDataConfig
    from s3prl_aalbert.toolkit.upstreams import build_upstream
    from s3prl_aalbert.yaml_config import from_dict

    values = {"audio": str(speech), "alignments": alignments, "phone_set": phone_set, "exclude": list(exclude)}
    spoken = load_segments(from_dict(PhoneDataConfig, values, "abx"))

    def scored(name: str, ckpt: str | None, model_config: str | None, selection: str, layer: int | None) -> Scores:
        torch.manual_seed(seed)
        return score(build_upstream(name, ckpt, model_config).eval(), name, selection, layer, spoken)

    scores = scored(upstream, upstream_ckpt, upstream_model_config, upstream_feature_selection, layer)
    baseline = None if against == NOTHING else scored(against, None, None, "hidden_states", None)
    if baseline and len(baseline.layers) > 1:
        raise AalbertError(f"--against {against}: has {len(baseline.layers)} layers, expected an upstream with one")
    print(format_scores(spoken, scores, baseline))
    if out:
        write_scores(out, [scores, baseline] if baseline else [scores])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    metavars = {"upstream_ckpt": "CKPT", "upstream_model_config": "YAML", "upstream_feature_selection": "KEY"}
    metavars |= {"layer": "N", "speech": "DIR", "alignments": "PATH", "phone_set": "SET", "exclude": "NAME"}
    add_options(parser, abx, metavars=metavars | {"against": "U", "out": "CSV"})


def main(args: argparse.Namespace) -> int:
    """Print the table, write the values and return 0."""
    return run_command(abx, args)
