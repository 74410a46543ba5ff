"""S3PRL's own ``run_downstream.py --hub huggingface`` on an exported folder, with this package out of reach.

Its download step is pointed at the folder. Its log-in, which huggingface_hub removed in 0.8, does nothing here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import s3prl
import torch
import yaml

from s3prl_aalbert.checkpoint.release import load_checkpoint
from s3prl_aalbert.submission.huggingface_folder import write_folder

DRIVER = """
import argparse
import builtins
import json
import sys
import types

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "s3prl_aalbert":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import huggingface_hub
import torch
import torchaudio

# What any user of S3PRL 0.4.18 needs under this torch and torchaudio.
torch.serialization.add_safe_globals([argparse.Namespace])
if not hasattr(torchaudio, "set_audio_backend"):
    torchaudio.set_audio_backend = lambda backend: None
    sys.modules["torchaudio.sox_effects"] = effects = types.ModuleType("torchaudio.sox_effects")
    effects.apply_effects_tensor = effects.apply_effects_file = None

folder, downloads = sys.argv[1], []

def download(repository, revision=None, use_auth_token=False):
    downloads.append([repository, revision])
    return folder

huggingface_hub.snapshot_download = download
huggingface_hub.HfApi.login = lambda self, username=None, password=None: "a token"

from s3prl import run_downstream
from s3prl.downstream.example import dataset, expert

dataset.EXAMPLE_WAV_MIN_SEC = dataset.EXAMPLE_WAV_MAX_SEC = 1
dataset.EXAMPLE_DATASET_SIZE = 8
found = {"splits": []}
log_records = expert.DownstreamExpert.log_records

def record(self, split, records, **more):
    found["splits"].append([split, len(records["acc"]), self.upstream_dim])
    return log_records(self, split, records, **more)

expert.DownstreamExpert.log_records = record
isinstance_before = builtins.isinstance  # main() replaces it
for command in json.load(sys.stdin):
    sys.argv[1:] = command
    run_downstream.main()
    builtins.isinstance = isinstance_before
found |= {"downloads": downloads, "expert": sys.modules["expert"].__file__}
found["ours"] = [name for name in sys.modules if name.startswith("s3prl_aalbert")]
print("FOUND", json.dumps(found))
"""

CONFIG = {
    "runner": {
        "total_steps": 2,
        "gradient_clipping": 1,
        "gradient_accumulate_steps": 1,
        "log_step": 2,
        "eval_step": 2,
        "save_step": 2,
        "max_keep": 1,
        "eval_dataloaders": ["dev", "test"],
    },
    "optimizer": {"name": "AdamW", "lr": 1e-3},
    "downstream_expert": {
        "datarc": {"num_workers": 0, "train_batch_size": 4, "eval_batch_size": 4},
        "modelrc": {"input_dim": 8},
    },
}


@pytest.fixture(scope="module")
def place(tiny_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hub")
    write_folder(load_checkpoint(tiny_release), place / "exported")
    (place / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (place / "driver.py").write_text(textwrap.dedent(DRIVER))
    return place


def run(place: Path, *commands: str) -> dict:
    """Run commands of run_downstream.py in one process and return what it saw."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(s3prl.__file__).parents[1]),
        "HF_HOME": str(place / "home"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "driver.py", str(place / "exported")],
        input=json.dumps([command.split() for command in commands]),
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    return json.loads(done.stdout.split("FOUND")[1])


def states(path: Path) -> dict:
    import argparse

    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, weights_only=True)


def test_s3prl_trains_fine_tunes_and_evaluates_an_exported_folder(place: Path, tiny_release: Path) -> None:
    hub = "--hub huggingface -u user/tiny -d example -c config.yaml --device cpu"
    found = run(
        place,
        f"-m train {hub} -p frozen",
        "-m evaluate -e frozen/states-2.ckpt --device cpu --hub huggingface",
        f"-m train {hub} -f -s last_hidden_state -p tuned --upstream_revision abc",
    )
    assert found["ours"] == [] and found["expert"] == str(place / "exported" / "expert.py")
    assert found["downloads"] == [["user/tiny", None], ["user/tiny", None], ["user/tiny", "abc"]]
    training = [["train", 8, 32], ["dev", 8, 32], ["test", 8, 32]]
    assert found["splits"] == [*training, ["test", 8, 32], *training]

    frozen, tuned = states(place / "frozen" / "states-2.ckpt"), states(place / "tuned" / "states-2.ckpt")
    assert frozen["Featurizer"]["weights"].numel() == 4, "the input embedding and three layers"
    assert "Upstream" not in frozen
    weights = load_checkpoint(tiny_release).state
    assert set(tuned["Upstream"]) == {name for name in weights if name.startswith("model.")}
    assert any(not torch.equal(weights[name], value) for name, value in tuned["Upstream"].items()), "fine-tuned"
