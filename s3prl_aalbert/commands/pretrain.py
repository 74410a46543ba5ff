"""``aalbert pretrain``: S3PRL's run_pretrain.py flags on our own runner."""

from __future__ import annotations

import argparse
import contextlib
import copy
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3prl_aalbert.errors import EXIT_STOPPED, EXIT_USER_ERROR, AalbertError, lost_process, near_folder
from s3prl_aalbert.pretrain.signals import Stopped, StopSignal

if TYPE_CHECKING:
    from s3prl_aalbert.config import ModelConfig
    from s3prl_aalbert.pretrain.config import PretrainConfig
    from s3prl_aalbert.pretrain.runner import Pretrainer
    from s3prl_aalbert.pretrain.stages import Stage

logger = logging.getLogger(__name__)

EXAMPLES = """\
examples:
  aalbert pretrain -g aalbert_6l -c pretrain_default --speech LibriSpeech/train-clean-360 -n aalbert_6l
  aalbert pretrain -g aalbert_small -c pretrain_debug --speech my_wavs -n try --dry-run
  aalbert pretrain -n aalbert_6l -a                      # go on after an interruption
  torchrun --nproc_per_node 4 -m s3prl_aalbert.pretrain -g aalbert_12l -c pretrain_default --speech DIR -n big
  srun --nodes 2 --ntasks-per-node 4 python -m s3prl_aalbert.pretrain -g aalbert_12l --speech DIR -n big
"""
SEED = 1337
DEFAULT_CONFIG = "pretrain_default"
DEFAULT_MODEL = "aalbert_3l"
MODELS = {
    **{name: name for name in ("aalbert_3l", "aalbert_6l", "aalbert_12l", "aalbert_tiny", "aalbert_units")},
    **{f"aalbert_mockingjay_{layers}": f"mockingjay_{layers}" for layers in ("3l", "6l", "12l")},
    "aalbert": "aalbert_units",
    "mockingjay": "mockingjay_3l",  # S3PRL's name
}
"""What -u means, by the names that upstreams have in tasks: the packaged model YAML of the same architecture."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "-u", "--upstream", choices=sorted(MODELS), metavar="NAME",
        help=f"the architecture of an upstream, by its name in tasks; default: {DEFAULT_MODEL}; -g goes first",
    )  # fmt: skip
    add("-g", "--upstream_config", metavar="YAML", help="model: a path or a packaged name such as aalbert_6l")
    add("-c", "--config", metavar="YAML", help="runner: a path or a packaged name such as pretrain_default")
    add("--speech", nargs="+", metavar="DIR", help="folders of speech (instead of pretrain_expert.datarc.paths)")
    add("-n", "--expname", metavar="NAME", help="save at result/pretrain/NAME")
    add("-p", "--expdir", metavar="DIR", help="save at DIR")
    add("-e", "--past_exp", metavar="CKPT", help="resume from a state or folder, with its own configuration")
    add("-a", "--auto_resume", action="store_true", help="resume if the experiment has a state")
    add(
        "--init",
        metavar="CKPT",
        help="start from the weights of a checkpoint or a packaged name (aalbert), with new data and schedule",
    )
    add("-o", "--override", metavar="TEXT", help='e.g. "config.optimizer.lr=1e-3,,model.transformer.hidden_size=256"')
    add("--seed", type=int, help=f"default: {SEED}, or that of the run that goes on")
    add("--device", help="cuda or cpu; default: cuda if there is one")
    add(
        "--multi_gpu",
        action="store_true",
        help="use every GPU of this machine; more than one machine: torchrun or srun",
    )
    add("--strict", action="store_true", help="stop at unusable audio instead of leaving it out")
    add("--dry-run", action="store_true", help="check configuration, speech and memory in two steps; write nothing")


def main(args: argparse.Namespace) -> int:
    """Run pre-training and return the exit code."""
    return run(args, lambda args, config: None)


def run(
    args: argparse.Namespace,
    load_teacher: Callable[[argparse.Namespace, Any], Any],
    default_config: str = DEFAULT_CONFIG,
) -> int:
    """Run pre-training or, with a teacher, distillation; of a recipe every stage that is not done yet."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with StopSignal() as stop:  # before torch is imported, which takes seconds
        try:
            from s3prl_aalbert.locking import locked

            with contextlib.nullcontext() if args.dry_run else locked(_expdir(args)):
                return _run_stages(args, load_teacher, default_config, stop)
        except Stopped as signal:
            if not _follower():
                print(f"stopped by {signal} before the first step: there was nothing to save", file=sys.stderr)
            return EXIT_STOPPED


def _run_stages(
    args: argparse.Namespace,
    load_teacher: Callable[[argparse.Namespace, Any], Any],
    default_config: str,
    stop: StopSignal,
) -> int:
    stages = _stages(args)
    if not stages:
        return _built(args, load_teacher, default_config).run(stop)
    for number, stage in enumerate(stages, 1):
        place = f"stage {number} of {len(stages)}, {stage.name}"
        if (stage.expdir / "model.safetensors").is_file():
            logger.info("%s: done, in %s", place, stage.expdir)
            continue
        logger.info("%s: %s", place, stage.expdir)
        code = _built(_stage_arguments(args, stage, number), load_teacher, default_config, stage).run(stop)
        if args.dry_run:
            logger.info("dry run: the other stages were checked as far as their configuration goes")
            return code
        if code:
            return code
    return 0


def _built(*described: Any) -> Pretrainer:
    """Return ``build``; of the processes of one machine, which all find the same mistake, one says it."""
    try:
        return build(*described)
    except (AalbertError, RuntimeError) as error:
        if _follower() and (isinstance(error, AalbertError) or lost_process(error)):
            raise SystemExit(EXIT_USER_ERROR) from error
        raise


def _follower() -> bool:
    """Return whether torchrun or srun has started other processes on this machine before this one."""
    return os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) != "0"


def _stages(args: argparse.Namespace) -> list[Stage]:
    """Return the stages of a recipe: of the one that -c names, or that -a goes on with; none for a plain run."""
    import yaml

    from s3prl_aalbert.checkpoint import write_text
    from s3prl_aalbert.config import find_config, read_config, read_yaml
    from s3prl_aalbert.pretrain.config import apply_overrides, section_of
    from s3prl_aalbert.pretrain.stages import RECIPE_FILE, STAGES, recipe_stages

    kept = _expdir(args) / RECIPE_FILE if args.expname or args.expdir else None
    if args.auto_resume and kept is not None and kept.is_file():
        recipe = read_yaml(kept)
        model, config, where = recipe.get("model") or {}, recipe.get("config") or {}, str(kept)
    elif args.config:
        path = find_config(args.config, "upstream_configs")
        config, where = read_config(path, "pretraining"), str(path)
        if STAGES not in config:
            return []
        model = read_config(find_config(_model_name(args), "upstream_configs"), "model")
    else:
        return []
    if args.past_exp:
        raise AalbertError(f"{where}: has stages; go on with -n NAME -a, which finds the one that was interrupted")
    apply_overrides(model, config, args.override)
    if args.speech:
        section_of(section_of(config, "pretrain_expert"), "datarc")["paths"] = _absolute(args.speech)
    stages = recipe_stages(model, config, _expdir(args), where)
    if kept is not None and not args.dry_run:
        if kept.is_file() and not args.auto_resume:
            raise AalbertError(f"{kept.parent}: holds a recipe already; go on with -a, or choose another -n")
        write_text(kept, yaml.safe_dump({"model": model, "config": config}, sort_keys=False))
    return stages


def _stage_arguments(args: argparse.Namespace, stage: Stage, number: int) -> argparse.Namespace:
    """Return the options of one stage: everything that the recipe holds is taken out of them."""
    init = str(stage.init) if stage.init else args.init if number == 1 else None
    return argparse.Namespace(
        **{**vars(args), "expdir": str(stage.expdir), "init": init, "override": None, "speech": None}
    )


def build(
    args: argparse.Namespace,
    load_teacher: Callable[[argparse.Namespace, Any], Any],
    default_config: str = DEFAULT_CONFIG,
    stage: Stage | None = None,
) -> Pretrainer:
    """Return the run that the options describe.

    Args:
        args: the options.
        load_teacher: returns the teacher of a distillation, or None.
        default_config: the runner of a new run without -c.
        stage: of a recipe, whose configurations go before -g and -c.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from s3prl_aalbert.device import checked_device
    from s3prl_aalbert.pretrain.launch import RunOptions
    from s3prl_aalbert.pretrain.runner import Pretrainer
    from s3prl_aalbert.published import located

    expdir = _expdir(args)
    resume_from = _resume_from(args, expdir)
    past = _load_past(resume_from) if resume_from else {}
    if resume_from and not args.auto_resume and not args.dry_run:
        _check_nothing_newer(expdir, resume_from, past.get("step") or 0)
    model_config, config, seed = _configs(args, past, resume_from, default_config, stage)
    device = checked_device(args.device)
    devices, num_nodes = _processes(os.environ, args.multi_gpu, device)
    options = RunOptions(
        expdir=expdir,
        seed=seed,
        device=device,
        devices=devices,
        num_nodes=num_nodes,
        strict=args.strict,
        dry_run=args.dry_run,
        resume_from=resume_from,
        init=located(args.init) if args.init else None,
    )
    return Pretrainer(model_config, config, options, load_teacher(args, config))


def _model_name(args: argparse.Namespace) -> str:
    """Return the model YAML that -g or -u names, or the default one."""
    return args.upstream_config or MODELS.get(args.upstream, DEFAULT_MODEL)


def _expdir(args: argparse.Namespace) -> Path:
    if args.expdir:
        return Path(args.expdir).expanduser()
    if args.expname:
        return Path("result/pretrain") / args.expname
    if args.past_exp:
        past = Path(args.past_exp).expanduser()
        return past if past.is_dir() else past.parent
    raise AalbertError("name the experiment with -n NAME (saved at result/pretrain/NAME) or -p DIR")


def _resume_from(args: argparse.Namespace, expdir: Path) -> Path | None:
    from s3prl_aalbert.checkpoint import latest_state

    if args.past_exp and args.init:
        raise AalbertError("-e resumes a run, --init starts a new one from its weights: give one of them")
    own = latest_state(expdir)
    if args.auto_resume and own is not None:  # before -e, as in S3PRL: the run that -e began goes on
        return own
    if args.past_exp:
        past = Path(args.past_exp).expanduser()
        state = latest_state(past) if past.is_dir() else past
        if state is None or not state.exists():
            raise AalbertError(f"{past}: no training state (states-*.ckpt) to resume from")
        return state
    if args.auto_resume and not any((args.speech, args.upstream_config, args.config, args.override, args.init)):
        raise AalbertError(f"{expdir}: nothing to resume there{near_folder(expdir)}; a new run needs --speech")
    if own is not None and not args.dry_run:
        raise AalbertError(f"{expdir}: holds {own.name} already; go on with -a, or choose another -n")
    return None


def _load_past(path: Path) -> dict[str, Any]:
    """Return a training state; where it cannot be read, the message names the newest whole one before it."""
    from s3prl_aalbert.checkpoint import CheckpointError, load_training_state, training_states

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
    from s3prl_aalbert.checkpoint import latest_state, step_of_state

    own = latest_state(expdir)
    if own is not None and (resume_from.parent.resolve() != expdir.resolve() or step_of_state(own) > step):
        raise AalbertError(
            f"{expdir}: holds {own.name} already; go on from it with -a, or go on from {resume_from.name} "
            f"(step {step}) under another -n"
        )


def _configs(
    args: argparse.Namespace,
    past: Mapping[str, Any],
    resume_from: Path | None,
    default_config: str,
    stage: Stage | None,
) -> tuple[ModelConfig, PretrainConfig, int]:
    from s3prl_aalbert.config import ModelConfig, find_config, from_dict, read_config, to_dict
    from s3prl_aalbert.pretrain.config import PretrainConfig, apply_overrides, section_of

    model, where_model = past.get("config"), str(resume_from)
    config, where_config = past.get("pretrain_config"), str(resume_from)
    initial = None if resume_from or not args.init else _model_of(args.init)
    if stage and not past:
        model, where_model = copy.deepcopy(stage.model), f"stage {stage.name}"
        config, where_config = copy.deepcopy(stage.config), where_model
    elif initial and not (args.upstream_config or args.upstream):
        model, where_model = copy.deepcopy(initial), args.init
        logger.info("no -g given: the model is that of --init %s", args.init)
    if model is None or (args.upstream_config and not stage):
        path = find_config(_model_name(args), "upstream_configs")
        model, where_model = read_config(path, "model"), str(path)
    if config is None or (args.config and not stage):
        path = find_config(args.config or default_config, "upstream_configs")
        config, where_config = read_config(path, "pretraining"), str(path)
    defaults = {"upstream_config": f"-g {DEFAULT_MODEL}", "config": f"-c {default_config}"}
    if initial or args.upstream:
        del defaults["upstream_config"]
    for option, name in defaults.items():
        if not getattr(args, option) and not resume_from and not stage:
            logger.info("chosen by default: %s", name)
    apply_overrides(model, config, args.override)
    if args.override:
        where_model, where_config = f"{where_model} with -o", f"{where_config} with -o"
    if args.speech:
        section_of(section_of(config, "pretrain_expert"), "datarc")["paths"] = _absolute(args.speech)
    seed = args.seed if args.seed is not None else past.get("seed", SEED)
    if not 0 <= seed < 1 << 63:
        raise AalbertError(f"--seed {seed}: expected a whole number from 0 to {(1 << 63) - 1}")
    model_config = from_dict(ModelConfig, model, where_model)
    if initial:
        _say_differences(args.init, to_dict(model_config), initial)
    return model_config, from_dict(PretrainConfig, config, where_config), seed


def _absolute(folders: Sequence[str]) -> list[str]:
    """Return folders as they are kept: a resumed run may start in another one."""
    return [str(Path(folder).expanduser().absolute()) for folder in folders]


def _model_of(init: str) -> dict[str, Any]:
    from s3prl_aalbert.checkpoint import load_checkpoint
    from s3prl_aalbert.config import to_dict

    return to_dict(load_checkpoint(init).config)


def _say_differences(init: str, model: Mapping[str, Any], initial: Mapping[str, Any]) -> None:
    """Say what is not as in the model that the weights are from: shared ones fit any depth, positions any scale."""
    for section in ("transformer", "audio"):
        for key, value in model[section].items():
            before = initial[section].get(key)
            if value != before:
                logger.warning("--init %s: %s.%s was %s there and is %s here", init, section, key, before, value)


def _processes(environment: Mapping[str, str], multi_gpu: bool, device: str) -> tuple[int, int]:
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
