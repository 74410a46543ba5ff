"""`aalbert convert --dtype --no-head`: a release to hand on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from naming import mentions

from s3prl_aalbert.checkpoint.release import load_checkpoint, save_release
from s3prl_aalbert.checkpoint.training_state import save_training_state
from s3prl_aalbert.cli import main
from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.upstream.expert import UpstreamExpert


def test_half_precision_without_a_head(tiny_release: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    assert main(["convert", str(tiny_release), "-o", str(small), "--dtype", "float16", "--no-head"]) == 0
    before, after = load_checkpoint(tiny_release), load_checkpoint(small)
    assert (after.config, after.info) == (before.config, before.info)
    kept = {name: tensor.half() for name, tensor in before.state.items() if name.startswith("model.")}
    stored = safetensors.torch.load_file(small / "model.safetensors")
    assert stored.keys() == kept.keys() < before.state.keys()
    assert all(torch.equal(stored[name], tensor) and stored[name].dtype == torch.half for name, tensor in kept.items())
    wav = torch.randn(8000, generator=torch.Generator().manual_seed(0))
    ours, theirs = (UpstreamExpert(str(path)).eval()([wav])["last_hidden_state"] for path in (small, tiny_release))
    assert 0 < (ours - theirs).abs().max() < 0.02
    card = (small / "README.md").read_text()
    assert card.startswith("# A tiny model") and "float16, without the pre-training head" in card


def test_without_a_dtype_the_weights_stay_as_they_are(tiny_release: Path, tmp_path: Path) -> None:
    half, smaller = tmp_path / "half", tmp_path / "smaller"
    assert main(["convert", str(tiny_release), "-o", str(half), "--dtype", "float16"]) == 0
    assert main(["convert", str(half), "-o", str(smaller), "--no-head"]) == 0
    stored = safetensors.torch.load_file(smaller / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.half}
    assert mentions((smaller / "README.md").read_text(), "float16", "head")


def test_the_projections_of_a_distillation_are_left_out(tiny_config: ModelConfig, tmp_path: Path) -> None:
    state = {name: torch.ones(2, 2) for name in ("model.x", "head.y", "projections.0.weight")}
    save_training_state(tmp_path / "states-1.ckpt", tiny_config, {"step": 1, "model": state})
    assert main(["convert", str(tmp_path / "states-1.ckpt"), "-o", str(tmp_path / "out"), "--dtype", "float16"]) == 0
    assert safetensors.torch.load_file(tmp_path / "out" / "model.safetensors").keys() == {"model.x", "head.y"}


def test_a_card_that_is_no_text_is_one_sentence(
    tiny_release: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.copytree(tiny_release, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_bytes(b"# Kaf\xe9")
    assert main(["convert", str(tmp_path / "copy"), "-o", str(tmp_path / "x"), "--no-head"]) == 2
    assert mentions(capsys.readouterr().err, "README.md", "model card") and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--accept-differences"], ["--accept-differences", "--to s3prl"]),
        (["--trust", "--no-head"], ["--trust", "other programs"]),
        (["--trust", "--to", "s3prl"], ["--trust", "other programs"]),
        (["--licence", "mit"], ["--licence", "--to huggingface"]),
        (["--to", "onnx", "--no-head"], ["--to onnx", "--no-head"]),
    ],
)
def test_options_that_would_go_unused_are_refused(
    tiny_release: Path, tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], named: list[str]
) -> None:
    assert main(["convert", str(tiny_release), "-o", str(tmp_path / "x"), *options]) == 2
    assert mentions(capsys.readouterr().err, *named) and not (tmp_path / "x").exists()


def test_what_cannot_be_kept_is_refused(
    tiny_config: ModelConfig, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    save_release(tmp_path / "big", tiny_config, {"model.x": torch.tensor([1e6])}, "")
    assert main(["convert", str(tmp_path / "big"), "-o", str(tmp_path / "a"), "--dtype", "float16"]) == 2
    assert mentions(capsys.readouterr().err, "model.x", "float16")
    assert main(["convert", str(tmp_path / "big"), "-o", str(tmp_path / "a"), "--to", "s3prl", "--no-head"]) == 2
    assert mentions(capsys.readouterr().err, "--to s3prl", "--no-head") and not (tmp_path / "a").exists()
