"""Twelve thousand bad inputs: no stack trace, no hang, no half-written file."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_twelve_thousand_bad_inputs(tmp_path: Path, repository: Path) -> None:
    command = [sys.executable, str(repository / "tests/helpers/fuzzing.py"), "--cases", "12000", "--seed", "1"]
    done = subprocess.run(
        [*command, "--csv", str(tmp_path / "counts.csv")], capture_output=True, text=True, timeout=7200, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    rows = list(csv.DictReader((tmp_path / "counts.csv").open()))
    assert sum(int(row["tried"]) for row in rows) >= 12000
    assert all(row["findings"] == "0" and int(row["refused"]) > 0 for row in rows)
