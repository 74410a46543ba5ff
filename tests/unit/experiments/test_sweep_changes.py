"""What a finished run of a sweep was made from: edited files and other weights count, the place does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from naming import mentions

from s3prl_aalbert.checkpoint.release import save_release
from s3prl_aalbert.cli import main
from s3prl_aalbert.experiments import execute as sweep_runner
from s3prl_aalbert.experiments.grid import RECORD, SweepRun, load_sweep
from s3prl_aalbert.experiments.inputs import identity_of_weights
from s3prl_aalbert.experiments.sweeping import record
from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.model.objective import MaskedPrediction

GRID = """
output: out
seeds: [1]
pretrain:
  mine: {model_config: debug, speech: [s]}
  longer: {model_config: debug, speech: [s], init: mine}
models:
  mine: {upstream: aalbert_local, pretrained: mine}
  theirs: {upstream: fbank}
tasks:
  phones: {downstream: aalbert_phone, config: task.yaml}
"""
MINE, THEIRS = "phones/weighted_sum/mine/seed1", "phones/weighted_sum/theirs/seed1"
TASK = "runner: {total_steps: 5}\n"


class Machine:
    """Runs of the sweep below the working folder, made up: a pre-training writes weights that depend on its step."""

    def __init__(self, config: ModelConfig, monkeypatch: pytest.MonkeyPatch):
        self.config, self.state, self.step = config, MaskedPrediction(config).state_dict(), 1
        self.started: list[str] = []
        self.ends = True
        monkeypatch.setattr(sweep_runner, "_one_that_ended", self.end)
        monkeypatch.setattr(sweep_runner, "_start", self.start)
        Path("grid.yaml").write_text(GRID)
        Path("task.yaml").write_text(TASK)

    def start(self, run: SweepRun, context: object, threads: int) -> None:
        run.record(done=False)
        self.started.append(run.name)

    def end(self, running: dict) -> tuple[SweepRun, str]:
        run = next(iter(running))
        del running[run]
        if not self.ends:
            (run.expdir / "states-1.ckpt").touch()
            return run, "was stopped"
        if not run.cell:
            save_release(run.expdir, self.config, self.state, "", {"step": self.step})
        run.record(done=True)
        return run, ""

    def sweep(self) -> tuple[list[str], list[str]]:
        """Run the sweep; return the runs that were started, and those that failed."""
        self.started = []
        runs = load_sweep(Path("grid.yaml")).runs
        return self.started, [run.name for run in sweep_runner.execute(runs, runs)]


def run_named(name: str) -> SweepRun:
    return next(run for run in load_sweep(Path("grid.yaml")).runs if run.name == name)


@pytest.fixture
def machine(tiny_config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.chdir(tmp_path)
    machine = Machine(tiny_config, monkeypatch)
    assert machine.sweep() == (["pretrain/mine", "pretrain/longer", MINE, THEIRS], [])
    assert machine.sweep() == ([], [])
    return machine


def test_a_run_from_weights_that_were_trained_again_is_refused(machine: Machine, capsys: pytest.CaptureFixture) -> None:
    shutil.rmtree("out/pretrain/mine")
    machine.step = 2
    assert machine.sweep() == (["pretrain/mine"], ["pretrain/longer", MINE])
    shown = capsys.readouterr().out
    for name in ("pretrain/longer", MINE):
        assert mentions(shown, f"out/{name}", "other settings", "pretrain/mine", "trained again", "remove it")
    assert {str(folder) for folder in record(load_sweep(Path("grid.yaml")))} == {"out/pretrain/mine", f"out/{THEIRS}"}
    shutil.rmtree("out/pretrain/longer")
    shutil.rmtree(f"out/{MINE}")
    assert machine.sweep() == (["pretrain/longer", MINE], [])


def test_a_pretraining_that_gives_the_same_weights_again_changes_nothing(machine: Machine) -> None:
    shutil.rmtree("out/pretrain/mine")
    assert machine.sweep() == (["pretrain/mine"], [])


def test_a_run_whose_weights_are_gone_keeps_its_result_until_there_are_others(machine: Machine) -> None:
    shutil.rmtree("out/pretrain/mine")
    assert run_named(MINE).done
    machine.ends = False
    assert machine.sweep() == (["pretrain/mine"], ["pretrain/mine", "pretrain/longer", MINE])
    assert not run_named(MINE).done


def test_commands_for_a_cluster_have_the_runs_that_wait_for_other_weights(
    machine: Machine, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree("out/pretrain/mine")
    monkeypatch.setattr("s3prl_aalbert.experiments.sweeping.describe_plan", lambda runs, every: "")
    assert main(["sweep", "grid.yaml", "--only", "phones", "--dry-run"]) == 0
    assert capsys.readouterr().out == f"aalbert sweep grid.yaml --only {MINE} --no-report\n"


@pytest.mark.parametrize("text", ["runner: {total_steps: 6}\n", "runner: {"], ids=["edited", "broken"])
def test_a_run_whose_configuration_was_edited_is_refused(
    text: str, machine: Machine, capsys: pytest.CaptureFixture
) -> None:
    Path("task.yaml").write_text(text)
    assert machine.sweep() == ([], [MINE, THEIRS])
    shown = capsys.readouterr().out
    assert mentions(shown, f"out/{THEIRS}", "other settings", RECORD, "task.yaml", "remove it")
    Path("task.yaml").write_text(TASK)
    assert machine.sweep() == ([], [])


def test_a_comment_and_another_place_change_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("task.yaml").write_text(f"# five steps\n{TASK}")
    assert machine.sweep() == ([], [])
    here = Path.cwd()
    moved = here.with_name(f"{here.name}_moved")
    here.rename(moved)
    monkeypatch.chdir(moved)
    assert machine.sweep() == ([], [])
    Path("task.yaml").unlink()
    assert machine.sweep() == ([], []), "nobody can say that a file which is gone was another"


def test_a_run_of_an_earlier_version_counts_as_done(machine: Machine) -> None:
    for path in Path("out").rglob(RECORD):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({"argv": content["argv"], "done": content["done"]}))
    Path("task.yaml").write_text("runner: {total_steps: 6}\n")
    machine.step = 2
    shutil.rmtree("out/pretrain/mine")
    assert machine.sweep() == (["pretrain/mine"], [])


def test_what_is_edited_during_a_run_was_not_read_by_it(machine: Machine) -> None:
    run = run_named(THEIRS)
    shutil.rmtree(run.expdir)
    run.record(done=False)
    Path("task.yaml").write_text("runner: {total_steps: 6}\n")
    run.record(done=True)
    assert not run.done


def test_an_interrupted_run_is_not_continued_with_an_edited_configuration(
    machine: Machine, capsys: pytest.CaptureFixture
) -> None:
    shutil.rmtree(f"out/{THEIRS}")
    machine.ends = False
    assert machine.sweep() == ([THEIRS], [THEIRS])
    Path("task.yaml").write_text("runner: {total_steps: 6}\n")
    machine.ends = True
    assert machine.sweep() == ([], [MINE, THEIRS])
    Path(f"out/{THEIRS}/states-1.ckpt").unlink()
    assert machine.sweep() == ([THEIRS], [MINE]), "it left nothing that has the old settings"


def test_the_weights_are_those_that_k_loads(tiny_config: ModelConfig, tmp_path: Path) -> None:
    assert identity_of_weights(tmp_path) is None
    state = MaskedPrediction(tiny_config).state_dict()
    save_release(tmp_path, tiny_config, state, "", {"step": 2})
    first = identity_of_weights(tmp_path)
    (tmp_path / "states-2.ckpt").touch()
    assert identity_of_weights(tmp_path) == first
    (tmp_path / "states-3.ckpt").touch()
    assert identity_of_weights(tmp_path) == "states-3.ckpt"
    next(iter(state.values())).add_(1)
    save_release(tmp_path, tiny_config, state, "", {"step": 3})
    assert identity_of_weights(tmp_path) not in (first, "states-3.ckpt")
    (tmp_path / "model.safetensors").write_bytes(b"another program's")
    assert len(identity_of_weights(tmp_path) or "") == 64
