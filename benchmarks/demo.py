"""The figures of `aalbert demo` with its steps and no limit of time (docs/results/demo.md).

    OMP_NUM_THREADS=1 python benchmarks/demo.py -o benchmarks/results/demo.csv

The demo is in the folder of the table; what is done is not run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from commands import exit_code, run_once

from s3prl_aalbert.downstream.result_tables import write_csv
from s3prl_aalbert.downstream.results import RunResults
from s3prl_aalbert.experiments.demo import NAMES, STEPS, TASKS


def rows(demo: Path) -> list[list[str]]:
    """Return the accuracy of every task and model on dev and test, at the step that dev chose."""
    found = [["task", "model", "split", "accuracy"]]
    for task, description in TASKS.items():
        for model, name in NAMES.items():
            folder = demo / "tasks" / f"{task}-{model}"
            best = RunResults.read(folder).best if folder.is_dir() else None
            for split, scores in (("dev", best.dev), ("test", best.test)) if best else ():
                if scores:
                    found.append([description, name, split, f"{scores['acc']:.4f}"])
    return found


def main() -> None:
    """Run the demo and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    demo = args.output.resolve().parent / "demo"
    command = ["demo", "--steps", str(STEPS), "--seed", "1337", "-o", str(demo)]
    run_once(demo / "report" / "index.html", command, args.output.resolve().with_suffix(".log"))
    write_csv(args.output, rows(demo))


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
