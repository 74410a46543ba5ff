"""A run of S3PRL's runner that goes on: with the settings it has now, at the batch where it stopped, bit for bit.

On its own S3PRL's runner restores the optimiser with its old settings, whatever the configuration says by then, starts
an epoch again that was interrupted (or complete), and takes its first step at the scheduler's first rate.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR

from s3prl_aalbert.config import shown
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.pretrain.signals import StopSignal
from s3prl_aalbert.toolkit.building import misfits_told
from s3prl_aalbert.toolkit.replace import Changed, replaced

logger = logging.getLogger(__name__)

POSITION = "Position"
"""Key of a checkpoint: where in an epoch it was written, and the states of the random generators."""
SCALER = "Scaler"
"""Key of a checkpoint: the state of the loss scale of ``runner.fp16``, of which S3PRL keeps none."""


class Stopped(Exception):
    """A signal ended the training; its state is saved."""


@contextmanager
def exact_continuation(stop: StopSignal, training: list[Training]) -> Iterator[None]:
    """Let S3PRL's runner go on exactly, and save and end (``Stopped``) when ``stop`` has received a signal.

    Each training that begins is added to ``training``.
    """
    from s3prl.downstream import runner as module

    runner_class, original = module.Runner, module.Runner.train

    def train(runner: Any) -> None:
        training.append(Training(runner, stop, module))
        original(runner)

    class Bar(module.tqdm):
        def __init__(self, *args: Any, **options: Any):
            super().__init__(*args, **options)
            if training and options.get("desc") == "overall":
                training[-1].bar = self

    def save(content: Any, path: str) -> None:
        write({**content, **training[-1].states(), POSITION: training[-1].position()}, path)

    def new_scaler(*args: Any, **options: Any) -> Any:
        return training[-1].restored_scaler(amp.GradScaler(*args, **options))

    write, amp = module.torch.save, module.torch.cuda.amp
    cuda = Changed(module.torch.cuda, amp=Changed(amp, GradScaler=new_scaler))
    with (
        replaced(runner_class, "train", train),
        replaced(runner_class, "_get_optimizer", _restored_optimizer(runner_class._get_optimizer, module)),
        replaced(runner_class, "_get_scheduler", _restored_scheduler(runner_class._get_scheduler)),
        replaced(module, "torch", Changed(module.torch, save=save, cuda=cuda)),
        replaced(module, "tqdm", Bar),
    ):
        yield


# ------------------------------------------------------------------------------ settings of the optimiser


def _restored_optimizer(build: Callable[[Any, Any], Any], module: Any) -> Callable[[Any, Any], Any]:
    """Restore momenta from a checkpoint, but rates and the like from the configuration where it has changed."""

    def restore(runner: Any, parts: Any) -> Any:
        config, past = runner.config, runner.init_ckpt.get("Config")
        before = past.get("optimizer") if isinstance(past, Mapping) else None
        if before is None or "Optimizer" not in runner.init_ckpt:
            return build(runner, parts)
        changed = {key: value for key, value in config["optimizer"].items() if before.get(key) != value}
        dropped = before.keys() - config["optimizer"].keys()
        if {"name", "torch_optim_name"} & (changed.keys() | dropped):
            raise AalbertError(
                f"optimizer: {shown(config['optimizer'])} cannot go on from the state of {shown(before)}; "
                "keep the optimiser, or start a new run"
            )
        optimizer = build(runner, parts)
        if not changed and not dropped and bool(past.get("scheduler")) == bool(config.get("scheduler")):
            return optimizer
        logger.info("optimizer: %s from here on (%s so far)", config["optimizer"], before)
        fresh = module.get_optimizer(parts, config["runner"]["total_steps"], config["optimizer"])
        for group, settings in zip(optimizer.param_groups, fresh.param_groups, strict=True):
            group.pop("initial_lr", None)  # what a scheduler starts from; set anew by the next one
            group.update({key: value for key, value in settings.items() if key != "params"})
        return optimizer

    return restore


def _restored_scheduler(build: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Set the rate of the step that comes: of the configuration's schedule, from the optimiser's initial rates."""

    def restore(runner: Any, optimizer: Any) -> Any:
        scheduler = build(runner, optimizer)
        step = runner.init_ckpt.get("Step")
        if not step or not isinstance(scheduler, LambdaLR):
            return scheduler
        if "Scheduler" not in runner.init_ckpt:  # the run had none so far
            scheduler.last_epoch = int(step)
        scheduler.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        rates = [rate * factor(scheduler.last_epoch) for rate, factor in _pairs(scheduler)]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        scheduler._last_lr = rates
        return scheduler

    return restore


def _pairs(scheduler: LambdaLR) -> Iterator[tuple[Any, Callable[[int], float]]]:
    return zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)


# ----------------------------------------------------------------------------------- place in the data


class Training:
    """One call of ``Runner.train``: counts its batches, and knows what a checkpoint must hold."""

    def __init__(self, runner: Any, stop: StopSignal, module: Any):
        self.runner, self.stop, self.module = runner, stop, module
        self.past = runner.init_ckpt.get(POSITION)
        self.drawn = self.length = 0
        self.epoch = int(runner.init_ckpt.get("Epoch", 0))
        self.at_start = _random_states()
        self.bar: Any = None  # S3PRL's, whose n is the step
        self.step_before: int | None = None
        self.evaluating = False
        self.built: dict[str, Any] = {}
        self.scaler: Any = None
        model = runner.downstream.model
        self.load, self.evaluate = model.get_dataloader, runner.evaluate
        model.get_dataloader, runner.evaluate = self._loader, self._evaluate
        for name in ("optimizer", "scheduler"):
            setattr(runner, f"_get_{name}", self._kept(name, getattr(runner, f"_get_{name}")))

    def restored_scaler(self, scaler: Any) -> Any:
        """Set the loss scale as the checkpoint has it."""
        self.scaler = scaler
        past = self.runner.init_ckpt
        if past.get(SCALER):
            with misfits_told(f"{self.runner.args.init_ckpt}: its {SCALER} does not fit this run"):
                scaler.load_state_dict(past[SCALER])
        elif past.get("Step"):
            logger.warning("runner.fp16: %s holds no loss scale, it begins anew", self.runner.args.init_ckpt)
        return scaler

    def states(self) -> dict[str, Any]:
        """Return what S3PRL's runner builds and does not save."""
        return {} if self.scaler is None else {SCALER: self.scaler.state_dict()}

    def _kept(self, name: str, build: Callable[..., Any]) -> Callable[..., Any]:
        def kept(*args: Any) -> Any:
            self.built[name] = build(*args)
            return self.built[name]

        return kept

    def _evaluate(self, *args: Any, **options: Any) -> Any:
        self.evaluating = True
        try:
            return self.evaluate(*args, **options)
        finally:
            self.evaluating = False

    def _loader(self, split: str, **options: Any) -> Any:
        """Return a loader; one of training counts, and leaves out what an interrupted epoch has had."""
        if self.evaluating:
            return self.load(split, **options)
        past = self.past
        if past is not None:
            if torch.distributed.is_initialized():
                logger.warning("each of several processes draws its dropout anew: the run is not bit for bit the same")
            _set_random_states(past["start"], self.runner.args.init_ckpt)
        self.at_start = _random_states()
        loader = self.load(split, **options)
        self.epoch, self.length, self.drawn, self.past = options.get("epoch", self.epoch), len(loader), 0, None
        if past is not None and past["length"] != self.length:
            logger.warning("an epoch has %d batches, and had %d: it starts again", self.length, past["length"])
            past = None
        return _Batches(self, loader, past)

    @property
    def stepped(self) -> bool:
        """Whether a step was taken."""
        return self.bar is not None and int(self.bar.n) > int(self.runner.init_ckpt.get("Step", 0))

    def position(self) -> dict[str, Any]:
        """Return what a checkpoint holds of the place in the data."""
        return {"batches": self.drawn, "length": self.length, "start": self.at_start, "now": _random_states()}

    def between_batches(self) -> None:
        """Save and end where a signal asked for it and the last batch has completed a step."""
        step, before = int(self.bar.n), self.step_before
        self.step_before = step
        if self.stop.received is None or step == before or step >= self.bar.total:
            return
        path = Path(self.runner.args.expdir) / f"states-{step}.ckpt"
        if not path.exists() and before is not None and self.module.is_leader_process():
            self._make_room()
            self.module.torch.save(self._states(step), str(path))
        raise Stopped(f"stopped by a signal at step {step}; the same command with -a goes on")

    def _states(self, step: int) -> dict[str, Any]:
        """Return what S3PRL's runner saves."""
        runner = self.runner
        states = {"Step": step, "Epoch": self.epoch, "Args": runner.args, "Config": runner.config}
        states |= {name.capitalize(): part.state_dict() for name, part in self.built.items() if part is not None}
        if torch.distributed.is_initialized():
            states["WorldSize"] = torch.distributed.get_world_size()
        trained = {each.name: self.module.get_model_state(each.model) for each in runner.all_entries if each.trainable}
        return {**states, **trained}

    def _make_room(self) -> None:
        """Let no more than ``runner.max_keep`` states be there once the next is written."""
        states = sorted(
            Path(self.runner.args.expdir).glob("states-*.ckpt"), key=lambda path: int(path.stem.split("-")[-1])
        )
        for path in states[: max(0, len(states) + 1 - self.runner.config["runner"]["max_keep"])]:
            self.module.os.remove(str(path))


class _Batches:
    """A loader that counts what is drawn, and begins after what an interrupted epoch has had."""

    def __init__(self, training: Training, loader: Any, past: Mapping[str, Any] | None):
        self.training, self.loader, self.past = training, loader, past

    def __getattr__(self, name: str) -> Any:
        """Return what the loader has of that name."""
        return getattr(self.loader, name)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches that are left."""
        skipped = self.past["batches"] if self.past is not None else 0
        if skipped < len(self):
            batches = iter(self.loader)
            for _ in range(skipped):
                next(batches)
        if self.past is not None:
            _set_random_states(self.past["now"], self.training.runner.args.init_ckpt)
        self.training.drawn = skipped
        while skipped < len(self):
            self.training.between_batches()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.training.drawn += 1
            yield batch


def checked_position(position: Any) -> bool:
    """Tell whether this is the place in an epoch that a checkpoint holds."""
    counts = [position.get(name) for name in ("batches", "length")] if isinstance(position, dict) else [None]
    states = [position.get(name) for name in ("start", "now")] if isinstance(position, dict) else [None]
    return all(isinstance(count, int) and count >= 0 for count in counts) and all(isinstance(s, dict) for s in states)


def _random_states() -> dict[str, Any]:
    """Return the states of all generators of random numbers as plain values."""
    version, numbers, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": on_gpus,
    }


def _set_random_states(states: Mapping[str, Any], path: str) -> None:
    """Set the generators as they were; each process of several keeps its own.

    Raises:
        AalbertError: the checkpoint at ``path`` holds no such states.
    """
    if torch.distributed.is_initialized():
        return
    try:
        version, numbers, gauss = states["python"]
        random.setstate((version, tuple(numbers), gauss))
        kind, keys, *rest = states["numpy"]
        np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
        torch.set_rng_state(states["torch"])
        if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(states["cuda"])
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError, OverflowError) as error:
        raise AalbertError(f"{path}: is damaged: {POSITION} holds no states of random generators ({error})") from error
