"""Rows of RESULTS.md: read from runs, recorded, run again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from naming import mentions, naming
from report_runs import write_probe_run, write_results

from s3prl_aalbert.cli import main
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.experiments import compare
from s3prl_aalbert.experiments import execute as sweep_runner
from s3prl_aalbert.experiments import recorded as rows
from s3prl_aalbert.experiments.grid import SweepRun, load_sweep
from s3prl_aalbert.experiments.recorded import Row, measure, read_rows, write_rows
from s3prl_aalbert.model.config import find_config

IDENTITY = ["-c", "user.name=x", "-c", "user.email=x@example.org"]


def test_every_seed_of_a_metric_is_kept_in_percent(tmp_path: Path) -> None:
    cells = {
        f"phone/ws/a/seed{n}": write_results(tmp_path / f"a{n}", test=t, per=0.9)
        for n, t in enumerate((0.5, 0.6, 0.625))
    }
    probes = [("phone", 0, "linear", 0.9, 0.25), ("phone", 1, "linear", 0.9, 0.75)]
    cells["probe/layers/a/seed0"] = write_probe_run(tmp_path / "p", probes)
    found = [(r.row, r.metric, dict(r.values)) for r in measure(cells)]
    assert found == [
        ("phone/ws/a", "accuracy", {"seed0": 50.0, "seed1": 60.0, "seed2": 62.5}),
        ("phone/ws/a", "phone error", {"seed0": 90.0, "seed1": 90.0, "seed2": 90.0}),
        ("probe/layers/a", "phone, layer 0, linear", {"seed0": 25.0}),
        ("probe/layers/a", "phone, layer 1, linear", {"seed0": 75.0}),
    ]


def test_a_run_without_figures_costs_its_own_row_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "asr").mkdir()
    (tmp_path / "asr" / "args_2026.yaml").write_text("upstream: fbank\n")  # a task of S3PRL's, which writes no figures
    cells = {"asr/ws/a/seed0": tmp_path / "asr", "phone/ws/a/seed0": write_results(tmp_path / "a", test=0.5)}
    assert {row.row for row in measure(cells)} == {"phone/ws/a"}
    assert mentions(caplog.text, tmp_path / "asr", "results.json", "damaged")


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
    """Of 50, 60 and 62.5 the mean is 57.5 and the standard error 3.82."""
    values = {"seed1": 50.0, "seed2": 60.0, "seed3": 62.5}
    written = [
        Row("a/b/c", "accuracy", values, "a machine, 2 threads", "abc"),
        Row("d/e/f", "accuracy", {"seed1": 1.0}),
    ]
    write_rows(written, tmp_path / "x.csv")
    assert read_rows(tmp_path / "x.csv") == written
    assert "57.50,3.82,seed1=50 seed2=60 seed3=62.5" in (tmp_path / "x.csv").read_text()
    (tmp_path / "y.csv").write_text("row,metric\na,b\n")
    with pytest.raises(AalbertError, match=naming("y.csv", "table")):
        read_rows(tmp_path / "y.csv")
    with pytest.raises(AalbertError, match=naming("z.csv", "rows")):
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
    write_rows(
        [Row("phone/weighted_sum/aalbert_3l", "accuracy", {f"seed{n}": 38.0 + n for n in (1, 2, 3)}, "m", "v")],
        folder / "small.csv",
    )
    monkeypatch.setattr(rows, "RECORDED", folder)

    def pretend(running: dict) -> tuple[SweepRun, str]:
        run = next(iter(running))
        del running[run]
        if run.cell:
            write_results(run.expdir, test=0.5 + int(run.name[-1]) / 100)
        run.record(done=True)
        return run, ""

    monkeypatch.setattr(sweep_runner, "_start", lambda run, context, threads: None)
    monkeypatch.setattr(sweep_runner, "_one_that_ended", pretend)
    return folder


@pytest.mark.parametrize("command", [["sweep", "--compare"], ["reproduce"]], ids=" ".join)
def test_a_row_is_run_with_what_it_needs_and_compared(
    command: list[str], recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "again"
    row = "phone/weighted_sum/aalbert_3l"
    assert main([*command, f"small/{row}", "--data", str(tmp_path), "-p", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "40.0 ± 0.6" in shown and "51.5 ± 0.6" in shown
    assert "+12.0 ± 0.0" in shown, "paired: seeds 1 to 3 are in both"
    assert {str(p.parent.relative_to(out)) for p in out.rglob("sweep.json")} == {
        "pretrain/aalbert_3l",
        *(f"{row}/seed{seed}" for seed in range(4)),
    }


@pytest.mark.parametrize("command", [["sweep", "--compare"], ["reproduce"]], ids=" ".join)
def test_rows_are_listed_and_wrong_names_explained(
    command: list[str], recorded: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(command) == 0
    assert "small/phone/weighted_sum/aalbert_3l" in capsys.readouterr().out
    assert main([*command, "smal/phone"]) == 2
    assert 'did you mean "small"' in capsys.readouterr().err
    assert main([*command, "small/phone/weighted_sum/aalbert_31"]) == 2
    assert 'did you mean "small/phone/weighted_sum/aalbert_3l"' in capsys.readouterr().err
    assert main([*command, "small", "--data", "nowhere"]) == 2
    assert mentions(capsys.readouterr().err, "--data nowhere")


@pytest.mark.parametrize("options", [["--only", "phone"], ["--dry-run"], ["--no-report"]])
def test_a_comparison_takes_no_option_of_a_whole_sweep(options: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(["sweep", "--compare", "small/phone", *options]) == 2
    assert mentions(capsys.readouterr().err, "--compare", options[0])


def test_a_mistake_in_the_reports_options_is_found_before_the_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text("output: out\nmodels: {m: {upstream: fbank}}\ntasks: {t: {downstream: d}}\nreport: [--nte, x]\n")
    assert main(["sweep", str(grid), "-p", str(tmp_path / "out")]) == 2
    assert mentions(capsys.readouterr().err, "--note") and not (tmp_path / "out").exists()


def test_other_tables_are_run_by_their_scripts_with_the_speech_that_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, repository: Path, tmp_path: Path
) -> None:
    started: list[list[str]] = []

    def start(command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        started.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(compare.subprocess, "run", start)
    assert main(["sweep", "--compare", "page", "--data", "speech", "-p", "out"]) == 3
    script = repository / "benchmarks" / "results_page.py"
    assert started == [[sys.executable, str(script), "--data", "speech", "-o", "out"]] and script.is_file()
    assert main(["sweep", "--compare", "peers", "--data", "speech"]) == 3
    assert started.pop() == [sys.executable, str(script.with_name("again.py")), "peers", "--data", "speech"]
    assert main(["reproduce", "page"]) == 2 and mentions(capsys.readouterr().err, "page", "--data")
    assert main(["sweep", "--compare", "page", "small", "--data", "speech"]) == 2
    monkeypatch.setattr(compare.s3prl_aalbert, "__file__", str(tmp_path / "site" / "s3prl_aalbert" / "__init__.py"))
    assert main(["sweep", "--compare", "page", "--data", "speech"]) == 2
    assert mentions(capsys.readouterr().err, "benchmarks/results_page.py") and len(started) == 1
