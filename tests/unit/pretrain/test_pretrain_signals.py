"""Signals before, during and outside training; what one process of several says."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3prl_aalbert.cli import main
from s3prl_aalbert.errors import EXIT_STOPPED, EXIT_USER_ERROR, AalbertError, environment_fault
from s3prl_aalbert.experiments import pretraining
from s3prl_aalbert.pretrain.signals import OF_BATCH_SYSTEMS, Stopped, StopSignal

ALL = (signal.SIGINT, *OF_BATCH_SYSTEMS)


@pytest.fixture(autouse=True)
def hangups_count() -> Iterator[None]:
    """The tests themselves may run under nohup, which ignores hangups."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_the_signals_of_batch_systems_are_among_them() -> None:
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU, signal.SIGHUP} == set(ALL)


@pytest.mark.parametrize("number", ALL)
def test_before_training_the_first_signal_ends_at_once(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopSignal(), pytest.raises(KeyboardInterrupt) as caught:
        signal.raise_signal(number)
    assert isinstance(caught.value, Stopped) == (number != signal.SIGINT)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", ALL)
def test_during_training_the_first_is_remembered_and_the_second_ends_at_once(number: signal.Signals) -> None:
    with StopSignal() as stop, stop.deferred():
        signal.raise_signal(number)
        assert stop.received == number
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_an_ignored_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    try:
        with StopSignal() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_the_signals_stay_as_they_are() -> None:
    before, during = [signal.getsignal(number) for number in ALL], []

    def use() -> None:
        with StopSignal() as stop, stop.deferred():
            during.extend(signal.getsignal(number) for number in ALL)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert during == before == [signal.getsignal(number) for number in ALL]


def test_a_forked_process_ends_as_the_system_has_it() -> None:
    code = (
        "import os, signal\n"
        "from s3prl_aalbert.pretrain.signals import StopSignal\n"
        "with StopSignal() as stop:\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        os.kill(os.getpid(), signal.SIGUSR1)\n"
        "        os._exit(0)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), stop.received)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(-signal.SIGUSR1), "None"] and not done.stderr


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [
        (signal.SIGTERM, EXIT_STOPPED, "stopped by SIGTERM before the first step: there was nothing to save"),
        (signal.SIGUSR1, EXIT_STOPPED, "stopped by SIGUSR1 before the first step: there was nothing to save"),
        (signal.SIGINT, 130, "interrupted"),
    ],
)
def test_a_signal_while_the_run_is_set_up_is_told(
    number: signal.Signals, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(pretraining, "build", lambda *described: signal.raise_signal(number))
    assert main(["pretrain", "-p", str(tmp_path / "x"), "--speech", str(tmp_path)]) == code
    assert capsys.readouterr().err.strip() == told
    assert list(tmp_path.iterdir()) == []


def test_the_handlers_stand_before_torch_is_imported() -> None:
    code = (
        "import sys, s3prl_aalbert.commands.pretrain as command\n"
        "from s3prl_aalbert.pretrain.signals import StopSignal\n"
        "with StopSignal(): print('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("variable", ["LOCAL_RANK", "SLURM_LOCALID"])
@pytest.mark.parametrize(
    "error", [AalbertError("no such folder"), RuntimeError("Connection closed by peer [127.0.0.1]")]
)
def test_of_several_processes_on_a_machine_one_tells_a_mistake(
    variable: str, error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(*described: object) -> None:
        raise error

    monkeypatch.delenv("AALBERT_TRACEBACK", raising=False)
    monkeypatch.setattr(pretraining, "build", fail)
    shown = {}
    for rank in ("0", "1"):
        monkeypatch.setenv(variable, rank)
        try:
            code = main(["pretrain", "-p", str(tmp_path / "x"), "--speech", str(tmp_path)])
        except SystemExit as end:
            code = end.code
        assert code == EXIT_USER_ERROR
        shown[rank] = capsys.readouterr().err
    assert shown["1"] == "" and len(shown["0"].splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Rank 1 successfully reached monitoredBarrier, but received errors while waiting for send/recv from rank 0.\n"
        " Original exception:\n[pair.cc:538] Read error [127.0.0.1]:22724: Connection reset by peer",
        "[pair.cc:547] Connection closed by peer [127.0.0.1]:4567",
    ],
)
def test_a_lost_process_is_one_sentence(text: str) -> None:
    fault = environment_fault(RuntimeError(text))
    assert fault is not None and "lost the others of its run" in fault and "\n" not in fault


def test_an_error_of_torchs_distributed_package_is_one_too() -> None:
    from torch.distributed import DistNetworkError

    assert "EADDRINUSE" in (environment_fault(DistNetworkError("port: 29500, EADDRINUSE: in use")) or "")
    assert environment_fault(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
