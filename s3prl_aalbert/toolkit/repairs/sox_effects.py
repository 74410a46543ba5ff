"""Replaces ``torchaudio.sox_effects`` where SoX is not installed (see ``imports``).

The effects that S3PRL's tasks use are computed with torchaudio's own signal processing. Like SoX, this clips
at full scale after each effect. Resampling uses another filter than SoX, so that samples agree closely
but not bit for bit. ``silence`` (the voice-activity cut of the SUPERB speaker verification task) is in
``sox_silence``. Legend: C channels, S samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike

import torch
from torchaudio import functional

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit.repairs import audio_files, sox_silence

Effect = Callable[[torch.Tensor, int, list[str]], tuple[torch.Tensor, int]]


def apply_effects_file(
    path: str | PathLike[str],
    effects: Sequence[Sequence[str]],
    normalize: bool = True,
    channels_first: bool = True,
    format: str | None = None,
) -> tuple[torch.Tensor, int]:
    """Read an audio file and apply SoX effects to it.

    Returns:
        float32 samples, (C, S) or (S, C), and the sample rate after the effects.

    Raises:
        AalbertError: an effect that needs SoX itself.
    """
    wav, rate = audio_files.load(path)
    return apply_effects_tensor(_oriented(wav, channels_first), rate, effects, channels_first)


def apply_effects_tensor(
    tensor: torch.Tensor, sample_rate: int, effects: Sequence[Sequence[str]], channels_first: bool = True
) -> tuple[torch.Tensor, int]:
    """Apply SoX effects, such as ``[["rate", "16000"], ["gain", "-3.0"]]``, in order.

    Args:
        tensor: (C, S), or (S, C) with ``channels_first=False``.

    Raises:
        AalbertError: an effect that needs SoX itself.
    """
    wav, rate = _oriented(tensor, channels_first).float(), sample_rate
    for name, *arguments in effects:
        if name not in EFFECTS:
            raise _unsupported(name)
        try:
            wav, rate = EFFECTS[name](wav, rate, list(arguments))
        except (ValueError, IndexError):
            raise _unsupported(" ".join([name, *arguments])) from None
        wav = wav.clamp(-1.0, 1.0)
    return _oriented(wav, channels_first), rate


def effect_names() -> dict[str, str]:
    """Return the available effects with a one-line description of each."""
    return {name: (effect.__doc__ or "").strip() for name, effect in EFFECTS.items()}


def _oriented(wav: torch.Tensor, channels_first: bool) -> torch.Tensor:
    return wav if channels_first else wav.t()


def _unsupported(effect: str) -> AalbertError:
    return AalbertError(
        f'the SoX effect "{effect}" is not available without SoX (offered here: {", ".join(EFFECTS)}); '
        "torch and torchaudio 2.8 offer it with the system library libsox"
    )


def _channels(wav: torch.Tensor, rate: int, arguments: list[str]) -> tuple[torch.Tensor, int]:
    """Mix down to one channel, or copy one channel to several."""
    channels = int(arguments[0])
    if channels == wav.size(0):
        return wav, rate
    if channels == 1:
        return wav.mean(dim=0, keepdim=True), rate
    if wav.size(0) == 1:
        return wav.expand(channels, -1), rate
    raise ValueError("no such mix")


def _rate(wav: torch.Tensor, rate: int, arguments: list[str]) -> tuple[torch.Tensor, int]:
    """Resample to a rate in Hz."""
    new_rate = int(float(arguments[0]))
    return functional.resample(wav, rate, new_rate), new_rate


def _gain(wav: torch.Tensor, rate: int, arguments: list[str]) -> tuple[torch.Tensor, int]:
    """Amplify by a level in dB."""
    return wav * _amplitude(arguments[0]), rate


def _norm(wav: torch.Tensor, rate: int, arguments: list[str]) -> tuple[torch.Tensor, int]:
    """Scale the highest peak of all channels to a level in dB, full scale by default."""
    peak = wav.abs().max() if wav.numel() else torch.tensor(0.0)
    scaled = wav / peak * _amplitude(arguments[0] if arguments else "0")
    return (scaled if peak > 0 else wav), rate


def _pad(wav: torch.Tensor, rate: int, arguments: list[str]) -> tuple[torch.Tensor, int]:
    """Add silence before and after, in seconds."""
    before, after = (_samples(text, rate) for text in [*arguments, "0"][:2])
    return torch.nn.functional.pad(wav, (before, after)), rate


def _trim(wav: torch.Tensor, rate: int, arguments: list[str]) -> tuple[torch.Tensor, int]:
    """Keep a stretch given by its start and, optionally, its length, in seconds."""
    start = _samples(arguments[0], rate)
    stop = start + _samples(arguments[1], rate) if len(arguments) > 1 else wav.size(1)
    return wav[:, start:stop], rate


def _reverse(wav: torch.Tensor, rate: int, arguments: list[str]) -> tuple[torch.Tensor, int]:
    """Reverse time."""
    return wav.flip(1), rate


def _silence(wav: torch.Tensor, rate: int, arguments: list[str]) -> tuple[torch.Tensor, int]:
    """Cut the silence before speech and, with -1, all silence after it."""
    keep = sox_silence.kept(wav.numpy(), rate, sox_silence.parse(arguments, rate))
    return wav[:, torch.from_numpy(keep)], rate


def _vad(wav: torch.Tensor, rate: int, arguments: list[str]) -> tuple[torch.Tensor, int]:
    """Cut the silence before speech; options -T (trigger time) and -p (pre-trigger time) in seconds."""
    names = {"-T": "trigger_time", "-p": "pre_trigger_time"}
    options: dict[str, float] = {}
    for flag, value in zip(arguments[::2], arguments[1::2], strict=True):
        if flag not in names:
            raise ValueError(flag)
        options[names[flag]] = float(value)
    return functional.vad(wav, rate, **options), rate


def _amplitude(decibels: str) -> float:
    return float(10.0 ** (float(decibels) / 20.0))


def _samples(text: str, rate: int) -> int:
    seconds = float(text)
    if seconds < 0:
        raise ValueError(text)
    return round(seconds * rate)


EFFECTS: dict[str, Effect] = {
    "channels": _channels,
    "rate": _rate,
    "gain": _gain,
    "norm": _norm,
    "pad": _pad,
    "trim": _trim,
    "reverse": _reverse,
    "silence": _silence,
    "vad": _vad,
}
