"""The whole representation model: parameter counts of the paper, and the same output alone and in any batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s3prl_aalbert.model.aalbert import AalbertModel, SpectrogramHead, count_parameters
from s3prl_aalbert.model.config import ModelConfig, TransformerConfig, load_model_config
from s3prl_aalbert.model.encoder import Encoder
from s3prl_aalbert.model.objective import MaskedPrediction

# ------------------------------------------------------------------------------------------ counts (SPEC 1)

COUNTS = {
    "aalbert_3l": 7_458_816,
    "aalbert_6l": 7_458_816,
    "aalbert_12l": 7_458_816,
    "original": 7_458_816,
    "mockingjay_3l": 21_634_560,
    "mockingjay_6l": 42_898_176,
    "mockingjay_12l": 85_425_408,
}


def numel(module: torch.nn.Module) -> int:
    """Count the values that a checkpoint of the module holds."""
    return sum(tensor.numel() for tensor in module.state_dict().values())


@pytest.fixture
def no_initialisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave weights as allocated: counting needs no random values."""
    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", lambda self: None)
    monkeypatch.setattr(torch.nn.init, "normal_", lambda tensor, *_, **__: tensor)


@pytest.mark.usefixtures("no_initialisation")
@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_parameter_counts(name: str, count: int) -> None:
    model = AalbertModel(load_model_config(name))
    assert numel(model) == count_parameters(model) == count


def test_parts_of_the_count() -> None:
    model = AalbertModel(load_model_config("aalbert_3l"))
    assert numel(model.encoder) == 7_087_872 and numel(model.embedding) == 370_944


def test_mockingjay_with_an_unstacked_input() -> None:
    config = load_model_config("mockingjay_3l")
    config = replace(config, transformer=replace(config.transformer, downsample_rate=1))
    assert config.input_dim == 160
    assert numel(AalbertModel(config)) == 21_388_800


def test_the_original_pretraining_model_with_its_head() -> None:
    config = load_model_config("original")
    assert numel(MaskedPrediction(config)) == 10_415_619
    assert SpectrogramHead(config).output.out_features == 3 * 1025


# ------------------------------------------------------------------------------------- batch consistency


def tiny(**changes: object) -> ModelConfig:
    """Return a tiny model; keyword arguments change fields of any section."""
    config = ModelConfig(TransformerConfig(hidden_size=32, num_attention_heads=4, intermediate_size=64))
    for key, value in changes.items():
        for section in ("transformer", "audio"):
            part = getattr(config, section)
            if hasattr(part, key):
                config = replace(config, **{section: replace(part, **{key: value})})
    return config


MODES = {
    "shared": tiny(),
    "unshared": tiny(share_layer=False),
    "not stacked": tiny(downsample_rate=1),
    "no delta": tiny(delta=False),
    "no cmvn": tiny(cmvn="none"),
    "corpus cmvn": tiny(cmvn="corpus"),
    "convolutional positions": tiny(positions="convolutional", conv_position_kernel=5, conv_position_group_size=8),
    "rotary positions": tiny(positions="rotary"),
    "relu": tiny(hidden_act="relu"),
    "original front end": tiny(win_ms=50.0, hop_ms=12.5, n_fft=2048),
}


def assert_batch_equals_single(model: AalbertModel, wavs: dict[str, Tensor], garbage: float = 0.0) -> None:
    """Compare every row of one padded batch with the same waveform alone, at every layer, to 1e-5."""
    lengths = torch.tensor([len(wave) for wave in wavs.values()])
    padded = pad_sequence(list(wavs.values()), batch_first=True, padding_value=garbage)
    with torch.no_grad():
        batch = model(padded, lengths)
        for row, (label, wave) in enumerate(wavs.items()):
            alone = model(wave.unsqueeze(0), lengths[row : row + 1])
            tokens = int(alone.lengths[0])
            assert int(batch.lengths[row]) == tokens == alone.hidden_states[0].size(1)
            for layer, (a, b) in enumerate(zip(batch.hidden_states, alone.hidden_states, strict=True)):
                error = float((a[row, :tokens] - b[0]).abs().max())
                assert error < 1e-5, f"{label}, hidden state {layer}: differs by {error}"


def seeded(config: ModelConfig) -> AalbertModel:
    """Build a model whose layers change their input visibly."""
    torch.manual_seed(0)
    model = AalbertModel(replace(config, transformer=replace(config.transformer, initializer_range=0.1)))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train without dropout"])
@pytest.mark.parametrize("mode", MODES)
def test_an_utterance_is_the_same_alone_and_in_any_batch(mode: str, training: bool, awkward_wavs) -> None:
    assert_batch_equals_single(seeded(MODES[mode]).train(training), awkward_wavs)


def test_thirty_seven_seconds_of_padding_change_nothing(uneven_wavs) -> None:
    assert_batch_equals_single(seeded(MODES["shared"]).eval(), uneven_wavs)


@pytest.mark.parametrize("name", ["aalbert_3l", "mockingjay_3l"])
def test_the_full_width_models_too(name: str, awkward_wavs) -> None:
    torch.manual_seed(0)
    few = {label: awkward_wavs[label] for label in ("one second", "20 ms", "near-silence", "digital silence", "loud")}
    assert_batch_equals_single(AalbertModel(load_model_config(name)).eval(), few)


def test_values_in_the_padding_do_not_matter(awkward_wavs) -> None:
    assert_batch_equals_single(seeded(MODES["shared"]).eval(), awkward_wavs, garbage=50.0)


def test_hidden_states_are_the_embedding_and_every_layer(voice) -> None:
    model = seeded(tiny(num_hidden_layers=5)).eval()
    with torch.no_grad():
        states = model(voice(4801).unsqueeze(0), torch.tensor([4801])).hidden_states
        again = model.encoder(states[0], None)
    assert [state.shape for state in states] == [(1, 11, 32)] * 6
    for state, expected in zip(states[1:], again, strict=True):
        torch.testing.assert_close(state, expected, atol=1e-6, rtol=0)


def test_a_context_token_changes_the_others(voice) -> None:
    """Attention looks at the whole utterance: another last token changes the first output, not the first embedding."""
    model = seeded(tiny()).eval()
    tokens = torch.randn(1, 30, model.config.input_dim, generator=torch.Generator().manual_seed(0))
    other = tokens.clone()
    other[:, -1] += 3
    with torch.no_grad():
        a, b = (model.encode(x, torch.tensor([30])) for x in (tokens, other))
    assert torch.equal(a[0][:, 0], b[0][:, 0]) and not torch.allclose(a[1][:, 0], b[1][:, 0], atol=1e-5)


def test_the_head_predicts_stacked_frames() -> None:
    config = tiny()
    head = SpectrogramHead(config)
    assert head(torch.zeros(7, 32)).shape == (7, 3, 257)
    hidden = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    dense = torch.nn.functional.gelu(hidden @ head.dense.weight.T + head.dense.bias)
    normed = (dense - dense.mean(-1, keepdim=True)) / (dense.var(-1, keepdim=True, unbiased=False) + 1e-12).sqrt()
    expected = (normed @ head.output.weight.T + head.output.bias).reshape(2, 3, 257)
    torch.testing.assert_close(head(hidden), expected, atol=1e-5, rtol=0)


def test_the_encoder_alone_counts_its_groups() -> None:
    assert len(Encoder(TransformerConfig(num_hidden_layers=2, share_layer=False)).groups) == 2
