"""``aalbert reproduce``: the earlier name of ``aalbert sweep --compare``."""

from __future__ import annotations

import argparse

from s3prl_aalbert.commands import run_command, sweep
from s3prl_aalbert.typed_options import add_options

EXAMPLES = """\
examples:
  aalbert reproduce                                           # the same: aalbert sweep --compare
  aalbert reproduce small/phone/weighted_sum/aalbert_6l --data DIR
  aalbert reproduce small/phone --data DIR -p result/again    # all rows that begin so
"""


def reproduce(row: str | None = None, *, data: str | None = None, expdir: str | None = None) -> int:
    """Run rows of RESULTS.md again and compare; 1 if any run failed.

    Args:
        row: SWEEP/TASK/SETTING/MODEL or its beginning; without it, list all rows
        data: folder of the speech, as for `aalbert sweep`
        expdir: folder of the runs; default: the sweep's own

    Raises:
        AalbertError: no such row, or no speech.
    """
    return sweep.sweep(compare=(row,) if row else (), data=data, expdir=expdir)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_options(parser, reproduce, metavars={"row": "ROW", "data": "DIR", "expdir": "DIR"})


def main(args: argparse.Namespace) -> int:
    """List rows, or run some and compare."""
    return run_command(reproduce, args, "%(message)s")
