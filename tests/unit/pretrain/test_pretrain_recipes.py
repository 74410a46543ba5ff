"""What a recipe keeps of its options, what -a takes from there, and what -o means for its stages."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from naming import mentions, naming

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.pretrain.plan import plan_stages
from s3prl_aalbert.pretrain.request import Request
from s3prl_aalbert.pretrain.stages import Stage, override_recipe, recipe_stages

MODEL: dict[str, Any] = {"transformer": {"hidden_size": 64, "num_attention_heads": 4}, "task": {"unit_weight": 1}}
RECIPE: dict[str, Any] = {
    "runner": {"total_steps": 10},
    "stages": [
        {"name": "one", "config": {"runner": {"total_steps": 2}}},
        {"name": "two", "config": {"units": {"source": "one", "layer": 1}, "runner": {"max_hours": 0.75}}},
    ],
}


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    """Return the options of a recipe that is planned in the folder ``run``; no stage has begun."""
    monkeypatch.chdir(tmp_path)
    Path("weights.ckpt").touch()
    Path("model.yaml").write_text(yaml.safe_dump(MODEL))
    Path("recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    request = Request(
        upstream_config="model.yaml", config="recipe.yaml", expdir="run", speech=["sp"], init="weights.ckpt", seed=7
    )
    plan_stages(request)
    return request


def goes_on(**options: Any) -> list[tuple[Stage, Request]]:
    return plan_stages(Request(expdir="run", auto_resume=True, **options))


def touch(*names: str) -> None:
    for name in names:
        path = Path("run", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def of_stages(stages: list[tuple[Stage, Request]], *keys: str) -> list[object]:
    """Return one value of the configuration of each stage."""
    found: list[object] = []
    for stage, _ in stages:
        value: Any = {"model": stage.model, "config": stage.config}
        for key in keys:
            value = value.get(key, {})
        found.append(value)
    return found


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK"])
def test_processes_that_start_later_have_the_plan_of_the_first(
    started: Request, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    first = plan_stages(started)
    content = Path("run/recipe.yaml").read_bytes()
    monkeypatch.setenv(variable, "1")
    assert plan_stages(started) == first and Path("run/recipe.yaml").read_bytes() == content
    Path("run/recipe.yaml").unlink()
    assert plan_stages(started) == first and not Path("run/recipe.yaml").exists()


def test_what_was_typed_is_kept_for_every_stage(started: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = goes_on()
    assert stages == [(stage, replace(request, auto_resume=True, upstream_config=None, config=None))
                      for stage, request in plan_stages(started)]  # fmt: skip
    assert [request.seed for _, request in stages] == [7, 7]
    assert [request.init for _, request in stages] == [str(Path("weights.ckpt").absolute()), None]
    assert of_stages(stages, "config", "pretrain_expert", "datarc", "paths") == [[str(Path("sp").absolute())]] * 2
    assert plan_stages(replace(started, auto_resume=True))[1][1].seed == 7  # a script that starts and goes on
    plan_stages(replace(started, init="aalbert_tiny", seed=None))
    assert [(r.seed, r.init) for _, r in goes_on()] == [(1337, "aalbert_tiny"), (1337, None)]


def test_a_recipe_of_before_seeds_were_kept(started: Request) -> None:
    Path("run/recipe.yaml").write_text(yaml.safe_dump({"model": MODEL, "config": RECIPE}))
    touch("states-1.ckpt", "one/model.safetensors")
    assert [(request.seed, request.init) for _, request in goes_on()] == [(None, None)] * 2
    assert [request.seed for _, request in goes_on(seed=3)] == [3, 3]


def test_options_of_a_change_the_stages_that_are_not_done(started: Request, caplog: pytest.LogCaptureFixture) -> None:
    touch("one/model.safetensors", "states-1.ckpt")
    stages = goes_on(override="config.optimizer.lr=0.5", speech=["other"])
    assert mentions(caplog.text, "stage one", "-o", "--speech")
    assert of_stages(stages, "config", "optimizer", "lr")[1] == 0.5
    assert of_stages(stages, "config", "pretrain_expert", "datarc", "paths")[1] == [str(Path("other").absolute())]
    assert goes_on() == stages  # kept
    caplog.clear()
    changed = {**RECIPE, "runner": {"total_steps": 33}}
    Path("changed.yaml").write_text(yaml.safe_dump(changed))
    assert of_stages(goes_on(config="changed.yaml"), "config", "runner", "total_steps") == [2, 33]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"seed": 8}, ("--seed", 7, 8)),
        ({"init": "model.yaml"}, ("--init", "weights.ckpt", "model.yaml")),
        ({"upstream_config": "debug"}, ("stage two", "model", "-g")),
        ({"override": "model.transformer.hidden_size=32"}, ("stage two", "model", "-o")),
        ({"override": "config.optimizer.name=Lamb"}, ("stage two", "optimizer.name")),
        ({"config": "others.yaml"}, ("recipe.yaml", "one, two", "eins", "-c")),
        ({"config": "pretrain_default"}, ("recipe.yaml", "one, two", "none", "-c")),
    ],
)
def test_options_that_contradict_a_stage_that_has_begun(
    started: Request, options: dict[str, Any], named: tuple[object, ...]
) -> None:
    Path("others.yaml").write_text(yaml.safe_dump({"stages": [{"name": "eins"}]}))
    touch("one/model.safetensors", "states-1.ckpt")
    before = Path("run/recipe.yaml").read_bytes()
    with pytest.raises(AalbertError, match=naming("run", *named)):
        goes_on(**options)
    assert Path("run/recipe.yaml").read_bytes() == before
    with pytest.raises(AalbertError, match=naming("run", "-a")):
        plan_stages(started)


@pytest.mark.parametrize(
    "options", [{"override": "config.runner.total_steps=5"}, {"speech": ["other"]}, {"config": "changed.yaml"}]
)
def test_nothing_changes_when_every_stage_is_done(started: Request, options: dict[str, Any]) -> None:
    Path("changed.yaml").write_text(yaml.safe_dump({**RECIPE, "runner": {"total_steps": 33}}))
    touch("one/model.safetensors", "model.safetensors")
    with pytest.raises(AalbertError, match=naming("run", "every stage is done", "two", "--init")):
        goes_on(**options)
    assert len(plan_stages(replace(started, auto_resume=True))) == 2  # the same command again


def test_speech_beside_folders_of_a_stage(started: Request) -> None:
    own = {"name": "one", "config": {"pretrain_expert": {"datarc": {"paths": ["mine"]}}}}
    Path("recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "stages": [own, RECIPE["stages"][1]]}))
    with pytest.raises(AalbertError, match=naming("recipe.yaml", "stage one", "datarc.paths", "mine", "--speech")):
        plan_stages(started)


def test_an_option_is_for_the_last_stage_and_for_those_that_do_not_set_its_key(
    started: Request, caplog: pytest.LogCaptureFixture
) -> None:
    stages = plan_stages(replace(started, override="config.runner.max_hours=3.8,,config.runner.total_steps=5"))
    assert of_stages(stages, "config", "runner") == [
        {"total_steps": 2, "max_hours": 3.8},
        {"total_steps": 5, "max_hours": 3.8},
    ]
    warning = "config.stages.one.config.runner.total_steps"
    assert mentions(caplog.text, "stage one", "config.runner.total_steps", warning) and "max_hours" not in caplog.text
    assert of_stages(goes_on(), "config", "runner") == of_stages(stages, "config", "runner")


def test_an_option_for_one_stage(started: Request, caplog: pytest.LogCaptureFixture) -> None:
    override = (
        "config.stages.one.config.runner.total_steps=4,,config.stages.two.model.task.num_units=7,,"
        "config.stages.two.config.runner.max_hours=1,,config.runner.max_hours=2,,config.runner.total_steps=6"
    )
    stages = plan_stages(replace(started, override=override))
    assert of_stages(stages, "config", "runner", "total_steps") == [4, 6]
    assert of_stages(stages, "config", "runner", "max_hours") == [2, 1]
    assert of_stages(stages, "model", "task", "num_units") == [{}, 7]
    assert not caplog.records


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("config.stages.tow.config.runner.max_hours=1", ('"tow"', 'did you mean "two"', "one, two")),
        (
            "config.stages.two.runner.max_hours=1",
            ("config.stages.two.runner.max_hours", "config.stages.two.config.KEY"),
        ),
        ("config.stages=[]", ("config.stages", "one, two")),
        ("config.stages.two.config.runner.max_hour=1", ("-o", "stage two", "runner.max_hour")),
    ],
)
def test_an_option_for_no_stage(started: Request, override: str, named: tuple[object, ...]) -> None:
    with pytest.raises(AalbertError, match=naming(*named)):
        plan_stages(replace(started, override=override))


def test_the_trial_of_units_19h_changes_the_last_stage_of_the_packaged_recipe(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """docs/results/units_19h.md: a model of other settings, on the units of the recipe's own stages."""
    configs = repository / "upstream_configs"
    model, config = (yaml.safe_load((configs / f"{n}.yaml").read_text()) for n in ("aalbert_units", "pretrain_units"))
    before = recipe_stages(model, config, Path("run"), "recipe.yaml")
    override_recipe(
        model,
        config,
        "model.task.unit_neighbours=0,,config.runner.total_steps=1000,,model.transformer.hidden_size=384,,"
        "model.transformer.num_attention_heads=6,,model.transformer.intermediate_size=1536",
    )
    after = recipe_stages(model, config, Path("run"), "recipe.yaml")
    assert [stage.parsed() for stage in after[:2]] == [stage.parsed() for stage in before[:2]]
    last, how = after[2].parsed()
    assert (last.task.unit_neighbours, last.transformer.hidden_size, how.runner.total_steps) == (0, 384, 1000)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 2 and "unit_neighbours" not in caplog.text  # what the stages have themselves anyway
    assert mentions(told[0], "mfcc_units", "config.runner.total_steps", "model.transformer.hidden_size")
