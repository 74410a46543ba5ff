"""``aalbert pretrain``: S3PRL's run_pretrain.py flags on our own runner; with a teacher, distillation."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3prl_aalbert.errors import EXIT_STOPPED, EXIT_USER_ERROR, AalbertError, lost_process
from s3prl_aalbert.pretrain.request import DEFAULT_CONFIG, MODELS, Request
from s3prl_aalbert.pretrain.signals import Stopped, StopSignal
from s3prl_aalbert.typed_options import add_options, call

if TYPE_CHECKING:
    from s3prl_aalbert.compress.distill_config import DistillConfig
    from s3prl_aalbert.pretrain.runner import Pretrainer
    from s3prl_aalbert.pretrain.stages import Stage

logger = logging.getLogger(__name__)

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
DISTILL_CONFIG = "distill_default"
TEACHER = ("teacher", "teacher_ckpt", "teacher_config")
FLAGS = {
    "upstream": ("-u", "--upstream"),
    "upstream_config": ("-g", "--upstream_config"),
    "config": ("-c", "--config"),
    "expname": ("-n", "--expname"),
    "expdir": ("-p", "--expdir"),
    "past_exp": ("-e", "--past_exp"),
    "auto_resume": ("-a", "--auto_resume"),
    "override": ("-o", "--override"),
    "multi_gpu": ("--multi_gpu",),
    "teacher_ckpt": ("--teacher_ckpt",),
    "teacher_config": ("--teacher_config",),
}
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
        upstream: the architecture of an upstream, by its name in tasks; default: aalbert_3l; -g goes first
        upstream_config: model: a path or a packaged name such as aalbert_6l
        config: runner: a path or a packaged name such as pretrain_default
        speech: folders of speech (instead of pretrain_expert.datarc.paths)
        expname: save at result/pretrain/NAME
        expdir: save at DIR
        past_exp: resume from a state or folder, with its own configuration
        auto_resume: resume if the experiment has a state
        init: start from the weights of a checkpoint or a packaged name (aalbert), with new data and schedule
        override: e.g. "config.optimizer.lr=1e-3,,model.transformer.hidden_size=256"
        seed: default: 1337, or that of the run that goes on
        device: cuda or cpu; default: cuda if there is one
        multi_gpu: use every GPU of this machine; more than one machine: torchrun or srun
        strict: stop at unusable audio instead of leaving it out
        dry_run: check configuration, speech and memory in two steps; write nothing
        teacher: learn the hidden states of this upstream, of S3PRL or of this plugin (instead of distill.teacher)
        teacher_ckpt: the teacher's checkpoint, as -k elsewhere
        teacher_config: the teacher's configuration, as -g elsewhere

    Raises:
        AalbertError: a configuration, checkpoint, folder or speech that cannot be used.
    """
    return run(as_request(**locals()))


def as_request(
    *,
    override: str | None,
    teacher: str | None,
    teacher_ckpt: str | None,
    teacher_config: str | None,
    **others: Any,
) -> Request:
    """Return the arguments of ``pretrain`` as one value."""
    default = DISTILL_CONFIG if teacher else DEFAULT_CONFIG
    override = with_teacher(override, teacher, teacher_ckpt, teacher_config)
    return Request(override=override, default_config=default, **others)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_options(parser, pretrain, FLAGS, METAVARS)
    choice = next(action for action in parser._actions if action.dest == "upstream")
    choice.choices = sorted(MODELS)


def main(args: argparse.Namespace) -> int:
    """Run pre-training and return the exit code."""
    return call(pretrain, args)


def with_teacher(override: str | None, *values: str | None) -> str | None:
    """Return ``-o`` with the teacher in it: it is recorded with the configuration, for resuming.

    Args:
        override: the option.
        values: of ``TEACHER``.
    """
    found = [override]
    for name, value in zip(TEACHER, values, strict=True):
        path = Path(value or "").expanduser()
        if value and name != TEACHER[0] and path.exists():  # a resumed run may start in another folder
            value = str(path.absolute())
        if value:  # quoted: YAML would read a path with "#" or ": " as something else
            found.append(f"config.distill.{name}={json.dumps(value, ensure_ascii=False)}")
    return ",,".join(filter(None, found)) or None


def run(request: Request) -> int:
    """Run what was asked for; of a recipe every stage that is not done yet."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with StopSignal() as stop:  # before torch is imported, which takes seconds
        try:
            from s3prl_aalbert.locking import locked

            with contextlib.nullcontext() if request.dry_run else locked(request.folder):
                return _run_stages(request, stop)
        except Stopped as signal:
            if not _follower():
                print(f"stopped by {signal} before the first step: there was nothing to save", file=sys.stderr)
            return EXIT_STOPPED


def _run_stages(request: Request, stop: StopSignal) -> int:
    from s3prl_aalbert.pretrain.plan import plan_stages, request_of_stage

    stages = plan_stages(request)
    if not stages:
        return _built(request).run(stop)
    for number, stage in enumerate(stages, 1):
        place = f"stage {number} of {len(stages)}, {stage.name}"
        if (stage.expdir / "model.safetensors").is_file():
            logger.info("%s: done, in %s", place, stage.expdir)
            continue
        logger.info("%s: %s", place, stage.expdir)
        code = _built(request_of_stage(request, stage, number == 1), stage).run(stop)
        if request.dry_run:
            logger.info("dry run: the other stages were checked as far as their configuration goes")
            return code
        if code:
            return code
    return 0


def _built(request: Request, stage: Stage | None = None) -> Pretrainer:
    """Return ``build``; of the processes of one machine, which all find the same mistake, one says it."""
    try:
        return build(request, stage)
    except (AalbertError, RuntimeError) as error:
        if _follower() and (isinstance(error, AalbertError) or lost_process(error)):
            raise SystemExit(EXIT_USER_ERROR) from error
        raise


def _follower() -> bool:
    """Return whether torchrun or srun has started other processes on this machine before this one."""
    return os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) != "0"


def build(request: Request, stage: Stage | None = None) -> Pretrainer:
    """Return the run that was asked for, with its teacher if it has one, ready to train.

    Args:
        request: the options.
        stage: of a recipe, whose configurations go before the named ones.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from s3prl_aalbert.pretrain.plan import plan_run
    from s3prl_aalbert.pretrain.runner import Pretrainer

    plan = plan_run(request, stage)
    if plan.config.distill is None and request.default_config == DISTILL_CONFIG:
        raise AalbertError(f"this configuration has no section distill; use e.g. -c {DISTILL_CONFIG}")
    teacher = load_teacher(plan.config.distill) if plan.config.distill else None
    return Pretrainer(plan.model, plan.config, plan.options, teacher)


def load_teacher(distill: DistillConfig) -> Any:
    """Return the teacher that ``distill`` names, frozen.

    Raises:
        AalbertError: none is named, or it does not exist.
    """
    if not distill.teacher:
        raise AalbertError("name the teacher: --teacher UPSTREAM, e.g. hubert_base or aalbert_local")
    from s3prl_aalbert.toolkit.upstreams import build_upstream

    try:
        teacher: Any = build_upstream(distill.teacher, distill.teacher_ckpt, distill.teacher_config)
    except AalbertError as error:
        raise AalbertError(f"--teacher {distill.teacher}: {error}") from error
    return teacher.eval().requires_grad_(False)
