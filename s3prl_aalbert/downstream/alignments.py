"""Reads phone alignments from four file formats, and derives the labels of frames and tokens from them.

An alignment is a list of segments in seconds. Labels follow from it for any frame rate.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from s3prl_aalbert.downstream.textgrid import TextGridError, choose_tier, read_tiers
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import SAMPLE_RATE
from s3prl_aalbert.speech.text import number, read_lines, read_text, whole_number

logger = logging.getLogger(__name__)

GRID_SECONDS = 0.01
"""Length of the frames on which all upstreams are scored."""
IGNORED = -100
"""Label of frames without a phone; cross_entropy's own ignore_index."""
SILENCES = frozenset({"", "sil", "sp", "spn", "<eps>", "h#", "#h", "pau", "epi"})

# TIMIT's 61 symbols to the 48 of training and the 39 of scoring (Lee and Hon, 1989); q is deleted.
_TO_48 = {"ax-h": "ax", "axr": "er", "hv": "hh", "em": "m", "nx": "n", "eng": "ng", "ux": "uw"}
_TO_48 |= {"#h": "sil", "h#": "sil", "pau": "sil", "bcl": "vcl", "dcl": "vcl", "gcl": "vcl"}
_TO_48 |= {"pcl": "cl", "tcl": "cl", "kcl": "cl", "qcl": "cl"}
_48_TO_39 = {"cl": "sil", "vcl": "sil", "epi": "sil", "ao": "aa", "ax": "ah"}
_48_TO_39 |= {"ix": "ih", "el": "l", "en": "n", "zh": "sh"}


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
    """Map a TIMIT symbol to the set of 61, 48 or 39 phones; None if it is deleted (q)."""
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
    """Return the TIMIT label file beside an audio file, SA1.PHN or sa1.phn; None if there is none."""
    found = (path for suffix in (".phn", ".PHN") if (path := audio.with_suffix(suffix)).is_file())
    return next(found, None)


def read_phn(path: Path, rate: int = SAMPLE_RATE) -> Alignment:
    """Read TIMIT's ``START END PHONE`` in samples at ``rate`` Hz."""
    rows = []
    for place, line in enumerate(read_lines(path), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            start, end, phone = fields
            rows.append((place, Segment(whole_number(start) / rate, whole_number(end) / rate, phone)))
        except ValueError as error:
            raise AalbertError(f'{path}: line {place} is "{line.strip()}", expected START END PHONE') from error
    return _checked(str(path), rows)


def read_textgrid(path: Path, tier: str = "phones") -> Alignment:
    """Read one tier of a Praat TextGrid, in its long or short text form, as the Montreal Forced Aligner writes it.

    Raises:
        AalbertError: the tier does not exist, or an interval of it is incomplete or missing.
    """
    try:
        chosen = choose_tier(read_tiers(read_text(path)), tier)
        segments = [Segment(*interval) for interval in chosen.intervals()]
    except TextGridError as error:
        raise AalbertError(f"{path}: {error}") from error
    if chosen.name != tier:
        _log_once(f'tier "{chosen.name}" is read as "{tier}"', path)
    return _checked(f'{path}: tier "{chosen.name}"', [(None, segment) for segment in segments])


class LabelTable(NamedTuple):
    """The labels of many utterances in one file."""

    alignments: dict[str, Alignment]
    """By utterance."""
    faults: dict[str, str]
    """The reason why an utterance's labels cannot be used, by utterance."""


def read_tsv(path: Path) -> LabelTable:
    """Read ``UTTERANCE START END PHONE`` (seconds, tab-separated); a wrong row invalidates only its utterance.

    Raises:
        AalbertError: the file cannot be read, or no utterance in it can.
    """
    rows: dict[str, list[tuple[int | None, Segment]]] = {}
    faults: dict[str, str] = {}
    for place, line in enumerate(read_lines(path), 1):
        row = [field.strip() for field in line.split("\t")]
        if not any(row) or (place == 1 and row[0].lower() in ("utterance", "utt")):
            continue
        try:
            utterance, start, end, phone = row
            if not utterance:
                raise ValueError("no utterance")
            rows.setdefault(utterance, []).append((place, Segment(number(start), number(end), phone)))
        except ValueError:
            expected = "UTTERANCE START END PHONE with tabs between"
            faults.setdefault(row[0], f'{path}: line {place} is "{" | ".join(row)}", expected {expected}')
    return _table(path, rows, faults)


def read_converted(path: Path) -> LabelTable:
    """Read S3PRL's converted_aligned_phones.txt: each line has an utterance and one phone number per 10 ms frame.

    Raises:
        AalbertError: the file cannot be read, or no utterance in it can.
    """
    rows: dict[str, list[tuple[int | None, Segment]]] = {}
    faults: dict[str, str] = {}
    for place, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        utterance, *phones = line.split()
        if utterance in rows:
            faults[utterance] = f'{path}: line {place} labels "{utterance}" a second time'
        elif not phones:
            faults[utterance] = f'{path}: line {place} gives "{utterance}" no phones'
        rows.setdefault(utterance, [(place, segment) for segment in _runs(phones)])
    return _table(path, rows, faults)


def _table(path: Path, rows: dict[str, list[tuple[int | None, Segment]]], faults: dict[str, str]) -> LabelTable:
    alignments = {}
    for utterance in rows.keys() - faults.keys():
        try:
            alignments[utterance] = _checked(f'{path}: utterance "{utterance}"', rows[utterance])
        except AalbertError as error:
            faults[utterance] = str(error)
    if faults and not alignments:
        raise AalbertError(next(iter(faults.values())))
    return LabelTable({name: alignments[name] for name in rows if name in alignments}, faults)


def _runs(phones: Sequence[str]) -> Alignment:
    segments, start = [], 0
    for phone, same in itertools.groupby(phones):
        end = start + len(list(same))
        segments.append(Segment(start * GRID_SECONDS, end * GRID_SECONDS, phone))
        start = end
    return segments


def _checked(where: str, rows: Iterable[tuple[int | None, Segment]]) -> Alignment:
    """Check segments, each with its line if known, and return them in order of time."""
    ordered = sorted(rows, key=lambda row: row[1].start)
    last: Segment | None = None
    for place, segment in ordered:
        at = f"{where}: " if place is None else f"{where}: line {place}: "
        if not (0 <= segment.start < math.inf and math.isfinite(segment.end)):
            raise AalbertError(
                f"{at}a segment from {segment.start:g} to {segment.end:g} s, expected finite times from 0 on"
            )
        if segment.end < segment.start:
            raise AalbertError(f"{at}a segment ends before it starts")
        if last is not None and segment.start < last.end - 1e-4:
            raise AalbertError(f"{at}segments overlap at {segment.start:.3f} s ({last.phone}, {segment.phone})")
        last = segment
    return [segment for _, segment in ordered]


def _log_once(message: str, path: Path) -> None:
    if message not in _LOGGED:
        _LOGGED.add(message)
        logger.info("%s: %s", path, message)


_LOGGED: set[str] = set()


def frame_labels(
    alignment: Alignment, ids: dict[str, int], num_samples: int, rate: int, rest: bool = False
) -> np.ndarray:
    """Label each frame with the phone at its centre.

    Args:
        alignment: segments.
        ids: class of each phone; others are IGNORED.
        num_samples: length of the audio at 16 kHz.
        rate: samples per frame; frame i covers [rate * i, rate * (i + 1)) and is centred on rate * (i + 1/2).
        rest: label a partly filled last frame at the centre of the filled part; without it, a frame whose centre lies
            past the end of the audio has no phone.

    Returns:
        (ceil(num_samples / rate),) int64.
    """
    num_frames = -(-num_samples // rate)
    centres = (np.arange(num_frames) + 0.5) * rate / SAMPLE_RATE
    if rest and num_frames:
        centres[-1] = ((num_frames - 1) * rate + num_samples) / 2 / SAMPLE_RATE
    starts = np.array([s.start for s in alignment])
    ends = np.array([s.end for s in alignment])
    classes = np.array([ids.get(s.phone, IGNORED) for s in alignment])
    if not len(alignment):
        return np.full(num_frames, IGNORED)
    index = np.searchsorted(starts, centres + 1e-9, side="right") - 1
    inside = (index >= 0) & (centres < ends[index.clip(0)])
    return np.where(inside, classes[index.clip(0)], IGNORED)


def majority_labels(alignment: Alignment, ids: dict[str, int], num_samples: int, rate: int) -> np.ndarray:
    """Label each frame with the phone that fills most of it. Arguments and result are as in ``frame_labels``."""
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
    """Return for each 10 ms frame the token that covers its centre, clamped to the existing tokens.

    Args:
        num_grid_frames: frames of the common grid.
        rate: samples per token; token t covers [rate * t, rate * (t + 1)).
        num_tokens: number of the upstream's tokens, at least 1.
    """
    centres = (np.arange(num_grid_frames) + 0.5) * GRID_SECONDS * SAMPLE_RATE
    return np.minimum(centres // rate, num_tokens - 1).astype(np.int64)


def outputs_per_token(rate: int) -> int:
    """Return the largest number of 10 ms frames that a token of ``rate`` samples can cover."""
    return -(-rate // round(GRID_SECONDS * SAMPLE_RATE))


def answers_on_grid(answers: np.ndarray, num_grid_frames: int, rate: int) -> np.ndarray:
    """Return the prediction (frames,) for each 10 ms frame.

    Args:
        answers: (tokens, outputs) with an output for each frame of a token, or (tokens, 1) with one for all.
        num_grid_frames: frames of the common grid.
        rate: samples per token.
    """
    token, output, _ = outputs_of_grid_frames(num_grid_frames, rate, len(answers))
    return answers[token, np.minimum(output, answers.shape[1] - 1)]


def labels_of_outputs(grid: np.ndarray, rate: int, num_tokens: int) -> np.ndarray:
    """Return the target of each output of each token (tokens, outputs); IGNORED where an output has no frame.

    Args:
        grid: (frames,) labels of the 10 ms grid.
        rate: samples per token.
        num_tokens: at least 1.
    """
    token, output, outputs = outputs_of_grid_frames(len(grid), rate, num_tokens)
    labels = np.full(num_tokens * outputs, IGNORED)
    # Frames beyond the last token share its last output, which has the label of the first of them.
    places, first = np.unique(token * outputs + output, return_index=True)
    labels[places] = grid[first]
    return labels.reshape(num_tokens, outputs)


def outputs_of_grid_frames(num_grid_frames: int, rate: int, num_tokens: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return for each 10 ms frame the token that covers its centre, and which of the token's outputs is its own.

    Args:
        num_grid_frames: frames of the common grid.
        rate: samples per token.
        num_tokens: number of the upstream's tokens, at least 1.

    Returns:
        token (frames,), output (frames,), and the number of outputs per token: one per 10 ms frame that it can cover.
    """
    outputs = outputs_per_token(rate)
    token = token_of_grid_frame(num_grid_frames, rate, num_tokens)
    first = np.searchsorted(token, token, side="left")  # the first frame of the same token
    return token, np.minimum(np.arange(num_grid_frames) - first, outputs - 1), outputs
