"""Runs a benchmark again and shows every recorded value beside the new one; `aalbert sweep --compare NAME` starts it.

    python benchmarks/again.py peers --data data -o result/again

DATA is as for results_page.py, and may have speechocean762 too. A benchmark that goes on where it was interrupted does
so. Times are those of this machine: compare their ratios.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from commands import REPOSITORY, exit_code
from results_page import RESULTS, Step, run
from tables import read_table

from s3prl_aalbert.downstream.paired import differences, mean_and_error

Rows = dict[tuple[str, ...], dict[tuple[str, ...], float]]
"""Value of every sample (speaker, seed, ...) of every row, whose last part is the column of the value."""


class Benchmark(NamedTuple):
    """One command that writes a table."""

    command: Callable[[Path, Path], Sequence[str | Path]]
    """Of the folder of the speech and of the file that it writes."""
    names: tuple[str, ...]
    """Columns that name a row of the documents."""
    values: tuple[str, ...]
    samples: tuple[str, ...] = ()
    """Columns over which a row of the documents is a mean."""


def _speech(data: Path) -> list[Path]:
    return [data / "speechocean762", data / "LibriSpeech" / "train-clean-5"]


BENCHMARKS = {
    "compression": Benchmark(
        lambda data, file: [
            *("benchmarks/compression.py", "--speech", *_speech(data), "--timit", data / "timit", "--speakers"),
            *(data / "LibriSpeech" / "dev-clean", data / "LibriSpeech" / "test-clean", "-o", file.parent),
        ],
        ("model", "test", "layer"), ("value",), ("seed", "speaker"),
    ),
    "recipe": Benchmark(
        lambda data, file: [
            *("benchmarks/recipe.py", "--speech", *_speech(data), "--timit", data / "timit", "-o", file.parent),
        ],
        ("cell", "step", "layer", "condition"), ("error",), ("seed", "speaker"),
    ),
    "pretrain": Benchmark(
        lambda data, file: ["benchmarks/pretrain.py", "--speech", data / "LibriSpeech" / "train-clean-5", "-o", file],
        ("case", "figure"), ("median",),
    ),
    "peers": Benchmark(
        lambda data, file: [
            *("benchmarks/peers.py", "--speech", data / "LibriSpeech" / "dev-clean"),
            *("--utterances", "4", "--rounds", "3", "-o", file),
        ],
        ("system",), ("GMAC a second", "CPU s a second", "times aalbert_units", "MiB"),
    ),
    "start_time": Benchmark(
        lambda _, file: ["benchmarks/start_time.py", REPOSITORY, "-o", file], ("what",), ("median",),
    ),
    "serving": Benchmark(
        lambda _, file: ["benchmarks/serving.py", "-o", file],
        ("model", "batch", "seconds", "system"), ("median", "times as fast as eager"),
    ),
    "probe": Benchmark(lambda _, file: ["benchmarks/probe.py", "-o", file], ("case", "figure"), ("median",)),
    "demo": Benchmark(lambda _, file: ["benchmarks/demo.py", "-o", file], ("task", "model", "split"), ("accuracy",)),
    "reuse": Benchmark(
        lambda _, file: ["benchmarks/reuse.py", "-o", file],
        ("model", "stack", "seconds of audio", "work"), ("MACs saved %", "time saved %"),
    ),
}  # fmt: skip


def read(benchmark: Benchmark, file: Path) -> Rows:
    """Return the values of a table; cells that are no number are left out."""
    found: Rows = {}
    for row in read_table(file):
        sample = tuple(row[each] for each in benchmark.samples)
        for column in benchmark.values:
            name = (*(row[each] for each in benchmark.names), column)
            try:
                found.setdefault(name, {})[sample] = float(row[column] or "")
            except ValueError:
                continue
    return {name: values for name, values in found.items() if values}


def beside(recorded: Rows, here: Rows) -> str:
    """Return a line for every recorded row: recorded, here, and the difference, paired by samples."""
    width = max(map(len, map(", ".join, recorded)))
    lines = [f"{'row':<{width}}  {'recorded':<18}  {'here':<18}  here minus recorded"]
    for name, values in recorded.items():
        new = here.get(name)
        shown = [_shown(new), _shown(differences(new, values), "+")] if new else ["not there"]
        cells = f"{', '.join(name):<{width}}  {_shown(values):<18}  {shown[0]:<18}  {' '.join(shown[1:])}"
        lines.append(cells.rstrip())
    return "\n".join(lines)


def _shown(values: dict[tuple[str, ...], float], sign: str = "") -> str:
    if not values:
        return ""
    mean, error = mean_and_error(values)
    return f"{mean:{sign}.4g}" + (f" ± {error:.2g}" if len(values) > 1 else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark unless its table is there, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the speech")
    parser.add_argument("-o", "--out", type=Path, default=Path("result/again"), help="folder; default: %(default)s")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    benchmark = BENCHMARKS[args.name]
    file = args.out.resolve() / args.name / "results.csv"
    command = [str(part) for part in benchmark.command(args.data.resolve(), file)]
    run(Step(file.with_name("done"), command), file.with_name("log.txt"))
    print(beside(read(benchmark, RESULTS / f"{args.name}.csv"), read(benchmark, file)))
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
