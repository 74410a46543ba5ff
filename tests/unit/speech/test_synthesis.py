"""The synthetic corpus: repeatable, correctly labelled, and with the voices and formants that were asked for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.speech.synthetic.corpus import draw_phones, make_voice, synthesise_corpus
from s3prl_aalbert.speech.synthetic.source_filter import PHONES, Voice, render

RATE = 16000
SMALL: dict[str, Any] = {"num_speakers": 2, "utterances_per_speaker": 3, "seconds": (0.5, 0.8)}
STEADY = Voice(
    f0_hz=100.0,
    f0_range=0.0,
    formant_scale=1.0,
    breathiness=0.0,
    tilt=1.0,
    jitter=0.0,
    rate=1.0,
    formant_spread=0.0,
)

# TIMIT's 61 symbols (its documentation, PHONCODE.DOC), written out here apart from the code under test.
TIMIT_STOPS = {"b", "d", "g", "p", "t", "k", "dx", "q", "bcl", "dcl", "gcl", "pcl", "tcl", "kcl"}
TIMIT_NOISY = {"jh", "ch", "s", "sh", "z", "zh", "f", "th", "v", "dh"}
TIMIT_NASALS_GLIDES = {"m", "n", "ng", "em", "en", "eng", "nx", "l", "r", "w", "y", "hh", "hv", "el"}
TIMIT_VOWELS = {"iy", "ih", "eh", "ey", "ae", "aa", "aw", "ay", "ah", "ao", "oy", "ow", "uh", "uw", "ux", "er", "ax"}
TIMIT_VOWELS |= {"ix", "axr", "ax-h"}
TIMIT_SYMBOLS = TIMIT_STOPS | TIMIT_NOISY | TIMIT_NASALS_GLIDES | TIMIT_VOWELS | {"pau", "epi", "h#"}


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_labels(path: Path) -> list[tuple[int, int, str]]:
    rows = [line.split() for line in path.read_text().splitlines()]
    return [(int(start), int(end), phone) for start, end, phone in rows]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesise_corpus(tmp_path_factory.mktemp("speech") / "corpus", **SMALL)


# ---- the folder


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(corpus: Path, tmp_path: Path) -> None:
    again = hashes(synthesise_corpus(tmp_path / "again", **SMALL))
    other = hashes(synthesise_corpus(tmp_path / "other", **SMALL, seed=1))
    assert again == hashes(corpus)
    assert len(again) == 2 + 2 * 6
    wavs = [name for name in again if name.endswith(".wav")]
    assert len({again[name] for name in wavs} | {other[name] for name in wavs}) == 12  # no two files alike


def test_larger_corpus_contains_the_smaller(corpus: Path, tmp_path: Path) -> None:
    larger = {**SMALL, "num_speakers": 3, "utterances_per_speaker": 4}
    found = hashes(synthesise_corpus(tmp_path / "larger", **larger))
    for name, digest in hashes(corpus).items():
        if name.startswith("spk"):
            assert found[name] == digest


def test_wavs_have_the_asked_format_length_and_a_usable_level(corpus: Path) -> None:
    wavs = sorted(corpus.rglob("*.wav"))
    assert len(wavs) == 6
    for wav in wavs:
        info = soundfile.info(wav)
        assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_16")
        assert 0.5 * RATE - 1 <= info.frames <= 0.8 * RATE + 1
        samples, _ = soundfile.read(wav)
        assert np.abs(samples).max() < 1.0
        assert -34 < 10 * np.log10(np.mean(samples**2)) < -18


def test_labels_are_contiguous_and_cover_the_file_with_timit_symbols(corpus: Path) -> None:
    for wav in sorted(corpus.rglob("*.wav")):
        labels = read_labels(wav.with_suffix(".phn"))
        starts, ends, phones = zip(*labels, strict=True)
        assert starts[0] == 0
        assert ends[-1] == soundfile.info(wav).frames
        assert starts[1:] == ends[:-1]
        assert all(end > start for start, end, _ in labels)
        assert set(phones) <= TIMIT_SYMBOLS
        assert (phones[0], phones[-1]) == ("h#", "h#")
        assert len(phones) >= 4


def test_index_files_agree_with_the_audio(corpus: Path) -> None:
    pairs = [line.split() for line in (corpus / "utt2spk").read_text().splitlines()]
    assert dict(pairs) == {path.stem: path.parent.name for path in corpus.rglob("*.wav")}
    assert all(re.fullmatch(rf"{speaker}_utt\d\d\d", utterance) for utterance, speaker in pairs)
    summary = json.loads((corpus / "corpus.json").read_text())
    total = sum(soundfile.info(path).frames for path in corpus.rglob("*.wav"))
    assert summary["total_samples"] == total
    assert summary["hours"] == pytest.approx(total / RATE / 3600, abs=1e-6)
    assert (summary["seed"], summary["num_speakers"], summary["utterances_per_speaker"]) == (1337, 2, 3)


def test_complete_folder_is_kept(tmp_path: Path) -> None:
    root = synthesise_corpus(tmp_path / "corpus", **SMALL)
    past = 1_000_000_000_000_000_000
    for path in root.rglob("*.wav"):
        os.utime(path, ns=(past, past))
    (root / "notes.txt").write_text("mine")  # a complete corpus is not touched, whoever added to it
    synthesise_corpus(root, **SMALL)
    assert {path.stat().st_mtime_ns for path in root.rglob("*.wav")} == {past}
    assert (root / "notes.txt").exists()


@pytest.mark.parametrize("damage", ["missing wav", "short wav", "short labels", "missing index", "missing summary"])
def test_partial_folder_is_rebuilt(corpus: Path, tmp_path: Path, damage: str) -> None:
    root = synthesise_corpus(tmp_path / "corpus", **SMALL)
    wav = root / "spk01" / "spk01_utt002.wav"
    if damage == "missing wav":
        wav.unlink()
    elif damage == "short wav":
        wav.write_bytes(wav.read_bytes()[:-1000])
    elif damage == "short labels":
        labels = wav.with_suffix(".phn")
        labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:-1]))
    elif damage == "missing index":
        (root / "utt2spk").unlink()
    else:
        (root / "corpus.json").unlink()
    assert hashes(root) != hashes(corpus)
    synthesise_corpus(root, **SMALL)
    assert hashes(root) == hashes(corpus)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]  # nothing temporary is left behind


def test_corpus_of_other_arguments_is_replaced(corpus: Path, tmp_path: Path) -> None:
    root = synthesise_corpus(tmp_path / "corpus", **SMALL, seed=3)
    synthesise_corpus(root, **SMALL)
    assert hashes(root) == hashes(corpus)


def test_corpus_another_process_finished_meanwhile_is_kept(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losing_replace(self: Path, target: Path) -> None:
        shutil.copytree(corpus, target)
        raise OSError("Directory not empty")

    monkeypatch.setattr(Path, "replace", losing_replace)
    root = synthesise_corpus(tmp_path / "corpus", **SMALL)
    assert hashes(root) == hashes(corpus)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_write, calls = soundfile.write, []

    def failing_write(*args: object, **kwargs: object) -> None:
        calls.append(args)
        if len(calls) == 4:
            raise OSError("No space left on device")
        real_write(*args, **kwargs)

    monkeypatch.setattr(soundfile, "write", failing_write)
    with pytest.raises(AalbertError, match="No space left"):
        synthesise_corpus(tmp_path / "corpus", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(AalbertError, match=r"thesis\.tex"):
        synthesise_corpus(tmp_path, **SMALL)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    with pytest.raises(AalbertError, match="is a file"):
        synthesise_corpus(tmp_path / "thesis.tex", **SMALL)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"num_speakers": 0}, "num_speakers is 0"),
        ({"num_speakers": True}, "num_speakers is True"),
        ({"utterances_per_speaker": 1.5}, r"utterances_per_speaker is 1\.5"),
        ({"seed": -1}, "seed is -1"),
        ({"seconds": (3.0, 2.0)}, "seconds is"),
        ({"seconds": (0.0, 2.0)}, "seconds is"),
        ({"seconds": (float("nan"), 2.0)}, "seconds is"),
        ({"seconds": (1.0,)}, "seconds is"),
        ({"seconds": 3}, "seconds is"),
    ],
)
def test_bad_arguments_are_named_and_nothing_is_written(tmp_path: Path, arguments: dict, named: str) -> None:
    with pytest.raises(AalbertError, match=named):
        synthesise_corpus(tmp_path / "corpus", **{**SMALL, **arguments})
    assert list(tmp_path.iterdir()) == []


# ---- the sound


def sustained(phone: str, voice: Voice, seconds: float = 0.6) -> np.ndarray:
    return render([phone], np.array([0, int(seconds * RATE)]), voice, np.random.default_rng(0))


def autocorrelation_f0(samples: np.ndarray) -> float:
    """Find the first strong peak of the autocorrelation between 60 and 400 Hz, refined by a parabola."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 2 * len(samples))) ** 2
    correlation = np.fft.irfft(spectrum)
    low, high = RATE // 400, RATE // 60
    first = low + int((correlation[low:high] > 0.85 * correlation[low:high].max()).argmax())  # not its multiples
    lag = first + int(correlation[first : first + low // 2].argmax())
    before, peak, after = correlation[lag - 1 : lag + 2]
    return RATE / (lag + 0.5 * (before - after) / (before - 2 * peak + after))


def envelope_peaks(samples: np.ndarray, f0_hz: float, num_peaks: int) -> np.ndarray:
    """Return the lowest peaks in Hz of the spectral envelope, which the harmonics' levels sample at every f0_hz."""
    samples = np.append(samples[0], np.diff(samples))  # level the tilt, which would pull the peaks down
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8 * len(samples)))
    step = f0_hz * 8 * len(samples) / RATE  # bins from one harmonic to the next
    numbers = np.arange(1, int(4000 / f0_hz))
    level = np.log([spectrum[int((number - 0.3) * step) : int((number + 0.3) * step)].max() for number in numbers])
    before, middle, after = level[:-2], level[1:-1], level[2:]
    peaks = np.flatnonzero((middle > before) & (middle > after))[:num_peaks]
    shift = 0.5 * (before - after) / (before - 2 * middle + after)
    return f0_hz * (numbers[1:-1] + shift)[peaks]


@pytest.mark.parametrize("f0_hz", [95.0, 130.0, 170.0, 230.0])
def test_pitch_of_a_sustained_vowel_is_the_asked_one(f0_hz: float) -> None:
    samples = sustained("ah", dataclasses.replace(STEADY, f0_hz=f0_hz))
    assert autocorrelation_f0(samples[1600:8000]) == pytest.approx(f0_hz, rel=0.01)


def test_pitch_of_the_first_eight_voices_is_theirs_and_distinct() -> None:
    asked, measured = [], []
    for speaker in range(8):
        voice = dataclasses.replace(make_voice(1337, speaker), f0_range=0.0)
        asked.append(voice.f0_hz)
        measured.append(autocorrelation_f0(sustained("aa", voice)[1600:8000]))
    assert measured == pytest.approx(asked, rel=0.03)
    ordered = np.sort(measured)
    assert (ordered[1:] / ordered[:-1]).min() > 1.03


# Male averages of F1-F3 in Hz, Peterson & Barney (1952), table II: written out apart from the synthesiser's table.
@pytest.mark.parametrize(
    ("phone", "expected"),
    [("iy", (270, 2290)), ("eh", (530, 1840, 2480)), ("ae", (660, 1720, 2410)), ("aa", (730, 1090, 2440))],
)
def test_formants_of_a_vowel_are_where_the_literature_puts_them(phone: str, expected: tuple[int, ...]) -> None:
    samples = sustained(phone, dataclasses.replace(STEADY, f0_hz=50.0))
    assert envelope_peaks(samples[1000:], 50.0, len(expected)) == pytest.approx(expected, rel=0.08)


def test_a_shorter_vocal_tract_raises_the_formants_by_its_scale() -> None:
    voice = dataclasses.replace(STEADY, f0_hz=50.0)
    short = dataclasses.replace(voice, formant_scale=1.15)
    low, high = (envelope_peaks(sustained("ae", each)[1000:], 50.0, 3) for each in (voice, short))
    assert high / low == pytest.approx([1.15] * 3, rel=0.04)


def band_level_db(samples: np.ndarray, low_hz: float, high_hz: float) -> float:
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    frequency = np.fft.rfftfreq(len(samples), 1 / RATE)
    return 10 * np.log10(power[(frequency >= low_hz) & (frequency < high_hz)].sum() + 1e-12)


def test_fricatives_and_vowels_have_their_energy_where_it_belongs() -> None:
    s, sh, aa = (sustained(phone, STEADY) for phone in ("s", "sh", "aa"))
    assert band_level_db(s, 4500, 8000) > band_level_db(s, 2000, 4000) + 6
    assert band_level_db(sh, 2000, 4000) > band_level_db(sh, 5500, 8000) + 6
    assert band_level_db(aa, 0, 2000) > band_level_db(aa, 4000, 8000) + 20


def test_stop_is_silence_then_a_burst_and_its_boundaries_are_in_the_sound() -> None:
    boundaries = np.array([0, 3200, 4800, 8000])
    samples = render(["aa", "t", "aa"], boundaries, STEADY, np.random.default_rng(0))
    power = np.convolve(samples**2, np.ones(160) / 160, mode="same")
    vowel, closure, release = power[1600], power[3700], power[4160:4480].max()
    assert closure < vowel / 1000
    assert release > 30 * closure
    half = np.sqrt(vowel * closure)  # half way in dB
    end_of_vowel = 1600 + int((power[1600:3700] < half).argmax())
    assert abs(end_of_vowel - 3200) < 0.015 * RATE


def test_every_phone_can_be_rendered_and_only_silence_is_silent() -> None:
    for symbol in PHONES:
        level = np.sqrt(np.mean(sustained(symbol, STEADY, 0.1) ** 2))
        assert np.isfinite(level)
        assert (level < 1e-9) == (symbol in {"pau", "h#"}), symbol
    assert set(PHONES) <= TIMIT_SYMBOLS


def test_unknown_phone_is_named() -> None:
    with pytest.raises(AalbertError, match=r'"shh".*did you mean "sh"'):
        sustained("shh", STEADY)


def test_syllables_follow_the_grammar() -> None:
    generator = np.random.default_rng(5)
    vowels, silences = {"iy", "eh", "ae", "aa", "ah", "uw", "er"}, {"pau", "h#"}
    shape = ""
    for _ in range(40):
        phones, boundaries = draw_phones(3.0, 1.0, generator)
        assert boundaries[-1] == 3 * RATE
        assert (np.diff(boundaries) > 0.015 * RATE).all()
        assert all(first != second for first, second in pairwise(phones))
        shape += "".join("V" if phone in vowels else "-" if phone in silences else "C" for phone in phones)
    words = [word for word in shape.split("-") if word]
    assert all(re.fullmatch(r"(CVC?)+", word) for word in words)
    assert len(words) > 60
