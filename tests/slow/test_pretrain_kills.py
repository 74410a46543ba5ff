"""A run killed at random moments, many of them during a save, loses nothing but the steps since its last state."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3prl_aalbert.checkpoint.training_state import latest_state, load_training_state
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus

KILLS = 20

# One process that imports everything once and forks the runs: twenty starts of the interpreter would take minutes.
DRIVER = """
import json, os, random, signal, sys, time
from dataclasses import replace
from pathlib import Path

import torch

torch.set_num_threads(1)
from s3prl_aalbert.checkpoint.training_state import latest_state, load_training_state
from s3prl_aalbert.model.config import load_model_config
from s3prl_aalbert.pretrain.config import (
    DataConfig, OptimizerConfig, PretrainConfig, PretrainExpertConfig, RunnerConfig
)
from s3prl_aalbert.pretrain.launch import RunOptions
from s3prl_aalbert.pretrain.runner import Pretrainer

speech, root, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
base = load_model_config("debug")
# Wide enough for a save to take longer than a step, so that most kills fall into one.
wide = replace(base.transformer, hidden_size=768, intermediate_size=3072, num_attention_heads=2, num_hidden_layers=1)
model = replace(base, transformer=wide)
total = 60
data = DataConfig(paths=(str(speech),), train_batch_size=2, max_seconds=0.6, dev_fraction=0.25)
config = PretrainConfig(
    RunnerConfig(total_steps=total, save_step=1, eval_step=1000, log_step=50, precision="fp32"),
    OptimizerConfig(lr=1e-4, schedule_steps=total),
    PretrainExpertConfig(data),
)


def run(expdir):
    past = latest_state(expdir)
    Pretrainer(model, config, RunOptions(expdir=expdir, seed=7, resume_from=past)).run()


def fork(expdir):
    pid = os.fork()
    if pid:
        return pid
    try:
        run(expdir)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


start = time.monotonic()
assert os.waitpid(fork(root / "straight"), 0)[1] == 0
step = (time.monotonic() - start) / total  # with its save
dice, expdir = random.Random(5), root / "killed"
saved, during_save = 0, 0
for kill in range(kills):
    pid = fork(expdir)
    deadline = time.monotonic() + 60
    target = saved + 1 + dice.randrange(2)  # let it get on, so that the kills spread over the run
    while (s := latest_state(expdir)) is None or int(s.stem.split("-")[-1]) < target:
        assert os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(dice.uniform(0, 2 * step))  # until somewhere in the next two steps and their saves
    os.kill(pid, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    during_save += any(expdir.glob(".states-*.tmp"))
    for path in expdir.glob("*.ckpt"):
        saved = max(saved, load_training_state(path)["step"])
assert os.waitpid(fork(expdir), 0)[1] == 0
ends = [load_training_state(root / name / f"states-{total}.ckpt")["model"] for name in ("straight", "killed")]
same = all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
left = [path.name for path in expdir.glob(".*.tmp")]
print(json.dumps({"kills": kills, "during_save": during_save, "last_step_killed": saved, "same": same, "left": left}))
"""


@pytest.mark.slow
def test_twenty_kills_lose_nothing(tmp_path: Path) -> None:
    speech = synthesise_corpus(
        tmp_path / "speech", num_speakers=4, utterances_per_speaker=6, seconds=(0.5, 1.2), seed=11
    )
    (tmp_path / "driver.py").write_text(DRIVER)
    command = [sys.executable, str(tmp_path / "driver.py"), str(speech), str(tmp_path), str(KILLS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["kills"] == KILLS and outcome["same"], outcome
    assert outcome["during_save"] >= KILLS // 4, f"too few of the kills fell into a save: {outcome}"
    assert outcome["left"] == [], "half-written files of killed runs are cleared away by the next one"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_leaves_the_last_state_whole(tmp_path: Path, small_disk: Path) -> None:
    speech = synthesise_corpus(
        tmp_path / "speech", num_speakers=4, utterances_per_speaker=4, seconds=(0.5, 0.8), seed=1
    )
    override = "config.runner.total_steps=50,,config.runner.save_step=1,,config.runner.max_keep=50"
    options = ["-g", "debug", "-c", "pretrain_debug", "--speech", str(speech), "-p", str(small_disk / "run")]
    command = [sys.executable, "-m", "s3prl_aalbert", "pretrain", *options, "--device", "cpu", "-o", override]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 2, done.stderr[-2000:]
    assert "could not be written" in done.stderr and "Traceback" not in done.stderr
    state = latest_state(small_disk / "run")
    assert state is not None and load_training_state(state)["step"] > 1
    assert not list((small_disk / "run").glob(".*.tmp"))
