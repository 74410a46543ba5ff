"""``aalbert reproduce``: run a row of the documents again and put both values side by side."""

from __future__ import annotations

import argparse
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_aalbert.errors import AalbertError, did_you_mean
from s3prl_aalbert.printable import printable

if TYPE_CHECKING:
    from s3prl_aalbert.experiments.grid import Sweep
    from s3prl_aalbert.experiments.recorded import Row

EXAMPLES = """\
examples:
  aalbert reproduce                                           # the rows that there are
  aalbert reproduce small/phone/weighted_sum/aalbert_6l --data DIR
  aalbert reproduce small/phone --data DIR -p result/again    # all rows that begin so
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("row", metavar="ROW", nargs="?", help="SWEEP/TASK/SETTING/MODEL or its beginning; none: list")
    parser.add_argument("--data", metavar="DIR", help="folder of the speech, as for `aalbert sweep`")
    parser.add_argument("-p", "--expdir", metavar="DIR", help="folder of the runs; default: the sweep's own")


def main(args: argparse.Namespace) -> int:
    """List rows, or run some and compare; 1 if any run failed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from s3prl_aalbert.experiments.recorded import RECORDED, read_rows

    recorded = {path.stem: read_rows(path) for path in sorted(RECORDED.glob("*.csv"))}
    if not args.row:
        _list(recorded)
        return 0
    name, _, beginning = args.row.partition("/")
    if name not in recorded:
        known = ", ".join(recorded)
        raise AalbertError(f'{args.row}: no sweep "{name}"{did_you_mean(name, recorded)}; rows are of {known}')
    rows = [row for row in recorded[name] if f"{row.row}/".startswith(f"{beginning.rstrip('/')}/") or not beginning]
    if not rows:
        known_rows = {f"{name}/{row.row}" for row in recorded[name]}
        raise AalbertError(
            f"{args.row}: no such row{did_you_mean(args.row, known_rows)}; `aalbert reproduce` lists them"
        )
    return _reproduce(name, rows, args)


def _list(recorded: dict[str, list[Row]]) -> None:
    for name, rows in recorded.items():
        for row in dict.fromkeys(row.row for row in rows):
            own = [r for r in rows if r.row == row]
            shown = ", ".join(f"{r.metric} {_value(r)}" for r in own) if len(own) < 3 else f"{len(own)} values"
            print(printable(f"{name}/{row:<60} {shown}"))


def _reproduce(name: str, rows: list[Row], args: argparse.Namespace) -> int:
    from s3prl_aalbert.experiments.execute import check_data, execute
    from s3prl_aalbert.experiments.grid import load_sweep
    from s3prl_aalbert.experiments.recorded import measure
    from s3prl_aalbert.model.config import find_config

    sweep = load_sweep(find_config(f"sweep_{name}", "downstream_configs"), args.data, args.expdir)
    wanted = {row.row for row in rows}
    cells = [run for run in sweep.runs if run.name.rpartition("/")[0] in wanted]
    runs = sweep.with_needed(cells)
    check_data(sweep, runs, args.data)
    failed = execute(runs, sweep.runs)
    measured = {(row.row, row.metric): row for row in measure({run.name: run.expdir for run in cells if run.done})}
    _compare(rows, measured, sweep)
    return 1 if failed else 0


def _compare(rows: list[Row], measured: dict[tuple[str, str], Row], sweep: Sweep) -> None:
    print(f"{'row':<50} {'metric':<28} {'recorded':<16} {'here':<16} here less recorded")
    for row in rows:
        here = measured.get((row.row, row.metric))
        shown, difference = (_value(here), _difference(here, row)) if here else ("failed", "")
        print(printable(f"{row.row:<50} {row.metric:<28} {_value(row):<16} {shown:<16} {difference}".rstrip()))
    origins = "; ".join(dict.fromkeys(f"{row.machine}, version {row.version}" for row in rows))
    print(printable("in percent: mean ± standard error over seeds"))
    print(printable(f"recorded on {origins}; runs in {Path(sweep.output)}"))


def _value(row: Row) -> str:
    return f"{row.mean:.1f}" + ("" if math.isnan(row.error) else f" ± {row.error:.1f}")


def _difference(here: Row, recorded: Row) -> str:
    """Return the difference with its standard error: seed by seed where both name their seeds."""
    paired = here.less(recorded)
    if paired.values:
        mean, error = paired.mean, paired.error
    else:
        mean, error = here.mean - recorded.mean, math.hypot(here.error, recorded.error)
    return f"{mean:+.1f}" + ("" if math.isnan(error) else f" ± {error:.1f}")
