"""Rows of RESULTS.md: read from runs, recorded, run again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from report_runs import write_probes, write_results

from s3prl_aalbert.analysis import rows
from s3prl_aalbert.analysis.rows import Row, measure, read_rows, write_rows
from s3prl_aalbert.cli import main
from s3prl_aalbert.config import find_config
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit import sweep_runner
from s3prl_aalbert.toolkit.sweep import SweepRun, load_sweep

IDENTITY = ["-c", "user.name=x", "-c", "user.email=x@example.org"]


def test_mean_and_range_over_seeds_in_percent(tmp_path: Path) -> None:
    cells = {f"phone/ws/a/seed{n}": write_results(tmp_path / f"a{n}", test=t) for n, t in enumerate((0.5, 0.6, 0.625))}
    probes = [("phone", 0, "linear", 0.9, 0.25), ("phone", 1, "linear", 0.9, 0.75)]
    cells["probe/layers/a/seed0"] = write_probes(tmp_path / "p", probes)
    found = [(r.row, r.metric, r.mean, r.low, r.high, r.seeds) for r in measure(cells)]
    assert found == [
        ("phone/ws/a", "accuracy", 57.5, 50.0, 62.5, 3),
        ("probe/layers/a", "phone, layer 0, linear", 25.0, 25.0, 25.0, 1),
        ("probe/layers/a", "phone, layer 1, linear", 75.0, 75.0, 75.0, 1),
    ]


def test_a_run_without_figures_costs_its_own_row_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "asr").mkdir()
    (tmp_path / "asr" / "args_2026.yaml").write_text("upstream: fbank\n")  # a task of S3PRL's, which writes no figures
    cells = {"asr/ws/a/seed0": tmp_path / "asr", "phone/ws/a/seed0": write_results(tmp_path / "a", test=0.5)}
    assert [row.row for row in measure(cells)] == ["phone/ws/a"]
    assert f"{tmp_path / 'asr'}: left out of the rows: no results.json" in caplog.text


def test_the_version_is_not_the_commit_of_a_repository_around_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / ".venv" / "site-packages" / "s3prl_aalbert"
    site.mkdir(parents=True)
    for command in (["init", "-q"], [*IDENTITY, "commit", "-q", "--allow-empty", "-m", "of the user's"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(rows.s3prl_aalbert, "__file__", str(site / "__init__.py"))
    assert rows.describe_version() == rows.s3prl_aalbert.__version__
    own = tmp_path / "s3prl_aalbert"
    own.mkdir()
    monkeypatch.setattr(rows.s3prl_aalbert, "__file__", str(own / "__init__.py"))
    head = ["git", "-C", str(tmp_path), "rev-parse", "--short=10", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
    assert rows.describe_version().startswith(commit)


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = [Row("a/b/c", "accuracy", 57.5, 50.0, 62.5, 3, "a machine, 2 threads", "abc")]
    write_rows(written, tmp_path / "x.csv")
    assert read_rows(tmp_path / "x.csv") == written
    (tmp_path / "y.csv").write_text("row,metric\na,b\n")
    with pytest.raises(AalbertError, match=r"y\.csv: is no table of rows"):
        read_rows(tmp_path / "y.csv")
    with pytest.raises(AalbertError, match=r"z\.csv: no rows were recorded"):
        read_rows(tmp_path / "z.csv")


def test_every_recorded_row_is_a_row_of_its_sweep() -> None:
    tables = sorted(rows.RECORDED.glob("*.csv"))
    assert tables
    for table in tables:
        sweep = load_sweep(find_config(f"sweep_{table.stem}", "downstream_configs"))
        names = {run.name.rpartition("/")[0] for run in sweep.runs if run.cell}
        assert {row.row for row in read_rows(table)} <= names


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Record one row of the small sweep; runs are made up instead of run."""
    folder = tmp_path / "recorded"
    write_rows([Row("phone/weighted_sum/aalbert_3l", "accuracy", 40.0, 39.0, 41.0, 3, "m", "v")], folder / "small.csv")
    monkeypatch.setattr(rows, "RECORDED", folder)

    def pretend(running: dict) -> tuple[SweepRun, str]:
        run = next(iter(running))
        del running[run]
        if run.cell:
            write_results(run.expdir, test=0.5)
        run.record(done=True)
        return run, ""

    monkeypatch.setattr(sweep_runner, "_start", lambda run, context, threads: None)
    monkeypatch.setattr(sweep_runner, "_one_that_ended", pretend)
    return folder


def test_a_row_is_run_with_what_it_needs_and_compared(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "again"
    row = "phone/weighted_sum/aalbert_3l"
    assert main(["reproduce", f"small/{row}", "--data", str(tmp_path), "-p", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "40.0 (39.0 to 41.0, 3 seeds)" in shown and "50.0 (50.0 to 50.0, 3 seeds)" in shown
    assert {str(p.parent.relative_to(out)) for p in out.rglob("sweep.json")} == {
        "pretrain/aalbert_3l_crops",
        "pretrain/aalbert_3l",
        *(f"{row}/seed{seed}" for seed in (0, 1, 2)),
    }


def test_rows_are_listed_and_wrong_names_explained(recorded: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["reproduce"]) == 0
    assert "small/phone/weighted_sum/aalbert_3l" in capsys.readouterr().out
    assert main(["reproduce", "smal/phone"]) == 2
    assert 'did you mean "small"' in capsys.readouterr().err
    assert main(["reproduce", "small/phone/weighted_sum/aalbert_31"]) == 2
    assert 'did you mean "small/phone/weighted_sum/aalbert_3l"' in capsys.readouterr().err
    assert main(["reproduce", "small", "--data", "nowhere"]) == 2
    assert "--data nowhere: no such folder" in capsys.readouterr().err
