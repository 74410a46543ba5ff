"""Cost of `aalbert probe` (every layer, classifier and task in one run) against separate runs, one for each of them.

    python benchmarks/probe.py -o benchmarks/results/probe.csv

Both go through S3PRL's runner with the same model, data, batch size, steps and evaluations. All runs share one process,
so that the ratio of work holds neither imports nor set-up; these are measured apart and a second ratio adds them. The
one run is repeated before, between and after the separate ones, so that a machine that slows down slows both. Run it on
a quiet machine.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import exit_code

from s3prl_aalbert.machine import processor

CLASSIFIERS = ("linear", "1-hidden", "2-hidden")
TASKS = {"phone": "aalbert_phone", "speaker": "aalbert_speaker_frame"}
TARGET = 8
ROUNDS = 3


@dataclass(frozen=True)
class Cost:
    """Seconds of one run, from the call to its return."""

    setup: float
    """Until the first batch reaches the task: model, data, split."""
    work: float
    """Training and evaluation."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/probe.csv"))
    parser.add_argument("-g", "--model", default="aalbert_6l", help="model configuration (%(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="training steps of every run (%(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="utterances of a task in a step (%(default)s)")
    parser.add_argument("--show", action="store_true", help="show what the runs print")
    args = parser.parse_args()

    from s3prl_aalbert import toolkit
    from s3prl_aalbert.model.config import load_model_config
    from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus

    toolkit.activate()
    layers = load_model_config(args.model).transformer.num_hidden_layers + 1  # and the input embedding
    with tempfile.TemporaryDirectory() as folder, clocked() as clock:
        place = Path(folder)
        corpus = synthesise_corpus(
            place / "speech", num_speakers=6, utterances_per_speaker=10, seconds=(1.8, 2.2), seed=1
        )
        setting = Setting(args, corpus, place, clock)
        together, separate = measure(setting, layers)
    rows = table(together, separate, start_seconds())
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with args.output.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([*rows, machine(args, layers)])
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    print("\n".join("  ".join(f"{value!s:<{width}}" for value, width in zip(r, widths, strict=True)) for r in rows))
    print(" ".join(map(str, machine(args, layers))))


# ------------------------------------------------------------------------------------------------- running


class Clock:
    """Notes when the first batch reaches a task."""

    first: float | None = None


@contextlib.contextmanager
def clocked() -> Iterator[Clock]:
    """Let the experts of all tasks start the clock."""
    from s3prl_aalbert.downstream.phone.expert import DownstreamExpert as Phone
    from s3prl_aalbert.downstream.probe.expert import DownstreamExpert as Probe
    from s3prl_aalbert.downstream.speaker.frame import DownstreamExpert as Frame

    clock, originals = Clock(), {expert: expert.forward for expert in (Phone, Probe, Frame)}

    def with_clock(original: Any) -> Any:
        def forward(self: Any, *args: Any, **options: Any) -> Any:
            clock.first = clock.first or time.perf_counter()
            return original(self, *args, **options)

        return forward

    for expert, original in originals.items():
        expert.forward = with_clock(original)  # type: ignore[method-assign]
    try:
        yield clock
    finally:
        for expert, original in originals.items():
            expert.forward = original  # type: ignore[method-assign]


@dataclass
class Setting:
    """What all runs share."""

    args: argparse.Namespace
    corpus: Path
    place: Path
    clock: Clock
    runs: int = 0

    def run(self, command: list[str], config: str, overrides: dict[str, object]) -> Cost:
        """Run one command in this process and return its cost."""
        from s3prl_aalbert.cli import main as aalbert

        self.runs += 1
        total = self.args.steps
        shared = {f"runner.{key}_step": total for key in ("eval", "save", "log")} | {"runner.total_steps": total}
        text = ",,".join(f"config.{key}={value!r}" for key, value in {**shared, **overrides}.items())
        argv = [*command, "-u", "aalbert_6l", "-g", self.args.model, "-c", config]
        argv += ["-p", str(self.place / f"run{self.runs}"), "-o", text]
        self.clock.first = None
        out = contextlib.nullcontext() if self.args.show else contextlib.redirect_stdout(io.StringIO())
        err = contextlib.nullcontext() if self.args.show else contextlib.redirect_stderr(io.StringIO())
        start = time.perf_counter()
        with out, err:
            code = aalbert(argv)
        end = time.perf_counter()
        logging.disable(logging.NOTSET if self.args.show else logging.CRITICAL)
        if code or self.clock.first is None:
            raise SystemExit(f"{' '.join(argv)}: ended with code {code}; --show shows why")
        return Cost(self.clock.first - start, end - self.clock.first)

    def together(self) -> Cost:
        """Probe everything in one run."""
        datarc = "downstream_expert.datarc"
        overrides: dict[str, object] = {f"{datarc}.{task}.audio": str(self.corpus) for task in TASKS}
        overrides[f"{datarc}.phone.phone_set"] = "39"
        overrides |= {f"{datarc}.{split}_batch_size": self.args.batch for split in ("train", "eval")}
        return self.run(["probe"], "aalbert_probe", overrides)

    def alone(self, task: str, layer: int, classifier: str) -> Cost:
        """Train one classifier on one layer, as `-l` of S3PRL's runner selects it."""
        datarc, modelrc = "downstream_expert.datarc", "downstream_expert.modelrc"
        overrides: dict[str, object] = {f"{datarc}.audio": str(self.corpus), f"{modelrc}.classifier": classifier}
        overrides |= {f"{datarc}.{split}_batch_size": self.args.batch for split in ("train", "eval")}
        if task == "phone":
            overrides[f"{datarc}.phone_set"] = "39"
        name = TASKS[task]
        return self.run(["downstream", "-m", "train", "-d", name, "-l", str(layer)], name, overrides)


def measure(setting: Setting, layers: int) -> tuple[list[Cost], list[Cost]]:
    """Run everything in turn; returns the costs of the repeated one run, and of the separate ones."""
    jobs = [(task, layer, classifier) for task in TASKS for layer in range(layers) for classifier in CLASSIFIERS]
    setting.alone(*jobs[0])  # warms up
    together, separate = [setting.together()], []
    for number, job in enumerate(jobs, 1):
        separate.append(setting.alone(*job))
        print(f"\r{number} of {len(jobs)} separate runs", end="", file=sys.stderr, flush=True)
        if number % -(-len(jobs) // (ROUNDS - 1)) == 0 or number == len(jobs):
            together.append(setting.together())
    print(file=sys.stderr)
    return together, separate


def start_seconds() -> list[float]:
    """Measure what every process costs before its run begins: Python and the imports of S3PRL."""
    code = "from s3prl_aalbert import toolkit; toolkit.activate(); import s3prl.run_downstream"
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return seconds


# ------------------------------------------------------------------------------------------------- results


def table(together: list[Cost], separate: list[Cost], starts: list[float]) -> list[tuple[str, ...]]:
    """Return the CSV rows."""
    count, start = len(separate), statistics.median(starts)
    work = statistics.median(cost.work for cost in together)
    setup = statistics.median(cost.setup for cost in together)
    all_work, all_setup = sum(cost.work for cost in separate), sum(cost.setup for cost in separate)
    low, high = all_work / max(c.work for c in together), all_work / min(c.work for c in together)
    everything = (all_work + all_setup + count * start) / (work + setup + start)
    return [
        ("case", "figure", "median", "min", "max", "unit", "target"),
        ("one run", "training and evaluation", *spread([cost.work for cost in together]), "s", ""),
        ("one run", "set-up", *spread([cost.setup for cost in together]), "s", ""),
        (f"each of {count} runs", "training and evaluation", *spread([cost.work for cost in separate]), "s", ""),
        (f"each of {count} runs", "set-up", *spread([cost.setup for cost in separate]), "s", ""),
        ("any process", "start (Python, imports)", *spread(starts), "s", ""),
        (f"{count} runs to one", "training and evaluation", number(all_work / work), number(low), number(high), "x",
         f">= {TARGET}"),
        (f"{count} runs to one", "with set-up and start", number(everything), "", "", "x", ""),
    ]  # fmt: skip


def spread(values: list[float]) -> tuple[str, str, str]:
    return number(statistics.median(values)), number(min(values)), number(max(values))


def number(value: float) -> str:
    return f"{value:.3g}"


def machine(args: argparse.Namespace, layers: int) -> tuple[str, ...]:
    import platform

    import torch

    setting = (
        f"{args.model}, {layers} layers with the input embedding, {args.steps} steps of {args.batch} utterances a task"
    )
    return ("machine", processor(), f"{torch.get_num_threads()} threads", f"torch {torch.__version__}",
            platform.python_version(), setting, "")  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
