"""Recipes: what each stage makes of the configurations, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import yaml
from naming import mentions, naming

from s3prl_aalbert.checkpoint.release import load_checkpoint
from s3prl_aalbert.cli import main
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import load_model_config
from s3prl_aalbert.pretrain import corpus, runner
from s3prl_aalbert.pretrain.budget import TimeBudget
from s3prl_aalbert.pretrain.decoding import decode_all
from s3prl_aalbert.pretrain.monitor import Monitor
from s3prl_aalbert.pretrain.plan import plan_stages
from s3prl_aalbert.pretrain.request import Request
from s3prl_aalbert.pretrain.stages import merged, recipe_stages
from s3prl_aalbert.speech.training_list import overlap

MODEL: dict[str, Any] = {"transformer": {"hidden_size": 64, "num_attention_heads": 4}, "task": {"unit_weight": 1}}


def recipe(*stages: dict[str, Any], **config: Any) -> dict[str, Any]:
    return {"runner": {"total_steps": 10}, **config, "stages": list(stages)}


def test_changes_go_into_sections_and_leave_the_originals_alone() -> None:
    values = {"a": {"b": 1, "c": [1]}, "d": 2}
    assert merged(values, {"a": {"b": 3}, "d": {"e": 4}}) == {"a": {"b": 3, "c": [1]}, "d": {"e": 4}}
    assert values == {"a": {"b": 1, "c": [1]}, "d": 2}


def test_stages_change_their_own_keys_and_know_earlier_ones(tmp_path: Path) -> None:
    first = {"name": "mfcc", "model": {"task": {"num_units": 10}}}
    second = {
        "name": "layer",
        "init": "mfcc",
        "model": {"task": {"num_units": 20}},
        "config": {"units": {"source": "mfcc", "layer": 1}, "runner": {"total_steps": 20}},
    }
    # "mfcc" is the name of the acoustic features unless a stage has it.
    one, two = recipe_stages(MODEL, recipe(first, second), tmp_path / "run", "recipe.yaml")
    assert (one.expdir, two.expdir) == (tmp_path / "run" / "mfcc", tmp_path / "run")
    assert (one.init, two.init) == (None, tmp_path / "run" / "mfcc")
    assert (one.model["task"]["num_units"], two.model["task"]["num_units"]) == (10, 20)
    assert one.model["task"]["unit_weight"] == two.model["task"]["unit_weight"] == 1
    assert (one.config["runner"], two.config["runner"]) == ({"total_steps": 10}, {"total_steps": 20})
    assert two.config["units"] == {"source": str(tmp_path / "run" / "mfcc"), "layer": 1}
    assert one.corpus == two.corpus == tmp_path / "run"


def test_a_runner_without_stages_is_no_recipe(tmp_path: Path) -> None:
    assert recipe_stages(MODEL, {"runner": {"total_steps": 10}}, tmp_path, "plain.yaml") == []


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "stages is empty"),
        ([3], "stage 1: the file is 3, expected a mapping of keys"),
        ([{"nam": "a"}], 'stage 1: unknown key "nam"'),
        ([{"name": "a/b"}], '"a/b" is no name of a stage'),
        ([{"name": "a"}, {"name": "a"}], 'two stages are called "a"'),
        ([{"name": "first"}, {"name": "b", "init": "frist"}], 'did you mean "first"'),
        ([{"name": "a", "init": "a"}], "expected an earlier stage"),
        ([{"name": "a", "model": {"transformer": {"hiden_size": 3}}}], 'stage a: unknown key "transformer.hiden_size"'),
        ([{"name": "a"}, {"name": "b", "config": {"runner": {"total_steps": 0}}}], "stage b: runner.total_steps is 0"),
        ([{"name": "a", "config": {"units": {"source": "b", "layer": None}}}], "units.layer is null"),
    ],
)
def test_a_recipe_is_checked_as_a_whole(tmp_path: Path, stages: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(AalbertError) as error:
        recipe_stages(MODEL, recipe(*stages), tmp_path, "recipe.yaml")
    assert message in str(error.value) and str(error.value).startswith("recipe.yaml")


def test_stages_that_are_no_list(tmp_path: Path) -> None:
    with pytest.raises(AalbertError, match=r'"stages" is 3, expected a list$'):
        recipe_stages(MODEL, {"stages": 3}, tmp_path, "recipe.yaml")


def test_a_damaged_recipe_that_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("model: [1]")
    with pytest.raises(AalbertError, match=naming("recipe.yaml", '"model" is [1]')):
        plan_stages(Request(expdir=str(tmp_path), auto_resume=True))
    (tmp_path / "recipe.yaml").write_text("model: {}")
    with pytest.raises(AalbertError, match=naming("recipe.yaml", "config.stages")):
        plan_stages(Request(expdir=str(tmp_path), auto_resume=True))


def write_recipe(folder: Path, speech: Path) -> Path:
    """Two stages of a few steps; the second learns the units of the first one's layer."""
    content = recipe(
        {"name": "first"},
        {"name": "second", "config": {"units": {"source": "first", "layer": 1}}},
        runner={"total_steps": 3, "eval_step": 2, "save_step": 1, "log_step": 1, "precision": "fp32"},
        pretrain_expert={"datarc": {"paths": [str(speech)], "train_batch_size": 2}},
    )
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    (folder / "model.yaml").write_text(yaml.safe_dump({**MODEL, "task": {**MODEL["task"], "num_units": 8}}))
    return path


@pytest.fixture
def speech_folder(tmp_path: Path, voice) -> Path:
    folder = tmp_path / "speech"
    for speaker in range(4):
        (folder / f"s{speaker}").mkdir(parents=True)
        for index in range(3):
            wav = voice(9000 + 900 * index, 3 * speaker + index).numpy()
            soundfile.write(folder / f"s{speaker}" / f"{index}.wav", wav, 16000)
    return folder


def test_one_command_runs_the_iterations_and_goes_on_after_a_stop(tmp_path, speech_folder, monkeypatch, capsys) -> None:
    path = write_recipe(tmp_path, speech_folder)
    monkeypatch.chdir(tmp_path)
    command = ["pretrain", "-g", "model.yaml", "-c", str(path), "-p", "run", "--device", "cpu"]
    assert main([*command, "--dry-run"]) == 0
    assert not (tmp_path / "run").exists()
    assert main([*command, "-o", "config.runner.max_hours=1"]) == 0
    run = tmp_path / "run"
    assert (run / "first" / "model.safetensors").is_file() and (run / "model.safetensors").is_file()
    assert len(list(run.glob("manifest.units-*.npy"))) == 2
    first = (run / "first" / "model.safetensors").read_bytes()
    second = load_checkpoint(run).state
    for last in ("states-3.ckpt", "states-*.ckpt"):  # as if the second stage had been stopped after step 2, or before 1
        for left in ("model.safetensors", "README.md", last, "dev-best.ckpt"):
            for path in list(run.glob(left)):
                path.unlink()
        assert main(["pretrain", "-p", "run", "-a", "--device", "cpu"]) == 0
        assert (run / "first" / "model.safetensors").read_bytes() == first
        assert all(torch.equal(value, second[name]) for name, value in load_checkpoint(run).state.items())
    assert main(command) == 2
    assert "go on with -a" in capsys.readouterr().err
    assert load_model_config(str(run / "config.yaml")).task.num_units == 8


def test_a_stage_that_goes_on_has_the_seed_of_the_recipe_and_the_options_of_a(tmp_path, speech_folder, monkeypatch):
    path = write_recipe(tmp_path, speech_folder)
    monkeypatch.chdir(tmp_path)
    command = ["pretrain", "-p", "run", "--device", "cpu"]
    assert main([*command, "-g", "model.yaml", "-c", str(path), "--seed", "7"]) == 0
    for last in ("states-3.ckpt", "states-*.ckpt"):  # as if the second stage had been stopped after step 2, or before 1
        for left in ("model.safetensors", last, "dev-best.ckpt"):
            for each in list((tmp_path / "run").glob(left)):
                each.unlink()
        assert main([*command, "-a", "-o", "config.optimizer.lr=0.5,,config.runner.total_steps=4"]) == 0
        state = torch.load(tmp_path / "run" / "states-4.ckpt", weights_only=True)
        assert (state["seed"], state["pretrain_config"]["optimizer"]["lr"]) == (7, 0.5)


def test_a_manifest_as_the_corpus_is_decoded_once_for_all_stages(tmp_path, speech_folder, monkeypatch) -> None:
    manifest = tmp_path / "mine.tsv"
    manifest.write_text("path\n" + "".join(f"{path}\n" for path in sorted(speech_folder.rglob("*.wav"))))
    path = write_recipe(tmp_path, speech_folder)
    content = yaml.safe_load(path.read_text())
    content["pretrain_expert"]["datarc"] = {"manifest": str(manifest), "train_batch_size": 2}
    path.write_text(yaml.safe_dump(content))
    decoded: list[str] = []
    monkeypatch.setattr(corpus, "decode_all", lambda paths, *rest: decoded.extend(paths) or decode_all(paths, *rest))
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", "-g", "model.yaml", "-c", str(path), "-p", "run", "--device", "cpu"]) == 0
    assert len(decoded) == 12 and manifest.read_text().count("\t") == 0
    run = tmp_path / "run"
    assert len(list(run.glob("manifest.audio-*.i16"))) == 1 and not list((run / "first").glob("manifest*"))
    assert len(list(run.glob("manifest.units-*.npy"))) == 2


def test_a_time_budget_ends_a_run_whole(tmp_path, speech_folder, monkeypatch, capsys, caplog) -> None:
    """By a clock that goes on by a minute each time it is read: 2 hours are some steps of a million."""
    minutes = itertools.count()
    monkeypatch.setattr(runner, "TimeBudget", lambda hours: TimeBudget(hours, lambda: 60.0 * next(minutes)))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.yaml").write_text(yaml.safe_dump({"transformer": MODEL["transformer"]}))
    override = (
        "config.runner.total_steps=1000000,,config.runner.max_hours=2,,config.runner.precision=fp32,,"
        "config.runner.eval_step=1000000,,config.runner.save_step=1000000,,config.runner.log_step=1,,"
        "config.pretrain_expert.datarc.train_batch_size=4"
    )
    rates = []
    monkeypatch.setattr(Monitor, "scalars", lambda self, step, values: rates.append(values.get("lr")))
    command = ["pretrain", "-g", "model.yaml", "--speech", "speech", "-p", "run", "--device", "cpu"]
    assert main([*command, "-o", override]) == 0
    state = torch.load(next((tmp_path / "run").glob("states-*.ckpt")), weights_only=True)
    assert (tmp_path / "run" / "README.md").is_file()  # the release is whole
    seen = overlap(tmp_path / "run", ["s2/1", "s2/9"], {"s2/1": "s2", "s2/9": "s2"})
    assert seen == (["s2/1"], ["s2"], True)
    assert 5 < state["step"] < 120 and state["budget"]["spent"] <= 2 * 3600
    rates = [rate for rate in rates if rate is not None]
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.1 * max(rates)  # the schedule has come to its end, which a millionth of the steps has not
    assert "is used up" in capsys.readouterr().out
    caplog.set_level("INFO")
    assert main(["pretrain", "-p", "run", "-a", "--device", "cpu"]) == 0
    assert mentions(caplog.text, "nothing to do", "runner.max_hours 2", f"step {state['step']}", "max_hours=H")
    assert len(list((tmp_path / "run").glob("states-*.ckpt"))) == 1


@pytest.mark.parametrize("stages", [True, False])
def test_a_budget_that_the_preparation_uses_up_is_an_error(
    tmp_path: Path,
    speech_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stages: bool,
) -> None:
    """By a clock that goes on by a minute each time it is read, and an hour for the first labelling."""
    seconds, label = [0.0], runner.label_corpus

    def clock() -> float:
        seconds[0] += 60
        return seconds[0]

    def label_slowly(*arguments: object) -> object:
        if not list((tmp_path / "run").glob("manifest.units-*.npy")):
            seconds[0] += 3600
        return label(*arguments)

    monkeypatch.setattr(runner, "TimeBudget", lambda hours: TimeBudget(hours, clock))
    monkeypatch.setattr(runner, "label_corpus", label_slowly)
    monkeypatch.chdir(tmp_path)
    recipe = write_recipe(tmp_path, speech_folder)
    if not stages:
        content = yaml.safe_load(recipe.read_text())
        del content["stages"]
        recipe.write_text(yaml.safe_dump({**content, "units": {"source": "mfcc"}}))
    command = ["pretrain", "-g", "model.yaml", "-c", str(recipe), "-p", "run", "--device", "cpu"]
    command += ["-o", "config.runner.max_hours=1"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert all(part in said for part in ("runner.max_hours is 1,", "took 61 minutes", "the same command with -a"))
    run = tmp_path / "run"
    assert not list(run.rglob("model.safetensors")) and not list(run.rglob("events.*"))
    assert main([*command, "-a"]) == 0 and (run / "model.safetensors").is_file()
