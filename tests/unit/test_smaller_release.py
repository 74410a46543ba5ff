"""`aalbert convert --dtype --no-head`: a release to hand on."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from s3prl_aalbert.checkpoint import load_checkpoint, save_release
from s3prl_aalbert.cli import main
from s3prl_aalbert.config import ModelConfig
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


def test_what_cannot_be_kept_is_refused(
    tiny_config: ModelConfig, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    save_release(tmp_path / "big", tiny_config, {"model.x": torch.tensor([1e6])}, "")
    assert main(["convert", str(tmp_path / "big"), "-o", str(tmp_path / "a"), "--dtype", "float16"]) == 2
    assert "model.x has values that float16 cannot hold" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "big"), "-o", str(tmp_path / "a"), "--to", "s3prl", "--no-head"]) == 2
    assert "S3PRL's format has neither" in capsys.readouterr().err and not (tmp_path / "a").exists()
