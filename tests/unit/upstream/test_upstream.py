"""The upstream as S3PRL calls it: a list of waveforms in; keys, shapes, exact rates; fine-tuning; mistakes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from naming import naming
from torch import Tensor

from s3prl_aalbert.checkpoint.content import CheckpointError
from s3prl_aalbert.checkpoint.release import load_checkpoint, save_release
from s3prl_aalbert.checkpoint.training_state import save_training_state
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.aalbert import AalbertModel
from s3prl_aalbert.model.acoustics import Acoustics
from s3prl_aalbert.model.config import ConfigError, ModelConfig, to_dict
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.upstream import expert as expert_module
from s3prl_aalbert.upstream.expert import FeaturesExpert, UpstreamExpert, pad_wavs


@pytest.fixture
def expert(tiny_release: Path) -> UpstreamExpert:
    return UpstreamExpert(ckpt=str(tiny_release)).eval()


# ---------------------------------------------------------------------------------------------- contract


def test_keys_shapes_and_rate(expert: UpstreamExpert, voice) -> None:
    with torch.no_grad():
        found = expert([voice(16000), voice(4800), voice(1)])
    states = found["hidden_states"]
    assert set(found) == {"hidden_states", "layer_states", "last_hidden_state"}
    assert [state.shape for state in states] == [(3, 34, 32)] * 4  # input embedding and three layers
    assert [id(state) for state in found["layer_states"]] == [id(state) for state in states[1:]]
    assert found["last_hidden_state"] is states[-1]
    assert all(state.dtype == torch.float32 for state in states)
    for key in found:
        assert expert.get_downsample_rates(key) == 480
    for state in states:  # 34, 10 and 1 real tokens; zero after them
        assert not state[1, 10:].any() and not state[2, 1:].any() and state[1, 9].any() and state[2, 0].any()


def test_the_rate_follows_the_configuration(tmp_path: Path, tiny_config: ModelConfig, voice) -> None:
    path = tmp_path / "unstacked.yaml"
    values = to_dict(tiny_config)
    values["transformer"]["downsample_rate"] = 1
    values["audio"]["hop_ms"] = 12.5
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    upstream = UpstreamExpert(model_config=str(path)).eval()
    assert upstream.get_downsample_rates("hidden_states") == 200
    with torch.no_grad():
        assert upstream([voice(2001)])["last_hidden_state"].shape == (1, 11, 32)


@pytest.mark.parametrize("key", ["hidden_states", "layer_states", "last_hidden_state"])
def test_s3prls_own_featurizer_accepts_it(expert: UpstreamExpert, voice, key: str) -> None:
    interfaces = pytest.importorskip("s3prl.upstream.interfaces")
    featurizer = interfaces.Featurizer(expert, feature_selection=key, upstream_device="cpu")
    wavs = [voice(n, n) for n in (16000, 5000, 480)]
    with torch.no_grad():
        features = featurizer(wavs, expert(wavs))
    assert featurizer.output_dim == 32 and featurizer.downsample_rate == 480
    assert [len(feature) for feature in features] == [round(len(wav) / 480) for wav in wavs]
    layers = {"hidden_states": 4, "layer_states": 3}
    if key in layers:
        assert featurizer.layer_num == layers[key]
        mean = torch.stack(expert(wavs)[key]).mean(0)  # equal weights before training
        torch.testing.assert_close(features[1], mean[1, :10], atol=1e-5, rtol=0)


def test_the_checkpoints_weights_are_the_ones_used(expert: UpstreamExpert, tiny_release: Path, voice) -> None:
    checkpoint = load_checkpoint(tiny_release)
    model = AalbertModel(checkpoint.config).eval()
    model.load_state_dict({k.removeprefix("model."): v for k, v in checkpoint.state.items() if k.startswith("model.")})
    wave = voice(9000)
    with torch.no_grad():
        expected = model(wave.unsqueeze(0), torch.tensor([9000])).hidden_states
        found = expert([wave])["hidden_states"]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_release_and_a_training_state_give_the_same(tmp_path: Path, expert, tiny_release: Path, voice) -> None:
    checkpoint = load_checkpoint(tiny_release)
    save_training_state(tmp_path / "states-7.ckpt", checkpoint.config, {"model": checkpoint.state, "step": 7})
    for path in (tmp_path, tmp_path / "states-7.ckpt"):
        other = UpstreamExpert(ckpt=str(path)).eval()
        with torch.no_grad():
            assert torch.equal(other([voice(5000)])["last_hidden_state"], expert([voice(5000)])["last_hidden_state"])


def test_a_half_precision_release_computes_in_float32(tmp_path: Path, tiny_release: Path, voice) -> None:
    checkpoint = load_checkpoint(tiny_release)
    save_release(tmp_path, checkpoint.config, {k: v.half() for k, v in checkpoint.state.items()}, "")
    upstream = UpstreamExpert(ckpt=str(tmp_path)).eval()
    with torch.no_grad():
        assert upstream([voice(5000)])["last_hidden_state"].dtype == torch.float32


# ----------------------------------------------------------------------------------------------- lengths


@pytest.mark.parametrize("training", [False, True], ids=["eval", "fine-tuning"])
def test_an_utterance_is_the_same_alone_and_in_any_batch(expert: UpstreamExpert, awkward_wavs, training) -> None:
    expert.train(training)  # the tiny model has no dropout
    wavs = list(awkward_wavs.values())
    with torch.no_grad():
        forwards, backwards = expert(wavs)["hidden_states"], expert(wavs[::-1])["hidden_states"]
        for row, (label, wave) in enumerate(awkward_wavs.items()):
            for state, reverse, alone in zip(forwards, backwards, expert([wave])["hidden_states"], strict=True):
                tokens = alone.size(1)
                for found in (state[row, :tokens], reverse[len(wavs) - 1 - row, :tokens]):
                    torch.testing.assert_close(found, alone[0], atol=1e-5, rtol=0, msg=label)
                assert not state[row, tokens:].any()


@pytest.mark.parametrize("num_samples", [1, 320, 480, 481])
def test_the_shortest_audio(expert: UpstreamExpert, voice, num_samples: int) -> None:
    with torch.no_grad():
        found = expert([voice(num_samples)])["last_hidden_state"]
    assert found.shape == (1, -(-num_samples // 480), 32) and torch.isfinite(found).all()


@pytest.mark.slow
def test_ten_minutes_of_audio(expert: UpstreamExpert, voice) -> None:
    minute = voice(60 * 16000)
    with torch.no_grad():
        found = expert([minute.repeat(10)])["last_hidden_state"]
    assert found.shape == (1, 20000, 32) and torch.isfinite(found).all()


def test_silence_has_a_finite_representation(expert: UpstreamExpert) -> None:
    with torch.no_grad():
        assert all(torch.isfinite(state).all() for state in expert([torch.zeros(16000)])["hidden_states"])


# -------------------------------------------------------------------------------------------- fine-tuning


def test_fine_tuning_reaches_every_weight_of_the_encoder(expert: UpstreamExpert, voice) -> None:
    expert.train()
    states = expert([voice(8000, 1), voice(3000, 2)])["hidden_states"]
    generator = torch.Generator().manual_seed(0)
    sum((state * torch.randn(state.shape, generator=generator)).sum() for state in states).backward()
    parameters = dict(expert.named_parameters())
    assert parameters and all(parameter.requires_grad for parameter in parameters.values())
    for name, parameter in parameters.items():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        if not name.endswith("key.bias"):  # soft-max is blind to it
            assert parameter.grad.abs().max() > 1e-6, name


def test_a_step_of_fine_tuning_changes_the_output(expert: UpstreamExpert, voice) -> None:
    expert.train()
    before = expert([voice(8000)])["last_hidden_state"]
    before.square()[..., 0].mean().backward()
    with torch.no_grad():
        for parameter in expert.parameters():
            parameter -= 0.1 * parameter.grad
        after = expert([voice(8000)])["last_hidden_state"]
    assert after.square()[..., 0].mean() < before.detach().square()[..., 0].mean()


def test_a_frozen_upstream_builds_no_graph(expert: UpstreamExpert, voice) -> None:
    with torch.no_grad():
        assert not expert([voice(800)])["last_hidden_state"].requires_grad


# ------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("wavs", "place", "found"),
    [
        ([], "no", "waveforms"),
        ([torch.zeros(0)], "waveform 0", "(0,)"),
        ([torch.zeros(100), torch.zeros(1, 100)], "waveform 1", "(1, 100)"),
        ([torch.zeros(100), torch.tensor([0.0, float("nan")])], "waveform 1", "NaN"),
        ([torch.tensor([float("inf")])], "waveform 0", "infinite"),
    ],
)
@pytest.mark.parametrize("features", [False, True], ids=["model", "features"])
def test_waveforms_that_are_none(
    expert: UpstreamExpert, wavs: list[Tensor], place: str, found: str, features: bool
) -> None:
    upstream = FeaturesExpert() if features else expert
    with pytest.raises(AalbertError, match=naming(place, found)):
        upstream(wavs)


def test_padding_by_hand() -> None:
    padded, lengths = pad_wavs([torch.tensor([1.0, 2, 3]), torch.tensor([4.0])])
    assert torch.equal(padded, torch.tensor([[1.0, 2, 3], [4, 0, 0]])) and lengths.tolist() == [3, 1]


def test_a_checkpoint_and_a_model_yaml_exclude_each_other(tiny_release: Path) -> None:
    with pytest.raises(AalbertError, match=naming("-g debug", "-k")):
        UpstreamExpert(ckpt=str(tiny_release), model_config="debug")


def test_a_checkpoint_that_is_missing_or_of_another_kind(tmp_path: Path) -> None:
    torch.save({"Transformer": {"w": torch.ones(1)}}, tmp_path / "other.ckpt")
    for name, message in (
        ("missing.ckpt", "no such checkpoint"),
        ("other.ckpt", "another kind"),
        ("", "holds neither"),
    ):
        with pytest.raises(CheckpointError, match=message):
            UpstreamExpert(ckpt=str(tmp_path / name))


def test_weights_of_another_shape(tmp_path: Path, tiny_config: ModelConfig) -> None:
    wider = replace(tiny_config, transformer=replace(tiny_config.transformer, intermediate_size=128))
    save_release(tmp_path, tiny_config, MaskedPrediction(wider).state_dict(), "")
    with pytest.raises(CheckpointError, match="does not fit"):
        UpstreamExpert(ckpt=str(tmp_path))


def test_a_misspelt_model_yaml() -> None:
    with pytest.raises(ConfigError, match=r'did you mean "aalbert_3l"'):
        UpstreamExpert(model_config="aalbert_3")


# --------------------------------------------------------------------------------------- input features


def test_features_with_and_without_cmvn(voice, tiny_config: ModelConfig) -> None:
    expert, wavs = FeaturesExpert(), [voice(24000, 1), voice(7000, 2)]
    found = expert(wavs)
    assert set(found) == {"hidden_states", "last_hidden_state", "no_cmvn"}
    assert expert.get_downsample_rates("no_cmvn") == 480 and not list(expert.parameters())
    default = ModelConfig().audio
    for key, audio in (("hidden_states", default), ("no_cmvn", replace(default, cmvn="none"))):
        (states,) = found[key]
        expected = Acoustics(audio, 3)(*pad_wavs(wavs)).tokens
        assert states.shape == (2, 50, 480) and torch.equal(states, expected)
        assert not states[1, 15:].any()
    assert torch.equal(found["last_hidden_state"], found["hidden_states"][0])


def test_the_mean_over_time_of_cmvn_features_is_zero_and_of_the_others_is_not(voice) -> None:
    """An utterance-level task on CMVN features has nothing to learn from: they need the other key."""
    wavs = [voice(480 * 100, seed) for seed in range(3)]
    found = FeaturesExpert()(wavs)
    (normalised,), (plain,) = found["hidden_states"], found["no_cmvn"]
    frames = normalised.unflatten(-1, (3, 160))  # undo the stacking: the mean is over all frames
    assert frames.mean(dim=(1, 2)).abs().max() < 1e-5
    assert plain.unflatten(-1, (3, 160)).mean(dim=(1, 2))[:, :80].abs().mean() > 1
    pooled = plain.mean(1)
    assert (pooled[0] - pooled[1]).abs().max() > 0.1


def test_features_take_their_audio_section_from_a_model_yaml(voice) -> None:
    expert = FeaturesExpert(model_config="original")
    assert expert.get_downsample_rates("hidden_states") == 600
    assert expert([voice(6001)])["last_hidden_state"].shape == (1, 11, 480)


def test_very_long_audio_is_warned_of_once(
    tiny_release: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(expert_module, "LONG_SECONDS", 120)
    expert_module._warn_of_length.cache_clear()
    upstream = UpstreamExpert(str(tiny_release)).eval()
    with torch.no_grad():
        for seconds in (120, 121, 122):
            upstream([torch.zeros(seconds * 16000)])
    (told,) = [message for message in caplog.messages if "minutes" in message]
    assert told.startswith("audio of more than 2 minutes: ") and "square of the length" in told
