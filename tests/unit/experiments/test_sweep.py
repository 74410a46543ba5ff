"""Sweeps: expansion into commands, what is done, what waits, what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from naming import mentions

from s3prl_aalbert.cli import main
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.experiments import execute as sweep_runner
from s3prl_aalbert.experiments.grid import SweepRun, load_sweep
from s3prl_aalbert.experiments.sweeping import record
from s3prl_aalbert.overrides import assignments
from s3prl_aalbert.yaml_config import packaged_configs

CONFIGS = packaged_configs("downstream_configs")
GRID = """
output: out
seeds: [3, 4]
pretrain:
  mine: {model_config: debug, speech: ["{data}/a", "{data}/b"], override: {config.a: 2, config.b: null}}
models:
  mine: {upstream: aalbert_local, pretrained: mine}
  theirs: {upstream: fbank, args: [-s, x]}
tasks:
  phones: {downstream: aalbert_phone, config: c, override: {config.a: "{data}/p", config.fold: "{seed}"}}
  layers: {downstream: aalbert_probe, args: [--task, phone]}
settings:
  one: {only_models: [mine], only_tasks: [phones], args: [-f], override: {config.b: 0.5, config.c: true}}
  two: {only_tasks: [layers]}
report: [--note, "{data}"]
"""


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID)
    return path


def test_a_grid_by_hand(grid: Path, tmp_path: Path) -> None:
    sweep = load_sweep(grid, "DATA", str(tmp_path))
    pretrained = f"{tmp_path}/pretrain/mine"
    first = f"aalbert pretrain -g debug -c pretrain_default --speech DATA/a DATA/b -p {pretrained} -a -o "
    assert sweep.runs[0].command == first + "config.a=2,,config.b=null"
    cell = sweep.runs[2]
    assert (cell.name, cell.needs) == ("phones/one/mine/seed4", "pretrain/mine")
    options = ["-m", "train", "-d", "aalbert_phone", "-c", "c", "-u", "aalbert_local", "-k", pretrained, "-f"]
    override = "config.a='DATA/p',,config.fold=4,,config.b=0.5,,config.c=True"
    place = str(tmp_path / "phones/one/mine/seed4")
    assert list(cell.argv) == ["downstream", *options, "--seed", "4", "-p", place, "-a", "-o", override]
    assert [run.name for run in sweep.runs[3:]] == [
        f"layers/two/{m}/seed{s}" for m in ("mine", "theirs") for s in (3, 4)
    ]
    assert sweep.runs[-1].argv[:5] == ("probe", "-u", "fbank", "-s", "x") and sweep.report == ("--note", "DATA")


def test_a_pretraining_that_starts_from_another_waits_for_it(grid: Path, tmp_path: Path) -> None:
    grid.write_text(GRID.replace("models:\n", "  more: {model_config: debug, speech: [s], init: mine}\nmodels:\n", 1))
    first, second = load_sweep(grid, None, str(tmp_path)).runs[:2]
    assert (second.name, second.needs) == ("pretrain/more", first.name)
    assert f" --init {tmp_path}/pretrain/mine -p {tmp_path}/pretrain/more -a" in second.command


def test_the_report_has_the_pretrainings_that_tasks_use_and_the_last_stages(grid: Path, tmp_path: Path) -> None:
    stages = """
  first: {model_config: debug, speech: [s]}
  last: {model_config: debug, speech: [s], init: first}
  more: {model_config: debug, speech: [s], init: mine}
models:
"""
    grid.write_text(GRID.replace("\nmodels:\n", stages, 1))
    sweep = load_sweep(grid, None, str(tmp_path))
    for run in sweep.runs:
        if not run.cell:
            run.record(done=True)
    assert [folder.name for folder in record(sweep)] == ["mine", "last", "more"]


def test_what_yaml_holds_reaches_a_pretraining_unchanged(grid: Path) -> None:
    values = {"a": None, "b": "Wörter \U0001f3a4", "c": [True, 0.5, {"d": "it's, \\ "}]}
    content = yaml.safe_load(GRID)
    content["pretrain"]["mine"]["override"] = {f"config.{key}": value for key, value in values.items()}
    grid.write_text(yaml.safe_dump(content))
    argv = load_sweep(grid).runs[0].argv
    text = argv[argv.index("-o") + 1]
    assert {key: yaml.safe_load(value) for _, key, value in assignments(text, ("config",))} == values


def test_the_papers_grid() -> None:
    """Counted by hand from the paper: six models, two settings, five proportions, three speaker tasks, probing."""
    names = [run.name for run in load_sweep(CONFIGS / "sweep_paper.yaml").runs]
    pretrained, seeds = 6, 3
    features, encoders = 2, 1 + 6  # with and without CMVN; untrained and pre-trained
    figure_2 = features + 2 * encoders
    figure_3 = 5 * (1 + 2 * 6)  # input features, six models in two settings
    figure_4 = 3 * (features + encoders) + 1  # CPC
    figure_6 = 3
    assert len(names) == len(set(names)) == pretrained + seeds * (figure_2 + figure_3 + figure_4 + figure_6)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("sweep_*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_grid_names_configurations_that_exist(path: Path) -> None:
    from s3prl_aalbert.model.config import find_config

    for run in load_sweep(path).runs:
        options = dict(zip(run.argv, run.argv[1:], strict=False))
        assert "{" not in run.command
        if run.argv[0] == "pretrain":
            find_config(options["-c"], "upstream_configs")
            find_config(options["-g"], "upstream_configs")
        elif "-c" in options:
            find_config(options["-c"], "downstream_configs")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("only_models: [mine]", "only_models: [min]", r'settings\.one .*"min".*did you mean "mine"'),
        ("pretrained: mine", "pretrained: mina", r'models\.mine .*"mina"'),
        ("pretrained: mine", "pretrained: mine, ckpt: x", "ckpt.*pretrained"),
        ("config.b: null}}", "config.b: null}, init: mine}", r'pretrain\.mine\.init .*"mine"'),
        ("model_config: debug", "model_confg: debug", r'model_confg.*did you mean "model_config"'),
    ],
)
def test_mistakes_are_named(grid: Path, old: str, new: str, message: str) -> None:
    grid.write_text(GRID.replace(old, new))
    with pytest.raises(AalbertError, match=message):
        load_sweep(grid)


@pytest.mark.parametrize(
    "empty", ["seeds: []", "tasks: {}", "models: {}", "settings: {}", "settings: {a: {only_tasks: []}}"]
)
def test_a_grid_without_runs_is_refused(grid: Path, empty: str, capsys: pytest.CaptureFixture) -> None:
    whole = {"output": "out", "models": {"m": {"upstream": "fbank"}}, "tasks": {"t": {"downstream": "aalbert_phone"}}}
    grid.write_text(yaml.safe_dump({**whole, **yaml.safe_load(empty)}))
    assert main(["sweep", str(grid)]) == 2
    assert mentions(capsys.readouterr().err, grid, "has no runs", "seed")
    alone = {"pretrain": {"mine": {"model_config": "debug", "speech": ["s"]}}}
    grid.write_text(yaml.safe_dump({**whole, **yaml.safe_load(empty), **alone}))
    assert [run.name for run in load_sweep(grid).runs] == ["pretrain/mine"]


@pytest.mark.parametrize("text", ["", "{\n", "[]", '{"argv": []}', "\x00"])
def test_a_damaged_record_is_named(text: str, grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    grid.write_text(GRID.replace("output: out", f"output: {tmp_path}/out"))
    record = tmp_path / "out" / "pretrain" / "mine" / "sweep.json"
    record.parent.mkdir(parents=True)
    record.write_text(text)
    assert main(["sweep", str(grid), "--dry-run"]) == 2
    assert mentions(capsys.readouterr().err, record, "is damaged", "remove it")


def first_is_done(running: dict) -> tuple[SweepRun, str]:
    run = next(iter(running))
    del running[run]
    run.record(done=True)
    return run, ""


def test_runs_wait_for_what_they_need_and_refuse_a_folder_of_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, *argv: str, needs: str | None = None) -> SweepRun:
        return SweepRun(name, tmp_path / name, argv, needs)

    started = []
    monkeypatch.setattr(sweep_runner, "_start", lambda r, context, threads: started.append(r.name))
    monkeypatch.setattr(sweep_runner, "_one_that_ended", first_is_done)
    first, second, other = run("a", "x"), run("b", "y", needs="a"), run("c", "z", needs="d")
    missing = run("d", "w")
    assert sweep_runner.execute([second], [first, second]) == [second] and not started
    assert sweep_runner.execute([first, second, other], [first, second, other, missing]) == [other]
    assert started == ["a", "b"] and first.done and second.done and not other.done
    assert sweep_runner.execute([first, second], [first, second]) == [] and len(started) == 2
    changed = run("a", "x", "-o", "more")
    assert not changed.done
    assert sweep_runner.execute([changed], [changed]) == [changed] and len(started) == 2


def test_the_settings_of_a_run_that_left_nothing_may_change(tmp_path: Path) -> None:
    run = SweepRun("a", tmp_path / "a", ("downstream", "-k", "right"))
    SweepRun("a", tmp_path / "a", ("downstream", "-k", "wrong")).record(done=False)
    (tmp_path / "a" / "log.txt").write_text("aalbert downstream: -k wrong: no such file or folder\n")
    assert sweep_runner._obstacle(run, {}) == ""
    (tmp_path / "a" / "states-1.ckpt").touch()
    assert "other settings" in sweep_runner._obstacle(run, {})


def test_what_another_sweep_has_done_meanwhile_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (SweepRun(name, tmp_path / name, (name,), None) for name in "ab")
    started = []

    def ended(running: dict) -> tuple[SweepRun, str]:
        second.record(done=True)  # by somebody else
        return first_is_done(running)

    monkeypatch.setattr(sweep_runner, "_start", lambda r, context, threads: started.append(r.name))
    monkeypatch.setattr(sweep_runner, "_one_that_ended", ended)
    assert sweep_runner.execute([first, second], [first, second]) == [] and started == ["a"]


def test_the_whole_name_of_a_run_is_that_run_alone(grid: Path, capsys: pytest.CaptureFixture) -> None:
    grid.write_text(GRID.replace("seeds: [3, 4]", "seeds: [1, 10]"))
    for chosen, runs in (("seed1", 1), ("seed10", 1), ("seed", 2)):
        assert main(["sweep", str(grid), "--only", f"layers/two/theirs/{chosen}", "--dry-run"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == runs


def test_printed_commands_choose_one_run_each(grid: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["sweep", str(grid), "--data", "my data", "--only", "layers/two/theirs", "--dry-run"]) == 0
    line = f"aalbert sweep {grid} --data 'my data' --only layers/two/theirs/seed{{}} --no-report"
    assert capsys.readouterr().out.splitlines() == [line.format(3), line.format(4)]
    assert main(["sweep", str(grid), "--only", "nothing"]) == 2
    assert mentions(capsys.readouterr().err, "layers, phones, pretrain")
    assert main(["sweep", str(grid), "--only", "layers", "--only", "phnes", "--dry-run"]) == 2
    assert mentions(capsys.readouterr().err, "--only phnes")
    assert main(["sweep", str(grid), "--only", "layers/two/their/seed3"]) == 2
    assert '(did you mean "layers/two/theirs/seed3"?)' in capsys.readouterr().err
    assert main(["sweep", str(grid), "--data", "nowhere"]) == 2
    assert mentions(capsys.readouterr().err, "--data nowhere")
    assert main(["sweep", str(grid), "--data", "~nobody-of-that-name/speech"]) == 2
    assert mentions(capsys.readouterr().err, "--data ~nobody-of-that-name/speech")


def test_what_is_to_do_is_logged_first(caplog: pytest.LogCaptureFixture) -> None:
    runs = [SimpleNamespace(name=f"run{number}", done=number == 0, needs=None) for number in range(9)]
    with caplog.at_level("INFO"):
        sweep_runner.log_runs(runs)  # type: ignore[arg-type]
        sweep_runner.log_runs(runs[:3])  # type: ignore[arg-type]
        sweep_runner.log_runs(runs[:1])  # type: ignore[arg-type]
    assert caplog.messages == [
        "8 of 9 runs to do: run1, run2, run3, run4, run5, run6 and 2 more",
        "2 of 3 runs to do: run1, run2",
        "0 of 1 runs to do",
    ]


def test_the_missing_folder_of_the_file_itself_is_told_once(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", str(grid), "--no-report"]) == 2
    assert mentions(capsys.readouterr().err, "data", "speech")
    assert not (tmp_path / "out").exists()
    for run in load_sweep(grid).runs:
        run.record(done=True)
    assert main(["sweep", str(grid), "--no-report"]) == 0  # nothing is left that would read it


def test_a_sweep_without_data_in_it_needs_no_folder(grid: Path, tmp_path: Path) -> None:
    assert load_sweep(grid, None, str(tmp_path)).data == "data"
    grid.write_text("output: out\nmodels: {m: {upstream: fbank}}\ntasks: {t: {downstream: aalbert_phone}}\n")
    sweep = load_sweep(grid, None, str(tmp_path))
    assert sweep.data is None
    sweep_runner.check_data(sweep, sweep.runs, None)
