"""How a sweep ends after a signal: its runs save, and the exit code says whether to try again."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from naming import mentions

from s3prl_aalbert.cli import main
from s3prl_aalbert.errors import EXIT_INTERRUPTED, EXIT_STOPPED
from s3prl_aalbert.experiments import execute as sweep_runner
from s3prl_aalbert.experiments.grid import SweepRun
from s3prl_aalbert.pretrain.signals import OF_BATCH_SYSTEMS

GRID = "output: out\nmodels: {m: {upstream: fbank}}\ntasks: {t: {downstream: aalbert_phone}}\n"


class Process:
    """A run that ends when it is told to."""

    def __init__(self, *while_it_saves: signal.Signals):
        self.calls: list[str] = []
        self.while_it_saves = while_it_saves

    def terminate(self) -> None:
        self.calls.append("terminate")

    def join(self) -> None:
        self.calls.append("join")
        for number in self.while_it_saves:
            signal.raise_signal(number)


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command of a sweep whose folder is the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_text(GRID)
    return ["sweep", "grid.yaml", "--no-report"]


def signalled(monkeypatch: pytest.MonkeyPatch, number: signal.Signals, process: Process) -> None:
    """Let a signal arrive while a run is running."""

    def wait(running: dict[SweepRun, Process]) -> tuple[SweepRun, str]:
        signal.raise_signal(number)
        return running.popitem()[0], "nothing interrupted it"

    monkeypatch.setattr(sweep_runner, "_start", lambda run, context, threads: process)
    monkeypatch.setattr(sweep_runner, "_one_that_ended", wait)


@pytest.mark.parametrize("number", sorted({*OF_BATCH_SYSTEMS} - {signal.SIGHUP}))  # the tests may run under nohup
def test_a_batch_systems_signal_says_try_again(
    number: signal.Signals, sweep: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    before, process = signal.getsignal(number), Process()
    signalled(monkeypatch, number, process)
    assert main(sweep) == EXIT_STOPPED
    assert process.calls == ["terminate", "join"]
    assert mentions(capsys.readouterr().err, number.name, "the same command")
    assert signal.getsignal(number) is before


def test_ctrl_c_says_interrupted(sweep: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process()
    signalled(monkeypatch, signal.SIGINT, process)
    assert main(sweep) == EXIT_INTERRUPTED
    assert process.calls == ["join"], "the terminal has told it"


def test_a_second_signal_ends_the_runs_at_once(sweep: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(signal.SIGTERM)
    signalled(monkeypatch, signal.SIGTERM, process)
    assert main(sweep) == EXIT_INTERRUPTED
    assert process.calls == ["terminate", "join", "terminate"]


def test_before_the_first_run_too(sweep: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_runner, "to_do", lambda runs, every: signal.raise_signal(signal.SIGTERM))
    assert main(sweep) == EXIT_STOPPED
