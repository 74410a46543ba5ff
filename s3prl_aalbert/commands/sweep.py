"""``aalbert sweep``: a grid of experiments from one YAML file, ending in the report; or rows of RESULTS.md again."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import TYPE_CHECKING, Any, Literal

from s3prl_aalbert.commands import report, run_command
from s3prl_aalbert.errors import EXIT_STOPPED, AalbertError
from s3prl_aalbert.typed_options import add_options

if TYPE_CHECKING:
    from s3prl_aalbert.experiments.grid import Sweep

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
    """Run the unfinished experiments of a grid, then write the report; return 1 if any run failed, 75 after a signal.

    Args:
        file: file with the grid; see downstream_configs/sweep_small.yaml
        preset: a packaged grid: downstream_configs/sweep_PRESET.yaml
        compare: run rows of the results again and compare; a ROW is SWEEP/TASK/SETTING/MODEL or its beginning, or the
            name of another table; without one, list all
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
    if compare is not None and (only or dry_run or no_report):
        raise AalbertError("--compare takes neither --only nor --dry-run nor --no-report")
    from s3prl_aalbert.pretrain.signals import OF_BATCH_SYSTEMS, Stopped, StopSignal

    with StopSignal(OF_BATCH_SYSTEMS):  # before torch is imported, which takes seconds
        try:
            if compare is None:
                return _sweep(file, preset, data, expdir, only, jobs, dry_run, no_report)
            from s3prl_aalbert.experiments.sweeping import compare_rows

            return compare_rows(compare, data, expdir, jobs)
        except Stopped as signal:
            print(f"\nstopped by {signal}; what is done is kept, the same command goes on from here", file=sys.stderr)
            return EXIT_STOPPED


def _sweep(
    file: str | None,
    preset: Preset | None,
    data: str | None,
    expdir: str | None,
    only: list[str] | None,
    jobs: int,
    dry_run: bool,
    no_report: bool,
) -> int:
    from s3prl_aalbert.experiments.grid import chosen_runs, load_sweep
    from s3prl_aalbert.experiments.sweeping import print_plan, run_all
    from s3prl_aalbert.model.config import find_config

    name = preset or str(file)
    grid = load_sweep(find_config(f"sweep_{preset}" if preset else name, "downstream_configs"), data, expdir)
    runs = chosen_runs(grid, only)
    # Read before the runs, which may take days.
    options = report.options_of(["-o", str(grid.output / "report"), "--title", name, *grid.report])
    if dry_run:
        what = ["--preset", preset] if preset else [name]
        print_plan(runs, grid, [*what, *(["--data", data] if data else []), *(["-p", expdir] if expdir else [])])
        return 0
    code = run_all(runs, grid, data, jobs)
    if not no_report:
        _report(grid, options)
    return code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    metavars = {"file": "YAML", "compare": "ROW", "data": "DIR", "expdir": "DIR", "only": "NAME", "jobs": "N"}
    one_of = ("file", "preset", "compare")
    add_options(parser, sweep, metavars=metavars, one_of=one_of, repeated=["only"])


def main(args: argparse.Namespace) -> int:
    """Run the sweep; 1 if any run failed."""
    return run_command(sweep, args, "%(message)s")


def _report(grid: Sweep, options: dict[str, Any]) -> None:
    """Write rows.csv and the report of what is done."""
    from s3prl_aalbert.experiments.sweeping import record

    folders = record(grid)
    if not folders:
        return
    if any(options["tsne"] == run.expdir and not run.done for run in grid.runs):
        logger.warning("%s is not pre-trained yet: the report is without its t-SNE", options["tsne"])
        options = options | {"tsne": None, "speech": None}
    report.report(folders, **options)
