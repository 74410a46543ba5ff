"""``aalbert profile``: parameters, multiply-accumulates, speed and memory of our models and of S3PRL's upstreams."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from s3prl_aalbert.errors import AalbertError

EXAMPLES = """examples:
  aalbert profile                                   # the six models of the paper
  aalbert profile -u aalbert_local -k CKPT --measure
  aalbert profile -u aalbert_6l fbank tera          # any upstream of S3PRL (tera downloads its weights)
  aalbert profile -g my_model.yaml --measure --seconds 5 15 60 --threads 1
"""
LENGTHS = (5.0, 15.0, 60.0)
TOOLKIT = "s3prl_aalbert.toolkit.preload"


class Subject(NamedTuple):
    """One model to profile."""

    name: str
    config: Any
    """ModelConfig of one of our models; None for an upstream that must be run to be counted."""
    build: Callable[[], Any]
    """Returns the upstream; picklable."""
    preload: str | None = None
    """Module that building it imports."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("-u", "--upstream", nargs="+", default=[], metavar="NAME", help="upstreams, ours or S3PRL's")
    add("-k", "--upstream_ckpt", metavar="CKPT", help="checkpoint of the (one) upstream")
    add(
        "-g",
        "--upstream_model_config",
        nargs="+",
        default=[],
        metavar="YAML",
        help="our models by YAML; with -k sub-networks",
    )
    add("--length", type=float, default=15.0, metavar="S", help="utterance behind MACs per second; default: 15")
    add("--superb", action="store_true", help="also run S3PRL's upstreams on the 32 lengths of SUPERB's profile")
    add("--measure", action="store_true", help="time the models on this machine and watch their memory")
    add("--seconds", type=float, nargs="+", metavar="S", help="lengths for --measure; default: 5 15 60")
    add("--repeats", type=int, default=5, metavar="N", help="timed passes of --measure; default: %(default)s")
    add("--threads", type=int, metavar="N", help="threads for --measure; default: torch's choice")
    add("--device", default="cpu", help="for --measure; default: %(default)s")


def main(args: argparse.Namespace) -> int:
    """Print the tables and return 0."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    _check(args)
    from s3prl_aalbert.profile import costs, tables

    subjects = _subjects(args)
    profiles = []
    for subject in subjects:
        if subject.config is not None:
            profiles.append(costs.profile_config(subject.name, subject.config, args.length))
        else:
            profiles.append(costs.profile_upstream(subject.name, subject.build(), args.length, args.superb))
    print(tables.cost_table(profiles))
    analytic = [p for p, subject in zip(profiles, subjects, strict=True) if subject.config is not None]
    if analytic:
        print(f"\n{tables.module_table(analytic)}")
    for found, subject in zip(profiles, subjects, strict=True):
        if subject.config is None:
            print(f"\n{tables.upstream_table(found)}")
    print(f"\nMACs of one second of audio, in an utterance of {args.length:g} s; Fourier transforms are not counted.")
    if args.measure:
        _measure(args, subjects)
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.upstream_ckpt and len(args.upstream) != 1:
        raise AalbertError(f"-k {args.upstream_ckpt} belongs to one upstream: give exactly one -u, e.g. aalbert_local")
    lengths = args.seconds or []
    if min([args.length, *lengths]) <= 0 or max([args.length, *lengths]) > 3600:
        raise AalbertError("--length and --seconds must lie between 0 and 3600 seconds")
    for name in ("repeats", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise AalbertError(f"--{name} is {value}, expected at least 1")
    if not args.measure and (args.seconds or args.threads or args.device != "cpu"):
        raise AalbertError("--seconds, --threads and --device tell how to measure: add --measure")
    from s3prl_aalbert.device import checked_device

    checked_device(args.device, numbered=True)


def _subjects(args: argparse.Namespace) -> list[Subject]:
    from s3prl_aalbert.checkpoint.published import PRESETS

    if not args.upstream and not args.upstream_model_config:
        return [_of_config(config) for config in PRESETS.values()]
    if args.upstream_ckpt and args.upstream_model_config:  # a sub-network of a supernet, as -g is with -k elsewhere
        return [_of_upstream(args.upstream[0], args.upstream_ckpt, config) for config in args.upstream_model_config]
    named = [_of_upstream(name, args.upstream_ckpt) for name in args.upstream]
    return named + [_of_config(config) for config in args.upstream_model_config]


def _of_config(name: str) -> Subject:
    from s3prl_aalbert.model.config import load_model_config
    from s3prl_aalbert.upstream.expert import UpstreamExpert

    return Subject(Path(name).stem, load_model_config(name), partial(UpstreamExpert, model_config=name))


def _of_upstream(name: str, ckpt: str | None, arch: str | None = None) -> Subject:
    from s3prl_aalbert.checkpoint.published import PRESETS
    from s3prl_aalbert.toolkit.upstreams import build_upstream
    from s3prl_aalbert.upstream.named import upstream_config

    build = partial(build_upstream, name, ckpt, arch)
    if name in PRESETS and not ckpt:
        return _of_config(PRESETS[name])._replace(name=name)
    if name == "aalbert_local" and ckpt:
        config = upstream_config(name, str(Path(ckpt).expanduser()), arch)
        return Subject(" ".join([Path(ckpt).name, *([Path(arch).stem] if arch else [])]), config, build, TOOLKIT)
    return Subject(name, None, build, TOOLKIT)


def _measure(args: argparse.Namespace, subjects: list[Subject]) -> None:
    from s3prl_aalbert.profile import speed, tables

    speeds = []
    for subject in subjects:
        lengths = args.seconds or LENGTHS
        how = args.device, args.threads, args.repeats, subject.preload
        measured = [speed.measure(subject.build, seconds, *how) for seconds in lengths]
        speeds.append((subject.name, measured))
    print(f"\n{tables.speed_table(speeds)}")
    where = "GPU memory" if args.device.startswith("cuda") else "the process beyond Python, torch and S3PRL"
    print(
        f"\nRTF: median time of {args.repeats} passes over one utterance / its length; MiB: most memory at once, "
        f"{where}.\nMeasured on {speed.machine(args.device, args.threads)}."
    )
