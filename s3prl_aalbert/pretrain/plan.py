"""What a pre-training will do, decided as a whole before anything is read or computed.

Where the configuration comes from: the past run that goes on; else, for the model, the one that ``init`` names; else
the named configurations or their defaults. Then ``override``, then ``speech``.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from s3prl_aalbert.checkpoint.content import CheckpointError
from s3prl_aalbert.checkpoint.published import located
from s3prl_aalbert.checkpoint.release import load_checkpoint
from s3prl_aalbert.checkpoint.training_state import (
    TrainingState,
    latest_state,
    load_training_state,
    step_of_state,
    training_states,
)
from s3prl_aalbert.config_kinds import Kind
from s3prl_aalbert.device import checked_device
from s3prl_aalbert.errors import AalbertError, near_folder
from s3prl_aalbert.files import write_text
from s3prl_aalbert.model.config import (
    ModelConfig,
    Sections,
    find_config,
    from_dict,
    model_differences,
    read_config,
    read_yaml,
    to_dict,
)
from s3prl_aalbert.pretrain.config import PretrainConfig, apply_overrides, section_of
from s3prl_aalbert.pretrain.launch import RunOptions
from s3prl_aalbert.pretrain.request import DEFAULT_MODEL, MODELS, Request
from s3prl_aalbert.pretrain.stages import RECIPE_FILE, STAGES, Stage, recipe_stages

logger = logging.getLogger(__name__)

SEED = 1337


@dataclass(frozen=True)
class RunPlan:
    """One training."""

    model: ModelConfig
    """What is trained."""
    config: PretrainConfig
    """How, and on which speech."""
    options: RunOptions
    """Where, and from which state on."""


def plan_run(request: Request, stage: Stage | None = None) -> RunPlan:
    """Return the training that was asked for.

    Args:
        request: the options.
        stage: of a recipe; its configurations go before the named ones.

    Raises:
        AalbertError: a configuration, checkpoint or folder that cannot be used.
    """
    expdir = request.folder
    resume_from = _resume_from(request, expdir, stage)
    past: TrainingState = _load_past(resume_from) if resume_from else {}
    if resume_from and not request.auto_resume and not request.dry_run:
        _check_nothing_newer(expdir, resume_from, past.get("step") or 0)
    model, config = _configurations(request, past, resume_from, stage)
    seed = request.seed if request.seed is not None else past.get("seed", SEED)
    if not 0 <= seed < 1 << 63:
        raise AalbertError(f"--seed {seed}: expected a whole number from 0 to {(1 << 63) - 1}")
    device = checked_device(request.device)
    devices, num_nodes = processes(os.environ, request.multi_gpu, device)
    init = located(request.init) if request.init else None
    run = (request.strict, request.dry_run, resume_from, init, stage.corpus if stage else None)
    return RunPlan(model, config, RunOptions(expdir, seed, device, num_nodes, devices, *run))


def plan_stages(request: Request) -> list[Stage]:
    """Return the stages of a recipe: of the one that -c names, or that -a goes on with; none for a plain run."""
    kept = request.folder / RECIPE_FILE if request.expname or request.expdir else None
    if request.auto_resume and kept is not None and kept.is_file():
        recipe = read_yaml(kept)
        model, config, where = section_of(recipe, "model"), section_of(recipe, "config"), str(kept)
    elif request.config:
        config, where = _named(request.config, "pretraining")
        if STAGES not in config:
            return []
        model, _ = _named(model_name(request), "model")
    else:
        return []
    if request.past_exp:
        raise AalbertError(f"{where}: has stages; go on with -n NAME -a, which finds the one that was interrupted")
    _apply(request, model, config)
    stages = recipe_stages(model, config, request.folder, where)
    if kept is not None and not request.dry_run:
        if kept.is_file() and not request.auto_resume:
            raise AalbertError(f"{kept.parent}: holds a recipe already; go on with -a, or choose another -n")
        write_text(kept, yaml.safe_dump({"model": model, "config": config}, sort_keys=False))
    return stages


def request_of_stage(request: Request, stage: Stage, first: bool) -> Request:
    """Return the options of one stage: everything that the recipe holds is taken out of them."""
    init = str(stage.init) if stage.init else request.init if first else None
    return replace(request, expdir=str(stage.expdir), init=init, override=None, speech=None)


def model_name(request: Request) -> str:
    """Return the model YAML that -g or -u names, or the default one."""
    return request.upstream_config or MODELS.get(request.upstream or "", DEFAULT_MODEL)


def _resume_from(request: Request, expdir: Path, stage: Stage | None) -> Path | None:
    """Return the state that a run goes on from; None where it begins."""
    if request.past_exp and request.init:
        raise AalbertError("-e resumes a run, --init starts a new one from its weights: give one of them")
    own = latest_state(expdir)
    if request.auto_resume and own is not None:  # before -e, as in S3PRL: the run that -e began goes on
        return own
    if request.past_exp:
        past = Path(request.past_exp).expanduser()
        state = latest_state(past) if past.is_dir() else past
        if state is None or not state.exists():
            raise AalbertError(f"{past}: no training state (states-*.ckpt) to resume from")
        return state
    new = (request.speech, request.upstream_config, request.config, request.override, request.init)
    if request.auto_resume and not any(new) and not stage:  # a stage may not have begun
        raise AalbertError(f"{expdir}: nothing to resume there{near_folder(expdir)}; a new run needs --speech")
    if own is not None and not request.dry_run:
        raise AalbertError(f"{expdir}: holds {own.name} already; go on with -a, or choose another -n")
    return None


def _load_past(path: Path) -> TrainingState:
    """Return a training state; where it cannot be read, the message names the newest whole one before it."""
    try:
        return load_training_state(path)
    except CheckpointError as error:
        states = training_states(path.parent)
        damaged = [path.name]
        for earlier in reversed(states[: states.index(path)] if path in states else []):
            try:
                step = load_training_state(earlier).get("step")
            except CheckpointError:
                damaged.append(earlier.name)
                continue
            advice = f"remove {' and '.join(damaged)}, and -a goes on from there"
            raise AalbertError(f"{error}; {earlier.name} (step {step}) is whole: {advice}") from error
        raise


def _check_nothing_newer(expdir: Path, resume_from: Path, step: int) -> None:
    """Refuse to go on from an earlier state, or another run's, in a folder whose own states would be mixed with it."""
    own = latest_state(expdir)
    if own is not None and (resume_from.parent.resolve() != expdir.resolve() or step_of_state(own) > step):
        raise AalbertError(
            f"{expdir}: holds {own.name} already; go on from it with -a, or go on from {resume_from.name} "
            f"(step {step}) under another -n"
        )


def _configurations(
    request: Request, past: TrainingState, resume_from: Path | None, stage: Stage | None
) -> tuple[ModelConfig, PretrainConfig]:
    """Return the model's and the runner's configuration, in the order that the module names."""
    initial = None if resume_from or not request.init else to_dict(load_checkpoint(request.init).config)
    if past:
        model, config = past.get("config"), past.get("pretrain_config")
        where_model = where_config = str(resume_from)
    elif stage:
        model, config = copy.deepcopy(stage.model), copy.deepcopy(stage.config)
        where_model = where_config = f"stage {stage.name}"
    else:
        model, config, where_model, where_config = None, None, "", ""
        if initial and not (request.upstream_config or request.upstream):
            model, where_model = copy.deepcopy(initial), str(request.init)
            logger.info("no -g given: the model is that of --init %s", request.init)
    if model is None or (request.upstream_config and not stage):
        model, where_model = _named(model_name(request), "model")
    if config is None or (request.config and not stage):
        config, where_config = _named(request.config or request.default_config, "pretraining")
    if not (resume_from or stage):
        _log_defaults(request, model_given=bool(initial))
    _apply(request, model, config)
    if request.override:
        where_model, where_config = f"{where_model} with -o", f"{where_config} with -o"
    model_config = from_dict(ModelConfig, model, where_model)
    if initial:
        _log_differences(str(request.init), to_dict(model_config), initial)
    return model_config, from_dict(PretrainConfig, config, where_config)


def _named(name: str, kind: Kind) -> tuple[dict[str, object], str]:
    path = find_config(name, "upstream_configs")
    return read_config(path, kind), str(path)


def _log_defaults(request: Request, model_given: bool) -> None:
    if not (request.upstream_config or request.upstream or model_given):
        logger.info("chosen by default: -g %s", DEFAULT_MODEL)
    if not request.config:
        logger.info("chosen by default: -c %s", request.default_config)


def _apply(request: Request, model: dict[str, object], config: dict[str, object]) -> None:
    """Put ``override`` and then ``speech`` into configurations."""
    apply_overrides(model, config, request.override)
    if request.speech:  # absolute: a resumed run may start in another folder
        paths = [str(Path(folder).expanduser().absolute()) for folder in request.speech]
        section_of(section_of(config, "pretrain_expert"), "datarc")["paths"] = paths


def _log_differences(init: str, model: Sections, initial: Sections) -> None:
    """Log what is not as in the model that the weights are from: shared ones fit any depth, positions any scale."""
    for name, (value, before) in model_differences(model, initial).items():
        logger.warning("--init %s: %s was %s there and is %s here", init, name, before, value)


def processes(environment: Mapping[str, str], multi_gpu: bool, device: str) -> tuple[int, int]:
    """Return (processes on this machine, machines), as torchrun, srun or --multi_gpu have it."""
    if "LOCAL_WORLD_SIZE" in environment:  # torchrun, perhaps inside a SLURM job
        here = int(environment["LOCAL_WORLD_SIZE"])
        return here, int(environment["WORLD_SIZE"]) // here
    tasks = int(environment.get("SLURM_NTASKS", "1"))
    if tasks > 1 and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        here = int(environment.get("SLURM_NTASKS_PER_NODE", "0"))
        nodes = int(environment.get("SLURM_NNODES", "1"))
        if here * nodes != tasks:
            raise AalbertError(
                f"SLURM gives {tasks} tasks on {nodes} node(s); ask for as many on each with --ntasks-per-node"
            )
        return here, nodes
    if multi_gpu:
        import torch

        if device != "cuda":
            raise AalbertError(f"--multi_gpu needs GPUs, the device is {device}; several CPU processes: torchrun")
        return torch.cuda.device_count(), 1
    return 1, 1
