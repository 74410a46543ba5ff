"""``aalbert distill``: pre-training against a teacher's hidden states, on the runner of ``aalbert pretrain``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3prl_aalbert.commands import pretrain
from s3prl_aalbert.errors import AalbertError

if TYPE_CHECKING:
    from s3prl_aalbert.distill.objective import Teacher

EXAMPLES = """\
examples:
  aalbert distill --teacher hubert_base -g aalbert_small -c distill_default --speech DIR -n student
  aalbert distill --teacher aalbert_local --teacher_ckpt CKPT -g aalbert_small --speech DIR -n student
  aalbert distill --teacher aalbert_local --teacher_ckpt CKPT -g supernet_small -c distill_supernet --init STAGE1 \\
      --speech DIR -n supernet                          # stage 2: sub-networks, from the whole model of stage 1
  torchrun --nproc_per_node 4 -m s3prl_aalbert distill ...
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: those of ``aalbert pretrain`` and the teacher."""
    pretrain.add_arguments(parser)
    add = parser.add_argument
    add("--teacher", metavar="NAME", help="any upstream of S3PRL or of this plugin (instead of distill.teacher)")
    add("--teacher_ckpt", metavar="CKPT", help="its checkpoint, as -k elsewhere")
    add("--teacher_config", metavar="YAML", help="its configuration, as -g elsewhere")


def main(args: argparse.Namespace) -> int:
    """Distill and return the exit code."""
    for name in ("teacher_ckpt", "teacher_config"):  # a resumed run may start in another folder
        path = Path(getattr(args, name) or "").expanduser()
        if getattr(args, name) and path.exists():
            setattr(args, name, str(path.absolute()))
    for name in ("teacher", "teacher_ckpt", "teacher_config"):  # recorded with the configuration, for resuming
        if getattr(args, name):
            # Quoted: YAML would read a path with "#" or ": " as something else.
            value = json.dumps(getattr(args, name), ensure_ascii=False)
            args.override = ",,".join(filter(None, [args.override, f"config.distill.{name}={value}"]))
    return pretrain.run(args, load_teacher, default_config="distill_default")


def load_teacher_if_any(args: argparse.Namespace, config: Any) -> Teacher | None:
    """Return the teacher of a run that has one."""
    return load_teacher(args, config) if config.distill else None


def load_teacher(args: argparse.Namespace, config: Any) -> Teacher:
    """Return the teacher that the command line or ``distill`` names, frozen.

    Raises:
        AalbertError: none is named, or it does not exist.
    """
    distill = config.distill
    if distill is None:
        raise AalbertError("this configuration has no section distill; use e.g. -c distill_default")
    name = distill.teacher
    if not name:
        raise AalbertError("name the teacher: --teacher UPSTREAM, e.g. hubert_base or aalbert_local")
    ckpt, model_config = distill.teacher_ckpt, distill.teacher_config
    from s3prl_aalbert.toolkit.upstreams import build_upstream

    try:
        teacher: Any = build_upstream(name, ckpt, model_config)
    except AalbertError as error:
        raise AalbertError(f"--teacher {name}: {error}") from error
    return teacher.eval().requires_grad_(False)
