"""Continues a run of S3PRL's runner with its present configuration, at the batch where it stopped, bit for bit.

S3PRL's runner itself restores the optimiser with its old settings, whatever the configuration is now. It starts an
interrupted (or complete) epoch again, and takes its first step at the scheduler's first rate.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import shown
from s3prl_aalbert.toolkit.bars import CountingBar
from s3prl_aalbert.toolkit.building import misfits_reported
from s3prl_aalbert.toolkit.experiments import states_in
from s3prl_aalbert.toolkit.parts import Loader, Position, Runner
from s3prl_aalbert.toolkit.positions import POSITION, SCALER, WEIGHTS, random_states, set_random_states
from s3prl_aalbert.toolkit.writing import Checkpoints

logger = logging.getLogger(__name__)


class Stopped(Exception):
    """A signal ended the training after its state was saved."""


# ------------------------------------------------------------------------------ settings of the optimiser


def restored_optimizer(
    runner: Runner, build: Callable[[Sequence[nn.Module]], Optimizer], parts: Sequence[nn.Module]
) -> Optimizer:
    """Restore momenta from a checkpoint, and settings such as rates from the configuration where it has changed."""
    config, past = runner.config, runner.init_ckpt.get("Config", {})
    before = past.get("optimizer") if isinstance(past, Mapping) else None
    if before is None or "Optimizer" not in runner.init_ckpt:
        return build(parts)
    changed = {key: value for key, value in config["optimizer"].items() if before.get(key) != value}
    dropped = before.keys() - config["optimizer"].keys()
    if {"name", "torch_optim_name"} & (changed.keys() | dropped):
        raise AalbertError(
            f"optimizer: {shown(config['optimizer'])} cannot continue from the state of {shown(before)}; "
            "keep the optimiser, or start a new run"
        )
    optimizer = build(parts)
    if not changed and not dropped and bool(past.get("scheduler")) == bool(config.get("scheduler")):
        return optimizer
    logger.info("optimizer: %s from here on (%s so far)", config["optimizer"], before)
    from s3prl.optimizers import get_optimizer

    fresh = get_optimizer(parts, config["runner"]["total_steps"], config["optimizer"])
    for group, settings in zip(optimizer.param_groups, fresh.param_groups, strict=True):
        group.pop("initial_lr", None)  # the initial rate of a scheduler; the next one sets it
        group.update({key: value for key, value in settings.items() if key != "params"})
    return optimizer


def restored_scheduler(runner: Runner, scheduler: LRScheduler) -> LRScheduler:
    """Set the rate of the next step: that of the configured schedule with the optimiser's initial rates."""
    step = runner.init_ckpt.get("Step")
    if not step or not isinstance(scheduler, LambdaLR):
        return scheduler
    if "Scheduler" not in runner.init_ckpt:  # the run had none so far
        scheduler.last_epoch = int(step)
    groups = scheduler.optimizer.param_groups
    scheduler.base_lrs = [group["initial_lr"] for group in groups]
    pairs = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    scheduler._last_lr = [rate * factor(scheduler.last_epoch) for rate, factor in pairs]
    for group, rate in zip(groups, scheduler._last_lr, strict=True):
        group["lr"] = rate
    return scheduler


# ----------------------------------------------------------------------------------- place in the data


class Training:
    """One call of ``Runner.train``: it counts batches, and adds to checkpoints what S3PRL does not save.

    Args:
        runner: the runner that trains.
        weights: digest of a frozen upstream's weights; None: the upstream is trained, or has no weights.
    """

    def __init__(self, runner: Runner, weights: str | None = None):
        self.runner, self.weights, self.files = runner, weights, Checkpoints()
        self.past = runner.init_ckpt.get(POSITION)
        self.drawn = self.length = 0
        self.epoch = int(runner.init_ckpt.get("Epoch", 0))
        self.at_start = random_states()
        self.bar: CountingBar | None = None  # S3PRL's, whose n is the step
        self.step_before: int | None = None
        self.evaluating = False
        self.built: dict[str, Optimizer | LRScheduler] = {}
        self.scaler: torch.cuda.amp.GradScaler | None = None
        model = runner.downstream.model
        self.load, model.get_dataloader = model.get_dataloader, self._loader

    def new_scaler(self) -> torch.cuda.amp.GradScaler:
        """Build the loss scale of ``runner.fp16`` with the state in the checkpoint."""
        self.scaler, past = torch.cuda.amp.GradScaler(), self.runner.init_ckpt
        if past.get(SCALER):
            with misfits_reported(f"{self.runner.args.init_ckpt}: its {SCALER} does not fit this run"):
                self.scaler.load_state_dict(past[SCALER])
        elif past.get("Step"):
            logger.warning("runner.fp16: %s holds no loss scale, so it starts anew", self.runner.args.init_ckpt)
        return self.scaler

    def save(self, content: dict[str, object], path: str) -> None:
        """Write S3PRL's checkpoint with the states that it lacks; raises ``CheckpointError`` where that fails."""
        scaler = {} if self.scaler is None else {SCALER: self.scaler.state_dict()}
        weights = {} if self.weights is None else {WEIGHTS: self.weights}
        self.files.save({**content, **scaler, **weights, POSITION: self.position()}, path)

    def _loader(self, split: str, **options: int) -> Loader:
        """Return a loader; that of training counts its batches and skips those that an interrupted epoch has used."""
        if self.evaluating:
            return self.load(split, **options)
        past = self.past
        if past is not None:
            if torch.distributed.is_initialized():
                logger.warning("with several processes, dropout is drawn anew: the run is not the same bit for bit")
            set_random_states(past["start"], self.runner.args.init_ckpt)
        self.at_start = random_states()
        loader = self.load(split, **options)
        self.epoch, self.length, self.drawn, self.past = options.get("epoch", self.epoch), len(loader), 0, None
        if past is not None and past["length"] != self.length:
            logger.warning("an epoch has %d batches, and had %d: it starts again", self.length, past["length"])
            past = None
        return _Batches(self, loader, past)

    @property
    def step(self) -> int:
        """The number of steps taken, those of the checkpoint included."""
        return 0 if self.bar is None else int(self.bar.n)

    @property
    def stepped(self) -> bool:
        """Whether a step was taken."""
        return self.step > int(self.runner.init_ckpt.get("Step", 0))

    def position(self) -> Position:
        """Return the position in the data, for a checkpoint."""
        return {"batches": self.drawn, "length": self.length, "start": self.at_start, "now": random_states()}

    def between_batches(self) -> None:
        """Save and raise ``Stopped`` if a signal arrived and the last batch has completed a step."""
        step, before = self.step, self.step_before
        self.step_before = step
        if self.runner.stop.received is None or step == before or step >= self.runner.config["runner"]["total_steps"]:
            return
        path = Path(self.runner.args.expdir) / f"states-{step}.ckpt"
        if not path.exists() and before is not None and _is_first_process():
            self._make_room()
            self.save(self._states(step), str(path))
        raise Stopped(f"stopped by a signal at step {step}; the same command with -a continues")

    def _states(self, step: int) -> dict[str, object]:
        """Return the states that S3PRL's runner saves."""
        from s3prl.utility.helper import get_model_state

        runner = self.runner
        states = {"Step": step, "Epoch": self.epoch, "Args": runner.args, "Config": runner.config}
        states |= {name.capitalize(): part.state_dict() for name, part in self.built.items()}
        if torch.distributed.is_initialized():
            states["WorldSize"] = torch.distributed.get_world_size()
        trained = {each.name: get_model_state(each.model) for each in runner.all_entries if each.trainable}
        return {**states, **trained}

    def _make_room(self) -> None:
        """Remove old states, so that ``runner.max_keep`` remain once the next is written."""
        states = states_in(Path(self.runner.args.expdir))
        for path in states[: max(0, len(states) + 1 - self.runner.config["runner"]["max_keep"])]:
            self.files.remove(str(path))


def _is_first_process() -> bool:
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


class _Batches:
    """A loader that counts its batches, and begins after those that an interrupted epoch has used."""

    def __init__(self, training: Training, loader: Loader, past: Position | None):
        self.training, self.loader, self.past = training, loader, past

    def __getattr__(self, name: str) -> object:
        """Return the loader's own attribute."""
        return getattr(self.loader, name)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[object]:
        """Yield the remaining batches."""
        skipped = self.past["batches"] if self.past is not None else 0
        if skipped < len(self):
            batches = iter(self.loader)
            for _ in range(skipped):
                next(batches)
        if self.past is not None:
            set_random_states(self.past["now"], self.training.runner.args.init_ckpt)
        self.training.drawn = skipped
        while skipped < len(self):
            self.training.between_batches()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.training.drawn += 1
            yield batch
