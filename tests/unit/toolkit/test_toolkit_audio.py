"""The audio functions that torchaudio 2.9 dropped, against soundfile's own reading and numpy."""

import math

import numpy as np
import pytest
import soundfile
import torch
from naming import naming

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit.repairs import audio_files, sox_effects

RATE = 16000


@pytest.fixture
def stereo(tmp_path):
    """A 16-bit stereo file whose samples are exactly known."""
    samples = np.random.default_rng(0).integers(-32768, 32767, (800, 2), dtype=np.int16)
    path = tmp_path / "stereo.wav"
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    return path, samples


def test_load_gives_channels_first_float32_in_full_scale(stereo):
    path, samples = stereo
    wav, rate = audio_files.load(path)
    assert (rate, wav.dtype, tuple(wav.shape)) == (RATE, torch.float32, (2, 800))
    assert torch.equal(wav, torch.from_numpy(samples.T.astype(np.float32) / 32768))


def test_load_reads_a_stretch_and_stops_at_the_end(stereo):
    path, samples = stereo
    wav, _ = audio_files.load(str(path), frame_offset=700, num_frames=50)
    assert np.array_equal(wav.numpy() * 32768, samples[700:750].T)
    assert audio_files.load(path, frame_offset=790, num_frames=50)[0].shape == (2, 10)
    assert audio_files.load(path, frame_offset=900)[0].shape == (2, 0)


def test_load_without_normalisation_keeps_integers_and_time_first(stereo):
    path, samples = stereo
    wav, _ = audio_files.load(path, normalize=False, channels_first=False)
    assert wav.dtype == torch.int16
    assert np.array_equal(wav.numpy(), samples)


def test_load_reads_an_open_file(stereo):
    path, samples = stereo
    with path.open("rb") as file:
        assert audio_files.load(file)[0].shape == (2, len(samples))


def test_info_reads_the_header(stereo, tmp_path):
    path, _ = stereo
    assert audio_files.info(path) == audio_files.AudioMetaData(RATE, 800, 2, 16, "PCM_S")
    soundfile.write(tmp_path / "a.flac", np.zeros(10), 8000, subtype="PCM_24")
    assert audio_files.info(tmp_path / "a.flac") == audio_files.AudioMetaData(8000, 10, 1, 24, "FLAC")


def test_a_piped_flac_and_joined_recordings_are_read_to_the_end(stereo, tmp_path):
    path, samples = stereo
    piped = tmp_path / "piped.flac"
    soundfile.write(piped, samples, RATE)
    raw = bytearray(piped.read_bytes())
    raw[21] &= 0xF0  # no number of samples in STREAMINFO, and no digest
    raw[22:42] = bytes(20)
    piped.write_bytes(raw)
    joined = tmp_path / "joined.wav"
    joined.write_bytes(path.read_bytes() * 2)
    for file, expected in ((piped, samples), (joined, np.concatenate([samples, samples]))):
        assert np.array_equal(audio_files.load(file)[0].numpy() * 32768, expected.T)
        assert audio_files.info(file).num_frames == len(expected)
        for start, count in ((0, 30), (100, 700), (790, 20), (1000, -1)):
            stretch = audio_files.load(file, start, count)[0].numpy() * 32768
            assert np.array_equal(stretch, expected[start:][: count if count >= 0 else None].T), (file, start, count)
    soundfile.write(tmp_path / "mono.wav", samples[:, 0], RATE)
    joined.write_bytes(path.read_bytes() + (tmp_path / "mono.wav").read_bytes())
    with pytest.raises(RuntimeError, match=naming("rates", "channels")):
        audio_files.load(joined)


def test_save_keeps_float32_exactly_and_writes_asked_bits(tmp_path):
    wav = torch.randn(2, 100)
    audio_files.save(tmp_path / "f.wav", wav, RATE)
    assert np.array_equal(soundfile.read(tmp_path / "f.wav", dtype="float32")[0], wav.t().numpy())
    audio_files.save(str(tmp_path / "i.wav"), wav, RATE, encoding="PCM_S", bits_per_sample=16)
    assert soundfile.info(str(tmp_path / "i.wav")).subtype == "PCM_16"
    with pytest.raises(ValueError, match="1-D"):
        audio_files.save(tmp_path / "x.wav", wav[0], RATE)


def test_load_equals_torchaudio_where_torchaudio_still_reads(stereo):
    torchaudio = pytest.importorskip("torchaudio")
    if not hasattr(torchaudio, "list_audio_backends"):
        pytest.skip("torchaudio >= 2.9 has no reader of its own")
    path, _ = stereo
    for options in ({}, {"normalize": False}, {"frame_offset": 10, "num_frames": 20}):
        expected, rate = torchaudio.load(path, **options)
        found, found_rate = audio_files.load(path, **options)
        assert found_rate == rate and found.dtype == expected.dtype
        assert torch.equal(found, expected)


def apply(wav, *effects):
    return sox_effects.apply_effects_tensor(wav, RATE, [list(effect) for effect in effects])


def test_gain_and_norm_are_in_decibels():
    wav = torch.tensor([[0.25, -0.5]])
    assert torch.allclose(apply(wav, ("gain", "-3.0"))[0], wav * 0.7079457843841379)
    assert torch.allclose(apply(wav, ("norm",))[0], torch.tensor([[0.5, -1.0]]))
    assert torch.equal(apply(torch.zeros(1, 4), ("norm",))[0], torch.zeros(1, 4))


def test_effects_saturate_at_full_scale_one_after_the_other():
    wav = torch.tensor([[0.5, 0.1]])
    louder, _ = apply(wav, ("gain", "20"), ("gain", "-20"))
    assert torch.allclose(louder, torch.tensor([[0.1, 0.1]]))


def test_channels_pad_trim_reverse():
    stereo = torch.tensor([[0.2, 0.4], [0.0, 0.2]])
    assert torch.allclose(apply(stereo, ("channels", "1"))[0], torch.tensor([[0.1, 0.3]]))
    wav = torch.arange(4.0)[None] / 4
    quarter = str(1 / RATE)
    assert apply(wav, ("pad", quarter, quarter))[0].tolist() == [[0, 0, 0.25, 0.5, 0.75, 0]]
    assert apply(wav, ("trim", quarter, str(2 / RATE)))[0].tolist() == [[0.25, 0.5]]
    assert apply(wav, ("reverse",))[0].tolist() == [[0.75, 0.5, 0.25, 0]]


def test_rate_keeps_a_tone_and_its_length():
    time = torch.arange(8000) / 8000
    tone = 0.5 * torch.sin(2 * math.pi * 440 * time)[None]
    found, rate = sox_effects.apply_effects_tensor(tone, 8000, [["rate", "16000"]])
    expected = 0.5 * torch.sin(2 * math.pi * 440 * torch.arange(16000) / 16000)
    assert rate == 16000 and found.shape == (1, 16000)
    assert (found[0] - expected)[1000:-1000].abs().max() < 2e-3


def test_effects_of_a_file_in_the_order_of_speech_commands(stereo):
    path, samples = stereo
    effects = [["channels", "1"], ["rate", "16000"], ["gain", "-3.0"]]
    wav, rate = sox_effects.apply_effects_file(str(path), effects)
    expected = samples.astype(np.float64).mean(axis=1) / 32768 * 10 ** (-3 / 20)
    assert rate == RATE
    assert np.allclose(wav.numpy()[0], expected, atol=1e-6)


@pytest.mark.parametrize("effect", [["silence", "2", "0.1", "0.1%"], ["vad", "-q", "1"], ["pad", "-1"]])
def test_an_effect_that_needs_sox_is_a_clear_error(effect):
    with pytest.raises(AalbertError, match=naming(effect[0], "SoX")):
        apply(torch.zeros(1, 10), effect)
