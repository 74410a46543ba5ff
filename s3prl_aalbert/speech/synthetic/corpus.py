"""Generates a small corpus of several synthetic speakers with known phone boundaries, without any download.

The corpus is for trying the software out, not for conclusions about speech. Its layout:

    ROOT/corpus.json             the arguments, and the files that were written
    ROOT/utt2spk                 one "UTTERANCE SPEAKER" line each
    ROOT/SPEAKER/UTTERANCE.wav   16 kHz mono, 16-bit PCM
    ROOT/SPEAKER/UTTERANCE.phn   TIMIT style: "START END PHONE" in samples, contiguous, covering the file
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.speech.synthetic.source_filter import PHONES, SAMPLE_RATE, Generator, Voice, fft_length, render

GENERATOR_VERSION = 2  # increase with every change that alters a byte of the corpus
_WAV_HEADER_BYTES = 44
_OWN_FILE = re.compile(r"corpus\.json|utt2spk|spk\d+/spk\d+_utt\d+\.(wav|phn)")

# The frequencies are uneven, as in any language.
_ONSETS = {"t": 9, "s": 8, "n": 7, "d": 7, "k": 6, "m": 6, "r": 6, "l": 6, "w": 5, "b": 5, "p": 5, "f": 4}
_ONSETS |= {"z": 3, "sh": 3, "g": 3, "y": 2}
_VOWELS = {"ah": 9, "iy": 7, "eh": 6, "ae": 5, "aa": 5, "er": 4, "uw": 4}
_CODAS = {"n": 8, "t": 6, "s": 5, "l": 4, "z": 4, "d": 4, "k": 3, "m": 3, "p": 2}

_log = logging.getLogger(__name__)


def synthesise_corpus(
    root: Path | str,
    num_speakers: int = 8,
    utterances_per_speaker: int = 30,
    seconds: tuple[float, float] = (2.0, 4.0),
    seed: int = 1337,
) -> Path:
    """Write the corpus, or keep an existing one that is complete and has the same arguments.

    An utterance depends only on the seed, its speaker's number and its own number, so that a larger corpus contains the
    smaller one. The folder gets its name when it is complete.

    Args:
        root: the corpus folder; an incomplete or different synthetic corpus there is replaced.
        num_speakers: number of voices.
        utterances_per_speaker: number of files of each.
        seconds: length of the shortest and the longest utterance.
        seed: seed of all random numbers.

    Returns:
        The corpus folder.

    Raises:
        AalbertError: an argument is out of range, or ``root`` holds files that are not of a synthetic corpus.
    """
    _check_arguments(num_speakers, utterances_per_speaker, seconds, seed)
    root = Path(root).expanduser()
    # The request is stored beside the corpus: it decides whether an existing corpus can be kept.
    request = {
        "format": 1,
        "generator": "s3prl_aalbert.speech.synthetic.corpus",
        "generator_version": GENERATOR_VERSION,
        "seed": seed,
        "num_speakers": num_speakers,
        "utterances_per_speaker": utterances_per_speaker,
        "seconds": [float(seconds[0]), float(seconds[1])],
        "sample_rate": SAMPLE_RATE,
    }
    if _is_complete(root, request):
        _log.info("synthetic corpus %s is complete: kept", root)
        return root
    _check_replaceable(root)
    # The corpus is written beside its final place and then renamed, so that a kill leaves no incomplete corpus.
    target = root.resolve()
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        _write_corpus(partial, request)
        if target.exists():
            shutil.rmtree(target)
        partial.replace(target)
    except OSError as error:
        if _is_complete(root, request):  # another process wrote it meanwhile
            return root
        raise AalbertError(f"{root}: the synthetic corpus cannot be written ({error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


def make_voice(seed: int, speaker: int) -> Voice:
    """Draw speaker number ``speaker``; speakers are spread evenly over pitch and vocal-tract length.

    A Kronecker sequence (multiples, modulo 1, of the golden ratio and of the square root of 2) keeps any number of
    speakers apart, which independent draws would not.
    """
    start = np.random.default_rng([seed, 0]).random(2)
    pitch, tract = (start + (speaker + 1) * np.array([0.6180339887, 0.4142135624])) % 1.0
    generator = np.random.default_rng([seed, 1, speaker])
    return Voice(
        f0_hz=float(90 * (235 / 90) ** pitch),
        f0_range=float(generator.uniform(0.05, 0.14)),
        formant_scale=float(0.92 + 0.24 * (0.55 * pitch + 0.45 * tract)),  # high voices tend to have short tracts
        breathiness=float(generator.uniform(0.02, 0.12)),
        tilt=float(generator.uniform(0.85, 1.25)),
        jitter=float(generator.uniform(0.004, 0.015)),
        rate=float(generator.uniform(0.85, 1.2)),
        formant_spread=0.05,
    )


def draw_phones(target_seconds: float, rate: float, generator: Generator) -> tuple[list[str], np.ndarray]:
    """Draw words of CV(C) syllables between two silences, stretched to the asked length.

    Args:
        target_seconds: length of the utterance.
        rate: speaking rate; 1 gives the durations of the table.
        generator: draws the choices and durations.

    Returns:
        P phones, and their boundaries in samples, (P + 1,) int64 from 0.
    """
    edge_seconds = min(0.1, target_seconds / 10) * generator.uniform(0.6, 1.6, size=2)
    speech_seconds = target_seconds - edge_seconds.sum()
    phones: list[str] = []
    durations: list[float] = []
    while not phones or sum(durations) < speech_seconds:
        word = ["pau"] if phones and generator.random() < 0.15 else []
        for _ in range(generator.choice([1, 2, 3], p=[0.4, 0.4, 0.2])):
            word += _draw_syllable((phones + word)[-1:], generator)
        phones += word
        spread = np.exp(0.22 * generator.standard_normal(len(word)))
        durations += [
            PHONES[phone].duration_ms / 1000 / rate * factor for phone, factor in zip(word, spread, strict=True)
        ]
    stretched = np.array(durations) * speech_seconds / sum(durations)
    ends = np.cumsum([edge_seconds[0], *stretched, edge_seconds[1]])
    return ["h#", *phones, "h#"], np.concatenate([[0], np.rint(ends * SAMPLE_RATE)]).astype(np.int64)


def _draw_syllable(previous: list[str], generator: Generator) -> list[str]:
    """Draw CV or CVC; the onset differs from the consonant before it, so that every boundary is audible."""
    onset = _draw({phone: weight for phone, weight in _ONSETS.items() if phone not in previous}, generator)
    coda = [_draw(_CODAS, generator)] if generator.random() < 0.35 else []
    return [onset, _draw(_VOWELS, generator), *coda]


def _draw(weights: dict[str, int], generator: Generator) -> str:
    probabilities = np.array(list(weights.values()), dtype=float)
    return str(generator.choice(list(weights), p=probabilities / probabilities.sum()))


def _record(speech: np.ndarray, generator: Generator) -> np.ndarray:
    """Add a random recording condition to clean speech (S,): channel colour, background noise and level."""
    num_samples, padded = len(speech), fft_length(len(speech))
    frequency = np.fft.rfftfreq(padded, 1 / SAMPLE_RATE)
    octave = np.log2(np.maximum(frequency, 60) / 60) / np.log2(8000 / 60)  # 0 at 60 Hz .. 1 at 8 kHz
    waves = np.cos(np.pi * np.outer([1, 2, 3], octave))
    colour = 10 ** (generator.normal(0, [3.0, 2.0, 2.0]) @ waves / 20)
    speech = np.fft.irfft(np.fft.rfft(speech, padded) * colour, padded)[:num_samples]
    noise_slope = np.maximum(frequency, 60) ** -generator.uniform(0.0, 0.6)
    noise = np.fft.irfft(np.fft.rfft(generator.standard_normal(padded)) * noise_slope, padded)[:num_samples]
    noise_gain = 10 ** (-generator.uniform(22, 38) / 20) / np.sqrt(np.mean(noise**2))
    speech = speech / np.sqrt(np.mean(speech**2)) + noise_gain * noise
    mixture = speech * 10 ** (generator.uniform(-32, -20) / 20)
    return mixture / max(1.0, np.abs(mixture).max() / 0.99)


def _synthesise_utterance(
    voice: Voice, seconds: tuple[float, float], generator: Generator
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Draw one utterance: samples (S,) in [-1, 1], P phones, boundaries (P + 1,)."""
    session = Voice(**{**asdict(voice), "f0_hz": voice.f0_hz * float(np.exp(0.05 * generator.standard_normal()))})
    phones, boundaries = draw_phones(generator.uniform(*seconds), voice.rate, generator)
    return _record(render(phones, boundaries, session, generator), generator), phones, boundaries


def _write_corpus(folder: Path, request: dict) -> None:
    """Write all utterances, then the two files at the root."""
    seed, lines, total_samples, voices = request["seed"], [], 0, {}
    for speaker in range(request["num_speakers"]):
        name, voice = f"spk{speaker:02d}", make_voice(seed, speaker)
        voices[name] = asdict(voice)
        (folder / name).mkdir()
        for number in range(request["utterances_per_speaker"]):
            utterance = f"{name}_utt{number:03d}"
            generator = np.random.default_rng([seed, 2, speaker, number])
            samples, phones, boundaries = _synthesise_utterance(voice, request["seconds"], generator)
            soundfile.write(folder / name / f"{utterance}.wav", samples, SAMPLE_RATE, subtype="PCM_16")
            spans = zip(boundaries[:-1], boundaries[1:], phones, strict=True)
            labels = "".join(f"{start} {end} {phone}\n" for start, end, phone in spans)
            (folder / name / f"{utterance}.phn").write_text(labels, encoding="ascii")
            lines.append(f"{utterance} {name}\n")
            total_samples += len(samples)
    (folder / "utt2spk").write_text("".join(lines), encoding="ascii")
    hours = round(total_samples / SAMPLE_RATE / 3600, 6)
    summary = {**request, "total_samples": total_samples, "hours": hours, "phones": sorted(PHONES), "voices": voices}
    (folder / "corpus.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="ascii")


def _is_complete(root: Path, request: dict) -> bool:
    """Return whether ``root`` holds the requested corpus with every file at its full length."""
    try:
        summary = json.loads((root / "corpus.json").read_text(encoding="ascii"))
        if {key: summary.get(key) for key in request} != request:
            return False
        total_samples = 0
        utterances = [line.split() for line in (root / "utt2spk").read_text(encoding="ascii").splitlines()]
        for utterance, speaker in utterances:
            wav = root / speaker / f"{utterance}.wav"
            num_samples = (wav.stat().st_size - _WAV_HEADER_BYTES) // 2
            labels = wav.with_suffix(".phn").read_text(encoding="ascii").split()
            if not labels or int(labels[-2]) != num_samples:
                return False
            total_samples += num_samples
    except (OSError, ValueError, AttributeError, IndexError):
        return False
    expected = request["num_speakers"] * request["utterances_per_speaker"]
    return len(utterances) == expected and total_samples == summary.get("total_samples")


def _check_replaceable(root: Path) -> None:
    """Refuse to replace anything but a synthetic corpus: the folder may hold the user's own files."""
    if root.exists() and not root.is_dir():
        raise AalbertError(f"{root}: is a file, expected a folder for the synthetic corpus")
    for path in sorted(root.rglob("*")) if root.exists() else []:
        name = path.relative_to(root).as_posix()
        if not path.is_dir() and not _OWN_FILE.fullmatch(name):
            raise AalbertError(
                f"{root}: holds {name}, expected a new or empty folder, or a synthetic corpus to replace"
            )


def _check_arguments(num_speakers: int, utterances_per_speaker: int, seconds: tuple[float, float], seed: int) -> None:
    """Raise AalbertError for the first argument that is out of range."""
    counts = {
        "num_speakers": (num_speakers, 1),
        "utterances_per_speaker": (utterances_per_speaker, 1),
        "seed": (seed, 0),
    }
    for name, (value, least) in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise AalbertError(f"synthetic corpus: {name} is {value!r}, expected a whole number of at least {least}")
    try:
        shortest, longest = (float(bound) for bound in seconds)
    except (TypeError, ValueError):
        raise AalbertError(f"synthetic corpus: seconds is {seconds!r}, expected two numbers") from None
    if not 0.5 <= shortest <= longest <= 60:
        raise AalbertError(f"synthetic corpus: seconds is {seconds!r}, expected 0.5 <= shortest <= longest <= 60")
