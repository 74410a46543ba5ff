"""Phone alignments: who said which phone when, from four file formats, and the labels of frames and tokens.

An alignment is a list of segments in seconds; everything else follows from it for any frame rate.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s3prl_aalbert.config import SAMPLE_RATE
from s3prl_aalbert.errors import AalbertError

GRID_SECONDS = 0.01
"""All upstreams are scored on frames of this length."""
IGNORED = -100
"""Label of frames without a phone; cross_entropy's own ignore_index."""
SILENCES = frozenset({"", "sil", "sp", "spn", "<eps>", "h#", "#h", "pau", "epi"})

# TIMIT's 61 symbols to the 48 of training and the 39 of scoring (Lee and Hon, 1989); q is deleted.
_TO_48 = {
    "ax-h": "ax",
    "axr": "er",
    "hv": "hh",
    "em": "m",
    "nx": "n",
    "eng": "ng",
    "ux": "uw",
    "#h": "sil",
    "h#": "sil",
}
_TO_48 |= {"pau": "sil", "bcl": "vcl", "dcl": "vcl", "gcl": "vcl", "pcl": "cl", "tcl": "cl", "kcl": "cl", "qcl": "cl"}
_48_TO_39 = {
    "cl": "sil",
    "vcl": "sil",
    "epi": "sil",
    "ao": "aa",
    "ax": "ah",
    "ix": "ih",
    "el": "l",
    "en": "n",
    "zh": "sh",
}


@dataclass(frozen=True)
class Segment:
    """One phone."""

    start: float
    """Seconds."""
    end: float
    """Seconds."""
    phone: str


Alignment = list[Segment]


def fold_timit(phone: str, size: int) -> str | None:
    """Return a TIMIT symbol in the set of 61, 48 or 39 phones; None where it is deleted (q)."""
    if size == 61:
        return phone
    if phone == "q":
        return None
    folded = _TO_48.get(phone, phone)
    return folded if size == 48 else _48_TO_39.get(folded, folded)


def fold_stress(phone: str) -> str:
    """Return an ARPABET vowel without its stress digit: AH0 -> AH."""
    return phone.rstrip("012") or phone


def phn_beside(audio: Path) -> Path | None:
    """Return TIMIT's labels of an audio file, SA1.PHN or sa1.phn beside it; None without."""
    found = (path for suffix in (".phn", ".PHN") if (path := audio.with_suffix(suffix)).is_file())
    return next(found, None)


def read_phn(path: Path) -> Alignment:
    """Read TIMIT's ``START END PHONE`` in samples at 16 kHz."""
    segments = []
    for number, line in enumerate(_lines(path), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            start, end, phone = fields
            segments.append(Segment(int(start) / SAMPLE_RATE, int(end) / SAMPLE_RATE, phone))
        except (ValueError, OverflowError) as error:
            raise AalbertError(f'{path}: line {number} is "{line.strip()}", expected START END PHONE') from error
    return _checked(path, segments)


_INTERVAL = re.compile(r'xmin\s*=\s*([\d.eE+-]+)\s*xmax\s*=\s*([\d.eE+-]+)\s*text\s*=\s*"((?:[^"]|"")*)"')
_TIER = re.compile(r'"IntervalTier"')


def read_textgrid(path: Path, tier: str = "phones") -> Alignment:
    """Read one tier of a Praat TextGrid, in its long or short text form, as Montreal Forced Aligner writes it."""
    text = "\n".join(_lines(path))
    for block in _TIER.split(text)[1:]:
        name = re.search(r'"((?:[^"]|"")*)"', block)
        if name is None or name.group(1) != tier:
            continue
        found = _INTERVAL.findall(block) or _short_intervals(block, name.end())
        try:
            segments = [Segment(float(start), float(end), phone) for start, end, phone in found]
        except ValueError as error:
            raise AalbertError(f'{path}: tier "{tier}" has a time that is no number ({error})') from error
        return _checked(path, segments)
    raise AalbertError(f'{path}: no interval tier "{tier}"')


def _short_intervals(block: str, start: int) -> list[tuple[str, str, str]]:
    tokens = re.findall(r'"(?:[^"]|"")*"|[\d.eE+-]+', block[start:])
    values = tokens[3:]  # xmin, xmax and the number of intervals come first
    triples = zip(values[0::3], values[1::3], values[2::3], strict=False)
    return [(a, b, phone[1:-1]) for a, b, phone in triples]


def read_tsv(path: Path) -> dict[str, Alignment]:
    """Read ``UTTERANCE START END PHONE`` (seconds, tab-separated) as alignments by utterance."""
    result: dict[str, Alignment] = {}
    for number, line in enumerate(_lines(path), 1):
        row = line.split("\t")
        if not line or (number == 1 and row[0].lower() in ("utterance", "utt")):
            continue
        try:
            utterance, start, end, phone = row
            result.setdefault(utterance, []).append(Segment(float(start), float(end), phone))
        except ValueError as error:
            raise AalbertError(
                f"{path}: line {number} has {row}, expected UTTERANCE START END PHONE by tabs"
            ) from error
    return {utterance: _checked(path, segments) for utterance, segments in result.items()}


def read_converted(path: Path) -> dict[str, Alignment]:
    """Read S3PRL's converted_aligned_phones.txt: an utterance and one phone number per 10 ms frame on each line."""
    rows = [line.split() for line in _lines(path) if line.strip()]
    return {utterance: _runs(phones) for utterance, *phones in rows}


def _runs(phones: Sequence[str]) -> Alignment:
    segments, start = [], 0
    for index in range(1, len(phones) + 1):
        if index == len(phones) or phones[index] != phones[start]:
            segments.append(Segment(start * GRID_SECONDS, index * GRID_SECONDS, phones[start]))
            start = index
    return segments


def _lines(path: Path) -> list[str]:
    try:
        raw = path.read_bytes()
        return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig").splitlines()
    except OSError as error:
        raise AalbertError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise AalbertError(f"{path}: is not text in UTF-8 or UTF-16") from error


def _checked(path: Path, segments: Iterable[Segment]) -> Alignment:
    segments = list(segments)
    for segment in segments:
        if not (0 <= segment.start < math.inf and math.isfinite(segment.end)):
            raise AalbertError(
                f"{path}: a segment from {segment.start:g} to {segment.end:g} s, expected finite times from 0 on"
            )
    ordered = sorted(segments, key=lambda s: s.start)
    for before, after in itertools.pairwise(ordered):
        if after.start < before.end - 1e-4:
            raise AalbertError(f"{path}: segments overlap at {after.start:.3f} s ({before.phone}, {after.phone})")
    if any(segment.end < segment.start for segment in ordered):
        raise AalbertError(f"{path}: a segment ends before it starts")
    return ordered


def frame_labels(alignment: Alignment, ids: dict[str, int], num_samples: int, rate: int) -> np.ndarray:
    """Label frames by the phone at their centre.

    Args:
        alignment: segments.
        ids: class of each phone; others are IGNORED.
        num_samples: length of the audio at 16 kHz.
        rate: samples a frame; frame i covers [rate * i, rate * (i + 1)) and is centred on rate * (i + 1/2).

    Returns:
        (ceil(num_samples / rate),) int64.
    """
    num_frames = -(-num_samples // rate)
    centres = (np.arange(num_frames) + 0.5) * rate / SAMPLE_RATE
    starts = np.array([s.start for s in alignment])
    ends = np.array([s.end for s in alignment])
    classes = np.array([ids.get(s.phone, IGNORED) for s in alignment])
    if not len(alignment):
        return np.full(num_frames, IGNORED)
    index = np.searchsorted(starts, centres + 1e-9, side="right") - 1
    inside = (index >= 0) & (centres < ends[index.clip(0)])
    return np.where(inside, classes[index.clip(0)], IGNORED)


def majority_labels(alignment: Alignment, ids: dict[str, int], num_samples: int, rate: int) -> np.ndarray:
    """Label frames by the phone that fills most of each. Arguments and result as for ``frame_labels``."""
    num_frames = -(-num_samples // rate)
    overlap = np.zeros((num_frames, max(ids.values(), default=0) + 2))  # the last column is time without a phone
    for segment in alignment:
        start, end = segment.start * SAMPLE_RATE, segment.end * SAMPLE_RATE
        first, last = int(start // rate), min(num_frames, int(-(-end // rate)))
        frames = np.arange(first, last)
        shared = np.minimum(end, (frames + 1) * rate) - np.maximum(start, frames * rate)
        overlap[frames, ids.get(segment.phone, -1)] += shared.clip(0)
    best = overlap.argmax(1)
    nothing = (best == overlap.shape[1] - 1) | (overlap.max(1) <= 0)
    return np.where(nothing, IGNORED, best)


def token_of_grid_frame(num_grid_frames: int, rate: int, num_tokens: int) -> np.ndarray:
    """Return for each 10 ms frame the token that covers its centre, clamped to the tokens there are.

    Args:
        num_grid_frames: frames of the common grid.
        rate: samples a token; token t covers [rate * t, rate * (t + 1)).
        num_tokens: tokens the upstream gave, at least 1.
    """
    centres = (np.arange(num_grid_frames) + 0.5) * GRID_SECONDS * SAMPLE_RATE
    return np.minimum(centres // rate, num_tokens - 1).astype(np.int64)
