"""Reading audio: every format, rate and channel count gives mono float32 at 16 kHz; bad files are one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from s3prl_aalbert.audio_io import AUDIO_SUFFIXES, AudioError, read_audio
from s3prl_aalbert.errors import AalbertError


def tone(rate: int, seconds: float, frequency: float = 440.0) -> np.ndarray:
    """Return a (num_samples,) sine of amplitude 0.5."""
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)


def best_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the highest correlation of two signals over all shifts, in [-1, 1]."""
    size = len(a) + len(b)
    products = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    return float(products.max() / np.sqrt((a**2).sum() * (b**2).sum()))


LOSSLESS = [
    (".wav", {"subtype": "PCM_16"}, 2**-15),
    (".wav", {"subtype": "PCM_24"}, 2**-23),
    (".wav", {"subtype": "PCM_U8"}, 2**-7),
    (".wav", {"subtype": "FLOAT"}, 1e-7),
    (".flac", {}, 2**-15),
    (".sph", {"format": "NIST", "subtype": "PCM_16"}, 2**-15),
]
LOSSY = [
    (".ogg", {"format": "OGG", "subtype": "VORBIS"}),
    (".opus", {"format": "OGG", "subtype": "OPUS"}),
    (".mp3", {"format": "MP3"}),
]


@pytest.mark.parametrize(("suffix", "options", "step"), LOSSLESS, ids=lambda value: str(value)[:20])
def test_lossless_formats_keep_every_sample(tmp_path: Path, suffix: str, options: dict, step: float) -> None:
    samples = tone(16000, 0.5) + tone(16000, 0.5, 3333) / 4
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, samples, 16000, **options)
    read = read_audio(path)
    assert suffix in AUDIO_SUFFIXES
    assert read.dtype == np.float32 and read.shape == samples.shape and read.flags.c_contiguous
    np.testing.assert_allclose(read, samples, atol=step)


@pytest.mark.parametrize(("suffix", "options"), LOSSY, ids=lambda value: str(value)[:20])
def test_lossy_formats_keep_the_sound(tmp_path: Path, suffix: str, options: dict) -> None:
    samples = tone(16000, 1.0) * np.linspace(0.2, 1, 16000)
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, samples, 16000, **options)
    read = read_audio(path)
    assert suffix in AUDIO_SUFFIXES
    assert read.dtype == np.float32 and abs(len(read) - len(samples)) < 3000  # codecs pad to whole blocks
    assert best_correlation(read.astype(np.float64), samples) > 0.98


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(rate, 1.0), rate, subtype="FLOAT")
    read = read_audio(path)
    assert len(read) == 16000
    np.testing.assert_allclose(read[500:-500], tone(16000, 1.0)[500:-500], atol=5e-3)


def test_the_wanted_rate_is_an_argument(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(16000, 1.0), 16000, subtype="FLOAT")
    read = read_audio(str(path), sample_rate=8000)
    np.testing.assert_allclose(read[500:-500], tone(8000, 1.0)[500:-500], atol=5e-3)


def test_frequencies_that_cannot_be_kept_are_removed_not_folded(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(48000, 1.0, 11000), 48000, subtype="FLOAT")
    assert np.abs(read_audio(path)[500:-500]).max() < 0.01


@pytest.mark.parametrize("channels", [2, 5])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    parts = np.stack([tone(16000, 0.1, 200 * (k + 1)) for k in range(channels)], axis=1)
    path = tmp_path / "a.wav"
    soundfile.write(path, parts, 16000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path), sum(parts[:, k] for k in range(channels)) / channels, atol=1e-6)


def test_silence_and_twenty_milliseconds_are_ordinary_audio(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(16000), 16000)
    assert not read_audio(path).any() and read_audio(path).shape == (16000,)
    soundfile.write(path, tone(16000, 0.02), 16000)
    assert read_audio(path).shape == (320,)
    soundfile.write(path, tone(8000, 0.02), 8000)
    assert read_audio(path).shape == (320,)


def bad_file(path: Path, kind: str) -> Path:
    """Write an unusable audio file and return its path."""
    if kind == "missing":
        return path
    if kind == "folder":
        path.mkdir()
    elif kind == "no bytes":
        path.write_bytes(b"")
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "text":
        path.write_text("this is not audio\n" * 50, encoding="utf-8")
    elif kind == "header alone":
        soundfile.write(path, tone(16000, 0.1), 16000)
        path.write_bytes(path.read_bytes()[:20])
    elif kind == "no samples":
        soundfile.write(path, np.zeros(0), 16000)
    else:
        samples = tone(16000, 0.1)
        samples[100] = float(kind)
        soundfile.write(path, samples, 16000, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such file"),
        ("folder", "cannot be decoded"),
        ("no bytes", "cannot be decoded"),
        ("noise", "cannot be decoded"),
        ("text", "cannot be decoded"),
        ("header alone", ""),
        ("no samples", "holds no samples"),
        ("nan", "NaN or infinite"),
        ("inf", "NaN or infinite"),
    ],
)
def test_an_unusable_file_is_one_sentence(tmp_path: Path, kind: str, message: str) -> None:
    path = bad_file(tmp_path / "bad.wav", kind)
    with pytest.raises(AudioError) as error:
        read_audio(path)
    assert isinstance(error.value, AalbertError)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".flac", ".ogg"])
def test_a_file_cut_in_its_middle_is_no_silent_success(tmp_path: Path, suffix: str) -> None:
    """A truncated compressed file either fails or gives the samples before the cut, never invented ones."""
    samples = tone(16000, 2.0) * np.linspace(0.3, 1, 32000)
    path = tmp_path / f"cut{suffix}"
    soundfile.write(path, samples, 16000)
    whole = read_audio(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    try:
        part = read_audio(path)
    except AudioError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert len(part) < len(whole)
        np.testing.assert_allclose(part[:-2000], whole[: len(part)][:-2000], atol=1e-3)


def test_real_speech_of_each_corpus_is_read(shared_data: Path) -> None:
    for pattern in ("speechocean762/audio/*/*.opus", "LibriSpeech/*/*/*/*.flac", "timit/*/*.wav"):
        path = next(iter(sorted(shared_data.glob(pattern))))
        read = read_audio(path)
        assert len(read) > 8000 and 0.01 < np.abs(read).max() <= 1.01
