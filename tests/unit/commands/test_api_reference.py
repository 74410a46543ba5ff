"""``make docs``: every public name has a docstring, and every module a page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import coverage_floor
import pytest

PACKAGE = Path(__file__).resolve().parents[3] / "s3prl_aalbert"


def without_docstrings(folder: Path) -> subprocess.CompletedProcess[str]:
    rules = "D100,D101,D102,D103,D104"  # modules, classes, methods, functions, packages
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--ignore-noqa", "--select", rules]
    return subprocess.run(
        [*command, "--output-format", "concise", str(folder)], capture_output=True, text=True, check=False
    )


def test_every_public_name_has_a_docstring() -> None:
    found = without_docstrings(PACKAGE)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(("text", "rule"), [("", "D100"), ('"""M."""\n\n\ndef f():\n    pass\n', "D103")])
def test_a_missing_docstring_is_found(tmp_path: Path, text: str, rule: str) -> None:
    (tmp_path / "module.py").write_text(text + "\n")
    found = without_docstrings(tmp_path)
    assert found.returncode == 1 and rule in found.stdout


@pytest.mark.slow
def test_every_module_has_a_page(tmp_path: Path, repository: Path) -> None:
    (recipe,) = [line for line in (repository / "Makefile").read_text().splitlines() if "pdoc" in line and "\t" in line]
    argv = recipe.split()[1:]
    argv[argv.index("--output-directory") + 1] = str(tmp_path)
    done = subprocess.run([sys.executable, *argv], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    modules = [path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.py")]
    public = [m for m in modules if not any(p.startswith("_") and p != "__init__" for p in m.parts)]
    expected = {f"{m.parent if m.name == '__init__' else m}.html" for m in public}
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.html")} - {"index.html"}
    assert found == expected
    page = (tmp_path / "s3prl_aalbert/upstream/expert.html").read_text(encoding="utf-8")
    assert "Represent unpadded waveforms" in page and "list of (num_samples,) float tensors" in page


def test_the_coverage_floor() -> None:
    assert coverage_floor.below({"a.py": 80.0, "b.py": 100.0}, {}) == []
    assert coverage_floor.below({"a.py": 10.0, "b.py": 79.9}, {"a.py": "needs a GPU"}) == [
        "b.py: 80 % of its lines are reached, the floor is 80 %; add tests, or a reason here"
    ]
    assert coverage_floor.below({"a.py": 90.0}, {"a.py": "old"}) == ["a.py: has a reason, and needs none"]
