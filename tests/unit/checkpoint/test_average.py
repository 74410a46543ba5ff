"""`aalbert convert --average`: the mean of several models' weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from naming import mentions

from s3prl_aalbert.checkpoint.release import load_checkpoint, save_release
from s3prl_aalbert.cli import main
from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.speech.training_list import heard, overlap, write_training_list


@pytest.fixture
def models(tiny_config: ModelConfig, tmp_path: Path) -> list[Path]:
    """Three models of one size; the second has another task, so that its head has another shape."""
    folders = []
    for seed in range(3):
        task = replace(tiny_config.task, reconstruction_weight=0.0, unit_weight=1.0, num_units=4 + (seed == 1))
        torch.manual_seed(seed)
        folder = tmp_path / f"model_{seed}"
        config = replace(tiny_config, task=task)
        save_release(folder, config, MaskedPrediction(config).state_dict(), f"# Model {seed}\n", {"step": seed})
        write_training_list(folder, heard({f"{seed}/speech": str(seed)}))
        folders.append(folder)
    return folders


def test_every_weight_is_the_mean_and_the_head_that_of_the_first(models: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "mean"
    first, second, third = (load_checkpoint(model) for model in models)
    assert main(["convert", str(models[0]), str(out), "--average", str(models[1]), str(models[2]), str(models[2])]) == 0
    mean = load_checkpoint(out)
    assert (mean.config, mean.info, mean.state.keys()) == (first.config, first.info, first.state.keys())
    for name, weight in mean.state.items():
        expected = first.state[name].double()
        if name.startswith("model."):
            expected = (expected + second.state[name].double() + 2 * third.state[name].double()) / 4
        assert torch.allclose(weight.double(), expected, rtol=1e-6, atol=1e-8), name
    assert "unit_head.output.weight" in mean.state
    card = (out / "README.md").read_text()
    assert card.startswith("# Model 0") and mentions(card, "model_0", "model_1", "model_2", "mean")
    names = {f"{seed}/speech": str(seed) for seed in range(4)}
    assert overlap(out, names, names) == (["0/speech", "1/speech", "2/speech"], ["0", "1", "2"], True)


def test_the_mean_of_a_model_with_itself_is_itself_also_in_half_precision(models: list[Path], tmp_path: Path) -> None:
    command = ["convert", str(models[0]), str(tmp_path / "same"), "--average", str(models[0]), "--dtype", "float16"]
    assert main(command) == 0
    before, after = (load_checkpoint(folder).state for folder in (models[0], tmp_path / "same"))
    assert all(torch.equal(after[n].half(), w.half()) for n, w in before.items() if ".acoustics." not in n)
    (models[1] / "training_speech.json").unlink()
    assert main(["convert", str(models[0]), str(tmp_path / "unknown"), "--average", str(models[1])]) == 0
    found = overlap(tmp_path / "unknown", ["0/speech"], {"0/speech": "0"})
    assert found == (["0/speech"], ["0"], False)


def test_models_that_differ_are_refused(
    models: list[Path], tiny_config: ModelConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deeper = replace(tiny_config, transformer=replace(tiny_config.transformer, num_hidden_layers=4))
    save_release(tmp_path / "deeper", deeper, MaskedPrediction(deeper).state_dict(), "")
    assert main(["convert", str(models[0]), str(tmp_path / "x"), "--average", str(tmp_path / "deeper")]) == 2
    assert mentions(capsys.readouterr().err, "deeper", "transformer.num_hidden_layers is 4, expected 3", "model_0")
    other = replace(tiny_config, transformer=replace(tiny_config.transformer, hidden_dropout_prob=0.1))
    save_release(tmp_path / "other", other, MaskedPrediction(other).state_dict(), "")
    assert main(["convert", str(models[0]), str(tmp_path / "y"), "--average", str(tmp_path / "other")]) == 0
    assert not (tmp_path / "x").exists() and (tmp_path / "y").exists()


@pytest.mark.parametrize("options", [["--to", "onnx"], ["--arch", "arch.yaml"], ["--untrained", "0"], ["--trust"]])
def test_what_it_does_not_go_with(models: list[Path], tmp_path: Path, options: list[str]) -> None:
    assert main(["convert", str(models[0]), str(tmp_path / "x"), "--average", str(models[1]), *options]) == 2
    assert not (tmp_path / "x").exists()
