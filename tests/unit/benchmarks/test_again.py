"""benchmarks/again.py: recorded and new values of a benchmark side by side."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import again
import pytest
from commands import REPOSITORY

from s3prl_aalbert.experiments.compare import BENCHMARKS
from s3prl_aalbert.files import write_text


def test_every_table_that_can_be_named_has_its_command_and_its_record() -> None:
    assert tuple(sorted(again.BENCHMARKS)) == BENCHMARKS
    for name, benchmark in again.BENCHMARKS.items():
        command = benchmark.command(Path("data"), Path("out") / "results.csv")
        assert (REPOSITORY / command[0]).is_file()
        assert again.read(benchmark, again.RESULTS / f"{name}.csv"), "a row at least"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_scripts_take_these_options(name: str, tmp_path: Path) -> None:
    """Their parsers refuse an unknown option before anything else."""
    command = [str(part) for part in again.BENCHMARKS[name].command(tmp_path, tmp_path / "results.csv")]
    script = [sys.executable, str(REPOSITORY / command[0])]
    done = subprocess.run([*script, *command[1:], "--help"], capture_output=True, text=True, check=True)
    known = done.stdout
    assert all(option in known for option in command if option.startswith("-"))


def test_rows_are_paired_by_their_samples(tmp_path: Path) -> None:
    benchmark = again.Benchmark(lambda data, file: [], ("model",), ("error", "time"), ("speaker",))
    head = "model,speaker,error,time\n"
    write_text(tmp_path / "before.csv", head + "m,a,0.25,1\nm,b,0.75,\nn,a,0.5,9\n")
    write_text(tmp_path / "after.csv", head + "m,a,0.5,3\nm,b,1.0,\nm,c,1.5,\n")
    before, after = (again.read(benchmark, tmp_path / f"{name}.csv") for name in ("before", "after"))
    assert before["m", "error"] == {("a",): 0.25, ("b",): 0.75} and before["m", "time"] == {("a",): 1}
    lines = [re.split(r" {2,}", line) for line in again.beside(before, after).splitlines()]
    assert lines[1:] == [
        ["m, error", "0.5 ± 0.25", "1 ± 0.29", "+0.25 ± 0"],
        ["m, time", "1", "3", "+2"],
        ["n, error", "0.5", "not there"],
        ["n, time", "9", "not there"],
    ]
