"""ABX error: how often a segment X is nearer to a segment of another phone (B) than to one of its own (A).

Nothing is trained. Segments are means over time, compared by cosine. A and B have the same speaker; X has that speaker
(within) or another one (across). Legend: N segments, S speakers, P phones, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from s3prl_aalbert.downstream.alignments import GRID_SECONDS, SILENCES, Segment, token_of_grid_frame
from s3prl_aalbert.downstream.audio_dataset import AudioStore
from s3prl_aalbert.downstream.phone.config import PhoneDataConfig
from s3prl_aalbert.downstream.phone.dataset import fold_alignment, usable_lengths, warn_of_early_ends
from s3prl_aalbert.downstream.phone.sources import read_sources
from s3prl_aalbert.downstream.skipped import Skipped
from s3prl_aalbert.downstream.splits import exclude
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import SAMPLE_RATE

MIN_SECONDS = 0.03
"""Shorter segments are skipped: one of our tokens would consist mostly of their neighbours."""


class Spoken(NamedTuple):
    """An utterance and its segments."""

    path: str
    speaker: str
    segments: list[Segment]


class AbxErrors(NamedTuple):
    """Errors of one representation as shares of all triples; NaN without a triple."""

    speakers: Sequence[str]
    matrix: np.ndarray
    """(S, S): A and B of the row's speaker, X of the column's."""

    def within(self) -> dict[str, float]:
        """Return the error of each speaker."""
        return {name: self.matrix[i, i] for i, name in enumerate(self.speakers) if not np.isnan(self.matrix[i, i])}

    def across(self) -> dict[str, float]:
        """Return a value for each speaker: their mean is that of all pairs, their standard error the one over speakers.

        A speaker is in the pairs of its row and of its column, so that the means of the rows are not independent. These
        are the jackknife's pseudo-values: S times the mean of all pairs, less S - 1 times that without the speaker's.
        Two speakers have one value, by both their names: an error over speakers needs three.
        """
        pairs = np.where(np.eye(len(self.matrix), dtype=bool), np.nan, self.matrix)
        there = [i for i in range(len(pairs)) if not np.isnan([*pairs[i], *pairs[:, i]]).all()]
        pairs, names = pairs[np.ix_(there, there)], [self.speakers[i] for i in there]
        mean = np.nanmean(pairs) if there else np.nan
        if len(there) < 3:
            return {", ".join(names): float(mean)} if there else {}
        without = [np.delete(np.delete(pairs, i, 0), i, 1) for i in range(len(pairs))]
        left = np.array([mean if np.isnan(each).all() else np.nanmean(each) for each in without])
        values = len(left) * mean - (len(left) - 1) * left
        return dict(zip(names, (values + mean - values.mean()).tolist(), strict=True))  # less the correction of bias


def load_segments(config: PhoneDataConfig) -> list[Spoken]:
    """Return the utterances of all speakers with their phones, without silence and short segments.

    What the phone task does not use, such as labels past the end of the audio, is skipped and counted here, too.

    Raises:
        AalbertError: no audio, no labels, or fewer than two speakers or phones.
    """
    skipped = Skipped()
    sources = read_sources(config, skipped)
    names, excluded = exclude(sources.alignments, config.exclude)
    skipped.add("excluded", excluded)
    lengths = usable_lengths(AudioStore(sources.audio), sorted(names), sources.alignments, skipped)
    skipped.log("ABX")
    warn_of_early_ends(sources.alignments, lengths)
    found = []
    for name in sorted(lengths):
        folded = fold_alignment(sources.alignments[name], config)
        kept = [s for s in folded if s.phone.lower() not in SILENCES and s.end - s.start >= MIN_SECONDS - 1e-9]
        found.append(Spoken(str(sources.audio[name]), sources.speakers[name], kept))
    speakers = {one.speaker for one in found if one.segments}
    phones = {segment.phone for one in found for segment in one.segments}
    if min(len(speakers), len(phones)) < 2:
        counts = f"{len(speakers)} speakers and {len(phones)} phones"
        raise AalbertError(f"{config.audio}: has {counts} with segments of {MIN_SECONDS:g} s, expected two of each")
    return found


def pool_segments(states: np.ndarray, rate: int, segments: Sequence[Segment]) -> np.ndarray:
    """Return the mean (N, D) of each segment over the 10 ms frames whose centres lie in it.

    Each frame has the state of the token that covers it, so that upstreams of all rates are pooled over the same time.

    Args:
        states: (tokens, D).
        rate: samples per token.
        segments: each at least ``MIN_SECONDS`` long.
    """
    last = max((segment.end for segment in segments), default=0.0)
    token = token_of_grid_frame(int(np.ceil(last / GRID_SECONDS)) + 1, rate, len(states))
    bounds = [(_first_frame(segment.start), _first_frame(segment.end)) for segment in segments]
    means = [states[token[start:end]].mean(0) for start, end in bounds]
    return np.stack(means) if means else np.zeros((0, states.shape[1]), dtype=states.dtype)


def _first_frame(seconds: float) -> int:
    """Return the first 10 ms frame whose centre is not before ``seconds``."""
    return int(np.ceil(round(seconds * SAMPLE_RATE) / (GRID_SECONDS * SAMPLE_RATE) - 0.5))


def abx_errors(vectors: np.ndarray, phones: Sequence[str], speakers: Sequence[str]) -> AbxErrors:
    """Return the ABX error of every pair of speakers.

    For an ordered pair of phones, A and X are different segments of the first phone and B is one of the second. The
    error is the mean over all such triples, and a tie counts one half. A pair of speakers has the mean over its phone
    pairs.

    Args:
        vectors: (N, D).
        phones: (N,).
        speakers: (N,).
    """
    unit = vectors.astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    phone_names, phone = np.unique(np.asarray(phones), return_inverse=True)
    speaker_names, speaker = np.unique(np.asarray(speakers), return_inverse=True)
    members = [np.flatnonzero(speaker == index) for index in range(len(speaker_names))]
    matrix = np.full((len(members), len(members)), np.nan)
    for row, ab in enumerate(members):
        for column, x in enumerate(members):
            near = (unit[x] @ unit[ab].T).astype(np.float32)  # (X, A and B); float32: equal vectors tie
            matrix[row, column] = _pair_error(near, phone[x], phone[ab], len(phone_names), row == column)
    return AbxErrors([str(name) for name in speaker_names], matrix)


def _pair_error(near: np.ndarray, phone_x: np.ndarray, phone_ab: np.ndarray, num_phones: int, same: bool) -> float:
    """Return the mean error over the phone pairs of two speakers.

    Args:
        near: (X, AB) similarity.
        phone_x: (X,).
        phone_ab: (AB,).
        num_phones: P.
        same: whether X and AB are the same segments, where no segment may be its own A.
    """
    member = np.eye(num_phones, dtype=np.float32)[phone_ab]  # (AB, P)
    count = member.sum(0)
    total, cells = 0.0, 0
    for own in np.unique(phone_x):
        xs, own_a = np.flatnonzero(phone_x == own), np.flatnonzero(phone_ab == own)
        x, a = np.repeat(xs, len(own_a)), np.tile(own_a, len(xs))
        x, a = (x[x != a], a[x != a]) if same else (x, a)
        others = (count > 0) & (np.arange(num_phones) != own)
        if not len(x) or not others.any():
            continue
        to_a, to_b = near[x, a][:, None], near[x]  # (pairs, 1), (pairs, AB)
        wrong = (to_b > to_a).sum(0, dtype=np.float64) + 0.5 * (to_b == to_a).sum(0, dtype=np.float64)
        rates = (wrong @ member)[others] / (len(x) * count[others])
        total, cells = total + rates.sum(), cells + len(rates)
    return total / cells if cells else float("nan")
