"""Training and measuring for scripts/gpu_run.py: steps a second, the share of the bf16 rate, the wait for data.

Operations are those of the encoder on real tokens, forward and backward: padding, features, head and optimiser are not
counted, so that the shares are lower bounds.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pretrain  # of this folder
import torch

from s3prl_aalbert.device import checked_device
from s3prl_aalbert.errors import EXIT_STOPPED, AalbertError
from s3prl_aalbert.model.config import SAMPLE_RATE, ModelConfig, find_config, from_dict, load_model_config, read_yaml
from s3prl_aalbert.model.macs import encoder_macs
from s3prl_aalbert.pretrain.batches import TrainingBatches
from s3prl_aalbert.pretrain.budget import TimeBudget
from s3prl_aalbert.pretrain.config import (
    DataConfig,
    OptimizerConfig,
    PretrainConfig,
    PretrainExpertConfig,
    RunnerConfig,
    section_of,
)
from s3prl_aalbert.pretrain.dataset import Batch
from s3prl_aalbert.pretrain.launch import RunOptions
from s3prl_aalbert.pretrain.runner import Pretrainer
from s3prl_aalbert.pretrain.stages import Stage, merged, override_recipe, recipe_stages

WARM_UP = 10
"""First steps that no rate counts: allocation, compilation, choice of kernels."""
EARLY_STAGE_SHARE = 0.12
"""Of the minutes: the most that a stage before the last trains."""
END_SECONDS = 15
"""Kept for the bf16 rate and the parts of the release."""
ENDLESS_STEPS = 10_000_000
"""Of the last stage: the time ends it."""
PRODUCT_SIZE = {"cuda": 8192, "cpu": 1024}
Row = dict[str, Any]


@dataclass
class Meter:
    """What each step of a run took and how much speech it had."""

    waits: list[float] = field(default_factory=list)
    """Seconds until its batch was there."""
    steps: list[float] = field(default_factory=list)
    """Seconds of forward, backward and optimiser."""
    samples: list[list[int]] = field(default_factory=list)
    """Samples of each of its utterances."""

    def figures(self, model: ModelConfig, bf16: float) -> Row:
        """Return the rates of a run's steps.

        Args:
            model: what was trained.
            bf16: measured rate of matrix products, in operations a second.
        """
        skipped = min(WARM_UP, len(self.steps) // 2)
        waits, steps, samples = self.waits[skipped : len(self.steps)], self.steps[skipped:], self.samples[skipped:]
        if not steps:
            return {"steps": 0}
        macs = cache(lambda tokens: encoder_macs(model, tokens * model.samples_per_token))
        operations = sum(6 * macs(int(model.num_tokens(n))) for n in itertools.chain(*samples))  # 2 a MAC, thrice
        seconds = sum(waits) + sum(steps)
        memory = {"gpu_gib": torch.cuda.max_memory_allocated() / 2**30} if torch.cuda.is_available() else {}
        return {
            "steps": len(self.steps),
            "steps_per_second": len(steps) / seconds,
            "audio_seconds_per_second": sum(map(sum, samples)) / SAMPLE_RATE / seconds,
            "tflops": operations / seconds / 1e12,
            "share_of_bf16": operations / seconds / bf16,
            "data_wait_share": sum(waits) / seconds,
            **memory,
        }


class TimedBatches:
    """Training batches whose waits a meter notes."""

    def __init__(self, batches: TrainingBatches, meter: Meter):
        self._batches, self._meter = batches, meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)

    def __iter__(self) -> Iterator[list[Batch]]:
        batches = iter(self._batches)
        while True:
            asked = time.perf_counter()
            batch = next(batches)
            self._meter.waits.append(time.perf_counter() - asked)
            yield batch


class MeasuredPretrainer(Pretrainer):
    """A run whose steps are measured."""

    def __init__(self, model_config: ModelConfig, config: PretrainConfig, options: RunOptions):
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        super().__init__(model_config, config, options)
        self.meter = Meter()
        self.batches: Any = TimedBatches(self.batches, self.meter)

    def give_hours(self, hours: float) -> None:
        """Let the time of the run begin now."""
        self.config = replace(self.config, runner=replace(self.config.runner, max_hours=hours))
        self.budget = TimeBudget(hours)

    def train_step(self, micro_batches: list[Batch]) -> tuple[float, float, float]:
        begun = time.perf_counter()
        result = super().train_step(micro_batches)  # waits for the device: it returns the loss
        self.meter.steps.append(time.perf_counter() - begun)
        self.meter.samples.append([n for batch in micro_batches for n in batch.num_samples.tolist()])
        return result


def bf16_rate(device: str, repeats: int = 10) -> float:
    """Return the operations a second of a large matrix product of random bf16 numbers; the median of ``repeats``."""
    size = PRODUCT_SIZE[device]
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(3 + repeats):
        begun = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return 2 * size**3 / statistics.median(seconds[3:])


def machine(device: str) -> Row:
    """Return what the figures were measured on."""
    processor = pretrain.machine()[1]
    name = torch.cuda.get_device_name() if device == "cuda" else processor
    threads = torch.get_num_threads()
    return {
        "device": name, "processor": processor, "cores": os.cpu_count(), "threads": threads, "torch": torch.__version__,
    }  # fmt: skip


def default_workers(device: str) -> int:
    """Return how many processes read audio while a GPU computes; a CPU has no core to spare."""
    return min(8, (os.cpu_count() or 1) // 2) if device == "cuda" else 0


def train(args: argparse.Namespace, expdir: Path, started: float) -> Row:
    """Train within ``args.minutes`` after ``started``, all stages of a recipe, and return what was measured.

    Raises:
        AalbertError: unusable configuration or speech, or a signal stopped the run.
    """
    device = checked_device(args.device)
    runs = []
    stages = _stages(args, expdir, device)
    for stage in stages:
        last, where = stage is stages[-1], f"stage {stage.name}"
        config = merged(stage.config, {"runner": {"total_steps": args.steps or ENDLESS_STEPS}} if last else {})
        options = RunOptions(stage.expdir, args.seed, device, init=stage.init, corpus=stage.corpus)
        model = from_dict(ModelConfig, stage.model, where)
        run = MeasuredPretrainer(model, from_dict(PretrainConfig, config, where), options)
        left = args.minutes * 60 - END_SECONDS - (time.monotonic() - started)
        run.give_hours(_hours(left, last, args.minutes, run.config.runner.max_hours, where))
        if run.run() == EXIT_STOPPED:
            raise AalbertError(f"{stage.expdir}: a signal stopped the run at step {run.step}; there is no release")
        runs.append((stage.name, run.model_config, run.meter))
    rate = bf16_rate(device)
    rows = [{"stage": name, **meter.figures(model, rate)} for name, model, meter in runs]
    return {"machine": machine(device), "bf16_tflops": rate / 1e12, "rows": rows}


def _stages(args: argparse.Namespace, expdir: Path, device: str) -> list[Stage]:
    """Return the runs that -g, -c and -o describe; one, where -c is no recipe."""
    paths = [find_config(name, "upstream_configs") for name in (args.upstream_config, args.config)]
    model, config = map(read_yaml, paths)
    override_recipe(model, config, args.override)
    datarc = section_of(section_of(config, "pretrain_expert"), "datarc")
    datarc["paths"] = [str(folder.absolute()) for folder in args.speech]
    datarc.setdefault("num_workers", default_workers(device))
    return recipe_stages(model, config, expdir, str(paths[1])) or [
        Stage("pretrain", expdir, expdir, None, model, config)
    ]


def _hours(left: float, last: bool, minutes: float, own: float | None, where: str) -> float:
    """Return how long a stage trains once its speech and labels are there; the last has all ``left`` seconds."""
    if not left > 0:
        raise AalbertError(f"--minutes {minutes:g}: used up before the first step of {where}")
    return left / 3600 if last else min(left / 3600, own or math.inf, EARLY_STAGE_SHARE * minutes / 60)


def table(args: argparse.Namespace, folder: Path) -> Row:
    """Return the rates of whole training steps of models, on clips of real speech that are joined in ``folder``."""
    device = checked_device(args.device)
    clips = folder / f"{args.seconds}s"
    pretrain.make_clips(args.speech, args.seconds, 2 * args.batch, clips)
    workers = default_workers(device)
    data = DataConfig(
        paths=(str(clips),), train_batch_size=args.batch, max_seconds=args.seconds, dev_fraction=0, num_workers=workers
    )
    config = PretrainConfig(RunnerConfig(precision="bf16"), OptimizerConfig(), PretrainExpertConfig(data))
    rate = bf16_rate(device)
    rows = []
    for name, compiled in itertools.product(args.models, (False, True) if args.compile else (False,)):
        settings = replace(config, runner=replace(config.runner, compile=compiled))
        options = RunOptions(expdir=folder / "unused", device=device, dry_run=True)
        run = MeasuredPretrainer(load_model_config(name), settings, options)
        for micro_batches in itertools.islice(run.batches, args.steps):
            run.step += 1
            run.train_step(micro_batches)
        rows.append({"model": name, "compile": compiled, **run.meter.figures(run.model_config, rate)})
        print(rows[-1], flush=True)
    setting = {"batch": args.batch, "seconds": args.seconds, "precision": "bf16", "workers": workers}
    return {"machine": machine(device), "bf16_tflops": rate / 1e12, **setting, "rows": rows}
