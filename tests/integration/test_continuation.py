"""A task's run that is interrupted and goes on is the run that never was; what it is told to change, it uses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command_lines import REPOSITORY, run, succeed
from naming import mentions

from s3prl_aalbert import toolkit
from s3prl_aalbert.checkpoint.release import load_checkpoint, save_release
from s3prl_aalbert.model.config import find_config
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus

RUNNER = {"total_steps": 6, "log_step": 1, "eval_step": 2, "save_step": 1, "max_keep": 20}
SCHEDULER = {"name": "cosine_schedule_with_warmup", "num_warmup_steps": 2}
SPECAUG = {"apply_time_warp": False, "time_mask_width_range": [0, 5], "freq_mask_width_range": [0, 4]}


def write_config(name: str, folder: Path, speech: Path) -> Path:
    """Write a packaged configuration with all that draws random numbers or has a state, in small."""
    config = yaml.safe_load(find_config(name, "downstream_configs").read_text())
    config["runner"] |= RUNNER
    config["scheduler"] = dict(SCHEDULER)
    config["optimizer"] = {"name": "TorchOptim", "torch_optim_name": "AdamW", "lr": 1.0e-3, "weight_decay": 0.1}
    expert = config["downstream_expert"]
    if name == "example":
        return dump(config, folder / f"{name}.yaml")
    if name == "aalbert_probe":
        for task in ("phone", "speaker"):
            expert["datarc"][task]["audio"] = str(speech)
        expert["modelrc"] |= {"hidden_size": 8}
    else:
        config["runner"]["gradient_accumulate_steps"] = 2
        config["specaug"] = dict(SPECAUG)
        expert["datarc"] |= {"audio": str(speech), "train_batch_size": 4}
        expert["modelrc"] |= {"dropout": 0.2, "batch_norm": True, "classifier": "1-hidden"}
    return dump(config, folder / f"{name}.yaml")


def dump(config: dict[str, Any], path: Path) -> Path:
    path.write_text(yaml.safe_dump(config))
    return path


def load(path: Path) -> dict[str, Any]:
    toolkit.activate()
    states = torch.load(path, weights_only=True)
    return {name: value for name, value in states.items() if name != "Args"}


def differences(first: Any, second: Any, place: str = "") -> list[str]:
    """Return where two nested values differ in a bit."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return [d for key in first for d in differences(first[key], second[key], f"{place}.{key}")]
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)) and len(first) == len(second):
        return [
            d for i, (a, b) in enumerate(zip(first, second, strict=True)) for d in differences(a, b, f"{place}.{i}")
        ]
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return [] if torch.equal(first, second) else [place]
    return [] if first == second else [place]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesise_corpus(tmp_path_factory.mktemp("speech") / "s", 4, 6, (0.5, 0.7), seed=1)


UPSTREAM = ["-u", "aalbert_local", "-k", "release", "--device", "cpu"]
TASKS = {
    "aalbert_speaker_utterance": ["downstream", "-m", "train", "-f", "-d", "aalbert_speaker_utterance"],
    "aalbert_phone": ["downstream", "-m", "train", "-f", "-d", "aalbert_phone"],
    "aalbert_probe": ["probe", "--task", "phone,speaker"],
    "example": ["downstream", "-m", "train", "-d", "example"],
}
# After which steps it is killed: of an epoch of the first task all of them.
STEPS = {"aalbert_speaker_utterance": (1, 2, 3, 4, 5), "aalbert_phone": (3,), "aalbert_probe": (2, 3), "example": (3,)}


def test_a_run_that_goes_on_equals_one_that_was_not_interrupted(
    tmp_path: Path, speech: Path, tiny_release: Path
) -> None:
    """Killed after each of its steps: in an epoch, at its end, with momenta, a schedule, dropout and SpecAugment."""
    shutil.copytree(tiny_release, tmp_path / "release")
    whole = {}
    for task, command in TASKS.items():
        config = write_config(task, tmp_path, speech)
        whole[task] = [*command, *UPSTREAM, "-c", str(config), "-p", f"whole/{task}"]
    succeed(list(whole.values()), tmp_path)
    again = []
    for task, command in whole.items():
        for step in STEPS[task]:
            folder = tmp_path / f"again/{task}{step}"
            folder.mkdir(parents=True)
            shutil.copy(tmp_path / f"whole/{task}/states-{step}.ckpt", folder)
            go_on = ["probe"] if command[0] == "probe" else ["downstream", "-m", "train"]
            again.append([*go_on, "-a", "-p", str(folder), "--device", "cpu"])
    succeed(again, tmp_path)
    epochs = set()
    for task in TASKS:
        expected = load(tmp_path / f"whole/{task}/states-6.ckpt")
        for step in STEPS[task]:
            position = load(tmp_path / f"whole/{task}/states-{step}.ckpt")["Position"]
            epochs.add(position["batches"] == position["length"])
            found = load(tmp_path / f"again/{task}{step}/states-6.ckpt")
            assert not differences(expected, found), (task, step)
    assert epochs == {True, False}


def test_what_is_changed_on_going_on_is_used(tmp_path: Path, speech: Path, tiny_release: Path) -> None:
    shutil.copytree(tiny_release, tmp_path / "release")
    config = write_config("aalbert_speaker_utterance", tmp_path, speech)
    plain = yaml.safe_load(config.read_text())
    del plain["scheduler"]
    command = [*TASKS["aalbert_speaker_utterance"], *UPSTREAM]
    own = {**plain, "optimizer": {"name": "AalbertAdamW", "lr": 1.0e-3, "upstream_lr": 1.0e-4, "weight_decay": 0.1}}
    short = "config.runner.total_steps=2,,config.runner.eval_step=2"
    lines = [
        [*command, "-c", str(config), "-p", "scheduled", "-o", short],
        [*command, "-c", str(dump(plain, tmp_path / "plain.yaml")), "-p", "plain", "-o", short],
        [*command, "-c", str(dump(own, tmp_path / "own.yaml")), "-p", "own", "-o", short],
    ]
    succeed(lines, tmp_path)
    for name in ("plain-schedule", "other"):
        shutil.copytree(tmp_path / "plain", tmp_path / name)
    shutil.copytree(tmp_path / "scheduled", tmp_path / "no-schedule")

    def go_on(folder: str, *changes: str) -> list[str]:
        settings = ",,".join(["config.runner.total_steps=4", *changes])
        return ["downstream", "-m", "train", "-a", "-p", folder, "--device", "cpu", "-o", settings]

    changed = {
        "scheduled": ["config.optimizer.lr=5e-4", "config.scheduler.num_warmup_steps=0"],
        "plain": ["config.optimizer.lr=5e-4", "config.optimizer.weight_decay=0.2", "config.optimizer.betas=(0.8, 0.9)"],
        "own": ["config.optimizer.upstream_lr=2e-5"],
        "plain-schedule": ["config.scheduler={'name': 'linear_schedule_with_warmup', 'num_warmup_steps': 0}"],
        "no-schedule": ["config.scheduler=None"],
    }
    succeed([go_on(folder, *settings) for folder, settings in changed.items()], tmp_path)
    ((code, told),) = run([go_on("other", "config.optimizer.torch_optim_name=SGD")], tmp_path)
    assert code == 2 and "keep the optimiser, or start a new run" in told.splitlines()[-1]
    begun = [*command, "-c", str(config), "-p", "begun", "-i", "plain/states-2.ckpt", "-o", short]
    ((code, told),) = run([begun], tmp_path)
    assert code == 0 and mentions(told, "nothing to train", "plain/states-2.ckpt", "step 2 of 2", "total_steps")

    def rates(folder: str, step: int) -> list[float]:
        return [group["lr"] for group in load(tmp_path / f"{folder}/states-{step}.ckpt")["Optimizer"]["param_groups"]]

    (group,) = load(tmp_path / "plain/states-3.ckpt")["Optimizer"]["param_groups"]
    assert (group["lr"], group["weight_decay"], tuple(group["betas"])) == (5e-4, 0.2, (0.8, 0.9))
    assert rates("own", 3) == [1e-3, 1e-3, 2e-5]
    assert rates("plain-schedule", 3) == [pytest.approx(1e-3 * (4 - 3) / 4)]  # the rate of the step after
    assert rates("no-schedule", 3) == rates("no-schedule", 4) == [1e-3]
    # A cosine over 4 steps, with the new rate: after step 3 it stands at (1 + cos(3/4 pi)) / 2.
    assert rates("scheduled", 3) == [pytest.approx(5e-4 * 0.1464466094, rel=1e-6)]
    recorded = json.loads((tmp_path / "plain/results.json").read_text())["training"]["optimizer"]
    assert recorded["lr"] == 5e-4 and recorded["weight_decay"] == 0.2


def test_an_upstream_that_was_trained_on_in_its_folder_is_refused(tmp_path: Path, tiny_release: Path) -> None:
    """And taken where it now is, if -o names it; the weights of the training were copied before."""
    shutil.copytree(tiny_release, tmp_path / "release")
    shutil.copytree(tiny_release, tmp_path / "kept")
    config = str(write_config("example", tmp_path, tmp_path))
    short = "config.runner.total_steps=2"
    succeed([[*TASKS["example"], *UPSTREAM, "-c", config, "-p", "exp", "-o", short]], tmp_path)
    trained = load_checkpoint(tiny_release)
    state = {name: value + 0.01 if value.is_floating_point() else value for name, value in trained.state.items()}
    save_release(tmp_path / "release", trained.config, state, card="")
    go_on = ["downstream", "-m", "train", "-a", "-p", "exp", "--device", "cpu", "-o", "config.runner.total_steps=4"]
    evaluate = ["downstream", "-m", "evaluate", "-e", "exp/states-2.ckpt", "--device", "cpu"]
    kept = "args.upstream_ckpt=kept"
    commands = [go_on, evaluate, [*evaluate, "-o", kept], [*evaluate, "-o", "args.upstream_ckpt=release"]]
    refused, evaluated, right, other, more = run([*commands, [*go_on[:-1], f"{go_on[-1]},,{kept}"]], tmp_path)
    for code, told in (refused, evaluated):
        assert code == 2 and mentions(told, "exp/states-2.ckpt", "-k release", "-o args.upstream_ckpt=PATH")
    assert (right[0], other[0], more[0]) == (0, 0, 0)
    assert (tmp_path / "exp/states-4.ckpt").is_file()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_of_a_batch_system_saves_and_ends(number: int, tmp_path: Path) -> None:
    """And what it saves goes on as any other state does."""
    config = yaml.safe_load(find_config("example", "downstream_configs").read_text())
    config["runner"] |= {"total_steps": 100_000, "eval_step": 100_000, "save_step": 50_000, "max_keep": 1}
    path = dump(config, tmp_path / "example.yaml")
    command = [sys.executable, "-W", "ignore", "-m", "s3prl_aalbert", "downstream", "-m", "train", "-u", "fbank"]
    paths = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [*command, "-d", "example", "-c", str(path), "-p", "exp", "--device", "cpu"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    try:
        for line in process.stderr:  # tqdm's bars end in carriage returns, read as line ends
            shown = re.match(r"overall.* (\d+)/", line)  # not every step is shown
            if shown and int(shown.group(1)) >= 3:
                process.send_signal(number)
                break
        told = process.stderr.read()
        assert process.wait(timeout=120) == 75, told[-2000:]
    finally:
        process.kill()
    (saved,) = (tmp_path / "exp").glob("states-*.ckpt")
    step = int(saved.stem.split("-")[1])
    assert step >= 3 and f"stopped by a signal at step {step}" in told and "Traceback" not in told
    states = load(saved)
    assert states["Step"] == step and {"Optimizer", "Featurizer", "Downstream", "Epoch", "Config"} <= states.keys()
    more = f"config.runner.total_steps={step + 2},,config.runner.eval_step={step + 2},,config.runner.save_step=1"
    succeed([["downstream", "-m", "train", "-a", "-p", "exp", "--device", "cpu", "-o", more]], tmp_path)
    assert [path.stem for path in (tmp_path / "exp").glob("states-*.ckpt")] == [f"states-{step + 2}"]


# A loss scale that works without a GPU, and grows every four steps.
WITH_SCALER = """
import functools, json, sys, torch
from s3prl_aalbert.cli import main
torch.cuda.amp.GradScaler = functools.partial(torch.amp.GradScaler, "cpu", init_scale=1024.0, growth_interval=4)
for command in json.loads(sys.argv[1]):
    assert main(command) == 0, command
"""


def test_the_loss_scale_goes_on(tmp_path: Path) -> None:
    config = yaml.safe_load(find_config("example", "downstream_configs").read_text())
    config["runner"] |= {**RUNNER, "fp16": True}
    path = dump(config, tmp_path / "example.yaml")
    train = ["downstream", "-m", "train", "-u", "fbank", "-d", "example", "-c", str(path), "--device", "cpu"]
    go_on = ["downstream", "-m", "train", "-e", "whole/states-3.ckpt", "-o", "args.expdir=again", "--device", "cpu"]
    commands = [[*train, "-p", "whole"], go_on]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITH_SCALER, json.dumps(commands)],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    whole, again = (load(tmp_path / name / "states-6.ckpt") for name in ("whole", "again"))
    assert whole["Scaler"]["scale"] == 2048.0 and whole["Scaler"]["_growth_tracker"] == 2
    assert not differences(whole["Scaler"], again["Scaler"])
    assert not differences(whole["Downstream"], again["Downstream"])
    assert "begins anew" not in done.stderr
