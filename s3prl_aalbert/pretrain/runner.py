"""The pre-training loop, readable from top to bottom: data, step, log, evaluate, save, resume."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from s3prl_aalbert.checkpoint.content import UNREADABLE, some_names
from s3prl_aalbert.checkpoint.published import located, release_of_upstream
from s3prl_aalbert.checkpoint.release import CARD_FILE, WEIGHTS_FILE, load_checkpoint, load_weights, save_release
from s3prl_aalbert.checkpoint.training_state import (
    TrainingState,
    load_training_state,
    save_training_state,
    training_states,
)
from s3prl_aalbert.compress.distillation import Teacher
from s3prl_aalbert.compress.space import architectures_of_step
from s3prl_aalbert.errors import EXIT_STOPPED, AalbertError
from s3prl_aalbert.model.aalbert import count_parameters, hidden_means
from s3prl_aalbert.model.acoustics import corpus_statistics
from s3prl_aalbert.model.config import ModelConfig, from_dict, samples_in, to_dict
from s3prl_aalbert.model.objective import Objective
from s3prl_aalbert.model.sub_network import Architecture
from s3prl_aalbert.pretrain.batches import TrainingBatches
from s3prl_aalbert.pretrain.budget import TimeBudget
from s3prl_aalbert.pretrain.card import model_card
from s3prl_aalbert.pretrain.config import MFCC, PretrainConfig
from s3prl_aalbert.pretrain.corpus import load_corpus, manifest_path
from s3prl_aalbert.pretrain.dataset import Batch, Noise, SpeechDataset
from s3prl_aalbert.pretrain.evaluation import Evaluation
from s3prl_aalbert.pretrain.launch import RunOptions, launch, sum_of_processes
from s3prl_aalbert.pretrain.monitor import Monitor
from s3prl_aalbert.pretrain.objectives import build_objective, initialise_from, renew_unit_head
from s3prl_aalbert.pretrain.optim import build_optimizer, lr_factor
from s3prl_aalbert.pretrain.signals import StopSignal
from s3prl_aalbert.pretrain.unit_features import unit_features
from s3prl_aalbert.pretrain.units import label_corpus, random_units
from s3prl_aalbert.pretrain.utterances import Utterances
from s3prl_aalbert.speech.training_list import heard, read_training_list, write_training_list

logger = logging.getLogger(__name__)

T = TypeVar("T")
BEST_STATE = "dev-best.ckpt"
SMOOTHING = 0.98
"""Share that the smoothed loss keeps at each step."""
DRY_RUN_STEPS = 2
STATISTICS_UTTERANCES = 1000
"""Whose features give the statistics of ``audio.cmvn: corpus``."""
CENTRE_UTTERANCES = 100
"""Whose hidden states give the means of ``transformer.centred``, each time that a state is saved."""


class Pretrainer:
    """One pre-training run: everything that is saved and restored, and the loop over it."""

    def __init__(
        self, model_config: ModelConfig, config: PretrainConfig, options: RunOptions, teacher: Teacher | None = None
    ):
        """Build model, optimiser and data; nothing is written yet.

        Args:
            model_config: the model.
            config: how it is trained.
            options: what the command line adds.
            teacher: for ``config.distill``.

        Raises:
            AalbertError: unusable speech, checkpoint or folder.
        """
        self.model_config, self.config, self.options = model_config, config, options
        self.budget = TimeBudget(config.runner.max_hours)
        self.fabric = launch(config, options)
        self.step, self.best_dev, self.lowest_loss = 0, math.inf, math.inf
        self.smoothed_loss: float | None = None
        self.past_config: dict[str, Any] = {}  # that of the state from which the run goes on
        if options.resume_from:  # before the corpus and the units, which may take hours
            self._check_state(load_training_state(options.resume_from), options.resume_from)
        torch.manual_seed(options.seed)
        objective = build_objective(model_config, config, teacher)
        initial = initialise_from(objective, options.init) if options.init and not options.resume_from else None
        self.corpus = self._load_corpus()  # after the weights: it may decode for an hour before a mistyped --init
        if options.dry_run:
            self._add_arbitrary_units()
        else:
            self.add_units()
        if initial is not None:
            renew_unit_head(objective, initial, self._codebook)
        self._add_corpus_statistics(objective)
        self.objective = objective.to(self.fabric.device)
        optimizer = build_optimizer(self.objective, config.optimizer)
        self.module, self.optimizer = self.fabric.setup(self.objective, optimizer)
        if config.runner.compile:
            self.objective.model.encoder.compile(dynamic=True)
        self.batches = self._training_batches()
        if options.resume_from:
            self._load(options.resume_from)

    # ------------------------------------------------------------------------------------------- data

    @property
    def _manifest(self) -> Path:
        return manifest_path(self.config.datarc, self.options.corpus or self.options.expdir)

    def _load_corpus(self) -> Utterances:
        datarc, options, manifest = self.config.datarc, self.options, self._manifest
        save = self.fabric.is_global_zero and not options.dry_run
        return self._leader_first(lambda: load_corpus(datarc, manifest, options.seed, options.strict, save))

    def _leader_first(self, work: Callable[[], T]) -> T:
        """Return ``work()``, done by the first process before the others, which then find what it has written.

        A mistake is raised when all have come this far: the others would otherwise wait for one that is gone.
        """
        mistake: AalbertError | None = None
        with self.fabric.rank_zero_first():
            try:
                return work()
            except AalbertError as error:
                mistake = error
        raise mistake

    @property
    def _needs_units(self) -> bool:
        return self.config.distill is None and bool(self.model_config.task.unit_weight)

    @property
    def _codebook(self) -> str:
        """The digest of the codebook whose units are learnt; empty without."""
        return self.corpus.units.codebook if self.corpus.units else ""

    def _add_arbitrary_units(self) -> None:
        """Give the corpus units for a dry run, if its task needs any."""
        if not self._needs_units:
            return
        unit_features(self.model_config, self.config.units, self.fabric.device)  # is there such a source?
        self.corpus.units = random_units(self.corpus, self.model_config, self.options.seed)

    def add_units(self) -> None:
        """Give the corpus the units that its task needs, if it needs any; they are kept beside the manifest."""
        if not self._needs_units:
            return
        utterances, options = self.corpus, self.options
        read, device = SpeechDataset(utterances, self.model_config, math.inf, 0).wav, self.fabric.device
        arguments = utterances, read, self.model_config, self.config.units, self._manifest, options.seed, device
        utterances.units = self._leader_first(lambda: label_corpus(*arguments))

    def _add_corpus_statistics(self, objective: Objective) -> None:
        """Give the model the statistics of the training speech, unless a checkpoint will bring its own."""
        acoustics = objective.model.acoustics
        if self.model_config.audio.cmvn != "corpus" or self.options.init or self.options.resume_from:
            return
        wavs = self._some_speech(STATISTICS_UTTERANCES)
        mean, std = corpus_statistics(acoustics, (read() for read in wavs))
        acoustics.corpus_mean.copy_(mean)
        acoustics.corpus_std.copy_(std)
        logger.info("audio.cmvn: the statistics of %d utterances", len(wavs))

    def _centre(self) -> None:
        """Find the means of the hidden states anew, if the model is centred."""
        model = self.objective.model
        if model.hidden_means is None:
            return
        longest = samples_in(self.config.datarc.max_seconds)
        self.module.eval()
        means = hidden_means(model, (read()[:longest] for read in self._some_speech(CENTRE_UTTERANCES)))
        model.hidden_means.copy_(means)
        self.module.train()

    def _some_speech(self, utterances: int) -> list[Callable[[], np.ndarray]]:
        """Return what reads each of so many training utterances, or of all, drawn by the seed."""
        dataset = SpeechDataset(self.corpus.split("train"), self.model_config, math.inf, 0)
        rows = np.random.default_rng(self.options.seed).permutation(len(dataset))[:utterances]
        return [functools.partial(dataset.wav, row) for row in rows.tolist()]

    def _dataset(self, split: str) -> SpeechDataset:
        datarc, training = self.config.datarc, split == "train"
        return SpeechDataset(
            self.corpus.split(split),
            self.model_config,
            datarc.max_seconds,
            self.options.seed,
            noise=Noise(datarc.noise_proportion, datarc.noise_snr_db) if training else None,
            vocal_tract_perturbation=datarc.vocal_tract_perturbation if training else 0.0,
        )

    def _training_batches(self) -> TrainingBatches:
        datarc, fabric = self.config.datarc, self.fabric
        dataset = self._dataset("train")
        try:
            batches = TrainingBatches(
                dataset,
                datarc.train_batch_size,
                datarc.max_batch_seconds,
                self.config.runner.gradient_accumulate_steps,
                fabric.global_rank,
                fabric.world_size,
                datarc.num_workers,
            )
            batches.epoch_steps(0)
        except ValueError as error:
            raise AalbertError(str(error)) from error
        return batches

    # ------------------------------------------------------------------------------------------- loop

    def run(self, stop: StopSignal | None = None) -> int:
        """Train to the last step and return the exit code: 0 when done, EXIT_STOPPED after a signal.

        Args:
            stop: where it stands already; otherwise signals are taken from now on.
        """
        if stop is None:
            with StopSignal() as stop:
                return self.run(stop)
        with stop.deferred():
            return self._run(stop)

    def _run(self, stop: StopSignal) -> int:
        runner, options = self.config.runner, self.options
        self._announce()
        last = self.step + DRY_RUN_STEPS if options.dry_run else runner.total_steps
        if self.step >= last or (self.step and self._time_share() >= 1):
            hours = runner.max_hours
            if self.step < last:
                advice = "-o config.runner.max_hours=H with more hours goes on"
                logger.info("nothing to do: runner.max_hours %g is used up at step %d; %s", hours, self.step, advice)
            else:
                logger.info("nothing to do: step %d of %d is done", self.step, last)
            if not self._released():  # it ended between its last state and the release
                self._release()
            return 0
        self.budget.training_begins()
        self._check_time_is_left()
        self._list_training_speech()
        folder = None if options.dry_run else options.expdir
        with Monitor(folder, last, self.step, self.fabric.is_global_zero) as monitor:
            stopped = self._loop(monitor, last, stop)
        if options.dry_run:
            self._report_dry_run()
        elif not stopped:
            self._release()
        return EXIT_STOPPED if stopped else 0

    def _loop(self, monitor: Monitor, last: int, stop: StopSignal) -> bool:
        runner = self.config.runner
        self.module.train()
        for micro_batches in self.batches:
            self.step += 1
            loss, grad_norm, lr = self.train_step(micro_batches)
            self._check_loss(loss, micro_batches)
            monitor.step(self._smooth(loss), lr)
            if self.step % runner.log_step == 0:
                values = {"loss": loss, "lr": lr, "grad_norm": grad_norm, "steps_per_second": monitor.speed(self.step)}
                monitor.scalars(self.step, values)
            stopping = bool(self._sum(float(stop.received is not None)))
            ending = self.step >= last or self._time_share() >= 1
            if not self.options.dry_run:
                start = time.monotonic()
                due = ending or self.step % runner.eval_step == 0
                best = due and self._evaluate(monitor)
                if stopping or best or ending or self.step % runner.save_step == 0:
                    self._save(monitor, best)
                    self.budget.ended_in(time.monotonic() - start)
            if ending:
                if self.step < last and not self.options.dry_run:
                    monitor.message(f"step {self.step}: runner.max_hours {runner.max_hours:g} is used up")
                return False
            if stopping:
                monitor.message(f"stopped at step {self.step}; the same command with -a goes on from here")
                return True
        raise AssertionError("the batches never end")

    def _check_time_is_left(self) -> None:
        """Say what the preparation took of a time budget, and stop if it left nothing: one step is no model."""
        if not self.budget.limited or self.options.dry_run:
            return
        took, hours = self.budget.prepared / 60, self.config.runner.max_hours
        if self._time_share() >= 1:
            raise AalbertError(
                f"runner.max_hours is {hours:g}, and the corpus and the units took {took:.0f} minutes: no time is left "
                "to train. They are kept: the same command with -a goes on from them"
            )
        logger.info("runner.max_hours %g: the corpus and the units took %.1f minutes of it", hours, took)

    def train_step(self, micro_batches: list[Batch]) -> tuple[float, float, float]:
        """Take one optimiser step over all micro-batches of all processes, averaged over every masked value."""
        fabric, optimizer = self.fabric, self.config.optimizer
        # Seeding each step anew makes dropout the same after a resume, without any generator state to save.
        torch.manual_seed(hash((self.options.seed, self.step, fabric.global_rank)) & 0x7FFFFFFFFFFFFFFF)
        total_steps = self.config.runner.total_steps
        place = max(self.step, self._time_share() * total_steps)
        lr = optimizer.lr * lr_factor(place, optimizer.schedule_steps or total_steps, optimizer.warmup_proportion)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        archs = architectures_of_step(self.config.supernet, self.model_config.transformer, self.options.seed, self.step)
        weight = self._sum(sum(self.objective.weight(batch.num_samples, batch.weight) for batch in micro_batches))
        weight *= len(archs)
        total = torch.zeros((), device=fabric.device)
        passes = [(batch, arch) for batch in micro_batches for arch in archs]
        for index, (batch, arch) in enumerate(passes):
            batch = batch.to(fabric.device)
            with fabric.no_backward_sync(self.module, enabled=index + 1 < len(passes)):
                loss = self.module(batch.speech, arch)
                # Gradients are averaged over processes: multiply by their number to divide by the global weight alone.
                fabric.backward(loss.total * (fabric.world_size / weight))
            total += loss.total.detach()
        norm = fabric.clip_gradients(
            self.module, self.optimizer, max_norm=self.config.runner.gradient_clipping, error_if_nonfinite=False
        )
        mean = self._sum(total.item()) / weight
        if math.isfinite(mean):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return mean, norm.item() if isinstance(norm, Tensor) else math.nan, lr

    def _time_share(self) -> float:
        """Return the used share of runner.max_hours, by the clock of the first process; 0 without."""
        if not self.budget.limited:
            return 0.0
        return self._sum(self.budget.share if self.fabric.is_global_zero else 0.0)

    def _sum(self, value: float) -> float:
        return sum_of_processes(self.fabric, value)

    def _smooth(self, loss: float) -> float:
        before = loss if self.smoothed_loss is None else self.smoothed_loss
        self.smoothed_loss = SMOOTHING * before + (1 - SMOOTHING) * loss
        return self.smoothed_loss

    def _check_loss(self, loss: float, micro_batches: list[Batch]) -> None:
        shown = some_names([path for batch in micro_batches for path in batch.paths], 8)
        if not math.isfinite(loss):
            raise AalbertError(f"the loss is {loss} at step {self.step}; nothing was saved since. Its batch: {shown}")
        factor, smoothed = self.config.runner.divergence_factor, self.smoothed_loss
        if smoothed is None or not factor:
            return
        self.lowest_loss = min(self.lowest_loss, smoothed)
        if smoothed > factor * self.lowest_loss:
            raise AalbertError(
                f"the loss diverges: {smoothed:.4f} at step {self.step}, {self.lowest_loss:.4f} before. "
                f"Lower optimizer.lr or raise warmup_proportion. The last batch: {shown}"
            )

    # ------------------------------------------------------------------------------ evaluate and save

    def dev_loss(self, arch: Architecture | None = None) -> float:
        """Return the loss on the dev split, of the whole model or of a sub-network; NaN without a dev split."""
        return self._evaluation.dev_loss(arch)

    def _evaluate(self, monitor: Monitor) -> bool:
        """Log the dev loss and a picture, and return whether this is the best so far."""
        dev_loss = self.dev_loss()
        if math.isnan(dev_loss):
            return False
        leads = self.fabric.is_global_zero
        if leads and (picture := self._evaluation.picture()) is not None:
            monitor.picture(self.step, picture)
        units = self._evaluation.units() if leads and self._needs_units else {}
        monitor.scalars(self.step, {"dev_loss": dev_loss, **units})
        monitor.message(f"step {self.step}: dev loss {dev_loss:.4f}")
        best = dev_loss < self.best_dev
        self.best_dev = min(self.best_dev, dev_loss)
        return best

    @functools.cached_property
    def _evaluation(self) -> Evaluation:
        batch_size = self.config.datarc.train_batch_size
        return Evaluation(self._dataset("dev"), self.objective, self.module, self.fabric, batch_size)

    def _save(self, monitor: Monitor, best: bool) -> None:
        if self.fabric.is_global_zero:
            self._centre()
            expdir, state = self.options.expdir, self._state()
            path = expdir / f"states-{self.step}.ckpt"
            save_training_state(path, self.model_config, state)
            if best:
                save_training_state(expdir / BEST_STATE, self.model_config, state)
            self._remove_old(expdir)
            monitor.message(f"saved {path}" + (f" and {BEST_STATE}" if best else ""))
        self.fabric.barrier()

    def _state(self) -> dict[str, object]:
        return {
            "step": self.step,
            "model": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "batches": self.batches.state_dict(),
            "budget": self.budget.state_dict(),
            "best_dev": self.best_dev,
            "lowest_loss": self.lowest_loss,
            "smoothed_loss": self.smoothed_loss,
            "seed": self.options.seed,
            "pretrain_config": to_dict(self.config),
            "codebook": self._codebook,
        }

    def _remove_old(self, expdir: Path) -> None:
        for old in training_states(expdir)[: -self.config.runner.max_keep]:
            old.unlink()
        for unfinished in expdir.glob(".*.ckpt.*.tmp"):  # of a run that was killed while it saved
            unfinished.unlink()

    def _load(self, path: Path) -> None:
        """Restore everything a state holds."""
        state = load_training_state(path)
        try:
            self._restore(state, path)
        except UNREADABLE as error:  # torch's own answers to values of another type or shape
            raise AalbertError(f"{path}: is damaged: {type(error).__name__}: {error}") from error
        logger.info("resumed from %s at step %d", path, self.step)

    def _check_state(self, state: TrainingState, path: Path) -> None:
        """Refuse to go on from a state of another model, seed or optimiser."""
        if from_dict(ModelConfig, state["config"], str(path)) != self.model_config:
            raise AalbertError(f"{path}: was trained with another model configuration; use its own -g, or --init")
        if state.get("seed") != self.options.seed:
            raise AalbertError(f"{path}: was trained with --seed {state.get('seed')}, not {self.options.seed}")
        try:
            past, own = state["pretrain_config"]["optimizer"]["name"], self.config.optimizer.name
        except UNREADABLE as error:
            raise AalbertError(f"{path}: is damaged: {type(error).__name__}: {error}") from error
        if past != own:
            raise AalbertError(f"{path}: was trained with optimizer.name {past}, not {own}; --init starts anew with it")

    def _restore(self, state: TrainingState, path: Path) -> None:
        load_weights(self.objective, state["model"], path)
        self.past_config = state["pretrain_config"]
        self._restore_optimizer(state["optimizer"])
        if state["precision"]:  # of fp16 alone; a run that had another precision has no loss scale to go on from
            self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.batches.load_state_dict(state["batches"])
        if "budget" in state:  # older states have none
            self.budget.load_state_dict(state["budget"])
        self.step = int(state["step"])
        if not self._same_targets:
            logger.warning("units or distill differ from those of %s: the best dev loss is found anew", path)
            return
        self.best_dev, self.lowest_loss = float(state["best_dev"]), float(state["lowest_loss"])
        if (smoothed := state.get("smoothed_loss")) is not None:  # older states have none: the smoothing starts anew
            self.smoothed_loss = float(smoothed)

    @property
    def _same_targets(self) -> bool:
        """Whether the run goes on from a state that learnt the same units, or from the same teacher in the same way."""
        before, own = self.past_config, to_dict(self.config)
        return bool(before) and all(before.get(name) == own[name] for name in ("distill", "units"))

    def _restore_optimizer(self, state: dict[str, object]) -> None:
        """Restore what the optimiser has gathered; weight decay, betas and the like are those of this configuration."""
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state)
        for group, own in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(own)

    def _released(self) -> bool:
        """Return whether the folder holds the release of this step; the same in every process."""
        found = 0.0
        if self.fabric.is_global_zero and (self.options.expdir / CARD_FILE).is_file():  # which is written last
            with contextlib.suppress(AalbertError):
                found = float(load_checkpoint(self.options.expdir / WEIGHTS_FILE).info.get("step") == self.step)
        return bool(self._sum(found))

    def _release(self) -> None:
        """Write the release of the last step: what `-k EXPDIR` loads from now on."""
        if self.fabric.is_global_zero:
            info = {
                "step": self.step,
                "dev_loss": self.best_dev if math.isfinite(self.best_dev) else None,
                "corpus": self.corpus.describe(),
                "seed": self.options.seed,
                "codebook": self._codebook,
                "supernet": to_dict(self.config.supernet) if self.config.supernet else None,
                "distill": to_dict(self.config.distill) if self.config.distill else None,
            }
            card = model_card(self.model_config, self.config, info, count_parameters(self.objective.model))
            save_release(self.options.expdir, self.model_config, self.objective.state_dict(), card, info)
            logger.info("wrote the release to %s", self.options.expdir)
        self.fabric.barrier()

    def _list_training_speech(self) -> None:
        """Write what the model hears, and what the models that it learns from have heard."""
        if self.options.dry_run or not self.fabric.is_global_zero:
            return
        own = heard({utterance.path: utterance.speaker for utterance in self.corpus})
        lists = (read_training_list(model) if model else None for model in self._learns_from())
        write_training_list(self.options.expdir, own, *lists)

    def _learns_from(self) -> list[Path | None]:
        """Return the models that give it weights, units or hidden states; None for another project's."""
        options, distill, units = self.options, self.config.distill, self.config.units
        if self._same_targets:
            return [options.resume_from]  # its list holds those of the others
        begun_from = options.resume_from or options.init
        models: list[Path | None] = [begun_from] if begun_from else []
        if distill is not None:
            models.append(release_of_upstream(distill.teacher, distill.teacher_ckpt))
        elif self.model_config.task.unit_weight and units.source != MFCC:
            models.append(located(units.source))
        return models

    # ------------------------------------------------------------------------------------------ words

    def _announce(self) -> None:
        runner, datarc, fabric = self.config.runner, self.config.datarc, self.fabric
        effective = datarc.train_batch_size * runner.gradient_accumulate_steps * fabric.world_size
        logger.info("corpus: %s", self.corpus.describe())
        logger.info(
            "model: %.2fM parameters (%.2fM with head); %s, %s, %d process(es); %d utterances a step, %d steps/epoch",
            count_parameters(self.objective.model) / 1e6,
            count_parameters(self.objective) / 1e6,
            fabric.device,
            fabric.strategy.precision.precision,
            fabric.world_size,
            effective,
            len(self.batches.epoch_steps(0)),
        )
        if self.options.dry_run and self._needs_units:
            logger.info("dry run: the units are arbitrary, those of a run are computed at its start")

    def _report_dry_run(self) -> None:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        gpu = (
            f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of GPU memory" if torch.cuda.is_available() else ""
        )
        logger.info("dry run: configuration, speech and %d steps are fine; peak %.1f GiB%s", DRY_RUN_STEPS, peak, gpu)
