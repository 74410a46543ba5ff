"""The figures of a sweep as rows: one a task, setting, model and metric, with mean and spread over its seeds."""

from __future__ import annotations

import csv
import logging
import platform
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

import s3prl_aalbert
from s3prl_aalbert.analysis.runs import DamagedRun, DownstreamRun, ProbeRun, read_folder
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.printable import csv_cell

logger = logging.getLogger(__name__)

RECORDED = Path(__file__).parents[1] / "recorded"
"""Rows that RESULTS.md shows, one CSV a sweep."""


@dataclass(frozen=True)
class Row:
    """A figure, in percent of right answers on the test part at the step that was best on dev."""

    row: str
    """TASK/SETTING/MODEL, as the sweep names its runs."""
    metric: str
    mean: float
    low: float
    high: float
    seeds: int
    machine: str = ""
    version: str = ""


def measure(cells: Mapping[str, Path]) -> list[Row]:
    """Read finished runs.

    Args:
        cells: name of a run, TASK/SETTING/MODEL/seedN -> its folder.
    """
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for name, folder in cells.items():
        try:
            figures = list(_figures(folder))
        except DamagedRun as error:
            logger.warning("%s: left out of the rows: %s", folder, error)
            continue
        for metric, value in figures:
            values[name.rpartition("/")[0], metric].append(100 * value)
    machine, version = describe_machine(), describe_version()
    return [
        Row(row, metric, round(statistics.fmean(v), 2), round(min(v), 2), round(max(v), 2), len(v), machine, version)
        for (row, metric), v in values.items()
    ]


def _figures(folder: Path) -> Iterable[tuple[str, float]]:
    run = read_folder(folder)
    if isinstance(run, DownstreamRun):
        yield "accuracy", run.test["acc"]
    elif isinstance(run, ProbeRun):
        for probe in run.results:
            yield f"{probe.task}, layer {probe.layer}, {probe.classifier}", probe.test


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """Write rows as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: csv_cell(cell) for name, cell in asdict(row).items()} for row in rows)


def read_rows(path: Path) -> list[Row]:
    """Read rows back.

    Raises:
        AalbertError: no such file, or not one of these.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [_row(values) for values in csv.DictReader(file)]
    except FileNotFoundError as error:
        raise AalbertError(f"{path}: no rows were recorded there") from error
    except (KeyError, ValueError, TypeError) as error:
        raise AalbertError(f"{path}: is no table of rows ({error})") from error


def _row(values: Mapping[str, str]) -> Row:
    mean, low, high = (float(values[name]) for name in ("mean", "low", "high"))
    return Row(
        values["row"], values["metric"], mean, low, high, int(values["seeds"]), values["machine"], values["version"]
    )


def describe_machine() -> str:
    """Return processor, threads, GPU if any, torch."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor}, {torch.get_num_threads()} threads{gpu}, torch {torch.__version__}"


def describe_version() -> str:
    """Return the commit of a checkout, else the version of the package."""
    checkout = Path(s3prl_aalbert.__file__).resolve().parents[1]
    try:
        # An installation may lie inside a repository of the user's.
        if Path(_git(checkout, "rev-parse", "--show-toplevel")).resolve() == checkout:
            return _git(checkout, "describe", "--always", "--dirty", "--abbrev=10")
    except (OSError, subprocess.CalledProcessError):
        pass
    return s3prl_aalbert.__version__


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
