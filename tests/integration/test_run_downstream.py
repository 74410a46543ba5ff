"""S3PRL's real runner, in processes of its own (its main() replaces the builtin isinstance)."""

import argparse
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import soundfile
import torch
import yaml

from s3prl_aalbert.checkpoint.release import save_release
from s3prl_aalbert.model.config import load_model_config
from s3prl_aalbert.upstream.expert import UpstreamExpert

REPOSITORY = Path(__file__).resolve().parents[2]

# A task on S3PRL's own example expert: fixed data, so that a loss can be compared between runs.
STANDIN = """
import json
from pathlib import Path

import torch

from s3prl.downstream.example.expert import DownstreamExpert as Example
from s3prl_aalbert.errors import AalbertError


class Tones(torch.utils.data.Dataset):
    class_num = 4

    def __init__(self, broken=False, **_):
        self.broken = broken

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if self.broken:
            raise AalbertError("the labels of tone 3 are missing")
        generator = torch.Generator().manual_seed(index)
        return torch.randn(8000 + 100 * index, generator=generator), index % 4

    def collate_fn(self, samples):
        return [wav for wav, _ in samples], [label for _, label in samples]


class DownstreamExpert(Example):
    def __init__(self, upstream_dim, upstream_rate, downstream_expert, expdir, **kwargs):
        super().__init__(upstream_dim, upstream_rate, downstream_expert, expdir, **kwargs)
        self.expdir, self.upstream_rate = Path(expdir), upstream_rate
        self.train_dataset = self.dev_dataset = self.test_dataset = Tones(**self.datarc)

    def log_records(self, split, records, logger, global_step, **kwargs):
        loss = sum(records["loss"]) / len(records["loss"])
        row = {"split": split, "step": global_step, "loss": loss, "rate": self.upstream_rate}
        with (self.expdir / "rows.jsonl").open("a") as file:
            file.write(json.dumps(row) + chr(10))
        return ["dev-best.ckpt"] if split == "dev" else []

    def inference(self, features, filenames):
        (self.expdir / "inference.json").write_text(json.dumps([filenames, len(features[0])]))
"""

# Runs a list of commands one after the other; importing S3PRL takes most of a run's time.
DRIVER = """
import json
import multiprocessing
import sys

if __name__ == "__main__":
    from s3prl_aalbert.cli import main
    from s3prl_aalbert.toolkit import register

    register.DOWNSTREAMS["standin"] = "standin_expert"
    multiprocessing.set_start_method(sys.argv[1])
    codes = [main(["downstream", *command]) for command in json.load(sys.stdin)]
    assert isinstance.__module__ == "builtins", isinstance
    print("CODES", json.dumps(codes))
"""

CONFIG = {
    "runner": {
        "total_steps": 4,
        "gradient_clipping": 1,
        "gradient_accumulate_steps": 1,
        "log_step": 2,
        "eval_step": 2,
        "save_step": 2,
        "max_keep": 3,
        "eval_dataloaders": ["dev"],
    },
    "optimizer": {"name": "AdamW", "lr": 1e-3},
    "scheduler": {"name": "linear_schedule_with_warmup", "num_warmup_steps": 1},
    "downstream_expert": {
        "datarc": {"num_workers": 0, "train_batch_size": 4, "eval_batch_size": 4},
        "modelrc": {"input_dim": 8},
    },
}


def environment(*folders: Path) -> dict[str, str]:
    paths = [*map(str, folders), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the stand-in task, its configuration and a tiny AALBERT release."""
    place = tmp_path_factory.mktemp("runs")
    (place / "standin_expert.py").write_text(textwrap.dedent(STANDIN))
    (place / "driver.py").write_text(textwrap.dedent(DRIVER))
    (place / "standin.yaml").write_text(yaml.safe_dump(CONFIG))
    soundfile.write(place / "one.wav", torch.randn(16000).numpy() / 10, 16000)
    torch.manual_seed(0)
    model = UpstreamExpert(model_config="debug").model
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    save_release(place / "release", load_model_config("debug"), state, card="")
    return place


def run_all(place: Path, *commands: str, start: str = "fork") -> tuple[list[int], str]:
    """Run commands in one process; return their exit codes and all that was printed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "driver.py", start],
        input=json.dumps([command.split() for command in commands]),
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    output = done.stdout + done.stderr
    codes = [line for line in done.stdout.splitlines() if line.startswith("CODES")]
    assert codes, output
    return json.loads(codes[0].removeprefix("CODES")), output


def rows(expdir: Path) -> list[dict]:
    return [json.loads(line) for line in (expdir / "rows.jsonl").read_text().splitlines()]


TUNE = "-m train -u aalbert_local -k release -d standin -c standin.yaml -p exp -l 1 -f"
BASELINE = "-m train -u fbank -d standin -c standin.yaml"
WORKERS = "config.downstream_expert.datarc.num_workers=2"
BROKEN = "config.downstream_expert.datarc.broken=True"
COMMANDS = {
    TUNE: 0,
    f"{TUNE} -a -o config.runner.total_steps=6": 0,
    "-m evaluate -t dev -e exp/states-4.ckpt": 0,
    "-m evaluate -t test -e exp/dev-best.ckpt": 0,
    "-m inference -t one.wav -e exp/dev-best.ckpt": 0,
    TUNE.replace("exp -l 1 -f", "frozen -s hidden_states"): 0,
    TUNE.replace("exp -l 1 -f", "cached -s hidden_states -o config.runner.feature_cache=cache"): 0,
    f"{BASELINE} -n workers -o {WORKERS},,config.runner.total_steps=2": 0,
    f"{BASELINE} -n broken -o {WORKERS},,{BROKEN}": 2,
}


@pytest.fixture(scope="module")
def output(place):
    """What all commands printed, run once for all tests below."""
    codes, output = run_all(place, *COMMANDS)
    assert codes == list(COMMANDS.values()), output
    return output


def load_experiment(path: Path) -> dict:
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path)


@pytest.mark.usefixtures("output")
def test_train_resume_and_evaluate_our_upstream(place):
    found = [row for row in rows(place / "exp") if row["split"] != "train"]
    splits = [(row["split"], row["step"]) for row in found]
    assert splits == [("dev", 2), ("dev", 4), ("dev", 6), ("dev", 0), ("test", 0)]
    assert {row["rate"] for row in found} == {480}
    _, trained, resumed, evaluated, best = (row["loss"] for row in found)
    # What was saved evaluates as it did in training, the fine-tuned upstream included.
    assert evaluated == pytest.approx(trained, abs=1e-6)
    assert best == pytest.approx(resumed, abs=1e-6)
    assert abs(resumed - trained) > 1e-5


@pytest.mark.usefixtures("output")
def test_inference_runs_one_wav(place):
    assert json.loads((place / "exp/inference.json").read_text()) == [["one"], 33]


@pytest.mark.usefixtures("output")
def test_f_trains_and_saves_the_upstream_and_s_keeps_it_frozen(place):
    tuned = load_experiment(place / "exp/states-4.ckpt")
    frozen = load_experiment(place / "frozen/states-4.ckpt")
    released = UpstreamExpert(ckpt=str(place / "release")).state_dict()
    moved = [name for name in released if not torch.equal(released[name], tuned["Upstream"][name])]
    assert moved
    assert "Upstream" not in frozen
    assert frozen["Featurizer"]["weights"].numel() == 3  # input embedding and two layers


@pytest.mark.usefixtures("output")
def test_from_the_cache_the_same_is_learned_and_each_utterance_kept_once(place):
    cached, frozen = rows(place / "cached"), rows(place / "frozen")
    assert [row["step"] for row in cached] == [row["step"] for row in frozen]
    assert [row["loss"] for row in cached] == pytest.approx([row["loss"] for row in frozen], abs=1e-3)
    assert len(list((place / "cache").glob("aalbert_local-*/*.safetensors"))) == 8  # train, dev and test are the same


def check_workers(place, output):
    assert [row["step"] for row in rows(place / "result/downstream/workers")] == [2, 2]
    assert "aalbert downstream: the labels of tone 3 are missing\n" in output
    assert "Traceback" not in output


def test_worker_processes_read_data_and_report_mistakes_in_one_sentence(place, output):
    check_workers(place, output)


@pytest.mark.slow
def test_spawned_worker_processes_do_so_too(place, tmp_path):
    for name in ("driver.py", "standin_expert.py", "standin.yaml"):
        (tmp_path / name).write_text((place / name).read_text())
    commands = [command for command in COMMANDS if command.startswith(BASELINE)]
    codes, output = run_all(tmp_path, *commands, start="spawn")
    assert codes == [0, 2], output
    check_workers(tmp_path, output)


def test_module_runs_tasks_of_s3prl_and_ctrl_c_leaves_quietly(tmp_path):
    """`python -m s3prl_aalbert.run_downstream` with nothing of ours but the packaged configuration."""
    command = [sys.executable, "-W", "ignore", "-m", "s3prl_aalbert.run_downstream"]
    options = "-m train -u fbank -d example -p exp -o config.runner.total_steps=100000"
    process = subprocess.Popen(
        [*command, *options.split()],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    watchdog = threading.Timer(180, process.kill)
    watchdog.daemon = True
    watchdog.start()
    for line in process.stderr:  # tqdm's bars end in carriage returns, read as line ends
        if line.startswith("train:"):
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 130
    assert "interrupted" in rest and "Traceback" not in rest
