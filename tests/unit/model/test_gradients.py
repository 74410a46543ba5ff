"""Gradients to the waveform, and weights of other types than float32."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from s3prl_aalbert.checkpoint.release import save_release
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.acoustics import Acoustics
from s3prl_aalbert.model.config import AudioConfig, ModelConfig, TransformerConfig
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.upstream.expert import FeaturesExpert, UpstreamExpert

SMALL = AudioConfig(win_ms=2, hop_ms=1, n_fft=32, num_mel_bins=4)
AUDIO = {
    "aalbert": SMALL,
    "s3prl": replace(SMALL, front_end="s3prl", target_level_db=-25.0),
    "librosa": replace(SMALL, front_end="librosa", target="db", target_preemphasis=0.97),
    "no cmvn": replace(SMALL, cmvn="none", target_cmvn=False, target="mel"),
    "corpus": replace(SMALL, cmvn="corpus", delta=False),
}
POSITIONS = ("sinusoid", "convolutional", "rotary")


@pytest.fixture(scope="module")
def upstreams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, UpstreamExpert]:
    """One model for each kind of positions, with features of both normalisations."""
    found = {}
    for positions in POSITIONS:
        transformer = TransformerConfig(
            hidden_size=32, num_attention_heads=4, intermediate_size=64, num_hidden_layers=2, positions=positions
        )
        cmvn = "corpus" if positions == "rotary" else "utterance"
        config = ModelConfig(transformer, AudioConfig(num_mel_bins=20, cmvn=cmvn))
        torch.manual_seed(0)
        objective = MaskedPrediction(config)
        if cmvn == "corpus":
            objective.model.acoustics.corpus_mean.fill_(-3.3331)
        folder = tmp_path_factory.mktemp(positions)
        save_release(folder, config, objective.state_dict(), "# A model\n", {"step": 1})
        found[positions] = UpstreamExpert(ckpt=str(folder)).eval()
    return found


def wavs_of(voice) -> list[Tensor]:
    return [voice(length, length) for length in (8000, 5001, 2400)]


# --------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("name", AUDIO)
def test_the_gradient_to_the_waveform_is_right(name: str) -> None:
    """By finite differences in float64: tokens and targets, padding included."""
    acoustics = Acoustics(AUDIO[name], 3).double()
    wavs = 0.1 * torch.randn(3, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([200, 150, 40])

    def features(wavs: Tensor) -> tuple[Tensor, Tensor | None]:
        found = acoustics(wavs, lengths, with_target=True)
        return found.tokens, found.target

    assert torch.autograd.gradcheck(features, (wavs.requires_grad_(),), eps=1e-6, atol=1e-5, fast_mode=True)
    gradient = torch.autograd.grad(features(wavs)[0].square().sum(), wavs)[0]
    assert gradient[0].abs().sum() > 0 and not gradient[1, 150:].any() and not gradient[2, 40:].any()


@pytest.mark.parametrize("name", AUDIO)
def test_silence_and_single_samples_have_finite_gradients(name: str) -> None:
    for length in (200, 1):
        wavs = torch.zeros(1, length, requires_grad=True)
        found = Acoustics(AUDIO[name], 3)(wavs, torch.tensor([length]), with_target=True)
        (found.tokens.sum() + found.target.sum()).backward()
        assert wavs.grad is not None and wavs.grad.isfinite().all()


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_front_end_before_the_upstream_can_be_trained(upstreams, positions: str, voice) -> None:
    upstream = upstreams[positions]
    wavs = [wav.clone().requires_grad_() for wav in wavs_of(voice)]
    upstream(wavs)["last_hidden_state"].square().sum().backward()
    assert all(wav.grad is not None and wav.grad.isfinite().all() and wav.grad.abs().sum() > 0 for wav in wavs)
    upstream.zero_grad()


def test_the_models_gradient_is_right_in_float64(upstreams, voice) -> None:
    upstream = copy.deepcopy(upstreams["convolutional"]).double()
    direction = voice(2400, 9).double()
    wav = voice(2400, 1).double().requires_grad_()

    def loss(wav: Tensor) -> Tensor:
        return upstream([wav])["last_hidden_state"][0, :, 0].sum()

    (gradient,) = torch.autograd.grad(loss(wav), wav)
    assert gradient.dtype == torch.float64
    with torch.no_grad():
        step = 1e-6
        slope = (loss(wav + step * direction) - loss(wav - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-6)


def test_input_features_pass_gradients(voice) -> None:
    wavs = [wav.clone().requires_grad_() for wav in wavs_of(voice)]
    found = FeaturesExpert()(wavs)
    for states in (*found["hidden_states"], *found["no_cmvn"]):
        gradients = torch.autograd.grad(states.square().sum(), wavs, retain_graph=True)
        assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in gradients)


def test_without_a_gradient_to_the_waveform_no_graph_is_kept(voice) -> None:
    wavs = torch.stack([voice(4000, 1)])
    lengths = torch.tensor([4000])
    acoustics = Acoustics(AudioConfig(), 3)
    assert not acoustics(wavs, lengths, True).tokens.requires_grad
    with torch.no_grad():
        assert not acoustics(wavs.clone().requires_grad_(), lengths, True).target.requires_grad
    asked = acoustics(wavs.clone().requires_grad_(), lengths, True)
    assert asked.tokens.requires_grad and torch.equal(asked.tokens, acoustics(wavs, lengths).tokens)


# ------------------------------------------------------------------------------------------------- types


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 0.01), (torch.bfloat16, 0.05), (torch.float64, 1e-5)])
def test_weights_of_another_type(upstreams, positions: str, dtype: torch.dtype, bound: float, voice) -> None:
    upstream = upstreams[positions]
    converted = copy.deepcopy(upstream).to(dtype)
    with torch.no_grad():
        expected, found = upstream(wavs_of(voice)), converted(wavs_of(voice))
    for theirs, ours in zip(expected["hidden_states"], found["hidden_states"], strict=True):
        assert ours.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert (theirs - ours).abs().mean() < bound * theirs.abs().mean()


def test_half_and_back_leaves_features_and_positions_exact(upstreams, voice) -> None:
    for upstream in upstreams.values():
        there = copy.deepcopy(upstream)
        there(wavs_of(voice))  # fills the table of positions
        there.half().float().bfloat16().float()
        before, after = dict(upstream.named_buffers()), dict(there.named_buffers())
        for name, buffer in before.items():
            if buffer.numel():
                assert torch.equal(after[name], buffer), name
        assert torch.equal(
            there.model.embedding._positions(40, torch.device("cpu")),
            upstream.model.embedding._positions(40, torch.device("cpu")),
        )


def test_input_features_of_a_model_in_sixteen_bits(voice) -> None:
    features = FeaturesExpert()
    expected = features(wavs_of(voice))["last_hidden_state"]
    assert torch.equal(features.half()(wavs_of(voice))["last_hidden_state"], expected)
    assert torch.equal(features([wav.double() for wav in wavs_of(voice)])["last_hidden_state"], expected)
    assert features.double()(wavs_of(voice))["last_hidden_state"].dtype == torch.float64


# ------------------------------------------------------------------------------------------- compilation


class Waits(TorchDispatchMode):
    """Counts what makes the processor wait for a GPU: tensors read as numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        values = args[0].numel() if args and isinstance(args[0], Tensor) else 1
        if func is torch.ops.aten._local_scalar_dense.default:
            self.count += 1
        if func is torch.ops.aten._to_copy.default and values and (kwargs or {}).get("device") == torch.device("cpu"):
            self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("equal", [True, False], ids=["one length", "several lengths"])
def test_a_batch_waits_for_the_gpu_once(upstreams, voice, monkeypatch: pytest.MonkeyPatch, equal: bool) -> None:
    wavs = [voice(8000 if equal else 8000 - 700 * index, index) for index in range(6)]
    lists = []
    plain = Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda tensor: lists.append(1) or plain(tensor))
    for upstream in upstreams.values():
        lists.clear()
        with torch.no_grad(), Waits() as waits:
            upstream(wavs)
        assert (waits.count, len(lists)) == (0, 1)


def test_a_bad_waveform_is_named_by_its_place_in_the_batch(upstreams, voice) -> None:
    for bad, message in ((float("nan"), "NaN or infinite"), (float("inf"), "NaN or infinite"), (1e10, "up to 1e\\+10")):
        wavs = wavs_of(voice)
        wavs[1] = wavs[1].clone()
        wavs[1][77] = bad
        with pytest.raises(AalbertError, match=f"waveform 1 .*{message}"):
            upstreams["sinusoid"](wavs)


@pytest.mark.slow  # half a minute of tracing on a busy machine
def test_the_compiled_upstream_is_one_graph_and_checks_its_input(upstreams, voice) -> None:
    torch._dynamo.reset()
    upstream = upstreams["sinusoid"]
    compiled = torch.compile(upstream, fullgraph=True, backend="eager")
    with torch.no_grad():
        for lengths in ((8000, 5001, 2400), (3000, 3000, 3000)):
            wavs = [voice(length, length) for length in lengths]
            for ours, theirs in zip(compiled(wavs)["hidden_states"], upstream(wavs)["hidden_states"], strict=True):
                torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        wavs[2] = wavs[2] * float("nan")
        with pytest.raises(AalbertError, match="waveform 2 holds NaN"):
            compiled(wavs)
