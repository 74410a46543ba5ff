"""The table of benchmarks/probe.py, against sums done by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


def test_ratios_with_and_without_the_start_of_processes(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("probe_benchmark", repository / "benchmarks" / "probe.py")
    assert spec is not None and spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "probe_benchmark", benchmark)
    spec.loader.exec_module(benchmark)
    together = [benchmark.Cost(setup=2, work=work) for work in (9, 10, 12)]
    separate = [benchmark.Cost(setup=1, work=work) for work in (20, 30, 50)]
    rows = {(case, figure): cells for case, figure, *cells in benchmark.table(together, separate, [5, 6, 4])}
    assert rows["3 runs to one", "training and evaluation"][:3] == ["10", "8.33", "11.1"]  # 100 / 10, / 12, / 9
    assert rows["3 runs to one", "with set-up and start"][0] == "6.94"  # (100 + 3 * 1 + 3 * 5) / (10 + 2 + 5)
    assert rows["one run", "set-up"][:3] == ["2", "2", "2"]
