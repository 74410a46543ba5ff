"""``aalbert sweep``: a grid of experiments from one YAML file, ending in the report."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from s3prl_aalbert.errors import AalbertError, did_you_mean
from s3prl_aalbert.printable import printable

if TYPE_CHECKING:
    from s3prl_aalbert.experiments.grid import Sweep, SweepRun

EXAMPLES = """\
examples:
  aalbert sweep my_sweep.yaml                      # runs what is not done yet, then writes OUTPUT/report
  aalbert sweep --preset small --data DIR --jobs 2 # the paper's experiments at the size of a laptop
  aalbert sweep --preset paper --only pretrain/    # part of one, by the beginning of its runs' names
  aalbert sweep --preset paper --dry-run           # one command a line, e.g. for a cluster's array job
"""
logger = logging.getLogger(__name__)

SHOWN = 6
"""Names of runs in a note."""
PRESETS = ("release", "small", "7h", "paper", "evidence")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("file", metavar="YAML", nargs="?", help="the grid; see downstream_configs/sweep_small.yaml")
    which.add_argument("--preset", choices=PRESETS, help="a packaged grid: downstream_configs/sweep_PRESET.yaml")
    parser.add_argument("--data", metavar="DIR", help="folder that stands for {data} in the file; default: its own")
    parser.add_argument("-p", "--expdir", metavar="DIR", help="folder of all runs; default: the file's output")
    parser.add_argument(
        "--only", metavar="NAME", action="append", help="the run of this name, or all that begin so; may be repeated"
    )
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="runs at a time; default: %(default)s")
    parser.add_argument(
        "--dry-run", action="store_true", help="only print the commands that are not done, and what each does and costs"
    )
    parser.add_argument("--no-report", action="store_true", help="leave out the report at the end")


def main(args: argparse.Namespace) -> int:
    """Run the sweep; 1 if any run failed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from s3prl_aalbert.experiments.grid import load_sweep
    from s3prl_aalbert.model.config import find_config

    if args.jobs < 1:
        raise AalbertError(f"--jobs {args.jobs}: expected 1 or more runs at a time")
    path = find_config(f"sweep_{args.preset}" if args.preset else args.file, "downstream_configs")
    sweep = load_sweep(path, args.data, args.expdir)
    runs = _chosen(sweep, args.only)
    if args.dry_run:
        to_do = [run for run in runs if not run.done]
        _print_commands(to_do, args)
        _print_plan(to_do, sweep.runs)
        return 0
    from s3prl_aalbert.experiments.execute import check_data, execute

    check_data(sweep, runs, args.data)
    _say_runs(runs)
    failed = execute(runs, sweep.runs, args.jobs)
    if failed:
        print(f"{len(failed)} of {len(runs)} runs failed; the same command tries them again", file=sys.stderr)
    if not args.no_report:
        _report(sweep, args.preset or args.file)
    return 1 if failed else 0


def _chosen(sweep: Sweep, names: list[str] | None) -> list[SweepRun]:
    known = [run.name for run in sweep.runs]
    whole = set(known) & set(names or ())  # not also those whose names go on from there
    begun = tuple(set(names or ()) - whole)
    for name in begun:
        if not any(run.startswith(name) for run in known):
            first = ", ".join(sorted({run.split("/")[0] for run in known}))
            parts = {"/".join(run.split("/")[:depth]) for run in known for depth in range(1, run.count("/") + 2)}
            raise AalbertError(
                f"--only {name}: no run begins so, expected one of {first} ...{did_you_mean(name, parts)}"
            )
    return [run for run in sweep.runs if not names or run.name in whole or run.name.startswith(begun)]


def _say_runs(runs: list[SweepRun]) -> None:
    """Say how many runs there are to do, and which; ``--dry-run`` has the command of each."""
    names = [run.name for run in runs if not run.done]
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    logger.info(printable(f"{len(names)} of {len(runs)} runs to do{': ' if names else ''}{shown}"))


def _print_commands(runs: list[SweepRun], args: argparse.Namespace) -> None:
    """Print one command a line that runs one cell and notes that it is done; what others need comes first."""
    what = ["--preset", args.preset] if args.preset else [args.file]
    for flag, value in (("--data", args.data), ("-p", args.expdir)):
        what += [flag, value] if value else []
    for run in runs:
        print(printable(shlex.join(["aalbert", "sweep", *what, "--only", run.name, "--no-report"])))


def _print_plan(runs: list[SweepRun], all_runs: Sequence[SweepRun]) -> None:
    """Print what each run does and costs, on standard error: a cluster's array job reads the commands."""
    from s3prl_aalbert.experiments import plan as sweep_plan

    rate = sweep_plan.machine_rate()
    rows = sweep_plan.table(runs, all_runs, rate)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(printable("  ".join(cells).rstrip()), file=sys.stderr)
    print(
        f"Costs are calculated, of the encoder alone, for utterances of {sweep_plan.UTTERANCE_SECONDS:g} s; hours at "
        f"{sweep_plan.USED_SHARE:.0%} of this machine's {rate / 1e12:.3g} TFLOP/s. A feature cache saves most.",
        file=sys.stderr,
    )


def _report(sweep: Sweep, title: str) -> None:
    from s3prl_aalbert.commands import report
    from s3prl_aalbert.experiments.recorded import measure, write_rows

    done = [run for run in sweep.runs if run.done]
    if not done:
        return
    write_rows(measure({run.name: run.expdir for run in done if run.cell}), sweep.output / "rows.csv")
    parser = argparse.ArgumentParser(prog="aalbert report")
    report.add_arguments(parser)
    first_stages = {run.needs for run in done if not run.cell}  # of pre-trainings that went on from them
    folders = [str(run.expdir) for run in done if run.name not in first_stages]
    out = str(sweep.output / "report")
    options = parser.parse_args([*folders, "-o", out, "--title", title, *sweep.report])
    if any(options.tsne == run.expdir and not run.done for run in sweep.runs):
        logger.warning("%s is not pre-trained yet: the report is without its t-SNE", options.tsne)
        options.tsne = options.speech = None
    report.main(options)
