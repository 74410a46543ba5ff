"""Spaces, brackets, quotes and letters of other scripts in every path: pre-training, resuming, loading, converting."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from s3prl_aalbert.cli import main
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus
from s3prl_aalbert.upstream.expert import UpstreamExpert

RUNNER = "config.runner.eval_step=2,,config.runner.save_step=2,,config.runner.precision=fp32"


@pytest.mark.parametrize("name", ["two words", "Übung (1), 録音", "it's 100 % [x] {y} #1 & more"])
def test_pretraining_to_loading(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "1")
    speech = synthesise_corpus(
        tmp_path / f"speech {name}", num_speakers=4, utterances_per_speaker=3, seconds=(0.5, 0.6), seed=1
    )
    config = tmp_path / f"model {name}.yaml"
    config.write_text("transformer: {hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2}\n")
    exp = tmp_path / f"runs {name}" / name
    new = ["-g", str(config), "-c", "pretrain_debug", "--speech", str(speech), "--device", "cpu"]
    for steps, argv in ((2, new), (4, ["-a", "--device", "cpu"])):
        override = f"{RUNNER},,config.runner.total_steps={steps}"
        assert main(["pretrain", "-p", str(exp), *argv, "-o", override]) == 0
    released = tmp_path / f"release {name}"
    assert main(["convert", str(exp), "-o", str(released), "--no-head"]) == 0
    wavs = [torch.randn(4000)]
    with torch.no_grad():
        trained, converted = (UpstreamExpert(str(path)).eval()(wavs)["hidden_states"] for path in (exp, released))
    assert all(map(torch.equal, trained, converted))
