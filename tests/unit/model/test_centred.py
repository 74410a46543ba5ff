"""Centred models: hidden states less their mean over training speech."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from naming import mentions
from torch import Tensor

from s3prl_aalbert.checkpoint.release import load_checkpoint, save_release
from s3prl_aalbert.cli import main
from s3prl_aalbert.compress.extraction import extract, extracted_config
from s3prl_aalbert.model.aalbert import AalbertModel, hidden_means
from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.model.sub_network import Architecture
from s3prl_aalbert.upstream.expert import UpstreamExpert
from s3prl_aalbert.upstream.hubconf import aalbert_local

LENGTHS = (16000, 4801, 30001)


def centred(config: ModelConfig) -> ModelConfig:
    return replace(config, transformer=replace(config.transformer, centred=True))


@pytest.fixture
def speech(voice: Callable[..., Tensor], tmp_path: Path) -> Path:
    """Three utterances of different lengths."""
    folder = tmp_path / "speech"
    folder.mkdir()
    for seed, length in enumerate(LENGTHS):
        soundfile.write(folder / f"{seed}.wav", voice(length, seed).numpy(), 16000, subtype="FLOAT")
    return folder


def wavs_of(speech: Path) -> list[Tensor]:
    return [torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in sorted(speech.iterdir())]


def states_of(release: Path, wavs: list[Tensor], **options: bool) -> list[np.ndarray]:
    """Return the hidden states (L + 1, tokens, hidden) of each utterance."""
    upstream = UpstreamExpert(ckpt=str(release), **options).eval()
    with torch.no_grad():
        return [np.concatenate([np.asarray(state) for state in upstream([wav])["hidden_states"]]) for wav in wavs]


@pytest.mark.parametrize("every_frame", [False, True])
def test_each_state_loses_its_mean_over_all_tokens(tiny_release: Path, speech: Path, every_frame: bool) -> None:
    out = speech.parent / "centred"
    assert main(["convert", str(tiny_release), str(out), "--centre", str(speech)]) == 0
    wavs = wavs_of(speech)
    plain = states_of(tiny_release, wavs)
    mean = np.concatenate([each.astype(np.float64) for each in plain], axis=1).mean(1, keepdims=True)  # (L + 1, 1, D)
    assert abs(mean).max() > 0.3, "there is something to take away"
    before, after = (states_of(release, wavs, every_frame=every_frame) for release in (tiny_release, out))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(other, one - mean, atol=1e-5)
    together = UpstreamExpert(ckpt=str(out)).eval()(wavs)["hidden_states"]  # a padded batch
    assert all(not state[1, 11:].any() for state in together), "padding is zero"
    for row, own in enumerate(states_of(out, wavs)):
        np.testing.assert_allclose(torch.stack(together)[:, row, : own.shape[1]].detach(), own, atol=1e-5)


def test_a_sub_network_alone_says_what_it_says_inside_its_model(tiny_config: ModelConfig, voice) -> None:
    config = centred(tiny_config)
    model = AalbertModel(config).eval()
    model.hidden_means.normal_()
    arch = Architecture(24, (4, 2), (64, 33))
    alone = AalbertModel(extracted_config(config, arch)).eval()
    alone.load_state_dict(extract(model.state_dict(), config, arch))
    batch = voice(9000, 1).unsqueeze(0), torch.tensor([9000])
    with torch.no_grad():
        for run, own in (
            (model(*batch, arch), alone(*batch)),
            (model.at_every_frame(*batch, arch), alone.at_every_frame(*batch)),
        ):
            assert len(run.hidden_states) == 3
            for one, other in zip(run.hidden_states, own.hidden_states, strict=True):
                torch.testing.assert_close(one, other)


def test_training_does_not_see_the_means(tiny_config: ModelConfig, voice) -> None:
    """What the heads read stays the same, and so do the means of a model that is centred already."""
    objective = MaskedPrediction(centred(tiny_config)).eval()
    features = objective.model.acoustics(voice(9000).unsqueeze(0), torch.tensor([9000]))
    with torch.no_grad():
        before = objective.model.encode(features.tokens, features.lengths)
        means = hidden_means(objective.model, [voice(9000).numpy()])
        objective.model.hidden_means.copy_(means)
        after = objective.model.encode(features.tokens, features.lengths)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert torch.equal(hidden_means(objective.model, [voice(9000).numpy()]), means)


def test_models_made_from_a_centred_one_are_centred_on_demand(tiny_release: Path, speech: Path) -> None:
    """The mean of two models' weights and a model without training have other hidden states, and so other means."""
    root, given = speech.parent, ["--centre", str(speech)]
    assert main(["convert", str(tiny_release), str(root / "centred"), *given, "--dtype", "float16"]) == 0
    for name, options in {
        "mean": ["--average", str(tiny_release)],
        "mean_again": ["--average", str(tiny_release), *given],
        "untrained": ["--untrained", "3"],
        "untrained_again": ["--untrained", "3", *given],
    }.items():
        assert main(["convert", str(root / "centred"), str(root / name), *options]) == 0
        checkpoint = load_checkpoint(root / name)
        again = name.endswith("again")
        assert checkpoint.config.transformer.centred == again == ("model.hidden_means" in checkpoint.state)
        states = np.concatenate(states_of(root / name, wavs_of(speech)), axis=1)
        assert (abs(states.mean(1)).max() < 1e-5) == again, name
    assert "mean over training speech" in (root / "mean_again" / "README.md").read_text()


def test_torch_hubs_untrained_model_keeps_no_means(tiny_release: Path, speech: Path) -> None:
    assert main(["convert", str(tiny_release), str(speech.parent / "centred"), "--centre", str(speech)]) == 0
    torch.manual_seed(0)
    control = aalbert_local(str(speech.parent / "centred"), pretrained=False).eval()
    torch.manual_seed(0)
    same = aalbert_local(str(tiny_release), pretrained=False).eval()
    for one, other in zip(*(each(wavs_of(speech))["hidden_states"] for each in (control, same)), strict=True):
        assert torch.equal(one, other)


def test_what_centre_cannot_do(tiny_release: Path, speech: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = speech.parent / "out"
    for options, named in {
        ("--centre", str(speech / "none")): ("none", "no such folder"),
        ("--centre", str(tiny_release)): ("no audio",),
        ("--centre", str(speech), "--to", "onnx"): ("--centre", "--to"),
    }.items():
        assert main(["convert", str(tiny_release), str(out), *options]) == 2
        assert mentions(capsys.readouterr().err, *named) and not out.exists()
    (speech / "4.wav").write_bytes(b"RIFF")
    assert main(["convert", str(tiny_release), str(out), "--centre", str(speech)]) == 2
    assert mentions(capsys.readouterr().err, "4.wav") and not out.exists()


def test_s3prl_has_no_centred_models(tiny_config: ModelConfig, tmp_path: Path, capsys) -> None:
    config = centred(replace(tiny_config, transformer=replace(tiny_config.transformer, downsample_rate=1)))
    save_release(tmp_path / "model", config, MaskedPrediction(config).state_dict(), "")
    assert main(["convert", str(tmp_path / "model"), str(tmp_path / "out.ckpt"), "--to", "s3prl"]) == 2
    assert "transformer.centred" in capsys.readouterr().err
