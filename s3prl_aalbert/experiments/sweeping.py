"""What ``aalbert sweep`` does with a grid: print its plan, run it, record what is done; or measure rows again."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.experiments import compare
from s3prl_aalbert.experiments.execute import check_data, execute, log_runs, to_do
from s3prl_aalbert.experiments.grid import Sweep, SweepRun
from s3prl_aalbert.experiments.plan import describe_plan
from s3prl_aalbert.experiments.recorded import measure, write_rows
from s3prl_aalbert.printable import printable, printable_lines


def print_plan(runs: Sequence[SweepRun], grid: Sweep, options: Sequence[str]) -> None:
    """Print one command a line that runs one unfinished cell; what each does and costs goes to standard error.

    A cluster's array job reads the commands.
    """
    unfinished = to_do(runs, grid.runs)
    for run in unfinished:
        print(printable(shlex.join(["aalbert", "sweep", *options, "--only", run.name, "--no-report"])))
    print(printable_lines(describe_plan(unfinished, grid.runs)), file=sys.stderr)


def run_all(runs: Sequence[SweepRun], grid: Sweep, data: str | None, jobs: int) -> int:
    """Run what is unfinished; return 1 if any run failed.

    Raises:
        AalbertError: there is no speech.
    """
    check_data(grid, runs, data)
    log_runs(runs)
    failed = execute(runs, grid.runs, jobs)
    if failed:
        print(f"{len(failed)} of {len(runs)} runs failed; the same command tries them again", file=sys.stderr)
    return 1 if failed else 0


def record(grid: Sweep) -> list[Path]:
    """Write rows.csv of the runs that are done, and return their folders for the report; none if nothing is done."""
    done = [run for run in grid.runs if run.done]
    if done:
        write_rows(measure({run.name: run.expdir for run in done if run.cell}), grid.output / "rows.csv")
    # The first stage of a pre-training is no model of its own, unless tasks use it too.
    first_stages = {run.needs for run in done if not run.cell} - {run.needs for run in grid.runs if run.cell}
    return [run.expdir for run in done if run.name not in first_stages]


def compare_rows(texts: Sequence[str], data: str | None, expdir: str | None, jobs: int) -> int:
    """Run the rows that are named and print both values; without a name list all rows. Return 1 if any run failed.

    Raises:
        AalbertError: there is no such row, or no speech.
    """
    if not texts:
        print(printable_lines(compare.list_rows()))
        return 0
    others = [text for text in texts if text in (compare.PAGE, *compare.BENCHMARKS)]
    if others:
        if len(texts) > 1:
            raise AalbertError(f"--compare {others[0]} takes no other row")
        return compare.run_benchmark(others[0], data, expdir)
    again = [compare.run_again(*found, data, expdir, jobs) for found in [compare.find_rows(text) for text in texts]]
    for each in again:
        print(printable_lines(each.table()))
    return 1 if any(each.failed for each in again) else 0
