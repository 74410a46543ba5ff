"""The models that a benchmark compares: any upstreams, our checkpoints, untrained ones, and twins of checkpoints."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from s3prl_aalbert.checkpoint.published import PUBLISHED
from s3prl_aalbert.checkpoint.release import load_checkpoint
from s3prl_aalbert.downstream.states import HIDDEN_STATES
from s3prl_aalbert.model.aalbert import reinitialise
from s3prl_aalbert.upstream import hubconf
from s3prl_aalbert.upstream.expert import FeaturesExpert, UpstreamExpert

FEATURES = "aalbert_features"
SINGLE_FRAMES = "aalbert_features, single frames"
FEATURES_WITHOUT_CMVN = "aalbert_features without CMVN"


class Subject(NamedTuple):
    """One model."""

    name: str
    build: Callable[[], nn.Module]
    twin: str | None = None
    """The same model untrained, by its name."""
    selection: str = HIDDEN_STATES
    """What of its outputs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that name models."""
    add = parser.add_argument
    add("-u", "--upstream", nargs="+", default=[], metavar="NAME", help="upstreams, ours or S3PRL's")
    add("-k", "--ckpt", nargs="+", default=[], metavar="CKPT", help="checkpoints of ours")
    add("-g", "--model_config", nargs="+", default=[], metavar="YAML", help="models of ours, untrained")
    add("--seed", type=int, default=0, help="of untrained models; default: %(default)s")
    add("--single-frames", action="store_true", help="also the paper's baseline, frames of 160 dimensions")
    add(
        "--every-frame", action="store_true", help="a hidden state of the checkpoints (-k) every frame, not every token"
    )
    add("--no-twins", action="store_true", help="do not add the untrained model of each checkpoint")


def subjects(args: argparse.Namespace) -> list[Subject]:
    """Return the input features, what was asked for, and its untrained twins."""
    found = [Subject(FEATURES, partial(_upstream, FEATURES))]
    if args.single_frames:
        found.append(Subject(SINGLE_FRAMES, partial(FeaturesExpert, model_config="features_frame")))
    twins: dict[tuple[str, bool], str] = {}  # by kind
    for yaml in args.model_config:
        name = f"untrained {Path(yaml).stem}"
        found.append(Subject(name, partial(_untrained, args.seed, model_config=yaml)))
        twins[_kind(_untrained(args.seed, model_config=yaml))] = name
    wanted: list[tuple[str, str | None]] = [(name, None) for name in args.upstream if name != FEATURES]
    rate = ", every frame" if args.every_frame else ""
    for name, ckpt in [*wanted, *((_name(ckpt) + rate, ckpt) for ckpt in args.ckpt)]:
        build = partial(UpstreamExpert, ckpt, every_frame=args.every_frame) if ckpt else partial(_upstream, name)
        if args.no_twins or (ckpt is None and name not in PUBLISHED):
            found.append(Subject(name, build))
            continue
        kind = _kind(build())
        if kind not in twins:
            twins[kind] = f"untrained {name}"
            found.append(Subject(twins[kind], partial(untrained_twin, args.seed, build)))
        found.append(Subject(name, build, twins[kind]))
    return found


def features_without_cmvn() -> Subject:
    """Return the features whose means over time can tell speakers."""
    return Subject(FEATURES_WITHOUT_CMVN, partial(_upstream, FEATURES), selection="no_cmvn")


def _name(ckpt: str) -> str:
    """Name a checkpoint by its folder and step, so that a run that goes on is another model."""
    path = Path(ckpt)
    step = load_checkpoint(ckpt).info.get("step")
    return f"{path.name if path.is_dir() else path.parent.name}@{step}"


def _upstream(name: str) -> nn.Module:
    if name in hubconf.__all__:
        return getattr(hubconf, name)(refresh=False)
    from s3prl_aalbert.toolkit.upstreams import build_upstream

    return build_upstream(name)


def _kind(upstream: UpstreamExpert) -> tuple[str, bool]:
    """Return what a model has in common with its untrained twin: the configuration, and how often it has a state."""
    return str(upstream.model.config), upstream.every_frame


def _untrained(seed: int, model_config: str) -> UpstreamExpert:
    logging.getLogger("s3prl_aalbert.upstream.expert").setLevel(logging.ERROR)  # it warns that there are no weights
    torch.manual_seed(seed)
    return UpstreamExpert(model_config=model_config)


def untrained_twin(seed: int, build: Callable[[], nn.Module]) -> nn.Module:
    """Return the model with new random weights, those of ``aalbert convert --untrained``; its acoustics stay."""
    upstream = build()
    torch.manual_seed(seed)
    reinitialise(upstream.model)
    return upstream
