"""``aalbert sweep``: a grid of experiments from one YAML file, ending in the report; or rows of RESULTS.md again."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from s3prl_aalbert.commands import report
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.printable import printable, printable_lines
from s3prl_aalbert.typed_options import add_options, call

if TYPE_CHECKING:
    from s3prl_aalbert.experiments.grid import Sweep, SweepRun

EXAMPLES = """\
examples:
  aalbert sweep my_sweep.yaml                      # runs what is unfinished, then writes OUTPUT/report
  aalbert sweep --preset small --data DIR --jobs 2 # the paper's experiments at the size of a laptop
  aalbert sweep --preset paper --only pretrain/    # part of one, by the beginning of its runs' names
  aalbert sweep --preset paper --dry-run           # one command a line, e.g. for a cluster's array job
  aalbert sweep --compare                          # the rows of RESULTS.md that can be run again
  aalbert sweep --compare small/phone/weighted_sum/aalbert_6l --data DIR   # one of them, beside the recorded value
"""
logger = logging.getLogger(__name__)

Preset = Literal["release", "small", "paper"]


def sweep(
    file: str | None = None,
    *,
    preset: Preset | None = None,
    compare: tuple[str, ...] | None = None,
    data: str | None = None,
    expdir: str | None = None,
    only: list[str] | None = None,
    jobs: int = 1,
    dry_run: bool = False,
    no_report: bool = False,
) -> int:
    """Run the unfinished experiments of a grid, then write the report; return 1 if any run failed.

    Args:
        file: file with the grid; see downstream_configs/sweep_small.yaml
        preset: a packaged grid: downstream_configs/sweep_PRESET.yaml
        compare: run rows of RESULTS.md again and compare; a ROW is SWEEP/TASK/SETTING/MODEL or its beginning; without
            one, list all rows
        data: folder to replace {data} in the file; default: the file's own
        expdir: folder of all runs; default: the file's output
        only: the run of this name, or all runs whose names begin with it; may be repeated
        jobs: runs at a time
        dry_run: print the commands of unfinished runs, and what each does and costs; run nothing
        no_report: write no report at the end

    Raises:
        AalbertError: a mistake in the file or the options, no such row, or no speech.
    """
    if sum(each is not None for each in (file, preset, compare)) != 1:
        raise AalbertError("give one of YAML, --preset and --compare")
    if jobs < 1:
        raise AalbertError(f"--jobs {jobs}: expected 1 or more runs at a time")
    if compare is not None:
        if only or dry_run or no_report:
            raise AalbertError("--compare takes neither --only nor --dry-run nor --no-report")
        return _compare(compare, data, expdir, jobs)
    from s3prl_aalbert.experiments.execute import check_data, execute, log_runs
    from s3prl_aalbert.experiments.grid import chosen_runs, load_sweep
    from s3prl_aalbert.model.config import find_config

    name = preset or str(file)
    grid = load_sweep(find_config(f"sweep_{preset}" if preset else name, "downstream_configs"), data, expdir)
    runs = chosen_runs(grid, only)
    # Read before the runs, which may take days.
    options = report.options_of(["-o", str(grid.output / "report"), "--title", name, *grid.report])
    if dry_run:
        to_do = [run for run in runs if not run.done]
        what = ["--preset", preset] if preset else [name]
        _print_plan(to_do, grid, [*what, *(["--data", data] if data else []), *(["-p", expdir] if expdir else [])])
        return 0
    check_data(grid, runs, data)
    log_runs(runs)
    failed = execute(runs, grid.runs, jobs)
    if failed:
        print(f"{len(failed)} of {len(runs)} runs failed; the same command tries them again", file=sys.stderr)
    if not no_report:
        _report(grid, options)
    return 1 if failed else 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    metavars = {"file": "YAML", "compare": "ROW", "data": "DIR", "expdir": "DIR", "only": "NAME", "jobs": "N"}
    one_of = ("file", "preset", "compare")
    add_options(parser, sweep, metavars=metavars, one_of=one_of, repeated=["only"])


def main(args: argparse.Namespace) -> int:
    """Run the sweep; 1 if any run failed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return call(sweep, args)


def _print_plan(runs: Sequence[SweepRun], grid: Sweep, options: Sequence[str]) -> None:
    """Print one command a line that runs one cell; what each does and costs goes to standard error.

    A cluster's array job reads the commands.
    """
    from s3prl_aalbert.experiments.plan import describe_plan

    for run in runs:
        print(printable(shlex.join(["aalbert", "sweep", *options, "--only", run.name, "--no-report"])))
    print(printable_lines(describe_plan(runs, grid.runs)), file=sys.stderr)


def _compare(texts: Sequence[str], data: str | None, expdir: str | None, jobs: int) -> int:
    """Run the rows that are named and print both values; without a name list all rows."""
    from s3prl_aalbert.experiments import compare

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


def _report(grid: Sweep, options: dict[str, Any]) -> None:
    """Write rows.csv and the report of what is done."""
    from s3prl_aalbert.experiments.recorded import measure, write_rows

    done = [run for run in grid.runs if run.done]
    if not done:
        return
    write_rows(measure({run.name: run.expdir for run in done if run.cell}), grid.output / "rows.csv")
    if any(options["tsne"] == run.expdir and not run.done for run in grid.runs):
        logger.warning("%s is not pre-trained yet: the report is without its t-SNE", options["tsne"])
        options = options | {"tsne": None, "speech": None}
    first_stages = {run.needs for run in done if not run.cell}  # of pre-trainings that went on from them
    report.report([run.expdir for run in done if run.name not in first_stages], **options)
