"""The demo's steps: one process and one log each, done once, all ended by one signal. A shell script stands in."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from naming import naming

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.experiments.demo_steps import Step, StepRunner, log_of
from s3prl_aalbert.pretrain.signals import Stopped, StopSignal

STAND_IN = """\
#!/bin/sh
shift 2  # -m s3prl_aalbert
echo "$@" >> started
case "$1" in
  ok) touch "$2" ;;
  bad) echo what went wrong; exit 3 ;;
  wait) exec sleep 60 ;;
  pretrain) trap 'echo saved > "$2"; exit 75' INT; while :; do sleep 0.05; done ;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, where ``started`` lists the steps that were started."""
    script = tmp_path / "stand-in"
    script.write_text(STAND_IN)
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def step(folder: Path, kind: str, name: str) -> Step:
    return Step(name, (kind, str(folder / name)), folder / name)


def started(folder: Path) -> list[str]:
    return [line.split()[0] for line in (folder / "started").read_text().splitlines()]


def interrupt_when(condition: Callable[[], bool], number: int = signal.SIGINT) -> threading.Thread:
    """Send this process a signal once the condition holds."""

    def watch() -> None:
        while not condition():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_done_step_is_not_run_again_and_its_log_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [step(folder, "ok", "first"), step(folder, "ok", "second")]
    for _ in range(2):
        with StopSignal() as stop:
            StepRunner(folder, 3, stop).run(steps, together=2)
    assert started(folder) == ["ok", "ok"]
    assert log_of(steps[0], folder).read_text() == f"aalbert ok {folder}/first\n"
    out = capsys.readouterr().out
    assert "[1/3] first: done in" in out and "[2/3] second: done already" in out
    (folder / "first").unlink()
    with StopSignal() as stop:
        StepRunner(folder, 3, stop).run(steps)
    assert started(folder) == ["ok", "ok", "ok"], "what it wrote is gone"


def test_a_failing_step_shows_the_end_of_its_log_and_no_other_is_started(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [step(folder, "bad", "broken"), step(folder, "ok", "later")]
    with StopSignal() as stop, pytest.raises(AalbertError, match=naming("broken", 3, "broken.log")):
        StepRunner(folder, 2, stop).run(steps)
    assert "what went wrong" in capsys.readouterr().err and started(folder) == ["bad"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_runs_lets_pretraining_save_and_starts_no_more(folder: Path, number: int) -> None:
    steps = [step(folder, "pretrain", "model"), step(folder, "wait", "task"), step(folder, "ok", "later")]
    running = {"pretrain", "wait"}
    with StopSignal() as stop, pytest.raises(KeyboardInterrupt) as caught:
        thread = interrupt_when(lambda: (folder / "started").exists() and set(started(folder)) == running, number)
        StepRunner(folder, 3, stop).run(steps, together=2)
    thread.join()
    assert (caught.type is Stopped) == (number == signal.SIGTERM)
    assert (folder / "model").read_text() == "saved\n"
    assert set(started(folder)) == running and not list((folder / "logs").glob("*.done"))


def test_the_bar_follows_the_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with StopSignal() as stop:
        runner = StepRunner(folder, 1, stop)
        (running,) = runner._begin(step(folder, "wait", "task"), 1)
        try:
            with running.log.open("ab") as log:
                log.write("\rtrain:  50%|█████     | 4/8 [00:01<00:01]\roverall:  10%|█ | 16/160 ".encode())
                log.write(b"[00:10<01:30,  1.6it/s]\r\ndev:  1%|  | 1/9 [00:00<00:01]")
            running.show()
            assert (running.bar.n, running.bar.total) == (16, 160)
        finally:
            running.kill()
            running.bar.close()
    assert running.process.returncode == -signal.SIGKILL
