"""The whole demo, as a newcomer runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_demo_end_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s3prl_aalbert", "demo", "-o", str(tmp_path / "demo")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "report:" in result.stdout
    page = (tmp_path / "demo" / "report" / "index.html").read_text(encoding="utf-8")
    assert "<img" in page and "http://" not in page
    results = {p.parent.name: json.loads(p.read_text()) for p in (tmp_path / "demo" / "tasks").rglob("results.json")}
    assert len(results) == 6
    for name, content in results.items():
        assert content["best"]["test"]["acc"] > 1.2 * content["majority"]["test"], name
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, "a second run goes on from what is there"
