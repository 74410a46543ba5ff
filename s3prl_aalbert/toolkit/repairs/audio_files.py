"""``load``, ``save`` and ``info`` of torchaudio 2.8, implemented with soundfile (see ``imports``).

Legend: C channels, S samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import BinaryIO

import soundfile
import torch

from s3prl_aalbert.speech.reading import length_of, sound_streams

Uri = str | PathLike[str] | BinaryIO

# soundfile subtype -> (bits per sample, encoding) in torchaudio's terms; 0 bits where the number has no meaning.
_ENCODINGS = {
    "PCM_S8": (8, "PCM_S"),
    "PCM_16": (16, "PCM_S"),
    "PCM_24": (24, "PCM_S"),
    "PCM_32": (32, "PCM_S"),
    "PCM_U8": (8, "PCM_U"),
    "FLOAT": (32, "PCM_F"),
    "DOUBLE": (64, "PCM_F"),
    "ULAW": (8, "ULAW"),
    "ALAW": (8, "ALAW"),
    "VORBIS": (0, "VORBIS"),
}
# Without normalisation samples keep the file's integer type, as far as soundfile can read it.
_RAW_DTYPES = {"PCM_16": "int16", "PCM_24": "int32", "PCM_32": "int32", "DOUBLE": "float64"}
_WAV_SUBTYPES = {
    torch.uint8: "PCM_U8",
    torch.int16: "PCM_16",
    torch.int32: "PCM_32",
    torch.float32: "FLOAT",
    torch.float64: "DOUBLE",
}


@dataclass(frozen=True)
class AudioMetaData:
    """The header of one audio file."""

    sample_rate: int
    num_frames: int
    num_channels: int
    bits_per_sample: int
    encoding: str


def load(
    uri: Uri,
    frame_offset: int = 0,
    num_frames: int = -1,
    normalize: bool = True,
    channels_first: bool = True,
    format: str | None = None,
    buffer_size: int = 4096,
    backend: str | None = None,
) -> tuple[torch.Tensor, int]:
    """Read an audio file; ``format``, ``buffer_size`` and ``backend`` are accepted but not used.

    Args:
        uri: a path or an open binary file.
        frame_offset: samples to skip.
        num_frames: samples to read at most, -1 for all.
        normalize: float32 in [-1, 1]; otherwise a WAV file keeps its integer type.
        channels_first: (C, S) instead of (S, C).

    Returns:
        The samples and the sample rate in Hz.
    """
    # A file may consist of several joined recordings, which torchaudio returns as one signal.
    parts: list[torch.Tensor] = []
    rates: set[int] = set()
    for stream in sound_streams(_plain(uri)):
        keep_type = not normalize and stream.format == "WAV"
        dtype = _RAW_DTYPES.get(stream.subtype, "float32") if keep_type else "float32"
        frame_offset -= stream.skip(frame_offset)
        parts.append(torch.from_numpy(stream.read_all(dtype, num_frames)))  # (S, C)
        rates.add(stream.samplerate)
        num_frames = num_frames if num_frames < 0 else num_frames - len(parts[-1])
    if len(rates | {part.size(1) for part in parts}) > 2:
        raise RuntimeError(f"{uri}: is joined from recordings of different rates or numbers of channels")
    samples = torch.cat(parts) if len(parts) > 1 else parts[0]
    return (samples.t().contiguous() if channels_first else samples), rates.pop()


def info(uri: Uri, format: str | None = None, **_ignored: object) -> AudioMetaData:
    """Return the header of an audio file."""
    source = _plain(uri)
    frames = length_of(source)
    found = next(sound_streams(source))
    bits, encoding = _ENCODINGS.get(found.subtype, (0, "UNKNOWN"))
    encoding = "FLAC" if found.format == "FLAC" else encoding
    return AudioMetaData(found.samplerate, frames, found.channels, bits, encoding)


def save(
    uri: Uri,
    src: torch.Tensor,
    sample_rate: int,
    channels_first: bool = True,
    format: str | None = None,
    encoding: str | None = None,
    bits_per_sample: int | None = None,
    **_ignored: object,
) -> None:
    """Write a 2-D tensor, (C, S) or (S, C), as an audio file; the type follows the name or ``format``."""
    if src.dim() != 2:
        raise ValueError(f"expected a 2-D tensor of channels and samples, found {src.dim()}-D")
    kind = (format or str(uri).rpartition(".")[2]).upper()
    subtype = _subtype(src.dtype, encoding, bits_per_sample) if kind == "WAV" else None
    samples = src.t() if channels_first else src  # (S, C)
    soundfile.write(_plain(uri), samples.cpu().numpy(), sample_rate, subtype=subtype, format=kind)


def _subtype(dtype: torch.dtype, encoding: str | None, bits: int | None) -> str:
    if encoding is None and bits is None:
        return _WAV_SUBTYPES[dtype]
    if encoding == "PCM_F":
        return "DOUBLE" if bits == 64 else "FLOAT"
    if encoding in ("ULAW", "ALAW"):
        return encoding
    return "PCM_U8" if bits == 8 else f"PCM_{bits or 16}"


def _plain(uri: Uri) -> str | BinaryIO:
    return str(uri) if isinstance(uri, PathLike) else uri
