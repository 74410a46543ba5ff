"""Graphs to serve a model from, held against the upstream itself on batches of any size and length."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchaudio
from naming import naming
from torch import Tensor

from s3prl_aalbert import cli
from s3prl_aalbert.checkpoint.release import load_checkpoint, save_release
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import AudioConfig, ModelConfig, TransformerConfig
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.submission import serving
from s3prl_aalbert.upstream.expert import UpstreamExpert, pad_wavs

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `serving`")
pytest.importorskip("onnxscript", reason="needs the extra `serving`")
pytest.importorskip("onnx", reason="needs the extra `serving`")

SIZES = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
CONFIGS = {
    "aalbert": ModelConfig(TransformerConfig(num_hidden_layers=2, **SIZES), AudioConfig(num_mel_bins=20)),
    "every option": ModelConfig(
        TransformerConfig(
            num_hidden_layers=2,
            reuse_pattern=(0, 1),
            embedding_size=16,
            attention_head_size=12,
            position_encoding_size=48,
            layer_attention_heads=(4, 2),
            layer_intermediate_sizes=(32, 64),
            hidden_dropout_prob=0.1,
            **SIZES,
        ),
        AudioConfig(num_mel_bins=20, front_end="s3prl", target_level_db=-25.0, n_fft=400),
    ),
    "convolutional positions": ModelConfig(
        TransformerConfig(
            num_hidden_layers=2, positions="convolutional", conv_position_group_size=24, centred=True, **SIZES
        ),
        AudioConfig(num_mel_bins=20, cmvn="corpus"),
    ),
    "rotary positions": ModelConfig(
        TransformerConfig(num_hidden_layers=2, positions="rotary", **SIZES), AudioConfig(num_mel_bins=20)
    ),
    "plain features": ModelConfig(
        TransformerConfig(num_hidden_layers=2, downsample_rate=1, share_layer=False, hidden_act="relu", **SIZES),
        AudioConfig(num_mel_bins=20, delta=False, cmvn="none", win_ms=50.0, hop_ms=12.5, n_fft=2048),
    ),
    "the paper's front end": ModelConfig(
        TransformerConfig(num_hidden_layers=2, **SIZES),
        AudioConfig(num_mel_bins=20, front_end="librosa", win_ms=50.0, hop_ms=12.5, n_fft=2048),
    ),
}
Graph = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp("release") for name in CONFIGS}
    for name, config in CONFIGS.items():
        torch.manual_seed(0)
        objective = MaskedPrediction(config)
        if config.transformer.centred:
            objective.model.hidden_means.normal_()
        save_release(folders[name], config, objective.state_dict(), "# A model\n", {"step": 7})
    return folders


def write(release: Path, kind: str, folder: Path) -> Path:
    serving.write_serving_folder(load_checkpoint(release), folder, kind)
    return folder / serving.FILES[kind]


def onnx_graph(path: Path) -> Graph:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(wavs: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        states, lengths = session.run(None, {"wavs": wavs.numpy(), "num_samples": num_samples.numpy()})
        return torch.from_numpy(states), torch.from_numpy(lengths)

    return run


def batches(wavs: dict[str, Tensor]) -> list[list[Tensor]]:
    """Return all waveforms together, in other sizes of batch, and lengths about every edge of frame and token."""
    everything = list(wavs.values())
    edges = [1, 2, 159, 160, 161, 199, 200, 201, 399, 479, 480, 481, 599, 600, 601, 960, 961, 1441]
    return [
        everything,
        *([wav] for wav in everything),
        everything[:2],
        everything[4:9],
        *([everything[0][:length]] for length in edges),
        [everything[0][:length] for length in edges],
    ]


def largest_difference(graph: Graph, release: Path, wavs: dict[str, Tensor]) -> float:
    upstream = UpstreamExpert(ckpt=str(release)).eval()
    largest = 0.0
    for batch in batches(wavs):
        with torch.no_grad():
            expected = torch.stack(upstream(batch)["hidden_states"])
        padded, num_samples = pad_wavs(batch)
        junk = torch.arange(padded.size(1)) >= num_samples.unsqueeze(1)
        states, num_tokens = graph(padded.masked_fill(junk, 7.0), num_samples)
        assert states.shape == expected.shape, [len(wav) for wav in batch]
        tokens = upstream.model.config.num_tokens
        assert num_tokens.tolist() == [tokens(len(wav)) for wav in batch]
        assert torch.isfinite(states).all()
        largest = max(largest, float((states - expected).abs().max()))
    return largest


def cases(fast: str) -> list[object]:
    """Return the names of CONFIGS, all but one marked slow: an exporter takes seconds for each."""
    return [name if name == fast else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS]


def assert_no_local_paths(content: bytes, folder: Path) -> None:
    for place in (Path.cwd(), Path(serving.__file__).parent, Path(torch.__file__).parents[1], Path.home(), folder):
        assert str(place).encode() not in content


@pytest.mark.parametrize("name", cases(fast="every option"))
def test_onnxruntime_gives_what_the_upstream_gives(
    name: str, releases: dict[str, Path], awkward_wavs: dict[str, Tensor], tmp_path: Path
) -> None:
    path = write(releases[name], "onnx", tmp_path)
    assert largest_difference(onnx_graph(path), releases[name], awkward_wavs) < 1e-4
    assert_no_local_paths(path.read_bytes(), tmp_path)
    facts = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    config = CONFIGS[name]
    assert facts == {"sample_rate": "16000", "samples_per_token": str(config.samples_per_token)}


@pytest.mark.parametrize("name", cases(fast="aalbert"))
def test_the_torch_program_gives_what_the_upstream_gives(
    name: str, releases: dict[str, Path], awkward_wavs: dict[str, Tensor], tmp_path: Path
) -> None:
    path = write(releases[name], "torch", tmp_path)
    program = torch.export.load(path).module()
    with torch.no_grad():
        assert largest_difference(program, releases[name], awkward_wavs) < 1e-5
    with zipfile.ZipFile(path) as archive:
        assert_no_local_paths(b"".join(archive.read(entry) for entry in archive.namelist()), tmp_path)


@pytest.mark.slow
def test_the_torch_program_needs_torch_alone(releases: dict[str, Path], voice: Callable, tmp_path: Path) -> None:
    write(releases["aalbert"], "torch", tmp_path)
    wav = voice(16000)
    with torch.no_grad():
        expected = torch.stack(UpstreamExpert(ckpt=str(releases["aalbert"])).eval()([wav])["hidden_states"])
    torch.save((wav, expected), tmp_path / "case.pt")
    code = """
import sys
for name in ("s3prl_aalbert", "torchaudio", "s3prl", "onnx"):
    sys.modules[name] = None  # importing it fails
import torch
wav, expected = torch.load("case.pt")
states, _ = torch.export.load("model.pt2").module()(wav[None], torch.tensor([len(wav)]))
print("DIFFERENCE", float((states - expected).abs().max()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split("DIFFERENCE")[1]) < 1e-5


@pytest.mark.parametrize("num_frames", [1, 2, 3, 50])
def test_deltas_are_those_of_torchaudio(num_frames: int) -> None:
    frames = torch.randn(3, num_frames, 7, generator=torch.Generator().manual_seed(0))
    expected = torchaudio.functional.compute_deltas(frames.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(serving.deltas(frames), expected)


def test_without_the_extra_onnx_says_what_to_install(
    releases: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(AalbertError, match=naming("ONNX", "pip install onnxscript")):
        write(releases["aalbert"], "onnx", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_the_documented_examples_run(
    repository: Path, releases: dict[str, Path], voice: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, folder in (("torch", "my_program"), ("onnx", "my_graph")):
        assert cli.main(["export", str(releases["aalbert"]), str(tmp_path / folder), "--format", kind]) == 0
    wavs, num_samples = voice(9600).view(2, 4800), torch.tensor([4800, 2000])
    with torch.no_grad():
        expected = UpstreamExpert(ckpt=str(releases["aalbert"])).eval()([wavs[0], wavs[1, :2000]])["last_hidden_state"]
    monkeypatch.chdir(tmp_path)
    page = (repository / "docs" / "serving.md").read_text(encoding="utf-8")
    cards = [(tmp_path / folder / "README.md").read_text(encoding="utf-8") for folder in ("my_program", "my_graph")]
    examples = re.findall(r"```(?:python)?\n(import .*?)```", page + "".join(cards), flags=re.DOTALL)
    assert len(examples) == 4
    for example in examples:
        arrays = (wavs.numpy(), num_samples.numpy()) if "onnxruntime" in example else (wavs, num_samples)
        names = dict(zip(("wavs", "num_samples"), arrays, strict=True))
        monkeypatch.chdir(tmp_path / ("." if "my_" in example else "my_graph" if "onnx" in example else "my_program"))
        with torch.no_grad():
            exec(example, names)
        torch.testing.assert_close(torch.as_tensor(names["hidden_states"])[-1], expected, rtol=0, atol=1e-4)
