"""Acoustics against a reference written out in float64: Fourier sums, mel triangles, deltas, CMVN, targets.

Legend: F frames, K spectrogram bins, M mel bins.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s3prl_aalbert.model.acoustics import Acoustics, Features, cmvn, corpus_statistics, warped
from s3prl_aalbert.model.config import AudioConfig, Cmvn, load_model_config

DEFAULT = AudioConfig()
WIDE = replace(load_model_config("original").audio, front_end="aalbert")
"""50 ms windows, 12.5 ms hop, and the pre-emphasised target in decibels."""
CONFIGS = {"default": DEFAULT, "wide": WIDE}


# ------------------------------------------------------------------------------------------ the reference


def reference_power(wave: np.ndarray, audio: AudioConfig) -> np.ndarray:
    """Return (F, K): |sum_n w[n] x[n] e^(-2 pi i k n / N)|^2 of windows centred on the middle of each hop."""
    hop, size, win = audio.hop_samples, audio.n_fft, audio.win_samples
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win) / win)
    offsets = np.arange(win) - win // 2
    basis = np.exp(-2j * np.pi * np.outer(offsets, np.arange(size // 2 + 1)) / size)
    frames = []
    for index in range(math.ceil(len(wave) / hop)):
        positions = hop * index + hop // 2 + offsets
        inside = (positions >= 0) & (positions < len(wave))
        frame = np.where(inside, wave[np.clip(positions, 0, len(wave) - 1)], 0.0)
        frames.append(np.abs((frame * hann) @ basis) ** 2)
    return np.stack(frames)


def reference_filters(audio: AudioConfig) -> np.ndarray:
    """Return (K, M): triangles between points equally spaced on the mel scale 2595 log10(1 + f / 700)."""
    top = 2595 * math.log10(1 + audio.sample_rate / 2 / 700)
    points = 700 * (10 ** (np.linspace(0, top, audio.num_mel_bins + 2) / 2595) - 1)
    frequency = np.arange(audio.target_dim) * audio.sample_rate / audio.n_fft
    filters = np.zeros((audio.target_dim, audio.num_mel_bins))
    for m in range(audio.num_mel_bins):
        low, centre, high = points[m : m + 3]
        rising, falling = (frequency - low) / (centre - low), (high - frequency) / (high - centre)
        filters[:, m] = np.maximum(0, np.minimum(rising, falling))
    return filters


def reference_delta(features: np.ndarray) -> np.ndarray:
    """Return (F, M): the slope of a line fitted to five frames, the ends repeated."""
    held = np.concatenate([features[:1], features[:1], features, features[-1:], features[-1:]])
    count = len(features)
    return (2 * (held[4:] - held[:count]) + (held[3 : 3 + count] - held[1 : 1 + count])) / 10


def reference_cmvn(features: np.ndarray) -> np.ndarray:
    return (features - features.mean(0)) / (features.std(0) + 1e-5)


def reference_input(wave: np.ndarray, audio: AudioConfig) -> np.ndarray:
    """Return (F, 2 M) log-mel and delta, before CMVN."""
    log_mel = np.log(reference_power(wave, audio) @ reference_filters(audio) + audio.log_floor)
    return np.concatenate([log_mel, reference_delta(log_mel)], axis=1)


def frames_of(features: Features, row: int = 0) -> np.ndarray:
    """Return the real input frames (F, dim) of one utterance, unstacked."""
    mask = features.frame_mask[row].flatten()
    return features.tokens[row].unflatten(-1, (features.frame_mask.size(2), -1)).flatten(0, 1)[mask].numpy()


def targets_of(features: Features, row: int = 0) -> np.ndarray:
    """Return the real target frames (F, K) of one utterance, unstacked."""
    assert features.target is not None
    return features.target[row].flatten(0, 1)[features.frame_mask[row].flatten()].numpy()


def compute(wave: Tensor, audio: AudioConfig, stack: int = 3, with_target: bool = False) -> Features:
    return Acoustics(audio, stack)(wave.unsqueeze(0), torch.tensor([wave.numel()]), with_target)


def raw(audio: AudioConfig) -> AudioConfig:
    return replace(audio, cmvn="none", target_cmvn=False)


# ------------------------------------------------------------------------------------------------ features


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("num_samples", [6000, 5999, 6001, 100])
def test_log_mel_and_delta_equal_the_reference(name: str, num_samples: int, voice) -> None:
    audio, wave = CONFIGS[name], voice(num_samples, 1)
    expected = reference_input(wave.double().numpy(), audio)
    assert expected.shape[1] == 160
    np.testing.assert_allclose(frames_of(compute(wave, raw(audio))), expected, atol=2e-3)
    if len(expected) > 1:
        np.testing.assert_allclose(frames_of(compute(wave, audio)), reference_cmvn(expected), atol=5e-3)


@pytest.mark.parametrize("cmvn", ["utterance", "corpus", "none"])
def test_log_mel_as_the_target_does_not_depend_on_the_inputs_normalisation(cmvn: Cmvn, voice) -> None:
    audio, wave = replace(DEFAULT, cmvn=cmvn, target="mel", target_cmvn=False), voice(6000, 1)
    expected = reference_input(wave.double().numpy(), DEFAULT)
    np.testing.assert_allclose(targets_of(compute(wave, audio, with_target=True)), expected, atol=2e-3)


def test_without_delta_and_with_fewer_mel_bins(voice) -> None:
    audio, wave = replace(raw(DEFAULT), delta=False, num_mel_bins=23), voice(4000, 2)
    found = frames_of(compute(wave, audio))
    assert found.shape == (25, 23)
    np.testing.assert_allclose(found, reference_input(wave.double().numpy(), audio)[:, :23], atol=2e-3)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_frame_is_centred_on_the_middle_of_its_hop(name: str) -> None:
    audio = raw(CONFIGS[name])
    hop, frame = audio.hop_samples, 9
    wave = torch.zeros(20 * hop)
    wave[frame * hop + hop // 2] = 1.0
    energy = frames_of(compute(wave, replace(audio, delta=False))).sum(1)
    assert energy.argmax() == frame
    np.testing.assert_allclose(energy[frame - 1], energy[frame + 1], rtol=1e-5)
    assert energy[frame - 1] < energy[frame]


@pytest.mark.parametrize(("name", "per_token"), [("default", 480), ("wide", 600)])
@pytest.mark.parametrize("tokens", [1, 2, 7, 33])
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_token_counts_are_exact(name: str, per_token: int, tokens: int, extra: int) -> None:
    num_samples = tokens * per_token + extra
    features = compute(torch.randn(num_samples, generator=torch.Generator().manual_seed(0)), CONFIGS[name])
    expected = tokens + 1 if extra == 1 else tokens
    assert features.lengths.tolist() == [expected]
    assert features.tokens.shape == (1, expected, 480)
    assert int(features.frame_mask.sum()) == -(-num_samples // (per_token // 3))


def test_one_sample_is_one_token() -> None:
    features = compute(torch.tensor([0.5]), DEFAULT)
    assert features.lengths.tolist() == [1] and features.frame_mask.tolist() == [[[True, False, False]]]


def test_stacking_keeps_the_order_of_frames(voice) -> None:
    wave = voice(16 * 160 * 3, 3)
    single, stacked = compute(wave, DEFAULT, stack=1, with_target=True), compute(wave, DEFAULT, 3, with_target=True)
    assert single.target is not None and stacked.target is not None
    for k in range(3):
        assert torch.equal(stacked.tokens[0, :, 160 * k : 160 * (k + 1)], single.tokens[0, k::3])
        assert torch.equal(stacked.target[0, :, k], single.target[0, k::3, 0])


def test_cmvn_is_over_real_frames_alone(voice) -> None:
    wavs = [voice(16000, 1), voice(9999, 2), voice(3333, 3)]
    lengths = torch.tensor([len(w) for w in wavs])
    padded = pad_sequence(wavs, batch_first=True)
    padded[1, 9999:] = 1e3  # whatever lies in the padding
    features = Acoustics(DEFAULT, 3)(padded, lengths, True)
    for row in range(3):
        for frames in (frames_of(features, row), targets_of(features, row)):
            np.testing.assert_allclose(frames.astype(np.float64).mean(0), 0, atol=1e-5)
            np.testing.assert_allclose(frames.astype(np.float64).var(0), 1, atol=1e-3)
    padding = ~features.frame_mask
    assert features.target is not None and padding.any()
    assert not features.tokens.unflatten(-1, (3, -1))[padding].any() and not features.target[padding].any()


def test_cmvn_of_constant_and_short_input() -> None:
    constant = torch.full((1, 50, 4), -13.815511)
    assert not cmvn(constant, torch.tensor([50])).any()
    assert not cmvn(torch.randn(1, 1, 4), torch.tensor([1])).any()


def test_digital_silence_is_zero_and_finite() -> None:
    for audio in CONFIGS.values():
        features = compute(torch.zeros(16000), audio, with_target=True)
        assert features.target is not None
        assert not features.tokens.any() and not features.target.any()


# ------------------------------------------------------------------------------------------------- targets


def test_the_log_target_equals_the_reference(voice) -> None:
    wave = voice(5000, 4)
    expected = np.log(reference_power(wave.double().numpy(), DEFAULT) + 1e-6)
    assert expected.shape[1] == 257
    np.testing.assert_allclose(targets_of(compute(wave, raw(DEFAULT), with_target=True)), expected, atol=2e-3)
    found = targets_of(compute(wave, DEFAULT, with_target=True))
    np.testing.assert_allclose(found, reference_cmvn(expected), atol=5e-3)


@pytest.mark.parametrize("amplitude", [0.5, 1e-4, 30.0])
def test_the_decibel_target_equals_the_reference(voice, amplitude: float) -> None:
    wave = voice(5001, 5, amplitude=amplitude)
    x = wave.double().numpy()
    emphasised = np.concatenate([x[:1], x[1:] - 0.97 * x[:-1]])
    level_db = 20 * np.log10(np.maximum(1e-5, np.sqrt(reference_power(emphasised, WIDE)))) - 20
    expected = np.clip((level_db + 100) / 100, 0, 1)
    found = targets_of(compute(wave, raw(WIDE), with_target=True))
    assert found.shape[1] == 1025 and found.min() >= 0 and found.max() <= 1
    np.testing.assert_allclose(found, expected, atol=1e-3)
    # CMVN divides by each bin's spread, which may be small: allow for it.
    scale = 1 / (expected.std(0) + 1e-5)
    normalised = targets_of(compute(wave, WIDE, with_target=True))
    assert (np.abs(normalised - reference_cmvn(expected)) < 2e-4 * scale + 5e-3).all()


def test_the_decibel_target_is_clipped_at_both_ends() -> None:
    time = torch.arange(8000) / 16000
    loud, silent = 50 * torch.sin(2 * math.pi * 3000 * time), torch.zeros(8000)
    assert targets_of(compute(loud, raw(WIDE), with_target=True)).max() == 1
    assert targets_of(compute(silent, raw(WIDE), with_target=True)).max() == 0


def test_pre_emphasis_is_for_the_target_alone(voice) -> None:
    wave = voice(4000, 6)
    with_it, without = (
        compute(wave, WIDE, 3, True),
        compute(wave, replace(WIDE, target_preemphasis=0.0), 3, True),
    )
    assert torch.equal(with_it.tokens, without.tokens)
    assert not np.allclose(targets_of(with_it), targets_of(without), atol=0.1)


def test_no_target_unless_asked_for(voice) -> None:
    assert compute(voice(1000), DEFAULT).target is None


# ----------------------------------------------------------------------------------------------- batches


def assert_batch_equals_single(audio: AudioConfig, wavs: dict[str, Tensor]) -> None:
    """Compare every row of one padded batch with the same waveform alone: features, targets, lengths, padding."""
    acoustics = Acoustics(audio, 3)
    lengths = torch.tensor([len(wave) for wave in wavs.values()])
    batch = acoustics(pad_sequence(list(wavs.values()), batch_first=True), lengths, True)
    assert batch.target is not None
    for row, (label, wave) in enumerate(wavs.items()):
        alone = acoustics(wave.unsqueeze(0), lengths[row : row + 1], True)
        tokens = alone.tokens.size(1)
        assert alone.target is not None and int(batch.lengths[row]) == tokens
        torch.testing.assert_close(batch.tokens[row, :tokens], alone.tokens[0], atol=1e-5, rtol=1e-5, msg=label)
        torch.testing.assert_close(batch.target[row, :tokens], alone.target[0], atol=1e-5, rtol=1e-5, msg=label)
        assert torch.equal(batch.frame_mask[row, :tokens], alone.frame_mask[0])
        assert not batch.tokens[row, tokens:].any() and not batch.target[row, tokens:].any()


@pytest.mark.parametrize("cmvn_on", [True, False], ids=["cmvn", "no cmvn"])
@pytest.mark.parametrize("name", CONFIGS)
def test_an_utterance_is_the_same_alone_and_in_any_batch(name: str, cmvn_on: bool, awkward_wavs) -> None:
    assert_batch_equals_single(CONFIGS[name] if cmvn_on else raw(CONFIGS[name]), awkward_wavs)


def test_thirty_seven_seconds_of_padding_change_nothing(uneven_wavs) -> None:
    assert_batch_equals_single(DEFAULT, uneven_wavs)


def test_features_stay_float32_under_autocast(voice) -> None:
    wave = voice(4000, 7)
    expected = compute(wave, DEFAULT, with_target=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = compute(wave, DEFAULT, with_target=True)
    assert torch.equal(found.tokens, expected.tokens) and found.tokens.dtype == torch.float32


def test_filterbanks_are_not_saved() -> None:
    assert not Acoustics(DEFAULT, 3).state_dict()


# ------------------------------------------------------------------- corpus statistics and warped frequencies


def test_corpus_statistics_are_those_of_all_frames(voice) -> None:
    audio = replace(AudioConfig(), cmvn="corpus")
    wavs = [voice(length, seed) for seed, length in enumerate((16000, 4801, 9000))]
    plain = [frames_of(compute(wav, replace(audio, cmvn="none"))) for wav in wavs]
    # Without CMVN the logarithm keeps its floor; with statistics that constant is in the mean of the log-mel.
    frames = np.concatenate(plain).astype(np.float64)
    frames[:, : audio.num_mel_bins] -= np.log(audio.log_floor)
    acoustics = Acoustics(audio, 3)
    mean, std = corpus_statistics(acoustics, [wav.numpy() for wav in wavs])
    np.testing.assert_allclose(mean, frames.mean(0), atol=1e-4)
    np.testing.assert_allclose(std, frames.std(0), atol=1e-4)
    acoustics.corpus_mean.copy_(mean)
    acoustics.corpus_std.copy_(std)
    assert {"corpus_mean", "corpus_std"} == set(acoustics.state_dict())
    tokens = acoustics(wavs[1].unsqueeze(0), torch.tensor([4801])).tokens[0].view(-1, audio.feature_dim)[:31]
    expected = (frames[100:131] - frames.mean(0)) / frames.std(0)
    np.testing.assert_allclose(tokens, expected, atol=2e-3)


def test_a_warp_of_two_hears_a_tone_at_half_its_frequency() -> None:
    """A filter at frequency f then answers to f / 2: a tone of 1 kHz looks as one of 2 kHz."""
    time = torch.arange(16000) / 16000
    tone = {frequency: 0.1 * torch.sin(2 * torch.pi * frequency * time).unsqueeze(0) for frequency in (1000, 2000)}
    acoustics, length = Acoustics(replace(AudioConfig(), cmvn="none", delta=False), 1), torch.tensor([16000])
    peaks = {f: int(acoustics(wav, length).tokens[0, 50].argmax()) for f, wav in tone.items()}
    moved = acoustics(tone[1000], length, warp=torch.tensor([2.0])).tokens[0, 50]
    assert abs(int(moved.argmax()) - peaks[2000]) <= 1 and peaks[1000] < peaks[2000] - 10
    both = acoustics(torch.cat(list(tone.values())), length.expand(2), warp=torch.tensor([2.0, 1.0])).tokens
    torch.testing.assert_close(both[0, 50], moved)
    torch.testing.assert_close(both[1], acoustics(tone[2000], length).tokens[0])


def test_warped_filters_by_hand() -> None:
    filters = torch.tensor([[0.0], [1.0], [4.0], [2.0]])
    found = warped(filters, torch.tensor([1.0, 1.5, 0.5]))[..., 0]
    expected = [[0, 1, 4, 2], [0, (1 + 4) / 2, 2, 0], [0, 0.5, 1, (1 + 4) / 2]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))
