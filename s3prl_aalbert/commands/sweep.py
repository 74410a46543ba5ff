"""``aalbert sweep``: a grid of experiments from one YAML file, ending in the report."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

EXAMPLES = """\
examples:
  aalbert sweep my_sweep.yaml                # runs what is not done yet, then writes OUTPUT/report
  aalbert sweep my_sweep.yaml --print        # the commands, e.g. for a cluster's array job
  aalbert sweep evidence_small               # a packaged one (downstream_configs/sweep_*.yaml)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", metavar="YAML", help="a path, or the name of a packaged sweep")
    parser.add_argument("--print", action="store_true", help="print the commands that are not done instead of running")
    parser.add_argument("--no-report", action="store_true", help="leave out the report at the end")


def main(args: argparse.Namespace) -> int:
    """Run the sweep; 1 if any run failed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from s3prl_aalbert.config import find_config
    from s3prl_aalbert.toolkit.sweep import command_line, execute, load_sweep

    name = args.file if Path(args.file).suffix or args.file.startswith("sweep_") else f"sweep_{args.file}"
    runs = load_sweep(find_config(name, "downstream_configs"))
    if args.print:
        print("\n".join(command_line(run) for run in runs if not run.done))
        return 0
    failed = execute(runs)
    finished = [run.expdir for run in runs if run.done]
    if finished and not args.no_report:
        from s3prl_aalbert.analysis.report import write_report

        root = finished[0].parents[3]
        print(write_report(finished, root / "report", title=args.file))
    if failed:
        print(f"{len(failed)} of {len(runs)} runs failed; the same command tries them again", file=sys.stderr)
    return 1 if failed else 0
