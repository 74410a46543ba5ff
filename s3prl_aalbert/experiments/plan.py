"""Calculates from the command alone what each run of a sweep does and costs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import torch

from s3prl_aalbert.checkpoint.published import EVERY_FRAME
from s3prl_aalbert.device import native_bf16
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.experiments.grid import SweepRun
from s3prl_aalbert.model.config import SAMPLE_RATE, ModelConfig, find_config, from_dict, read_yaml
from s3prl_aalbert.pretrain.config import PretrainConfig, apply_overrides
from s3prl_aalbert.profile.costs import utterance_macs
from s3prl_aalbert.toolkit.overrides import overridden, parse_override
from s3prl_aalbert.upstream.named import upstream_config

UTTERANCE_SECONDS = 12.3
"""Mean length of an utterance of LibriSpeech; shorter if ``max_seconds`` crops."""
FORWARD, TRAINING = 2, 6
"""Floating-point operations per multiply-accumulate: forward, and forward with both gradients."""
USED_SHARE = 0.4
"""Assumed speed of training, as a share of the rate of a large matrix product."""
HEADER = ("run", "model", "data", "rate", "batch", "steps", "PFLOP", "hours here")


class RunFacts(NamedTuple):
    """One run."""

    model: str
    data: str
    rate: float | None
    batch: int | None
    steps: int | None
    flop: float | None
    """Operations of the encoder; None for an upstream of S3PRL, where they are unknown."""


def describe_run(run: SweepRun, runs: Sequence[SweepRun]) -> RunFacts:
    """Return the facts of a run.

    Args:
        run: a run of the sweep.
        runs: all runs of the sweep, where a pre-training defines the model of its tasks.
    """
    return _describe_pretraining(run) if run.argv[0] == "pretrain" else _describe_task(run, runs)


def _describe_pretraining(run: SweepRun) -> RunFacts:
    model_name = _option(run, "-g") or ""
    model = _yaml(model_name, "upstream_configs")
    config = _yaml(_option(run, "-c") or "", "upstream_configs")
    apply_overrides(model, config, _option(run, "-o"))
    runner, built = from_dict(PretrainConfig, config), from_dict(ModelConfig, model)
    seconds = min(UTTERANCE_SECONDS, runner.datarc.max_seconds)
    batch = runner.datarc.train_batch_size * runner.runner.gradient_accumulate_steps
    spoken = batch * seconds
    if runner.datarc.max_batch_seconds:
        spoken = min(spoken, runner.datarc.max_batch_seconds * runner.runner.gradient_accumulate_steps)
    steps = runner.runner.total_steps
    flop = TRAINING * _macs_per_second(built, seconds) * spoken * steps
    after = run.argv[run.argv.index("--speech") + 1 :]
    folders = " ".join(takewhile(lambda part: not part.startswith("-"), after))
    return RunFacts(model_name, folders, runner.optimizer.lr, batch, steps, flop)


def _describe_task(run: SweepRun, runs: Sequence[SweepRun]) -> RunFacts:
    config = _yaml(_option(run, "-c") or _option(run, "-d") or "aalbert_probe", "downstream_configs")
    config = overridden(config, parse_override(_option(run, "-o")))
    datarc = (config.get("downstream_expert") or {}).get("datarc") or {}
    runner = config.get("runner") or {}
    batch = datarc.get("train_batch_size")
    steps = runner.get("total_steps")
    name, model = _upstream(run, runs)
    flop = None
    if _option(run, "-u") == "aalbert_features":
        flop = 0.0
    elif model and batch and steps:
        factor = TRAINING if "-f" in run.argv else FORWARD
        passes = batch * runner.get("gradient_accumulate_steps", 1) * steps
        every_frame = _option(run, "-u") == EVERY_FRAME
        flop = factor * _macs_per_second(model, UTTERANCE_SECONDS, every_frame) * UTTERANCE_SECONDS * passes
    return RunFacts(name, _audio(datarc), (config.get("optimizer") or {}).get("lr"), batch, steps, flop)


def _upstream(run: SweepRun, runs: Sequence[SweepRun]) -> tuple[str, ModelConfig | None]:
    """Return the name of a task's model, and its configuration if it is one of ours."""
    for other in runs:
        if other.name == run.needs:
            model = _yaml(_option(other, "-g") or "", "upstream_configs")
            apply_overrides(model, {}, _option(other, "-o"))
            return other.name, from_dict(ModelConfig, model)
    name, ckpt, config = _option(run, "-u") or "", _option(run, "-k"), _option(run, "-g")
    try:
        return ckpt or name, upstream_config(name, ckpt, config)
    except AalbertError:  # a file that does not exist yet
        return ckpt or name, None


def _macs_per_second(model: ModelConfig, seconds: float, every_frame: bool = False) -> float:
    return sum(utterance_macs(model, int(seconds * SAMPLE_RATE), every_frame).values()) / seconds


def _audio(datarc: Mapping[str, object]) -> str:
    sections = [datarc, *(value for value in datarc.values() if isinstance(value, Mapping))]
    found = [str(section["audio"]) for section in sections if section.get("audio")]
    return " ".join(dict.fromkeys(found))


def _option(run: SweepRun, flag: str) -> str | None:
    return run.argv[run.argv.index(flag) + 1] if flag in run.argv else None


def _yaml(name: str, folder: str) -> dict[str, Any]:
    return dict(read_yaml(find_config(name, folder)) or {})


def machine_rate() -> float:
    """Measure the floating-point operations per second of a large matrix product, in the faster of fp32 and bf16.

    A processor that emulates bf16 would take many seconds for it.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precisions = (torch.float32, torch.bfloat16) if native_bf16(device) else (torch.float32,)
    return max(_rate(device, precision) for precision in precisions)


def _rate(device: str, dtype: torch.dtype, size: int = 1024) -> float:
    left = torch.ones(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        float((left @ left)[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def describe_plan(runs: Sequence[SweepRun], all_runs: Sequence[SweepRun]) -> str:
    """Return a table of what each run does and costs on this machine, whose speed is measured.

    Args:
        runs: the runs in the table.
        all_runs: all runs of the sweep.
    """
    rate = machine_rate()
    rows = table(runs, all_runs, rate)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append(
        f"Costs are calculated for the encoder alone and for utterances of {UTTERANCE_SECONDS:g} s; hours at "
        f"{USED_SHARE:.0%} of this machine's {rate / 1e12:.3g} TFLOP/s. A feature cache saves most."
    )
    return "\n".join(lines)


def table(runs: Sequence[SweepRun], all_runs: Sequence[SweepRun], rate: float) -> list[tuple[str, ...]]:
    """Return a table: the header, a row for each run, and the sum.

    Args:
        runs: the runs in the table.
        all_runs: all runs of the sweep.
        rate: operations per second, as measured by ``machine_rate``.
    """
    rows: list[tuple[str, ...]] = [HEADER]
    total = 0.0
    for run in runs:
        facts = describe_run(run, all_runs)
        total += facts.flop or 0
        numbers = tuple("" if n is None else f"{n:g}" for n in (facts.rate, facts.batch, facts.steps))
        rows.append((run.name, facts.model, facts.data, *numbers, *_cost(facts.flop, rate)))
    rows.append((f"{len(runs)} runs", *[""] * 5, *_cost(total, rate)))
    return rows


def _cost(flop: float | None, rate: float) -> tuple[str, str]:
    if flop is None:
        return "?", "?"
    return f"{flop / 1e15:.3g}", f"{flop / (rate * USED_SHARE) / 3600:.2g}"
