"""``aalbert pretrain``: S3PRL's run_pretrain.py flags on our own runner; with a teacher, distillation."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s3prl_aalbert.experiments.pretraining import run
from s3prl_aalbert.pretrain.request import DEFAULT_CONFIG, DISTILL_CONFIG, MODELS, Request
from s3prl_aalbert.typed_options import add_options, call

EXAMPLES = """\
examples:
  aalbert pretrain -g aalbert_units -c pretrain_units --speech LibriSpeech/train-clean-100 -n mine   # the recipe
  aalbert pretrain -g aalbert_6l --speech LibriSpeech/train-clean-360 -n aalbert_6l                  # the paper's task
  aalbert pretrain -g aalbert_small -c pretrain_debug --speech my_wavs -n try --dry-run
  aalbert pretrain -n aalbert_6l -a                      # go on after an interruption
  aalbert pretrain --teacher hubert_base -g aalbert_small --speech DIR -n student                    # distillation
  torchrun --nproc_per_node 4 -m s3prl_aalbert.pretrain -g aalbert_12l -c pretrain_default --speech DIR -n big
  srun --nodes 2 --ntasks-per-node 4 python -m s3prl_aalbert.pretrain -g aalbert_12l --speech DIR -n big
"""
TEACHER = ("teacher", "teacher_ckpt", "teacher_config")
FLAGS = {name: (f"--{name}",) for name in ("multi_gpu", "teacher_ckpt", "teacher_config")}
METAVARS = {
    **{"upstream": "NAME", "upstream_config": "YAML", "config": "YAML", "speech": "DIR", "expname": "NAME"},
    **{"expdir": "DIR", "past_exp": "CKPT", "init": "CKPT", "override": "TEXT"},
    **{"teacher": "NAME", "teacher_ckpt": "CKPT", "teacher_config": "YAML"},
}


def pretrain(
    *,
    upstream: str | None = None,
    upstream_config: str | None = None,
    config: str | None = None,
    speech: list[str] | None = None,
    expname: str | None = None,
    expdir: str | None = None,
    past_exp: str | None = None,
    auto_resume: bool = False,
    init: str | None = None,
    override: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    multi_gpu: bool = False,
    strict: bool = False,
    dry_run: bool = False,
    teacher: str | None = None,
    teacher_ckpt: str | None = None,
    teacher_config: str | None = None,
) -> int:
    """Pre-train on folders of speech, or distill a teacher, and return the exit code.

    Args:
        upstream: architecture, by the name of its upstream; -g has priority; default: aalbert_3l
        upstream_config: configuration of the model: a path or a packaged name such as aalbert_6l
        config: configuration of the training: a path or a packaged name such as pretrain_default
        speech: folders of speech (instead of pretrain_expert.datarc.paths)
        expname: save at result/pretrain/NAME
        expdir: save at DIR
        past_exp: resume from this state or folder, with the configuration stored there
        auto_resume: resume if the experiment has a state
        init: start from the weights of a checkpoint or a packaged name (aalbert), with new data and schedule
        override: e.g. "config.optimizer.lr=1e-3,,model.transformer.hidden_size=256"
        seed: default: 1337, or that of the resumed run
        device: cuda or cpu; default: cuda if there is one
        multi_gpu: use every GPU of this machine; for several machines use torchrun or srun
        strict: stop at unusable audio instead of skipping it
        dry_run: check configuration, speech and memory in two steps; write nothing
        teacher: learn the hidden states of this upstream, of S3PRL or of this plugin (instead of distill.teacher)
        teacher_ckpt: the teacher's checkpoint, as -k elsewhere
        teacher_config: the teacher's configuration, as -g elsewhere

    Raises:
        AalbertError: a configuration, checkpoint, folder or speech that cannot be used.
    """
    return run(as_request(**locals()))


def as_request(*, override: str | None, **options: Any) -> Request:
    """Return the arguments of ``pretrain`` as one value."""
    teacher = {name: options.pop(name) for name in TEACHER}
    default = DISTILL_CONFIG if teacher["teacher"] else DEFAULT_CONFIG
    return Request(override=with_teacher(override, teacher), default_config=default, **options)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_options(parser, pretrain, FLAGS, METAVARS)
    choice = next(action for action in parser._actions if action.dest == "upstream")
    choice.choices = sorted(MODELS)


def main(args: argparse.Namespace) -> int:
    """Run pre-training and return the exit code."""
    return call(pretrain, args)


def with_teacher(override: str | None, teacher: Mapping[str, str | None]) -> str | None:
    """Return ``-o`` with the teacher in it: it is recorded with the configuration, for resuming.

    Args:
        override: the option.
        teacher: the options of ``TEACHER``.
    """
    found = [override]
    for name, value in teacher.items():
        path = Path(value or "").expanduser()
        if value and name != "teacher" and path.exists():  # a resumed run may start in another folder
            value = str(path.absolute())
        if value:  # quoted: YAML would read a path with "#" or ": " as something else
            found.append(f"config.distill.{name}={json.dumps(value, ensure_ascii=False)}")
    return ",,".join(filter(None, found)) or None
