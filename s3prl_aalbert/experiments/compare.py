"""Measures rows of the results again, and shows recorded and new values side by side."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import s3prl_aalbert
from s3prl_aalbert.errors import AalbertError, did_you_mean
from s3prl_aalbert.experiments import recorded
from s3prl_aalbert.experiments.execute import check_data, execute
from s3prl_aalbert.experiments.grid import SweepRun, load_sweep
from s3prl_aalbert.experiments.recorded import Row, measure, read_rows
from s3prl_aalbert.model.config import find_config

PAGE = "page"
"""The tables of RESULTS.md, whose rows are of several commands and not of a sweep alone."""
BENCHMARKS = ("compression", "demo", "peers", "pretrain", "probe", "recipe", "reuse", "serving", "start_time")
"""Other tables, each of one command: benchmarks/NAME.py."""


def recorded_rows() -> dict[str, list[Row]]:
    """Return the rows in the documents, by sweep."""
    return {path.stem: read_rows(path) for path in sorted(recorded.RECORDED.glob("*.csv"))}


def list_rows() -> str:
    """Return a line for each row, with its values if there are few."""
    lines = []
    for name, rows in recorded_rows().items():
        for row in dict.fromkeys(row.row for row in rows):
            own = [r for r in rows if r.row == row]
            shown = ", ".join(f"{r.metric} {r.shown()}" for r in own) if len(own) < 3 else f"{len(own)} values"
            lines.append(f"{name}/{row:<60} {shown}")
    lines += [f"{PAGE:<60} the tables of RESULTS.md, by benchmarks/results_page.py"]
    return "\n".join([*lines, *(f"{name:<60} by benchmarks/{name}.py" for name in BENCHMARKS)])


def find_rows(text: str) -> tuple[str, list[Row]]:
    """Return the named sweep and rows.

    Args:
        text: SWEEP/TASK/SETTING/MODEL, or the beginning of it.

    Raises:
        AalbertError: there is no such row.
    """
    known = recorded_rows()
    name, _, beginning = text.partition("/")
    if name not in known:
        names = [*known, PAGE, *BENCHMARKS]
        raise AalbertError(f'{text}: no sweep "{name}"{did_you_mean(name, names)}; rows are of {", ".join(names)}')
    rows = [row for row in known[name] if not beginning or f"{row.row}/".startswith(f"{beginning.rstrip('/')}/")]
    if not rows:
        begun = {f"{name}/{row.row}" for row in known[name]}
        raise AalbertError(f"{text}: no such row{did_you_mean(text, begun)}; `aalbert sweep --compare` lists them")
    return name, rows


@dataclass(frozen=True)
class Again:
    """Rows that were measured again."""

    recorded: Sequence[Row]
    measured: Sequence[Row]
    failed: Sequence[SweepRun]
    folder: Path
    """Folder of the runs."""

    def table(self) -> str:
        """Return recorded and new values side by side."""
        measured = {(row.row, row.metric): row for row in self.measured}
        lines = [f"{'row':<50} {'metric':<28} {'recorded':<16} {'here':<16} here minus recorded"]
        for row in self.recorded:
            here = measured.get((row.row, row.metric))
            shown, difference = (here.shown(), _difference(here, row)) if here else ("failed", "")
            lines.append(f"{row.row:<50} {row.metric:<28} {row.shown():<16} {shown:<16} {difference}".rstrip())
        origins = "; ".join(dict.fromkeys(f"{row.machine}, version {row.version}" for row in self.recorded))
        lines.append("in percent: mean ± standard error over seeds")
        return "\n".join([*lines, f"recorded on {origins}; runs in {self.folder}"])


def run_benchmark(name: str, data: str | None, output: str | None) -> int:
    """Run what is behind a document's tables, print it beside the recorded values, return the exit code.

    Args:
        name: PAGE or one of BENCHMARKS.
        data: folder of the speech.
        output: folder of what is made.

    Raises:
        AalbertError: no speech is named, or this is no checkout of the repository.
    """
    script = "results_page.py" if name == PAGE else "again.py"
    path = Path(s3prl_aalbert.__file__).parents[1] / "benchmarks" / script
    if not path.is_file():
        raise AalbertError(f"{name}: needs a checkout of the repository, with benchmarks/{script}")
    if not data:
        raise AalbertError(f"{name}: name the folder of the speech with --data")
    options = [*([] if name == PAGE else [name]), "--data", data, *(["-o", output] if output else [])]
    return subprocess.run([sys.executable, str(path), *options], check=False).returncode


def run_again(name: str, rows: Sequence[Row], data: str | None, output: str | None, jobs: int = 1) -> Again:
    """Run the unfinished runs of some rows, with the runs that they need.

    Args:
        name: name of the packaged sweep.
        rows: rows of that sweep.
        data: folder of the speech in place of the sweep's.
        output: folder of the runs in place of the sweep's.
        jobs: number of runs at a time.

    Raises:
        AalbertError: there is no speech.
    """
    sweep = load_sweep(find_config(f"sweep_{name}", "downstream_configs"), data, output)
    names = {row.row for row in rows}
    cells = [run for run in sweep.runs if run.name.rpartition("/")[0] in names]
    runs = sweep.with_needed(cells)
    check_data(sweep, runs, data)
    failed = execute(runs, sweep.runs, jobs)
    return Again(rows, measure({run.name: run.expdir for run in cells if run.done}), failed, sweep.output)


def _difference(here: Row, recorded: Row) -> str:
    """Return the difference with its standard error, seed by seed if both name their seeds."""
    paired = here.less(recorded)
    if paired.values:
        return paired.shown(sign=True)
    mean, error = here.mean - recorded.mean, math.hypot(here.error, recorded.error)
    return f"{mean:+.1f}" + ("" if math.isnan(error) else f" ± {error:.1f}")
