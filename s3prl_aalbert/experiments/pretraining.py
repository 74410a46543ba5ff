"""Runs a pre-training from its options to its end: every stage, with its teacher and one handler of signals."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from s3prl_aalbert.errors import EXIT_STOPPED, EXIT_USER_ERROR, AalbertError, lost_process
from s3prl_aalbert.pretrain.request import DISTILL_CONFIG, Request
from s3prl_aalbert.pretrain.signals import Stopped, StopSignal

if TYPE_CHECKING:
    from s3prl_aalbert.compress.distill_config import DistillConfig
    from s3prl_aalbert.pretrain.runner import Pretrainer
    from s3prl_aalbert.pretrain.stages import Stage

logger = logging.getLogger(__name__)


def run(request: Request) -> int:
    """Run a pre-training with every unfinished stage, and return the exit code.

    Log messages go to the terminal unless the program has configured logging.

    Raises:
        AalbertError: a configuration, checkpoint, folder or the speech cannot be used.
    """
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
    from s3prl_aalbert.pretrain.plan import plan_stages

    stages = plan_stages(request)
    if not stages:
        return _built(request).run(stop)
    for number, (stage, options) in enumerate(stages, 1):
        place = f"stage {number} of {len(stages)}, {stage.name}"
        if stage.done:
            logger.info("%s: done, in %s", place, stage.expdir)
            continue
        logger.info("%s: %s", place, stage.expdir)
        code = _built(options, stage).run(stop)
        if request.dry_run:
            logger.info("dry run: the other stages were checked as far as their configuration goes")
            return code
        if code:
            return code
    return 0


def _built(request: Request, stage: Stage | None = None) -> Pretrainer:
    """Call ``build``; of the processes of one machine, only the first reports a mistake that all of them find."""
    try:
        return build(request, stage)
    except (AalbertError, RuntimeError) as error:
        if _follower() and (isinstance(error, AalbertError) or lost_process(error)):
            raise SystemExit(EXIT_USER_ERROR) from error
        raise


def _follower() -> bool:
    """Return whether this process is not the first that torchrun or srun started on this machine."""
    return os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) != "0"


def build(request: Request, stage: Stage | None = None) -> Pretrainer:
    """Build the requested run, with its teacher if it has one.

    Args:
        request: the options.
        stage: a stage of a recipe, whose configurations override the named ones.
    """
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
        AalbertError: no teacher is named, or it does not exist.
    """
    if not distill.teacher:
        raise AalbertError("name the teacher: --teacher UPSTREAM, e.g. hubert_base or aalbert_local")
    from s3prl_aalbert.toolkit.upstreams import build_upstream

    try:
        teacher: Any = build_upstream(distill.teacher, distill.teacher_ckpt, distill.teacher_config)
    except AalbertError as error:
        raise AalbertError(f"--teacher {distill.teacher}: {error}") from error
    return teacher.eval().requires_grad_(False)
