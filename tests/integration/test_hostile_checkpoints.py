"""No checkpoint, cache or configuration runs code: a file that would is given to every place that reads one."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from command_lines import run

from s3prl_aalbert.checkpoint.release import save_release
from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def hostile_files(folder: Path, marker: Path) -> dict[str, Path]:
    """Write the payload in every form that a checkpoint might take."""
    payload = {"format": "s3prl-aalbert", "format_version": 1, "config": {}, "model": Payload(marker), "Transformer": 1}
    files = {name: folder / f"states-{number}.ckpt" for number, name in enumerate(("zip", "legacy", "raw"), 1)}
    torch.save(payload, files["zip"])
    torch.save(payload, files["legacy"], _use_new_zipfile_serialization=False)
    files["raw"].write_bytes(pickle.dumps(payload))
    files["safetensors"] = folder / "model.safetensors"
    files["safetensors"].write_bytes(pickle.dumps(payload))
    return files


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "code-has-run"


def test_the_files_would_run_code_if_they_were_unpickled(tmp_path: Path, marker: Path) -> None:
    """The control: without it, every test below could pass on a file that does nothing."""
    for name, path in hostile_files(tmp_path, marker).items():
        if name in ("zip", "legacy"):
            torch.load(path, weights_only=False)
        else:
            pickle.loads(path.read_bytes())
        assert marker.is_dir(), name
        marker.rmdir()


def places(path: Path, good: Path, speech: Path, arch: Path, out: Path) -> list[list[str]]:
    """Return the command lines that name a checkpoint."""
    ckpt, pretrain = str(path), ["pretrain", "-g", "debug", "-c", "pretrain_debug", "--device", "cpu"]
    task = ["-d", "aalbert_phone", "-o", f"config.downstream_expert.datarc.audio='{speech}'", "--device", "cpu"]
    train = ["downstream", "-m", "train", "-p", str(out / "task"), *task]
    return [
        [*pretrain, "--speech", str(speech), "-p", str(out / "a"), "--init", ckpt],
        [*pretrain, "--speech", str(speech), "-p", str(out / "b"), "-e", ckpt],
        ["distill", "--teacher", "aalbert_local", "--teacher_ckpt", ckpt, *pretrain[1:3], "--speech", str(speech),
         "-p", str(out / "c"), "--device", "cpu"],
        [*train, "-u", "aalbert_local", "-k", ckpt],
        [*train, "-u", "aalbert_url", "-k", path.absolute().as_uri()],
        [*train, "-u", "audio_albert_local", "-k", ckpt],
        [*train, "-u", "mockingjay_local", "-k", ckpt],
        [*train, "-u", "tera_local", "-k", ckpt],
        [*train, "-u", "aalbert_local", "-k", str(good), "-i", ckpt],
        ["downstream", "-m", "evaluate", "-e", ckpt],
        ["downstream", "-m", "train", "-e", ckpt],
        ["probe", "-u", "aalbert_local", "-k", ckpt, "-p", str(out / "probe"), "--device", "cpu"],
        ["profile", "-u", "aalbert_local", "-k", ckpt],
        ["extract", ckpt, "--arch", str(arch), "-o", str(out / "extracted")],
        ["search", str(path.parent), "--params-max", "1e9", "-o", str(out / "search")],
        ["convert", ckpt, "-o", str(out / "converted")],
        ["convert", ckpt, "-o", str(out / "s3prl.ckpt"), "--to", "s3prl"],
        ["export", ckpt, "-o", str(out / "exported")],
        ["report", str(speech), "--tsne", ckpt, "--speech", str(speech), "-o", str(out / "report")],
    ]  # fmt: skip


def test_no_place_that_reads_a_checkpoint_runs_its_code(tmp_path: Path, marker: Path, tiny_release: Path) -> None:
    speech = synthesise_corpus(
        tmp_path / "speech", num_speakers=4, utterances_per_speaker=3, seconds=(0.5, 0.6), seed=1
    )
    arch, hostile = tmp_path / "arch.yaml", tmp_path / "hostile"
    arch.write_text("hidden_size: 16\nnum_hidden_layers: 2\nnum_attention_heads: 2\nintermediate_size: 32\n")
    hostile.mkdir()
    files = hostile_files(hostile, marker)
    lines = [argv for path in files.values() for argv in places(path, tiny_release, speech, arch, tmp_path / "out")]
    outcomes = run(lines, tmp_path, variables={"TORCH_HOME": str(tmp_path / "hub")})
    assert not marker.exists(), "code of a checkpoint was run"
    for argv, (code, told) in zip(lines, outcomes, strict=True):
        assert code == 2 and "Traceback" not in told, (argv, code, told)
    out = tmp_path / "out"
    assert not [path for path in out.rglob("*") if path.suffix in (".tmp", ".safetensors", ".onnx")]


def test_caches_and_yaml_run_no_code(tmp_path: Path, marker: Path, tiny_config: ModelConfig) -> None:
    from s3prl_aalbert.errors import AalbertError
    from s3prl_aalbert.pretrain.config import DataConfig
    from s3prl_aalbert.pretrain.corpus import load_corpus
    from s3prl_aalbert.upstream.expert import UpstreamExpert

    speech = synthesise_corpus(
        tmp_path / "speech", num_speakers=2, utterances_per_speaker=3, seconds=(0.5, 0.6), seed=1
    )
    manifest = tmp_path / "run" / "manifest.tsv"
    load_corpus(DataConfig(paths=(str(speech),), dev_fraction=0.4), manifest, 0)
    (index,) = manifest.parent.glob("*.npz")
    loaded = dict(np.load(index))
    np.savez(index.open("wb"), **{**loaded, "table": np.array([Payload(marker)], dtype=object)})
    load_corpus(DataConfig(paths=(str(speech),), dev_fraction=0.4), manifest, 0)  # built anew
    assert not marker.exists()

    save_release(tmp_path / "release", tiny_config, MaskedPrediction(tiny_config).state_dict(), "")
    (tmp_path / "release" / "config.yaml").write_text(f"audio: !!python/object/apply:os.mkdir ['{marker}']\n")
    with pytest.raises(AalbertError, match="not valid YAML"):
        UpstreamExpert(str(tmp_path / "release"))
    assert not marker.exists()
