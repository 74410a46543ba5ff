"""From the options that are typed to what S3PRL's main() and its runner find."""

from __future__ import annotations

import argparse
import signal
import threading
import types
from pathlib import Path

import pytest
import torch

from s3prl_aalbert import toolkit
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.pretrain.signals import StopSignal
from s3prl_aalbert.toolkit import launch

NEW = ["-u", "fbank", "-d", "example", "--device", "cpu"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit.activate()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # which `--device cpu` sets


def state(folder: Path, step: int) -> Path:
    """Write a checkpoint as S3PRL's runner does, with what is read before training."""
    args = {"upstream": "fbank", "downstream": "example", "expdir": str(folder), "seed": 1337, "local_rank": None}
    args |= {"upstream_ckpt": None, "upstream_model_config": None, "config": None}
    runner = {"total_steps": 20, "log_step": 2, "eval_step": 5, "save_step": 5, "max_keep": 1}
    runner |= {"gradient_accumulate_steps": 1, "gradient_clipping": 1}
    config = {"runner": {**runner, "eval_dataloaders": ["dev"]}, "downstream_expert": {}}
    config["optimizer"] = {"name": "TorchOptim", "torch_optim_name": "SGD", "lr": 1.0e-4}
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"Args": argparse.Namespace(**args), "Config": config, "Step": step}, folder / f"states-{step}.ckpt")
    return folder / f"states-{step}.ckpt"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[argparse.Namespace]:
    """The options that S3PRL's main() has read, which ends there."""
    from s3prl import run_downstream

    found: list[argparse.Namespace] = []
    monkeypatch.setattr(run_downstream, "main", lambda: found.append(run_downstream.get_downstream_args()[0]))
    return found


@pytest.mark.parametrize("name", ["lr[1e-4]", "a*b", "why?", "plain"])
def test_s3prl_finds_what_a_run_of_any_name_has_saved(name: str, read: list[argparse.Namespace]) -> None:
    folder = Path("result/downstream") / name
    state(folder, 5)
    for other in ("lr1", "a-b", "whys"):  # which the name as a pattern would match
        state(folder.with_name(other), 19)
    newest = state(folder, 15)
    assert launch.run(["-m", "train", "-n", name, "-a", "--device", "cpu"]) == 0
    assert launch.run(["-m", "evaluate", "-e", str(folder), "--device", "cpu"]) == 0
    assert [Path(args.init_ckpt) for args in read] == [newest, newest]


def test_the_runner_finds_the_states_that_it_is_to_remove(monkeypatch: pytest.MonkeyPatch) -> None:
    from s3prl.downstream import runner as s3prl_runner

    from s3prl_aalbert.toolkit import continuation
    from s3prl_aalbert.toolkit.runner import Runner

    saved, found = state(Path("ph[1]"), 5), []
    monkeypatch.setattr(s3prl_runner.Runner, "train", lambda _: found.extend(s3prl_runner.glob.glob("ph[1]/st*.ckpt")))
    training = types.SimpleNamespace(save=None, new_scaler=None, files=types.SimpleNamespace(remove=None))
    monkeypatch.setattr(continuation, "Training", lambda *_: training)
    runner = Runner.__new__(Runner)
    runner.init_ckpt, runner.config, runner.upstream_weights = {}, {"runner": {"total_steps": 1}}, None
    runner.train()
    assert found == [str(saved)]


@pytest.mark.parametrize("typed", [["-m", "train"], ["-mtrain"], ["--mode=train"], ["--mode", "train"]])
def test_a_training_takes_the_signals_of_batch_systems(typed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def takes(options: object, stop: StopSignal, folder: Path) -> int:
        return int(signal.getsignal(signal.SIGTERM) == stop._handle)

    monkeypatch.setattr(launch, "_run", takes)
    assert launch.run([*typed, "-p", "train", *NEW]) == 1
    assert launch.run(["-m", "evaluate", "-p", "train", *NEW]) == 0


def test_a_training_in_a_thread_leaves_them_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(launch, "_run", lambda *_: 0)
    thread = threading.Thread(target=lambda: codes.append(launch.run(["-m", "train", "-p", "exp", *NEW])))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize("typed", [[], ["--mode=rtain"], ["-m"], ["-m", "train", "--zzz"]])
def test_what_the_parser_refuses_is_told_as_before(typed: list[str]) -> None:
    with pytest.raises(AalbertError):
        launch.run(typed)


def test_a_launchers_own_form_of_the_rank_starts_a_run(read: list[argparse.Namespace]) -> None:
    launch.run(["-m", "train", "-p", "exp", *NEW, "--local-rank=1"])
    assert read[0].local_rank == 1


@pytest.mark.parametrize(
    "typed", [["-p", "~/out"], ["--expdir=~/out"], ["-n", "x", "-o", "args.expdir='~/out'"], ["-p~/out", "-a"]]
)
def test_a_tilde_is_the_home_of_the_user(typed: list[str], read: list[argparse.Namespace], tmp_path: Path) -> None:
    assert launch.run(["-m", "train", *NEW, *typed]) == 0
    assert read[0].expdir == str(tmp_path / "home/out")
    assert not Path("~").exists()


def test_a_tilde_is_the_home_of_the_user_in_what_is_read(read: list[argparse.Namespace], tmp_path: Path) -> None:
    ckpt = state(tmp_path / "home/out", 5)
    launch.run(["-m", "train", "--past_exp=~/out"])
    launch.run(["-m", "train", "-p", "new", *NEW, f"--init_ckpt=~/out/{ckpt.name}"])
    assert read[0].past_exp == str(ckpt.parent)
    assert read[1].init_ckpt == str(ckpt)


def test_the_steps_of_hidden_bars_count_after_link_too() -> None:
    """All that a linked S3PRL runs is ``compat.apply()``."""
    from s3prl.downstream import runner as s3prl_runner

    bar = s3prl_runner.tqdm(total=5, disable=True)
    bar.update(2)
    assert bar.n == 2
