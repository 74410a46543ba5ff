"""A source-filter synthesiser: it turns a phone sequence with boundaries and a voice into a waveform.

A glottal pulse train and aspiration noise pass through a cascade of formant resonators, frication noise through a
shape of its own; all filters move from frame to frame. Vowel formants are the male averages of Peterson & Barney
(1952); the cascade of digital resonators and the nasal pole-zero pair follow Klatt (1980), "Software for a
cascade/parallel formant synthesizer".

Phones are TIMIT symbols, so that the usual folding to 39 classes applies. One symbol covers a stop's closure and
release together, since only the context shows which stop a closure belongs to.

Dimensions: S samples, T filter frames, P phones, N frequency bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from s3prl_aalbert.errors import AalbertError, did_you_mean

SAMPLE_RATE = 16000
HOP_SAMPLES = 160
_FFT_SIZE = 1024  # a 20 ms frame plus 40 ms for its response to die away
_LEAD_SAMPLES = 64  # room before each frame: the zero-phase noise shapes also reach backwards in time
_GRID_SAMPLES = 32  # formant targets are smoothed on a 2 ms grid
_TRANSITION_MS = 60
_RAMP_MS = 4.0
_NASAL_POLE_HZ = 270.0
_BANDWIDTHS_HZ = (70.0, 100.0, 160.0)
_HIGHER_FORMANTS_HZ = (3500.0, 4500.0, 5500.0, 6500.0)

Generator = np.random.Generator


@dataclass(frozen=True)
class Phone:
    """The parameters of one phone; amplitudes are linear, before the filters."""

    kind: str
    duration_ms: float
    formants_hz: tuple[float, float, float]
    voicing: float = 0.0
    aspiration: float = 0.0
    frication: float = 0.0
    noise_centre_hz: float = 0.0
    noise_width_hz: float = 0.0
    nasal_zero_hz: float = _NASAL_POLE_HZ  # at the pole's place the pair cancels: no nasality


def _vowel(f1: float, f2: float, f3: float, duration_ms: float = 120.0) -> Phone:
    return Phone("vowel", duration_ms, (f1, f2, f3), voicing=1.0)


_LABIAL, _ALVEOLAR, _VELAR = (300.0, 900.0, 2200.0), (300.0, 1750.0, 2650.0), (300.0, 2000.0, 2350.0)
_NEUTRAL = (500.0, 1500.0, 2500.0)

PHONES: dict[str, Phone] = {
    "iy": _vowel(270, 2290, 3010),
    "eh": _vowel(530, 1840, 2480, 105.0),
    "ae": _vowel(660, 1720, 2410, 140.0),
    "aa": _vowel(730, 1090, 2440, 140.0),
    "ah": _vowel(640, 1190, 2390, 100.0),
    "uw": _vowel(300, 870, 2240),
    "er": _vowel(490, 1350, 1690),
    "m": Phone("nasal", 75, (260, 1000, 2200), voicing=0.5, nasal_zero_hz=1000.0),
    "n": Phone("nasal", 70, (260, 1500, 2600), voicing=0.5, nasal_zero_hz=1700.0),
    "l": Phone("approximant", 70, (360, 1100, 2700), voicing=0.6),
    "r": Phone("approximant", 70, (350, 1150, 1500), voicing=0.6),
    "w": Phone("approximant", 70, (290, 650, 2200), voicing=0.6),
    "y": Phone("approximant", 65, (260, 2200, 3000), voicing=0.6),
    "s": Phone("fricative", 105, _ALVEOLAR, frication=0.9, noise_centre_hz=5600, noise_width_hz=1200),
    "sh": Phone("fricative", 110, (300, 1900, 2500), frication=1.1, noise_centre_hz=3100, noise_width_hz=800),
    "f": Phone("fricative", 95, _LABIAL, frication=0.22, noise_centre_hz=5000, noise_width_hz=4000),
    "z": Phone("fricative", 80, _ALVEOLAR, voicing=0.2, frication=0.45, noise_centre_hz=5600, noise_width_hz=1200),
    "p": Phone("stop", 100, _LABIAL, aspiration=0.10, frication=0.5, noise_centre_hz=700, noise_width_hz=700),
    "t": Phone("stop", 100, _ALVEOLAR, aspiration=0.10, frication=0.9, noise_centre_hz=4200, noise_width_hz=1300),
    "k": Phone("stop", 105, _VELAR, aspiration=0.12, frication=1.1, noise_centre_hz=2000, noise_width_hz=500),
    "b": Phone("stop", 80, _LABIAL, voicing=0.08, frication=0.4, noise_centre_hz=700, noise_width_hz=700),
    "d": Phone("stop", 75, _ALVEOLAR, voicing=0.08, frication=0.7, noise_centre_hz=4000, noise_width_hz=1300),
    "g": Phone("stop", 80, _VELAR, voicing=0.08, frication=0.8, noise_centre_hz=1900, noise_width_hz=500),
    "pau": Phone("silence", 140, _NEUTRAL),
    "h#": Phone("silence", 160, _NEUTRAL),
}


@dataclass(frozen=True)
class Voice:
    """One speaker's voice."""

    f0_hz: float
    f0_range: float  # standard deviation of the accents, and size of the declination, as a fraction of f0_hz
    formant_scale: float  # inverse of the relative length of the vocal tract
    breathiness: float  # aspiration noise as a fraction of the voicing
    tilt: float  # steepness of the source: about 6 * tilt dB per octave
    jitter: float  # standard deviation of pulse times, as a fraction of the period
    rate: float  # speaking rate, 1 = the table's durations
    formant_spread: float  # token-to-token variation of a phone's formants, as a fraction


def fft_length(num_samples: int) -> int:
    """Round up to a power of two: a transform of prime length takes several times as long."""
    return 1 << (num_samples - 1).bit_length()


def render(phones: Sequence[str], boundaries: np.ndarray, voice: Voice, generator: Generator) -> np.ndarray:
    """Synthesise one phone sequence, without background noise and not normalised.

    Args:
        phones: P symbols of ``PHONES``.
        boundaries: (P + 1,) increasing sample positions, the first 0; phone p covers [boundaries[p], boundaries[p+1]).
        voice: the speaker.
        generator: source of the noise, jitter and variation.

    Returns:
        (S,) float64 with S = boundaries[-1].

    Raises:
        AalbertError: an unknown phone.
    """
    for symbol in phones:
        if symbol not in PHONES:
            raise AalbertError(f'phone "{symbol}" is not in the synthesiser\'s table{did_you_mean(symbol, PHONES)}')
    num_samples = int(boundaries[-1])
    voicing, aspiration, frication = _amplitudes(phones, boundaries, num_samples)
    formants_hz, zero_hz = _formant_tracks(phones, boundaries, voice, generator)
    source = _glottal_source(_f0_contour(phones, boundaries, voice, generator), voicing, voice, generator)
    source += (aspiration + voice.breathiness * voicing) * generator.standard_normal(num_samples)
    speech = _filter_frames(source, _vocal_tract(formants_hz, zero_hz, voice))
    noise = frication * generator.standard_normal(num_samples)
    return speech + _filter_frames(noise, _noise_shapes(phones, boundaries, voice, len(formants_hz)))


def _breakpoints(phone: Phone, start: float, end: float) -> list[tuple[float, float, float, float]]:
    """Give the (sample, voicing, aspiration, frication) corners of one phone's amplitude contours."""
    ramp = min(_RAMP_MS * SAMPLE_RATE / 1000, (end - start) / 4)
    if phone.kind != "stop":
        levels = (phone.voicing, phone.aspiration, phone.frication)
        return [(start + ramp, *levels), (end - ramp, *levels)]
    # Closure (a faint voice bar if voiced), a burst of about 10 ms, then aspiration until the voice sets in.
    release = end - (end - start) * (0.4 if phone.aspiration else 0.22)
    burst_end = min(release + 0.010 * SAMPLE_RATE, (release + end) / 2)
    return [
        (start + ramp, phone.voicing, 0.0, 0.0),
        (release - ramp / 4, phone.voicing, 0.0, 0.0),
        (release + ramp / 4, phone.voicing, phone.aspiration / 2, phone.frication),
        (burst_end, phone.voicing, phone.aspiration, phone.frication / 3),
        (end - ramp / 2, phone.voicing, phone.aspiration, 0.0),
    ]


def _amplitudes(phones: Sequence[str], boundaries: np.ndarray, num_samples: int) -> np.ndarray:
    """Draw the contours of voicing, aspiration and frication: (3, S)."""
    spans = zip(phones, boundaries[:-1], boundaries[1:], strict=True)
    corners = np.array([corner for symbol, start, end in spans for corner in _breakpoints(PHONES[symbol], start, end)])
    positions = np.arange(num_samples)
    return np.stack([np.interp(positions, corners[:, 0], corners[:, column]) for column in (1, 2, 3)])


def _f0_contour(phones: Sequence[str], boundaries: np.ndarray, voice: Voice, generator: Generator) -> np.ndarray:
    """Draw F0 in Hz: declination over the utterance plus an accent on each vowel, (S,)."""
    num_samples = int(boundaries[-1])
    middles = (boundaries[:-1] + boundaries[1:]) / 2
    accents = voice.f0_range * generator.standard_normal(len(phones))
    vowels = [index for index, symbol in enumerate(phones) if PHONES[symbol].kind == "vowel"]
    positions = np.arange(num_samples)
    contour = voice.f0_range * (0.5 - positions / num_samples)
    if vowels:
        contour += np.interp(positions, middles[vowels], accents[vowels])
    return voice.f0_hz * np.exp(contour)


def _glottal_source(f0_hz: np.ndarray, voicing: np.ndarray, voice: Voice, generator: Generator) -> np.ndarray:
    """Place a pulse at each turn of the phase, then tilt the spectrum: (S,)."""
    num_samples = len(f0_hz)
    phase = np.cumsum(f0_hz / SAMPLE_RATE)
    turns = np.arange(1.0, int(phase[-1]))
    turns += voice.jitter * generator.standard_normal(len(turns))
    places = np.interp(turns, phase, np.arange(num_samples)).clip(0, num_samples - 2)
    before = places.astype(int)
    share = places - before  # a pulse between two samples is split over both
    shimmer = 1 + 3 * voice.jitter * generator.standard_normal(len(turns))
    # The square root keeps the power of the train independent of how many pulses it has.
    height = voicing[before] * shimmer * np.sqrt(SAMPLE_RATE / f0_hz[before])
    pulses = np.bincount(before, height * (1 - share), num_samples)
    pulses += np.bincount(before + 1, height * share, num_samples)
    padded = fft_length(num_samples + _FFT_SIZE)  # the tail must not wrap round to the start
    frequency = np.fft.rfftfreq(padded, 1 / SAMPLE_RATE)
    tilt = (1 + 1j * frequency / 200) ** -voice.tilt * (1j * frequency / 60) / (1 + 1j * frequency / 60)
    return np.fft.irfft(np.fft.rfft(pulses, padded) * tilt, padded)[:num_samples]


def _formant_tracks(
    phones: Sequence[str], boundaries: np.ndarray, voice: Voice, generator: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Smooth the phones' targets into tracks at the frame centres: formants (T, 3) and nasal zero (T,), in Hz."""
    targets = np.array([(*PHONES[symbol].formants_hz, PHONES[symbol].nasal_zero_hz) for symbol in phones])  # (P, 4)
    targets[:, :3] *= voice.formant_scale * np.exp(voice.formant_spread * generator.standard_normal((len(phones), 3)))
    num_frames = -(-int(boundaries[-1]) // HOP_SAMPLES) + 1
    grid = np.arange(num_frames * HOP_SAMPLES // _GRID_SAMPLES) * _GRID_SAMPLES
    steps = targets[np.searchsorted(boundaries[1:-1], grid, side="right")]  # (grid, 4)
    taps = 2 * (_TRANSITION_MS * SAMPLE_RATE // 2000 // _GRID_SAMPLES) + 1
    kernel = np.hanning(taps + 2)[1:-1]
    kernel /= kernel.sum()
    padded = np.pad(steps, ((taps // 2, taps // 2), (0, 0)), mode="edge")
    smooth = np.stack([np.convolve(track, kernel, mode="valid") for track in padded.T], axis=1)
    tracks = smooth[:: HOP_SAMPLES // _GRID_SAMPLES]
    return tracks[:, :3], tracks[:, 3]


def _inverse_resonator(centre_hz: np.ndarray, bandwidth_hz: np.ndarray | float) -> np.ndarray:
    """Evaluate one over Klatt's (1980) two-pole resonator, gain 1 at 0 Hz: centres (T,) -> complex (T, N)."""
    unit_delay = np.exp(-2j * np.pi * np.arange(_FFT_SIZE // 2 + 1) / _FFT_SIZE)
    radius = np.exp(-np.pi * np.asarray(bandwidth_hz) / SAMPLE_RATE)
    first = 2 * radius * np.cos(2 * np.pi * centre_hz / SAMPLE_RATE)
    second = np.broadcast_to(-(radius**2), first.shape)
    gain = 1 - first - second
    coefficients = np.stack([1 / gain, -first / gain, -second / gain], axis=1)
    return coefficients @ np.stack([np.ones_like(unit_delay), unit_delay, unit_delay**2])


def _vocal_tract(formants_hz: np.ndarray, zero_hz: np.ndarray, voice: Voice) -> np.ndarray:
    """Multiply the resonators of formants and the nasal pole and zero: complex (T, N)."""
    higher = np.array(_HIGHER_FORMANTS_HZ) * voice.formant_scale
    higher = higher[higher < 0.48 * SAMPLE_RATE]
    fixed = _inverse_resonator(higher, 0.06 * higher).prod(axis=0)  # (N,)
    fixed = fixed * _inverse_resonator(np.array([_NASAL_POLE_HZ]), 100.0)[0]
    response = _inverse_resonator(zero_hz, 100.0) / fixed
    for column, bandwidth in enumerate(_BANDWIDTHS_HZ):
        response /= _inverse_resonator(formants_hz[:, column], bandwidth * (1 + voice.breathiness))
    return response


def _noise_shapes(phones: Sequence[str], boundaries: np.ndarray, voice: Voice, num_frames: int) -> np.ndarray:
    """Give each frame the noise spectrum of the nearest phone with frication: (T, N)."""
    noisy = [index for index, symbol in enumerate(phones) if PHONES[symbol].frication > 0]
    frequency = np.fft.rfftfreq(_FFT_SIZE, 1 / SAMPLE_RATE)
    if not noisy:
        return np.zeros((num_frames, len(frequency)))
    centre = voice.formant_scale * np.array([PHONES[phones[index]].noise_centre_hz for index in noisy])
    width = np.array([PHONES[phones[index]].noise_width_hz for index in noisy])
    shapes = 0.03 + np.exp(-0.5 * ((frequency - centre[:, None]) / width[:, None]) ** 2)  # (noisy, N)
    time = np.arange(num_frames)[:, None] * HOP_SAMPLES
    starts, ends = boundaries[:-1][noisy], boundaries[1:][noisy]
    distance = np.maximum(np.maximum(starts - time, time - ends), 0)  # (T, noisy)
    return shapes[distance.argmin(axis=1)]


def _filter_frames(signal: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Filter (S,) with a response that changes every hop, (T, N), by overlap-add; frame t is centred on t * hop."""
    num_frames, window_samples = len(response), 2 * HOP_SAMPLES
    padded = np.zeros((num_frames + 1) * HOP_SAMPLES)
    padded[HOP_SAMPLES : HOP_SAMPLES + len(signal)] = signal
    window = np.hanning(window_samples + 1)[:-1]  # periodic: neighbours at half overlap sum to 1
    frames = np.lib.stride_tricks.sliding_window_view(padded, window_samples)[::HOP_SAMPLES] * window
    frames = np.pad(frames, ((0, 0), (_LEAD_SAMPLES, _FFT_SIZE - _LEAD_SAMPLES - window_samples)))
    filtered = np.fft.irfft(np.fft.rfft(frames, axis=1) * response, _FFT_SIZE, axis=1)  # (T, fft size)
    output = np.zeros(num_frames * HOP_SAMPLES + _FFT_SIZE)
    for index, frame in enumerate(filtered):
        output[index * HOP_SAMPLES : index * HOP_SAMPLES + _FFT_SIZE] += frame
    first = _LEAD_SAMPLES + HOP_SAMPLES
    return output[first : first + len(signal)]
