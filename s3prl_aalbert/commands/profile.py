"""``aalbert profile``: parameters, multiply-accumulates, speed and memory of our models and of S3PRL's upstreams."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_aalbert.checkpoint.published import PRESETS, packaged_names
from s3prl_aalbert.commands import run_command
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.typed_options import add_options

if TYPE_CHECKING:
    from s3prl_aalbert.profile.comparison import Subject

EXAMPLES = """examples:
  aalbert profile                                   # the six models of the paper
  aalbert profile -u aalbert_local -k CKPT --measure
  aalbert profile -u aalbert_6l fbank tera          # any upstream of S3PRL (tera downloads its weights)
  aalbert profile -g my_model.yaml --measure --seconds 5 15 60 --threads 1
"""
LENGTHS = (5.0, 15.0, 60.0)
TOOLKIT = "s3prl_aalbert.toolkit.preload"


def profile(
    *,
    upstream: list[str] | None = None,
    upstream_ckpt: str | None = None,
    upstream_model_config: list[str] | None = None,
    length: float = 15.0,
    superb: bool = False,
    measure: bool = False,
    seconds: list[float] | None = None,
    repeats: int = 5,
    threads: int | None = None,
    device: str = "cpu",
) -> None:
    """Print what models cost; with ``measure`` also how fast they are here.

    Args:
        upstream: upstreams of S3PRL or of this plugin
        upstream_ckpt: checkpoint, with exactly one -u
        upstream_model_config: models of this plugin, by YAML; with -k sub-networks of the checkpoint
        length: seconds of the utterance behind MACs per second; default: 15
        superb: also run S3PRL's upstreams on the 32 lengths of SUPERB's profile
        measure: time the models on this machine and watch their memory
        seconds: lengths for --measure; default: 5 15 60
        repeats: timed passes for --measure
        threads: threads for --measure; default: torch's choice
        device: device for --measure

    Raises:
        AalbertError: no such model, or options that do not go together.
    """
    if upstream_ckpt and len(upstream or ()) != 1:
        raise AalbertError(f"-k {upstream_ckpt} belongs to one upstream: give exactly one -u, e.g. aalbert_local")
    if min([length, *(seconds or ())]) <= 0 or max([length, *(seconds or ())]) > 3600:
        raise AalbertError("--length and --seconds must lie between 0 and 3600 seconds")
    for name, value in {"repeats": repeats, "threads": threads}.items():
        if value is not None and value < 1:
            raise AalbertError(f"--{name} is {value}, expected at least 1")
    if not measure and (seconds or threads or device != "cpu"):
        raise AalbertError("--seconds, --threads and --device are for --measure: add it")
    from s3prl_aalbert.device import checked_device
    from s3prl_aalbert.profile.comparison import describe_costs, describe_speed

    checked_device(device, numbered=True)
    subjects = _subjects(upstream or [], upstream_ckpt, upstream_model_config or [])
    print(describe_costs(subjects, length, superb))
    if measure:
        print("\n" + describe_speed(subjects, seconds or LENGTHS, repeats, threads, device))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    metavars = {"upstream": "NAME", "upstream_ckpt": "CKPT", "upstream_model_config": "YAML", "length": "S"}
    add_options(parser, profile, metavars=metavars | {"seconds": "S", "repeats": "N", "threads": "N"})


def main(args: argparse.Namespace) -> int:
    """Print the tables and return 0."""
    return run_command(profile, args)


def _subjects(upstreams: list[str], ckpt: str | None, configs: list[str]) -> list[Subject]:
    if not upstreams and not configs:
        return [_of_config(config) for config in PRESETS.values()]
    if ckpt and configs:  # sub-networks of a supernet, as -g is with -k elsewhere
        return [_of_upstream(upstreams[0], ckpt, config) for config in configs]
    return [*(_of_upstream(name, ckpt) for name in upstreams), *map(_of_config, configs)]


def _of_config(name: str) -> Subject:
    from s3prl_aalbert.model.config import load_model_config
    from s3prl_aalbert.profile.comparison import Subject
    from s3prl_aalbert.upstream.expert import UpstreamExpert

    return Subject(Path(name).stem, load_model_config(name), partial(UpstreamExpert, model_config=name))


def _of_upstream(name: str, ckpt: str | None, arch: str | None = None) -> Subject:
    from s3prl_aalbert.profile.comparison import Subject
    from s3prl_aalbert.toolkit.upstreams import build_upstream
    from s3prl_aalbert.upstream.named import upstream_config

    build = partial(build_upstream, name, ckpt, arch)
    if name in PRESETS and not ckpt:
        return _of_config(PRESETS[name])._replace(name=name)
    if name == "aalbert_local" and ckpt:
        config = upstream_config(name, str(Path(ckpt).expanduser()), arch)
        return Subject(" ".join([Path(ckpt).name, *([Path(arch).stem] if arch else [])]), config, build, TOOLKIT)
    # An upstream that the hub refuses with a checkpoint is left to it, and one at every frame costs more than one pass.
    config = upstream_config(name, None, None) if name in packaged_names() and not ckpt else None
    return Subject(name, config, build, TOOLKIT)
