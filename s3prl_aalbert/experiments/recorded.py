"""The results of a sweep as rows: one per task, setting, model and metric, with the value of every seed."""

from __future__ import annotations

import csv
import logging
import math
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import s3prl_aalbert
from s3prl_aalbert.downstream.paired import differences, mean_and_error
from s3prl_aalbert.downstream.result_tables import PROBES_FILE, read_probes, write_csv
from s3prl_aalbert.downstream.results import ResultsError, RunResults
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.machine import processor
from s3prl_aalbert.printable import csv_cell

logger = logging.getLogger(__name__)

RECORDED = Path(__file__).parents[1] / "recorded"
"""Folder of the rows in the documents, with one CSV file per sweep."""
COLUMNS = ("row", "metric", "mean", "error", "values", "machine", "version")
METRICS = {"acc": "accuracy", "per": "phone error"}
"""Metrics of a task's run -> their names in a row."""


@dataclass(frozen=True)
class Row:
    """A metric in per cent, on test at the step that was best on dev."""

    row: str
    """TASK/SETTING/MODEL, as in the names of the sweep's runs."""
    metric: str
    values: Mapping[str, float]
    """Values by the last part of a run's name, e.g. seed1."""
    machine: str = ""
    version: str = ""

    @property
    def mean(self) -> float:
        """Mean over the values."""
        return mean_and_error(self.values)[0]

    @property
    def error(self) -> float:
        """Standard error of the mean, NaN for a single value."""
        return mean_and_error(self.values)[1]

    def shown(self, sign: bool = False) -> str:
        """Return e.g. ``16.6 ± 0.5``: mean and standard error; ``sign`` also shows +."""
        mean = f"{self.mean:+.1f}" if sign else f"{self.mean:.1f}"
        return mean if math.isnan(self.error) else f"{mean} ± {self.error:.1f}"

    def less(self, other: Row) -> Row:
        """Return the differences from another row, seed by seed."""
        return Row(self.row, self.metric, differences(self.values, other.values))


def measure(cells: Mapping[str, Path]) -> list[Row]:
    """Read finished runs.

    Args:
        cells: folder of each run by its name, TASK/SETTING/MODEL/seedN.
    """
    values: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for name, folder in cells.items():
        row, _, seed = name.rpartition("/")
        try:
            found = list(_values(folder))
        except ResultsError as error:
            logger.warning("%s: is not among the rows: %s", folder, error)
            continue
        for metric, value in found:
            values[row, metric][seed] = round(100 * value, 2)
    machine, version = describe_machine(), describe_version()
    return [Row(row, metric, found, machine, version) for (row, metric), found in values.items()]


def _values(folder: Path) -> Iterable[tuple[str, float]]:
    """Yield the test metrics of a run.

    Raises:
        ResultsError: there are no test metrics, or the files are damaged.
    """
    if (folder / PROBES_FILE).is_file():
        for probe in read_probes(folder):
            if probe.test_acc is not None:
                yield f"{probe.task}, layer {probe.layer}, {probe.classifier}", probe.test_acc
        return
    best = RunResults.read(folder).best
    if best is None or best.test is None:
        raise ResultsError("it has no test of its best step")
    yield from ((METRICS[name], value) for name, value in best.test.items() if name in METRICS)


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """Write rows as CSV."""
    table: list[Sequence[object]] = [COLUMNS]
    for row in rows:
        values = " ".join(f"{name}={value:g}" for name, value in row.values.items())
        error = "" if len(row.values) < 2 else f"{row.error:.2f}"
        cells = (row.row, row.metric, f"{row.mean:.2f}", error, values, row.machine, row.version)
        table.append([csv_cell(cell) for cell in cells])
    write_csv(path, table)


def read_rows(path: Path) -> list[Row]:
    """Read rows back.

    Raises:
        AalbertError: the file does not exist, or is not a table of rows.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [_row(cells) for cells in csv.DictReader(file)]
    except FileNotFoundError as error:
        raise AalbertError(f"{path}: no such file of recorded rows") from error
    except (KeyError, ValueError, TypeError) as error:
        raise AalbertError(f"{path}: is not a table of rows ({error})") from error


def _row(cells: Mapping[str, str]) -> Row:
    pairs = (pair.rpartition("=") for pair in cells["values"].split())
    values = {name: float(value) for name, _, value in pairs}
    if not values:
        raise ValueError(f"{cells['row']} has no values")
    return Row(cells["row"], cells["metric"], values, cells["machine"], cells["version"])


def describe_machine() -> str:
    """Describe processor, threads, GPU if any, and torch."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor()}, {torch.get_num_threads()} threads{gpu}, torch {torch.__version__}"


def describe_version() -> str:
    """Return the commit of a checkout, or the version of the package."""
    checkout = Path(s3prl_aalbert.__file__).resolve().parents[1]
    try:
        # An installation may lie inside another repository.
        if Path(_git(checkout, "rev-parse", "--show-toplevel")).resolve() == checkout:
            return _git(checkout, "describe", "--always", "--dirty", "--abbrev=10")
    except (OSError, subprocess.CalledProcessError):
        pass
    return s3prl_aalbert.__version__


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
