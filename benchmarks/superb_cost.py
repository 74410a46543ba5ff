"""What SUPERB's grid costs, as a Markdown table: calculated from the configurations and the sizes of the corpora.

    python benchmarks/superb_cost.py
    python benchmarks/superb_cost.py --models aalbert_6l --tflops 19.5 --share 0.3 --hardware "one A100"

Counted are the frozen encoder (forward) and the task's own network (forward and backward) in training and on dev; not
the evaluation on test, decoding of audio and text, nor QbE's dynamic time warping.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from commands import exit_code

from s3prl_aalbert.experiments.plan import FORWARD, TRAINING, USED_SHARE
from s3prl_aalbert.model.config import SAMPLE_RATE, ModelConfig, find_config, load_model_config, read_yaml
from s3prl_aalbert.model.macs import module_macs
from s3prl_aalbert.submission.superb_steps import count_steps

H100_TFLOPS = 67.0
"""fp32, in which S3PRL's runner computes: NVIDIA's data sheet of the H100 SXM."""
LAUNCH_SECONDS = 0.01
"""Assumed least time of a batch, however small: a few hundred launches from Python."""
SCREEN, KEEP, RATES = 0.1, 2, 7


def _linear(*sizes: int) -> int:
    return sum(left * right for left, right in pairwise(sizes))


def _lstm(inputs: int, hidden: int, directions: int = 1) -> int:
    return directions * 4 * (inputs + hidden) * hidden


def _recognition(width: int, symbols: int) -> int:
    return _linear(width, 1024) + _lstm(1024, 1024, 2) + _lstm(2048, 1024, 2) + _linear(2048, symbols)


def _x_vector(width: int) -> int:
    return _linear(width, 512) + (5 + 3 + 3 + 1) * _linear(512, 512) + _linear(512, 1500)


class Split(NamedTuple):
    """Utterances, and their mean length in seconds."""

    utterances: int
    seconds: float


@dataclass(frozen=True)
class Task:
    """What of a task is not in its configuration ``superb_NAME``."""

    train: Split
    dev: Split
    """No utterances where there is no dev set."""
    head: Callable[[int], int]
    """Multiply-accumulates a token of the task's network, by the upstream's width."""
    batch: str
    """Keys of the training batch and of the one on dev, below downstream_expert."""
    dev_batch: str | None
    runs: int = 1
    """Trainings at one learning rate."""


# Numbers of utterances: the card of the data set s3prl/superb, but SF and QbE. Seconds: hours of the corpus by its
# utterances, from the papers named.
_LIBRISPEECH = Split(28_539, 12.7), Split(2_703, 7.2)  # Panayotov et al. 2015: 100.6 h, 5.4 h
_VOXCELEB = 8.0  # Nagrani et al. 2017: 8.2 s on average; training cuts at 8 s, so that this is an upper bound
_SNIPS = 3.4  # assumed: 9.1 words an utterance (Coucke et al. 2018), 2.7 words a second as in LibriSpeech
TASKS: dict[str, Task] = {
    "ks": Task(
        *(Split(51_094, 1.0), Split(6_798, 1.0)),  # Warden 2018: utterances of 1 s
        lambda width: _linear(width, 256),
        *("datarc.batch_size", "datarc.batch_size"),
    ),
    "ic": Task(
        *(Split(23_132, 2.3), Split(3_118, 2.2)),  # Lugosch et al. 2019: 14.7 h, 1.9 h
        lambda width: _linear(width, 256),
        *("datarc.train_batch_size", "datarc.eval_batch_size"),
    ),
    "er": Task(
        *(Split(3_540, 4.5), Split(885, 4.5)),  # Busso et al. 2008: 4.5 s; 5,531, a fifth is test, 20 % of the rest dev
        lambda width: _linear(width, 256),
        *("datarc.train_batch_size", "datarc.eval_batch_size"),
        runs=5,
    ),
    "sd": Task(
        *(Split(13_901, 15.0), Split(3_014, 13.2)),  # Cosentino et al. 2020: 58 h, 11 h
        lambda width: _lstm(width, 512) + _linear(512, 2),
        *("loaderrc.train_batchsize", "loaderrc.eval_batchsize"),
    ),
    "pr": Task(
        *_LIBRISPEECH,
        lambda width: _linear(width, 256, 74),
        *("corpus.batch_size", "corpus.batch_size"),
    ),
    "sid": Task(
        *(Split(138_361, _VOXCELEB), Split(6_904, 8.2)),
        lambda width: _linear(width, 256),
        *("datarc.train_batch_size", "datarc.eval_batch_size"),
    ),
    "asv": Task(
        *(Split(148_642, _VOXCELEB), Split(0, 0)),  # no dev set
        _x_vector,
        *("datarc.train_batch_size", None),
    ),
    "sf": Task(
        *(Split(104_672, _SNIPS), Split(2_800, _SNIPS)),  # 13,084 sentences of 8 voices, 700 of 4
        lambda width: _recognition(width, 100),
        *("corpus.batch_size", "corpus.batch_size"),
    ),
    "asr": Task(
        *_LIBRISPEECH,
        lambda width: _recognition(width, 32),
        *("datarc.batch_size", "datarc.eval_batch_size"),
    ),
}
QBE = Split(13_607, 6.3)  # Anguera et al. 2014: 12,492 documents of 23 h, 560 and 555 queries of about 2 s
"""For each layer and split once, or once in all with FEATURES."""


class Cost(NamedTuple):
    """Of a task at all learning rates."""

    steps: int
    batch: int
    """With gradient accumulation."""
    encoder: float
    """Operations."""
    head: float
    hours: float
    screened_hours: float
    cache_bytes: float | None
    """Of the hidden states of train and dev in float16; None where utterances are cut at random."""


class Machine(NamedTuple):
    """What does the work."""

    operations: float
    """A second, sustained."""
    launch_seconds: float = LAUNCH_SECONDS


def cost_of(name: str, model: ModelConfig, machine: Machine) -> Cost:
    """Return what a task costs by its packaged configuration."""
    task = TASKS[name]
    config = read_yaml(find_config(f"superb_{name}", "downstream_configs")) or {}
    runner, expert = config["runner"], config["downstream_expert"]
    steps, accumulate = runner["total_steps"], runner["gradient_accumulate_steps"]
    batch = int(_value(expert, task.batch))
    encoder, head, seconds = _pass(task, model, task.train, batch, steps * accumulate, TRAINING, machine)
    if task.dev_batch:
        evaluations, dev_batch = steps // runner["eval_step"], int(_value(expert, task.dev_batch))
        batches = evaluations * -(-task.dev.utterances // dev_batch)
        more = _pass(task, model, task.dev, dev_batch, batches, FORWARD, machine)
        encoder, head, seconds = encoder + more[0], head + more[1], seconds + more[2]
    trainings = RATES * task.runs
    share = 1.0 if name == "asv" else count_steps(config, SCREEN) / steps
    hours = seconds * trainings / 3600
    screened = hours * (share + (1 - share) * KEEP / RATES)
    spoken = task.train.utterances * task.train.seconds + task.dev.utterances * task.dev.seconds
    cache = None if name in ("ks", "sid", "asv") else spoken * _bytes_per_second(model)
    return Cost(steps, batch * accumulate, encoder * trainings, head * trainings, hours, screened, cache)


def _pass(
    task: Task, model: ModelConfig, split: Split, batch: int, batches: int, factor: int, machine: Machine
) -> tuple[float, float, float]:
    """Return the operations of encoder and head, and the seconds, of a number of batches."""
    samples = int(split.seconds * SAMPLE_RATE)
    encoder = FORWARD * sum(module_macs(model, samples).values()) * batch
    head = factor * task.head(model.transformer.hidden_size) * model.num_tokens(samples) * batch
    seconds = max((encoder + head) / machine.operations, machine.launch_seconds)
    return encoder * batches, head * batches, seconds * batches


def _value(section: Any, keys: str) -> Any:
    for key in keys.split("."):
        section = section[key]
    return section


def _bytes_per_second(model: ModelConfig) -> float:
    layers = model.transformer.num_hidden_layers + 1
    return 2 * layers * model.transformer.hidden_size * SAMPLE_RATE / model.samples_per_token


def order(model: ModelConfig, machine: Machine) -> list[str]:
    """Return the trained tasks, the cheapest first."""
    return sorted(TASKS, key=lambda name: cost_of(name, model, machine).hours)


def markdown(models: dict[str, ModelConfig], machine: Machine) -> str:
    """Return the table: a line a task, the cheapest first by the first model, and the sum."""
    heads = ["task", "steps", "batch", "mean s", "runs"]
    for name in models:
        heads += [f"{name}: PFLOP of encoder + task", "hours", "screened", "cache"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    totals = {name: [0.0] * 4 for name in models}
    for task in order(next(iter(models.values())), machine):
        cells: list[str] = []
        for name, model in models.items():
            cost = cost_of(task, model, machine)
            values = (cost.encoder, cost.head, cost.hours, cost.screened_hours)
            totals[name] = [before + value for before, value in zip(totals[name], values, strict=True)]
            cells += [*_cells(*values), _gigabytes(cost.cache_bytes)]
        runs = RATES * TASKS[task].runs
        facts = [task.upper(), f"{cost.steps:,}", str(cost.batch), f"{TASKS[task].train.seconds:g}", str(runs)]
        lines.append("| " + " | ".join(facts + cells) + " |")
    sums = [cell for name in models for cell in (*_cells(*totals[name]), "")]
    lines.append("| " + " | ".join(["all of these", "", "", "", "", *sums]) + " |")
    query = [cell for model in models.values() for cell in _query_by_example(model, machine)]
    lines.append("| " + " | ".join(["QBE", "-", "1", f"{QBE.seconds:g}", "-", *query]) + " |")
    return "\n".join(lines)


def _query_by_example(model: ModelConfig, machine: Machine) -> list[str]:
    """Return the cells of the task that trains nothing: every utterance once for each layer and split."""
    flop = FORWARD * sum(module_macs(model, int(QBE.seconds * SAMPLE_RATE)).values())
    times = QBE.utterances * 2 * (model.transformer.num_hidden_layers + 1)
    hours = times * max(flop / machine.operations, machine.launch_seconds) / 3600
    kept = QBE.utterances * QBE.seconds * _bytes_per_second(model)
    return [_figure(times * flop / 1e15), _figure(hours), "-", _gigabytes(kept)]


def _cells(encoder: float, head: float, hours: float, screened: float) -> list[str]:
    return [f"{_figure(encoder / 1e15)} + {_figure(head / 1e15)}", _figure(hours), _figure(screened)]


def _gigabytes(count: float | None) -> str:
    return "-" if count is None else f"{count / 1e9:.0f} GB"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--models", nargs="+", default=["aalbert_units", "aalbert_12l"], metavar="YAML", help="default: %(default)s")
    add("--tflops", type=float, default=H100_TFLOPS, help="peak of the hardware; default: %(default)s, an H100 in fp32")
    add("--share", type=float, default=USED_SHARE, help="of the peak that is sustained; default: %(default)s")
    add("--hardware", default="one H100 SXM in fp32", metavar="NAME", help="of the heading; default: %(default)s")
    args = parser.parse_args()
    print(
        f"Calculated, not measured: {args.hardware}, {args.share:.0%} of {args.tflops:g} TFLOP/s, at least "
        f"{LAUNCH_SECONDS * 1000:g} ms a batch; {RATES} learning rates, screened: SCREEN={SCREEN} KEEP={KEEP}.\n"
    )
    models = {Path(name).stem: load_model_config(name) for name in args.models}
    print(markdown(models, Machine(args.tflops * 1e12 * args.share)))


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
