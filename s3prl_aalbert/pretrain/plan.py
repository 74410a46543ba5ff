"""What a pre-training will do, decided as a whole before anything is read or computed.

Where the configuration comes from: the past run that goes on; else, for the model, the one that ``init`` names; else
the named configurations or their defaults. Then ``override``, then ``speech``. A recipe's past run is its recipe.yaml:
all stages, also one that goes on from a state, are as it says.
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
from s3prl_aalbert.locking import is_first_process
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
from s3prl_aalbert.pretrain.stages import RECIPE_FILE, STAGES, Recipe, Stage, override_recipe, recipe_stages
from s3prl_aalbert.seeds import checked_seed

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
        stage: of a recipe; its configurations go before the named ones and those of a state.

    Raises:
        AalbertError: a configuration, checkpoint or folder that cannot be used.
    """
    expdir = request.folder
    resume_from = _resume_from(request, expdir, stage)
    past: TrainingState = _load_past(resume_from) if resume_from else {}
    if resume_from and not request.auto_resume and not request.dry_run:
        _check_nothing_newer(expdir, resume_from, past.get("step") or 0)
    model, config = _configurations(request, past, resume_from, stage)
    seed = checked_seed(request.seed if request.seed is not None else past.get("seed", SEED))
    device = checked_device(request.device)
    devices, num_nodes = processes(os.environ, request.multi_gpu, device)
    init = located(request.init) if request.init else None
    run = (request.strict, request.dry_run, resume_from, init, stage.corpus if stage else None)
    return RunPlan(model, config, RunOptions(expdir, seed, device, num_nodes, devices, *run))


def plan_stages(request: Request) -> list[tuple[Stage, Request]]:
    """Return the stages of a recipe, each with its options; none for a plain run.

    The recipe is that of -c or, with -a, the one that the folder keeps, with what else was asked for put into it.

    Raises:
        AalbertError: a recipe that cannot be used, or is not that of the stages that have begun.
    """
    kept = request.folder / RECIPE_FILE if request.expname or request.expdir else None
    past = kept if request.auto_resume and kept is not None and kept.is_file() else None
    old = from_dict(Recipe, read_yaml(past), str(past)) if past else None
    new, where = _recipe(request, old)
    if new is None:
        return []
    if request.past_exp:
        raise AalbertError(f"{where}: has stages; go on with -n NAME -a, which finds the one that was interrupted")
    stages = recipe_stages(new.model, new.config, request.folder, where)
    if old is not None:
        _check_continued(request.folder, old, new, stages)
    elif any(stage.begun for stage in stages) and not request.dry_run:
        raise AalbertError(f"{request.folder}: holds a run already; go on with -a alone, or choose another -n")
    _check_speech(request, stages, where)
    if kept is not None and not request.dry_run and is_first_process():  # one writes; the others come to the same plan
        write_text(kept, yaml.safe_dump(to_dict(new), sort_keys=False))
    return [(stage, _request_of_stage(request, new, stage, stage is stages[0])) for stage in stages]


def _recipe(request: Request, old: Recipe | None) -> tuple[Recipe | None, str]:
    """Return the recipe that was asked for, None for a plain run, and what to call its file.

    Args:
        request: the options.
        old: the recipe that goes on.
    """
    if request.config:
        config, where = _named(request.config, "pretraining")
    elif old is not None:
        config, where = copy.deepcopy(old.config), str(request.folder / RECIPE_FILE)
    else:
        return None, ""
    if old is None and STAGES not in config:
        return None, ""
    if old is None or request.upstream_config or request.upstream:
        model, _ = _named(model_name(request), "model")
    else:
        model = copy.deepcopy(old.model)
    override_recipe(model, config, request.override)
    _put_speech(config, request.speech)
    seed, init = (old.seed, old.init) if old is not None else (SEED, None)
    if request.seed is not None:
        seed = checked_seed(request.seed)
    if request.init:  # a name of packaged weights stays one
        init = _absolute([request.init])[0] if Path(request.init).expanduser().exists() else request.init
    return Recipe(model, config, seed, init), f"{where} with -o" if request.override else where


def _check_continued(folder: Path, old: Recipe, new: Recipe, stages: list[Stage]) -> None:
    """Refuse what contradicts the stages that have begun, and say where a change comes too late.

    Args:
        folder: of the recipe.
        old: the recipe that goes on.
        new: the recipe, changed by what was typed.
        stages: those of ``new``.
    """
    before, another = recipe_stages(old.model, old.config, folder, str(folder / RECIPE_FILE)), "choose another -n"
    names = [", ".join(stage.name for stage in each) or "none" for each in (before, stages)]
    if names[0] != names[1]:
        raise AalbertError(
            f"{folder}: the stages of its {RECIPE_FILE} are {names[0]}, those of -c {names[1]}; {another}"
        )
    if old.seed is not None and any(stage.begun for stage in before):  # older files do not say
        for option, was, asked in (("--seed", old.seed, new.seed), ("--init", old.init, new.init)):
            if asked != was:
                raise AalbertError(f"{folder}: was started with {option} {was or 'none'}, not {asked}; {another}")
    late = []
    for past, stage in zip(before, stages, strict=True):
        (model, config), (own_model, own_config) = past.parsed(), stage.parsed()
        if stage.done and (model, config) != (own_model, own_config):
            late.append(stage.name)
        elif stage.begun and (model, config.optimizer.name) != (own_model, own_config.optimizer.name):
            raise AalbertError(
                f"{stage.expdir}: stage {stage.name} was begun with another model or optimizer.name than -g, -c and -o "
                f"ask for; go on without them, or {another}"
            )
    if late and all(stage.done for stage in stages):
        raise AalbertError(
            f"{folder}: every stage is done, so that -g, -c, -o and --speech cannot change {', '.join(late)}; "
            f"--init {folder} starts a run from the last one's weights under another -n"
        )
    for name in late:
        logger.warning("stage %s is done: what -g, -c, -o or --speech change has no effect there", name)


def _check_speech(request: Request, stages: list[Stage], where: str) -> None:
    """Refuse --speech where a stage names other folders."""
    for stage in stages:
        paths = list(stage.parsed()[1].datarc.paths)
        if request.speech and paths != _absolute(request.speech):
            raise AalbertError(
                f"{where}: stage {stage.name} sets pretrain_expert.datarc.paths to {paths}, which --speech does not "
                f"change; -o config.{STAGES}.{stage.name}.config.pretrain_expert.datarc.paths=[DIR] does"
            )


def _request_of_stage(request: Request, recipe: Recipe, stage: Stage, first: bool) -> Request:
    """Return the options of one stage, without those that the recipe holds."""
    init = str(stage.init) if stage.init else recipe.init if first else None
    return replace(request, expdir=str(stage.expdir), init=init, override=None, speech=None, seed=recipe.seed)


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
    model: dict[str, object] | None
    config: dict[str, object] | None
    if stage:
        model, config = copy.deepcopy(stage.model), copy.deepcopy(stage.config)
        where_model = where_config = f"stage {stage.name}"
    elif past:
        model, config = past.get("config"), past.get("pretrain_config")
        where_model = where_config = str(resume_from)
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
    _put_speech(config, request.speech)


def _put_speech(config: dict[str, object], folders: list[str] | None) -> None:
    if folders:
        section_of(section_of(config, "pretrain_expert"), "datarc")["paths"] = _absolute(folders)


def _absolute(paths: list[str]) -> list[str]:
    """Return absolute paths: a resumed run may start in another folder."""
    return [str(Path(path).expanduser().absolute()) for path in paths]


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
