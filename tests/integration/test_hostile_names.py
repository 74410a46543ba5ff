"""A text that is a program, in every place of a configuration and of a checkpoint that holds a text: it never runs."""

from __future__ import annotations

import argparse
import copy
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command_lines import run

from s3prl_aalbert import toolkit
from s3prl_aalbert.model.config import find_config
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus
from s3prl_aalbert.toolkit.finders import WatchedLoader

MARKER = "code-has-run"
# Valid by itself, after "get_" and between "self.get_" and "_dataloader", as S3PRL evaluates names.
PAYLOAD = f"x if __import__('os').mkdir('{MARKER}') else self.y"
SHORT = {"total_steps": 2, "log_step": 1, "eval_step": 2, "save_step": 2, "max_keep": 1}
SCHEDULER = {"name": "linear_schedule_with_warmup", "num_warmup_steps": 1}
SPECAUG = {"time_warp_mode": "bicubic", "num_freq_mask": 1}
Tree = dict[str, Any]


@pytest.mark.parametrize("context", ["{}", "get_{}", "self.get_{}_dataloader"])
def test_the_text_would_run_if_it_were_evaluated(context: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without it the tests below could pass on a text that does nothing."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises((NameError, AttributeError)):
        eval(context.format(PAYLOAD), {"self": None})
    assert Path(MARKER).is_dir()


def spoilt(tree: Any, make: Any = copy.deepcopy) -> Iterator[tuple[str, Any]]:
    """Yield each place of a text, with a copy of the tree in which the payload stands there."""
    for path in list(_texts(tree, ())):
        changed = make(tree)
        section = changed
        for key in path[:-1]:
            section = section[key]
        section[path[-1]] = PAYLOAD
        yield ".".join(map(str, path)), changed


def _texts(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if isinstance(item, str):
            yield (*path, key)
        yield from _texts(item, (*path, key))


def configurations(speech: Path) -> dict[str, Tree]:
    """Return configurations by task, with everything in them that is a text."""
    example = yaml.safe_load(find_config("example", "downstream_configs").read_text())
    example["optimizer"] = {"name": "TorchOptim", "torch_optim_name": "AdamW", "lr": 1e-3}
    example |= {"scheduler": dict(SCHEDULER), "specaug": dict(SPECAUG)}
    example["runner"] |= {"train_dataloader": "train"}
    speakers = yaml.safe_load(find_config("aalbert_speaker_utterance", "downstream_configs").read_text())
    speakers["downstream_expert"]["datarc"]["audio"] = str(speech)
    letters = yaml.safe_load(find_config("superb_pr", "downstream_configs").read_text())
    trees = {"example": example, "aalbert_speaker_utterance": speakers, "ctc": letters}
    for tree in trees.values():
        tree["runner"] |= SHORT
    return trees


def check(place: Path, lines: dict[str, list[str]]) -> dict[str, int | str]:
    """Run command lines and return their codes by name; no code has run, and no outcome is a stack trace."""
    outcomes = run(list(lines.values()), place)
    assert not list(place.rglob(MARKER)), "a text was run as a program"
    bad = []
    for name, (code, told) in zip(lines, outcomes, strict=True):
        last = told.rstrip().splitlines()[-1] if told.strip() else ""
        if code not in (0, 2) or "Traceback" in told or (code == 2 and not last.startswith("aalbert downstream: ")):
            bad.append(f"{name}: {code} {told[-600:]}")
    assert not bad, "\n\n".join(bad)
    return {name: code for name, (code, _) in zip(lines, outcomes, strict=True)}


def options(task: str, name: str, config: Path) -> list[str]:
    upstream = ["-u", "fbank", "-d", task, "--device", "cpu"]
    return ["downstream", "-m", "train", "-p", f"out/{name}", "-c", str(config), *upstream]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesise_corpus(tmp_path_factory.mktemp("speech") / "s", 4, 3, (0.5, 0.6), seed=1)


def test_no_text_of_a_configuration_is_run(tmp_path: Path, speech: Path) -> None:
    lines = {}
    for task, tree in configurations(speech).items():
        for place, changed in spoilt(tree):
            name = f"{task}.{place}"
            path = tmp_path / f"{name}.yaml"
            path.write_text(yaml.safe_dump(changed))
            lines[name] = options(task, name, path)
    codes = check(tmp_path, lines)
    for section in ("optimizer.name", "optimizer.torch_optim_name", "scheduler.name", "runner.train_dataloader"):
        assert codes[f"example.{section}"] == 2
    assert codes["ctc.downstream_expert.model.select"] == 2
    assert len(codes) > 25


@pytest.mark.slow
def test_no_text_of_a_checkpoint_is_run(tmp_path: Path, speech: Path) -> None:
    trees = configurations(speech)
    del trees["ctc"]
    for task, tree in trees.items():
        (tmp_path / f"{task}.yaml").write_text(yaml.safe_dump(tree))
    trained = {task: options(task, task, tmp_path / f"{task}.yaml") for task in trees}
    assert set(check(tmp_path, trained).values()) == {0}
    toolkit.activate()
    lines = {}
    for task in trees:
        states = torch.load(tmp_path / f"out/{task}/states-2.ckpt", weights_only=True)
        args = {**vars(states["Args"]), "cache_dir": "x", "hf_hub_org": "x", "from_hf_hub": "x", "unheard_of": "x"}
        told = {"Args": args, "Config": states["Config"]}
        for place, changed in spoilt(told):
            if task != "example" and not place.startswith("Config.downstream_expert"):
                continue  # S3PRL's runner, which all tasks share
            for mode in ("evaluate", "train"):
                name = f"{task}-{place}-{mode}"
                path = tmp_path / name / "states-2.ckpt"
                path.parent.mkdir()
                config = {**changed["Config"], "runner": {**changed["Config"]["runner"], "total_steps": 4}}
                content = {**states, "Args": argparse.Namespace(**changed["Args"]), "Config": config}
                torch.save(content, path)
                lines[name] = ["downstream", "-m", mode, "-e", str(path), "--device", "cpu"]
    elsewhere = tmp_path / "elsewhere"
    told = {**vars(states["Args"]), "expdir": str(elsewhere), "cache_dir": str(elsewhere), "push_to_hf_hub": True}
    (tmp_path / "foreign").mkdir()
    torch.save({**states, "Args": argparse.Namespace(**told)}, tmp_path / "foreign/dev-best.ckpt")
    lines["foreign"] = ["downstream", "-m", "evaluate", "-e", "foreign/dev-best.ckpt", "--device", "cpu"]
    codes = check(tmp_path, lines)
    assert codes["foreign"] == 0 and not elsewhere.exists()
    assert list((tmp_path / "foreign").glob("args_*.yaml")) and (tmp_path / "foreign/results.json").is_file()
    for place in ("optimizer.name", "optimizer.torch_optim_name", "scheduler.name"):
        assert codes[f"example-Config.{place}-train"] == 2
    for place in ("upstream", "downstream", "upstream_feature_selection", "hub"):
        assert codes[f"example-Args.{place}-train"] == codes[f"example-Args.{place}-evaluate"] == 2
    assert codes["example-Args.expdir-evaluate"] == 0
    assert len(codes) > 45


def test_every_module_of_s3prls_tasks_that_evaluates_is_guarded() -> None:
    """Whatever text a task evaluates, it is with our function; most of the tasks need corpora to get that far."""
    toolkit.activate()
    import s3prl

    root = Path(s3prl.__path__[0])
    files = [path for path in root.rglob("*.py") if re.search(r"(?<![\w.])eval\(|pickle\.load", path.read_text())]
    files = [path for path in files if path.parts[len(root.parts)] in ("downstream", "upstream")]
    assert len(files) > 30
    for path in files:
        name = ".".join(["s3prl", *path.relative_to(root).with_suffix("").parts])
        spec = importlib.util.find_spec(name.removesuffix(".__init__"))
        assert spec is not None and isinstance(spec.loader, WatchedLoader), name
