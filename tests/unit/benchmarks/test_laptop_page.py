"""benchmarks/laptop_page.py: the page shows what is recorded, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import laptop_page

from s3prl_aalbert.experiments.recorded import RECORDED, Row, read_rows, write_rows


def test_the_page_shows_the_recorded_values_in_tables_alone(repository: Path) -> None:
    text = (repository / "docs" / "results" / "paper_at_laptop_size.md").read_text(encoding="utf-8")
    known = laptop_page.tables(RECORDED / "small.csv")
    for table in known:
        assert table in text
    shown = {pair for table in known for pair in re.findall(r"\d+\.\d ± \d+\.\d", table)}
    assert set(re.findall(r"\d+\.\d ± \d+\.\d", text)) == shown


def test_every_cell_of_the_tables_was_run() -> None:
    rows = {row.row for row in read_rows(RECORDED / "small.csv")}
    assert {f"{setting}/{model}" for setting in laptop_page.TASKS for model in laptop_page.MODELS} < rows


def test_means_and_paired_differences_by_hand(tmp_path: Path) -> None:
    rows = [
        Row("phone/weighted_sum/aalbert_6l", "accuracy", {"seed0": 50.0, "seed1": 60.0}),
        Row("phone/weighted_sum/mockingjay_6l", "accuracy", {"seed0": 49.0, "seed1": 57.0}),
        Row("phone/features/features", "accuracy", {"seed0": 48.0, "seed1": 58.0}),
    ]
    write_rows(rows, tmp_path / "rows.csv")
    accuracies, paired, *_ = (table.splitlines() for table in laptop_page.tables(tmp_path / "rows.csv"))
    assert "| aalbert_6l | 291,968 | 55.0 ± 5.0 |  |  |  |" in accuracies
    assert "| input features |  | 53.0 ± 5.0 |  |  |  |" in accuracies
    assert "| aalbert_6l less mockingjay_6l | +2.0 ± 1.0 |  |  |  |" in paired
    assert "| aalbert_6l less input features | +2.0 ± 0.0 |  |  |  |" in paired
    assert "| mockingjay_6l less input features | +0.0 ± 1.0 |  |  |  |" in paired
