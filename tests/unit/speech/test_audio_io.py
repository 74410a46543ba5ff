"""Reading audio: every format, rate and channel count gives mono float32 at 16 kHz; bad files are one sentence."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s3prl_aalbert.audio_io import AUDIO_SUFFIXES, AudioError, read_audio
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.speech import reading
from s3prl_aalbert.speech.containers import split_joined
from s3prl_aalbert.speech.reading import is_silent


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
        ("no bytes", "0 bytes"),
        ("noise", "cannot be decoded"),
        ("text", "cannot be decoded"),
        ("header alone", ""),
        ("no samples", "no samples"),
        ("nan", "NaN or infinite"),
        ("inf", "NaN or infinite"),
        ("-12039", "up to 12039"),  # 16-bit values saved as floats would be clipped to a square wave
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


# ------------------------------------------------------------------------- headers that state no or a wrong length


def as_written_to_a_pipe(kind: str, path: Path, samples: np.ndarray) -> None:
    """Write 16 kHz audio whose header states no length, as encoders that cannot seek leave it."""
    soundfile.write(path, samples, 16000, format=kind, subtype="PCM_16")
    raw = bytearray(path.read_bytes())
    data = raw.find(b"data")
    if kind == "FLAC":  # bytes 21 to 25 of STREAMINFO: 4 bits of another field, 36 bits of samples; then a digest
        raw[21] &= 0xF0
        raw[22:26] = bytes(4)
        raw[26:42] = bytes(16)
    elif kind == "WAV":
        raw[data + 4 : data + 8] = bytes(4)
    elif kind == "AU":
        raw[8:12] = bytes(4)
    elif kind == "CAF":
        raw[data + 4 : data + 12] = b"\xff" * 8
    elif kind == "RF64":
        place = raw.find(b"ds64")
        raw[place + 8 : place + 32] = bytes(24)
    path.write_bytes(raw)


@pytest.mark.parametrize("kind", ["FLAC", "WAV", "AU", "CAF", "RF64"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seconds", [0.05, 0.5])
def test_a_header_without_a_length_is_read_to_the_end(tmp_path: Path, kind: str, channels: int, seconds: float) -> None:
    sounds = [tone(16000, seconds, 300 * (k + 1)) for k in range(channels)]
    samples = np.round(32768 * np.stack(sounds, axis=1)).astype(np.int16)
    soundfile.write(tmp_path / "whole.wav", samples, 16000, subtype="PCM_16")
    as_written_to_a_pipe(kind, tmp_path / "piped", samples)
    np.testing.assert_array_equal(read_audio(tmp_path / "piped"), read_audio(tmp_path / "whole.wav"))


def test_a_long_piped_file_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 1000)
    samples = tone(16000, 0.777)
    for kind in ("FLAC", "WAV"):
        as_written_to_a_pipe(kind, tmp_path / kind, samples)
        np.testing.assert_allclose(read_audio(tmp_path / kind), samples, atol=2**-15)


@pytest.mark.parametrize("stated", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 10**6])
def test_a_wav_that_states_more_than_it_holds(tmp_path: Path, stated: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(16000, 0.5), 16000)
    whole = read_audio(tmp_path / "a.wav")
    raw = bytearray((tmp_path / "a.wav").read_bytes())
    place = raw.find(b"data") + 4
    raw[place : place + 4] = stated.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(raw)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), whole)


def test_a_wav_without_samples_but_with_comments_stays_empty(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16000)
    with (tmp_path / "a.wav").open("ab") as file:
        file.write(b"LIST" + (26).to_bytes(4, "little") + b"INFOICMT" + (14).to_bytes(4, "little") + b"nothing to say")
    with pytest.raises(AudioError, match="no samples"):
        read_audio(tmp_path / "a.wav")


# ------------------------------------------------------------------------------------------- joined recordings


@pytest.mark.parametrize(
    ("kind", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", None), ("WAV", None), ("MP3", None)]
)
def test_joined_recordings_are_read_one_after_the_other(tmp_path: Path, kind: str, subtype: str | None) -> None:
    """Also where rate and number of channels change in between, as RFC 3533 allows for Ogg."""
    parts = []
    for number, (rate, channels, seconds) in enumerate([(16000, 1, 0.5), (8000, 2, 0.75), (16000, 1, 0.1)]):
        path = tmp_path / f"{number}.{kind}"
        sound = np.stack([tone(rate, seconds, 200 * (number + k + 1)) for k in range(channels)], axis=1)
        soundfile.write(path, sound, rate, format=kind, subtype=subtype)
        parts.append(path)
    joined = tmp_path / f"joined.{kind}"
    joined.write_bytes(b"".join(path.read_bytes() for path in parts))
    expected = np.concatenate([read_audio(path) for path in parts])
    assert len(expected) == 8000 + 12000 + 1600
    np.testing.assert_array_equal(read_audio(joined), expected)
    if kind in ("OGG", "FLAC"):  # of the others a cut file is the samples before the cut
        joined.write_bytes(parts[0].read_bytes() + parts[1].read_bytes()[:60])
        with pytest.raises(AudioError):  # no second part is lost without a word
            read_audio(joined)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("share", [0.65, 0.8, 0.97])
def test_a_recording_that_was_cut_off_in_a_page_and_resumed(tmp_path: Path, subtype: str, share: float) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 32000)
    soundfile.write(tmp_path / "whole.ogg", noise, 16000, format="OGG", subtype=subtype)
    whole, samples = (tmp_path / "whole.ogg").read_bytes(), read_audio(tmp_path / "whole.ogg")
    cut = whole[: int(len(whole) * share)]
    (tmp_path / "cut.ogg").write_bytes(cut)
    (tmp_path / "resumed.ogg").write_bytes(cut + whole)
    before = read_audio(tmp_path / "cut.ogg")
    np.testing.assert_allclose(before, samples[: len(before)], atol=1e-6)
    np.testing.assert_array_equal(read_audio(tmp_path / "resumed.ogg"), np.concatenate([before, samples]))
    assert len(before) > 8000


def test_an_ogg_page_in_the_samples_begins_nothing() -> None:
    def page(flags: int, body: bytes) -> bytes:
        return b"OggS\0" + bytes([flags]) + bytes(20) + bytes([1, len(body)]) + body

    first = page(2, b"head") + page(0, page(2, b"inside")) + page(4, b"end")
    second = page(2, b"head of a") + page(2, b"head of b") + page(0, b"both")
    assert split_joined(BytesIO(first)) == split_joined(BytesIO(b"")) == [], "nothing to split"
    assert split_joined(BytesIO(first + second)) == [first, second], "streams side by side stay together"
    assert split_joined(BytesIO(first + b"junk" + second)) == [first + b"junk", second]


# ------------------------------------------------------------------------------------ channels, silence


@pytest.mark.parametrize("gain", [1.0, 0.95])
def test_channels_that_cancel_each_other(tmp_path: Path, gain: float, caplog: pytest.LogCaptureFixture) -> None:
    sound = tone(16000, 0.2)
    soundfile.write(tmp_path / "a.wav", np.stack([gain * sound, -sound], axis=1), 16000, subtype="FLOAT")
    notes: list[str] = []
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", notes=notes), (-1 if gain < 1 else 1) * sound, atol=1e-6)
    assert notes == ["channels cancel each other, the loudest is taken"]
    reading._LOGGED.clear()
    for _ in range(2):
        read_audio(tmp_path / "a.wav")
    assert caplog.text.count("channels cancel each other") == 1


@pytest.mark.parametrize("kind", ["one silent", "unlike", "half", "all silent"])
def test_other_channels_are_averaged_without_a_note(tmp_path: Path, kind: str) -> None:
    left, noise = tone(16000, 0.2), np.random.default_rng(0).normal(0, 0.1, 3200)
    right = {"one silent": 0 * left, "unlike": noise, "half": -left / 2, "all silent": 0 * left}[kind]
    left = 0 * left if kind == "all silent" else left
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16000, subtype="FLOAT")
    notes: list[str] = []
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", notes=notes), (left + right) / 2, atol=1e-6)
    assert notes == []


def test_what_is_silent() -> None:
    ramp = np.arange(100, dtype=np.float32) / 32768
    assert is_silent(0 * ramp) and is_silent(0 * ramp + 0.3) and is_silent(ramp[:1]) and is_silent(ramp[:0])
    assert is_silent(ramp[:2] * 0.9) and not is_silent(ramp[:2]), "one step of 16 bits is a sound"


def test_real_speech_of_each_corpus_is_read(shared_data: Path) -> None:
    for pattern in ("speechocean762/**/*.opus", "LibriSpeech/**/*.flac", "LibriSpeech/**/*.opus", "timit/**/*.wav"):
        path = next(iter(shared_data.glob(pattern)), None)
        if path is None:
            pytest.skip(f"no {pattern} in {shared_data}")
        read = read_audio(path)
        assert len(read) > 8000 and 0.01 < np.abs(read).max() <= 1.01
