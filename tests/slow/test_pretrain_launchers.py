"""Two processes, started by srun or by torchrun on two machines, equal one process with the whole batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from s3prl_aalbert.checkpoint.training_state import load_training_state
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus

STEPS = 3


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("launchers") / "speech"
    return synthesise_corpus(root, num_speakers=4, utterances_per_speaker=6, seconds=(0.5, 1.2), seed=11)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def options(speech: Path, expdir: Path, batch: int, *more: str) -> list[str]:
    settings = {
        "runner.total_steps": STEPS,
        "runner.precision": "fp32",
        "pretrain_expert.datarc.train_batch_size": batch,
    }
    override = ",,".join(f"config.{key}={value}" for key, value in settings.items())
    base = ["-g", "debug", "-c", "pretrain_debug", "--speech", str(speech), "--device", "cpu", "-p", str(expdir)]
    return ["s3prl_aalbert.pretrain", *base, "-o", override, *more]


def run_all(*commands: tuple[list[str], dict[str, str]]) -> None:
    quiet = {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(argv, env={**os.environ, **quiet, **env}, **pipes) for argv, env in commands]  # type: ignore[call-overload]
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors[-2000:]


@pytest.fixture(scope="module")
def one(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    expdir = tmp_path_factory.mktemp("one")
    run_all(([sys.executable, "-m", *options(speech, expdir, 4)], {}))
    return load_training_state(expdir / f"states-{STEPS}.ckpt")["model"]


def assert_equal(expdir: Path, one: dict[str, torch.Tensor]) -> None:
    for key, value in load_training_state(expdir / f"states-{STEPS}.ckpt")["model"].items():
        torch.testing.assert_close(value, one[key], rtol=0, atol=5e-6, msg=key)


@pytest.mark.slow
def test_srun(speech: Path, tmp_path: Path, one: dict[str, torch.Tensor]) -> None:
    common = {
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_JOB_ID": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
    }
    argv = [sys.executable, "-m", *options(speech, tmp_path, 2)]
    run_all(*((argv, {**common, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}) for rank in "01"))
    assert_equal(tmp_path, one)


@pytest.mark.slow
def test_torchrun_on_two_machines(speech: Path, tmp_path: Path, one: dict[str, torch.Tensor]) -> None:
    launch = ["--nnodes", "2", "--nproc_per_node", "1", "--master_addr", "127.0.0.1", "--master_port", free_port()]
    argv = [sys.executable, "-m", "torch.distributed.run", *launch]
    run_all(*(([*argv, "--node_rank", rank, "-m", *options(speech, tmp_path, 2)], {}) for rank in "01"))
    assert_equal(tmp_path, one)


@pytest.mark.slow
@pytest.mark.parametrize("mistake", [["--speech", "nowhere"], ["-o", "config.runner.total_stepz=3"]])
def test_a_mistake_is_told_once_under_torchrun(speech: Path, tmp_path: Path, mistake: list[str]) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    argv = [*launch, *options(speech, tmp_path / "run", 2), *mistake]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False)
    told = [line for line in done.stderr.splitlines() if line.startswith("aalbert pretrain: ")]
    assert done.returncode and len(told) == 1 and ("nowhere" in told[0] or "total_stepz" in told[0]), done.stderr
    assert "[rank1]" not in done.stderr and "s3prl_aalbert/cli.py" not in done.stderr, "torchrun's report alone"


@pytest.mark.slow
def test_two_processes_distil_layers_of_which_the_last_is_none(speech: Path, tmp_path: Path) -> None:
    """The unshared layers after the last student layer have no gradients, which DDP has to be told."""
    teacher = ["--teacher", "aalbert_tiny"]
    argv = ["s3prl_aalbert", "distill", *options(speech, tmp_path, 2)[1:], *teacher]
    layers = (
        ",,config.distill.student_layers=[1],,config.distill.teacher_layers=[1],,model.transformer.share_layer=false"
    )
    argv[argv.index("-o") + 1] += layers
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    run_all(([sys.executable, *launch, "-m", *argv], {}))
    assert (tmp_path / "model.safetensors").is_file()


@pytest.mark.slow
def test_compiled_training_gives_the_same_loss(speech: Path, tmp_path: Path, one: dict[str, torch.Tensor]) -> None:
    argv = options(speech, tmp_path, 4)
    argv[-1] += ",,config.runner.compile=true"
    run_all(([sys.executable, "-m", *argv], {}))
    assert_equal(tmp_path, one)
