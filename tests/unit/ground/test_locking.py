"""Two processes never train into one folder."""

from __future__ import annotations

import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import yaml
from naming import mentions, naming
from other_process import another_process

from s3prl_aalbert.cli import main
from s3prl_aalbert.locking import LOCK_FILE, FolderInUse, locked

HOLD = """
import sys
from pathlib import Path
from s3prl_aalbert.locking import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def held(folder: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    """Let another process hold the folder."""
    return another_process(HOLD, folder)


def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with held(tmp_path / "x") as process:
        with pytest.raises(FolderInUse, match=naming(tmp_path / "x", process.pid)) as told, locked(tmp_path / "x"):
            pass
        assert "\n" not in str(told.value)
        with locked(tmp_path / "y"):
            pass


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    with held(tmp_path) as process:
        process.kill()
        process.wait()
        assert (tmp_path / LOCK_FILE).is_file()
        with locked(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


def test_folders_that_stay_empty_go_again_and_others_stay(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b"):
        pass
    assert not list(tmp_path.iterdir())
    with locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "states-1.ckpt").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["states-1.ckpt"]


@pytest.mark.parametrize(
    ("environment", "holds"),
    [
        ({"RANK": "1"}, False),
        ({"LOCAL_RANK": "3"}, False),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, False),
        ({"SLURM_PROCID": "1"}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
    ],
)
def test_the_first_process_of_a_run_locks_for_the_others(
    environment: dict[str, str], holds: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with locked(tmp_path):
        assert (tmp_path / LOCK_FILE).exists() is holds


@pytest.mark.parametrize(
    "command",
    [
        "pretrain -g debug -c pretrain_debug --speech speech -p run --device cpu",
        "pretrain -p run -a --device cpu",
        "downstream -m train -u fbank -d example -p run --device cpu",
        "downstream -m train -u fbank -d example -n x -o args.expdir=run --device cpu",
        "probe -u fbank -p run --device cpu",
    ],
)
def test_every_training_says_so_and_writes_nothing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with held(tmp_path / "run") as process:
        assert main(command.split()) == 2
        told = capfd.readouterr().err
        assert mentions(told.splitlines()[-1], f"aalbert {command.split()[0]}: run: ", process.pid)
        assert "Traceback" not in told
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [LOCK_FILE]


def test_a_sweep_passes_over_a_run_that_another_one_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = {"output": "out", "models": {"fbank": {"upstream": "fbank"}}, "tasks": {"toy": {"downstream": "example"}}}
    Path("sweep.yaml").write_text(yaml.safe_dump(sweep))
    with held(tmp_path / "out/toy/weighted_sum/fbank/seed1337") as process:
        assert main(["sweep", "sweep.yaml", "--no-report"]) == 1
        assert mentions(capfd.readouterr().out, "fbank/seed1337", process.pid)
        assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {LOCK_FILE, "sweep.yaml"}
