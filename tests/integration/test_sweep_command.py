"""`aalbert sweep` as a user runs it: pre-training, tasks, report; a second time; stopped in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from naming import mentions

from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus

GRID = """
output: "{place}/runs"
data: "{place}/speech"
seeds: [1]
report: [--tsne, "{{output}}/pretrain/mine", --speech, "{{data}}"]
pretrain:
  mine:
    model_config: debug
    config: pretrain_debug
    speech: ["{{data}}"]
    args: [--device, cpu]
    override: {{config.runner.total_steps: {steps}, config.runner.save_step: 100000, config.runner.eval_step: 100000}}
models:
  mine: {{upstream: aalbert_local, pretrained: mine}}
  fbank: {{upstream: fbank}}
tasks:
  phones:
    downstream: aalbert_phone
    args: [--device, cpu]
    override:
      config.downstream_expert.datarc.audio: "{{data}}"
      config.downstream_expert.datarc.pretraining_overlap: mark
      config.downstream_expert.modelrc.hidden_size: 8
      config.runner.total_steps: 2
      config.runner.eval_step: 1
      config.runner.save_step: 2
"""


def sweep(grid: Path, *flags: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "s3prl_aalbert", "sweep", str(grid), *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def write_grid(place: Path, steps: int) -> Path:
    path = place / "grid.yaml"
    path.write_text(GRID.format(place=place, steps=steps))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sweep")
    synthesise_corpus(place / "speech", num_speakers=4, utterances_per_speaker=4, seconds=(0.5, 1.0), seed=3)
    return place


def test_a_sweep_runs_once_and_ends_in_the_report(place: Path) -> None:
    grid = write_grid(place, steps=2)
    first = sweep(grid)
    assert "3 runs, 0 already done" in first.communicate()[0] and first.returncode == 0
    results = {name: place / f"runs/phones/weighted_sum/{name}/seed1/results.json" for name in ("mine", "fbank")}
    assert json.loads(results["mine"].read_text())["args"]["upstream_ckpt"] == str(place / "runs/pretrain/mine")
    assert (place / "runs/report/index.html").is_file()
    written = {name: path.stat().st_mtime_ns for name, path in results.items()}
    again = sweep(grid)
    assert "3 runs, 3 already done" in again.communicate()[0] and again.returncode == 0
    assert written == {name: path.stat().st_mtime_ns for name, path in results.items()}


def test_a_part_without_the_pre_training_has_its_report_without_t_sne(place: Path) -> None:
    grid = write_grid(place, steps=2)
    grid.write_text(grid.read_text().replace("/runs", "/part"))
    process = sweep(grid, "--only", "phones/weighted_sum/fbank")
    said = process.communicate()[0]
    assert process.returncode == 0 and "pretrain/mine is not pre-trained yet: the report is without its t-SNE" in said
    assert (place / "part/report/index.html").is_file()


def test_two_jobs_run_at_a_time_and_one_that_needs_another_waits(place: Path) -> None:
    grid = write_grid(place, steps=1_000_000)
    grid.write_text(grid.read_text().replace("/runs", "/jobs"))
    process = sweep(grid, "--jobs", "2", "--no-report")
    pretraining, independent, needing = (
        place / "jobs" / name
        for name in ("pretrain/mine", "phones/weighted_sum/fbank/seed1", "phones/weighted_sum/mine/seed1")
    )
    log = pretraining / "log.txt"
    while process.poll() is None and not ((independent / "results.json").is_file() and "loss" in log.read_text()):
        time.sleep(0.1)
    assert process.poll() is None
    assert json.loads((pretraining / "sweep.json").read_text())["done"] is False and not needing.exists()
    process.terminate()
    process.communicate()
    assert list(pretraining.glob("states-*.ckpt")), "the job that ran was told to stop and saved"


def test_no_jobs_at_all_is_refused(place: Path) -> None:
    process = sweep(write_grid(place, steps=2), "--jobs", "0")
    assert mentions(process.communicate()[0], "--jobs 0", 1) and process.returncode == 2


def test_sigterm_reaches_the_run_which_saves(place: Path) -> None:
    grid = write_grid(place, steps=1_000_000)
    grid.write_text(grid.read_text().replace("/runs", "/stopped"))
    process, log = sweep(grid), place / "stopped/pretrain/mine/log.txt"
    while process.poll() is None and not (log.is_file() and "loss" in log.read_text()):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 75 and "Traceback" not in output, output
    assert list((place / "stopped/pretrain/mine").glob("states-*.ckpt")), log.read_text()[-500:]
