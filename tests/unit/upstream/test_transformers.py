"""``AutoModel.from_pretrained(DIR, trust_remote_code=True)`` in a process where this package cannot be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import torch
from naming import mentions
from torch import Tensor

from s3prl_aalbert import cli
from s3prl_aalbert.audio_io import read_audio
from s3prl_aalbert.checkpoint.release import save_release
from s3prl_aalbert.model.config import AudioConfig, ModelConfig, TransformerConfig
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.upstream.expert import UpstreamExpert

pytest.importorskip("transformers", reason="needs the extra transformers")

CHILD = """
import json
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("s3prl_aalbert", "s3prl"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

folder, saved = sys.argv[1:]
wavs, expected = torch.load(f"{folder}.pt")
torch.set_num_threads(1)
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
extractor = AutoFeatureExtractor.from_pretrained(folder)
batch = extractor([wav.numpy() for wav in wavs], sampling_rate=16000, padding=True, return_tensors="pt")
found = {"inputs": sorted(batch), "training": model.training, "type": str(next(model.parameters()).dtype)}

def largest_difference(states):
    return max(float((one - other).abs().max()) for one, other in zip(states, expected, strict=True))

with torch.no_grad():
    found["batch"] = largest_difference(model(**batch, output_hidden_states=True).hidden_states)
    padding = batch["attention_mask"] == 0
    noisy = batch["input_values"].masked_fill(padding, 9.0)
    found["noisy"] = largest_difference(model(noisy, batch["attention_mask"], output_hidden_states=True).hidden_states)
    alone = model(batch["input_values"][:1])
    found["alone"] = float((alone.last_hidden_state - expected[-1][:1]).abs().max())
    found["keys"] = sorted(alone)
    found["tuple"] = len(model(batch["input_values"][:1], return_dict=False, output_hidden_states=True)[1])
    half = AutoModel.from_pretrained(folder, trust_remote_code=True, torch_dtype=torch.bfloat16)
    rounded = half(**batch, output_hidden_states=True).hidden_states
    found["half"] = [str(next(half.parameters()).dtype), largest_difference(rounded)]
    found["errors"] = []
    for mask in (1 - batch["attention_mask"], batch["attention_mask"][:, 1:], batch["attention_mask"] * 0):
        try:
            model(batch["input_values"], mask)
        except Exception as error:
            found["errors"].append(f"{type(error).__name__}: {error}")
model.save_pretrained(saved)
again = AutoModel.from_pretrained(saved, trust_remote_code=True)
found["saved"] = all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
found["sizes"] = [config.hidden_size, config.num_hidden_layers]
found["random"] = sum(weight.numel() for weight in AutoModel.from_config(config, trust_remote_code=True).parameters())
found["ours"] = [name for name in sys.modules if name.startswith("s3prl_aalbert")]
print(json.dumps(found))
"""


def loaded_by_transformers(release: str, wavs: list[Tensor], place: Path) -> dict:
    """Export a model, load it elsewhere, and return what CHILD finds beside the upstream's hidden states."""
    folder = place / "exported"
    assert cli.main(["convert", release, str(folder), "--to", "huggingface", "--licence", "mit"]) == 0
    with safetensors.safe_open(folder / "model.safetensors", framework="pt") as file:
        assert file.metadata()["format"] == "pt"
    with torch.no_grad():
        torch.save((wavs, UpstreamExpert(release).eval()(wavs)["hidden_states"]), f"{folder}.pt")
    (place / "child.py").write_text(CHILD)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "child.py", str(folder), str(place / "saved")], cwd=place,
        env={**os.environ, "HF_HOME": str(place / "home"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "were not used" not in done.stderr and "newly initialized" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_automodel_gives_the_upstreams_hidden_states(
    tiny_config: ModelConfig, awkward_wavs: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    audio = AudioConfig(num_mel_bins=20, cmvn="corpus")  # statistics are kept, windows and filters are not
    config = ModelConfig(tiny_config.transformer, audio, tiny_config.task)
    state = MaskedPrediction(config).state_dict()
    save_release(tmp_path / "release", config, state, "# A model\n", {"step": 7})
    wavs = sorted(awkward_wavs.values(), key=len, reverse=True)
    found = loaded_by_transformers(str(tmp_path / "release"), wavs, tmp_path)
    assert max(found.pop("batch"), found.pop("noisy")) < 1e-6 and found.pop("alone") < 1e-5
    kind, difference = found.pop("half")
    assert kind == "torch.bfloat16" and 0 < difference < 0.2, "features stay in 32 bits"
    order, shape, nothing = found.pop("errors")
    assert mentions(order, "AalbertError: ", "attention_mask", "padding")
    assert shape.startswith("AalbertError: attention_mask has shape") and "at least one sample" in nothing
    parameters = sum(
        weight.numel() for name, weight in state.items() if name.startswith("model.") and "corpus" not in name
    )
    assert found == {
        "inputs": ["attention_mask", "input_values"], "training": False, "type": "torch.float32",
        "keys": ["last_hidden_state"], "tuple": 4, "saved": True, "sizes": [32, 3], "random": parameters, "ours": [],
    }  # fmt: skip


def test_the_packaged_model_on_real_speech(shared_data: Path, tmp_path: Path) -> None:
    files = sorted((shared_data / "LibriSpeech" / "train-clean-5").rglob("*.opus"))[:400:200]
    files += sorted((shared_data / "timit").rglob("*.wav"))[:1]
    wavs = sorted((torch.from_numpy(read_audio(file)) for file in files), key=len, reverse=True)
    found = loaded_by_transformers("aalbert_tiny", wavs, tmp_path)
    assert len(wavs) == 3 and max(found["batch"], found["noisy"]) < 1e-6 and found["alone"] < 1e-4


def test_what_transformers_saves_is_a_checkpoint_here(tiny_release: Path, tmp_path: Path) -> None:
    wavs = [torch.sin(torch.arange(5000) / 20)]
    loaded_by_transformers(str(tiny_release), wavs, tmp_path)
    with torch.no_grad():
        states = (
            UpstreamExpert(str(path)).eval()(wavs)["last_hidden_state"] for path in (tiny_release, tmp_path / "saved")
        )
        assert torch.equal(*states)


def test_a_configuration_of_defaults_and_a_wrong_one() -> None:
    from s3prl_aalbert.errors import AalbertError
    from s3prl_aalbert.upstream.transformers_model import AalbertConfig

    assert AalbertConfig().model_config() == ModelConfig()
    assert AalbertConfig(transformer={"num_hidden_layers": 6}).num_hidden_layers == 6
    assert AalbertConfig().hidden_size == TransformerConfig().hidden_size
    with pytest.raises(AalbertError, match="num_hidden_layrs"):
        AalbertConfig(transformer={"num_hidden_layrs": 6})
