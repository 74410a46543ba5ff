"""Speed of the exported graphs against the upstream itself, in turn, on the same noise, in one run.

    python benchmarks/serving.py -o benchmarks/results/serving.csv

Weights are random: they change no time. Each round runs every system in turn, so that a machine that slows down slows
all. The utterances of a batch last 60 to 100 % of the stated length. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch
from commands import exit_code
from torch import Tensor

from s3prl_aalbert.machine import processor
from s3prl_aalbert.submission.serving import ServingModel, write_onnx, write_program
from s3prl_aalbert.upstream.expert import UpstreamExpert, pad_wavs

EAGER, PROGRAM, ONNX = "eager", "torch.export", "onnxruntime"
SAMPLE_RATE = 16000
HEADER = ("model", "batch", "seconds", "system", "median", "min", "max", "unit", "times as fast as eager", "difference")
System = Callable[[list[Tensor]], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["aalbert_3l", "aalbert_12l"], metavar="NAME")
    parser.add_argument("--batches", nargs="+", default=["1x1", "1x5", "1x15", "8x5"], metavar="BATCHxSECONDS")
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all cores")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/serving.csv"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: list[tuple] = [HEADER]
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder:
            systems = load_systems(name, Path(folder), args.threads)
        for text in args.batches:
            batch, seconds = text.split("x")
            rows += measure(name, systems, int(batch), float(seconds), args.rounds)
            print(f"{name} {text} done", flush=True)
    rows.append(machine(args.threads))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with args.output.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    for row in rows:
        print("  ".join(f"{value!s:<12}" for value in row))


def load_systems(name: str, folder: Path, threads: int) -> dict[str, System]:
    """Export the model of a preset and return what to time, each from a list of waveforms to all hidden states."""
    upstream = UpstreamExpert(model_config=name).eval()
    model = ServingModel(upstream.model)
    write_program(model, folder / "model.pt2")
    write_onnx(model, folder / "model.onnx")
    program = torch.export.load(folder / "model.pt2").module()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])

    def run_session(wavs: list[Tensor]) -> Tensor:
        padded, num_samples = pad_wavs(wavs)
        states, _ = session.run(None, {"wavs": padded.numpy(), "num_samples": num_samples.numpy()})
        return torch.from_numpy(states)

    return {
        EAGER: lambda wavs: torch.stack(upstream(wavs)["hidden_states"]),
        PROGRAM: lambda wavs: program(*pad_wavs(wavs))[0],
        ONNX: run_session,
    }


@torch.no_grad()
def measure(name: str, systems: dict[str, System], batch: int, seconds: float, rounds: int) -> list[tuple]:
    """Time every system on one batch and return the rows of the table."""
    generator = torch.Generator().manual_seed(0)
    shares = torch.linspace(1, 0.6, batch).tolist()
    wavs = [0.1 * torch.randn(round(seconds * SAMPLE_RATE * share), generator=generator) for share in shares]
    expected = systems[EAGER](wavs)
    times: dict[str, list[float]] = {system: [] for system in systems}
    for _ in range(rounds):
        for system, run in systems.items():
            run(wavs)  # not timed: lets the threads of the system before fall asleep
            start = time.perf_counter()
            run(wavs)
            times[system].append(1000 * (time.perf_counter() - start))
    rows = []
    for system, found in times.items():
        median = statistics.median(found)
        ratio = statistics.median(times[EAGER]) / median
        difference = float((systems[system](wavs) - expected).abs().max())
        figures = [f"{value:.1f}" for value in (median, min(found), max(found))]
        rows.append((name, batch, f"{seconds:g}", system, *figures, "ms", f"{ratio:.2f}", f"{difference:.1e}"))
    return rows


def machine(threads: int) -> tuple[str, ...]:
    versions = (f"torch {torch.__version__}", f"onnxruntime {onnxruntime.__version__}", platform.python_version())
    return ("machine", processor(), f"{threads} threads", *versions)


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
