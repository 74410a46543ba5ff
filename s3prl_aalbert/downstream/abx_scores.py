"""Computes the ABX errors of an upstream's hidden states, and formats them as a table and as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn

from s3prl_aalbert.audio_io import read_audio
from s3prl_aalbert.downstream.abx import AbxErrors, Spoken, abx_errors, pool_segments
from s3prl_aalbert.downstream.paired import differences, percent
from s3prl_aalbert.downstream.result_tables import write_csv
from s3prl_aalbert.downstream.states import hidden_states, samples_per_token
from s3prl_aalbert.errors import AalbertError

CONDITIONS = ("within", "across")


class Scores(NamedTuple):
    """The errors of one upstream."""

    upstream: str
    selection: str
    """Key of the upstream's outputs."""
    layers: dict[int, AbxErrors]


def score(upstream: nn.Module, name: str, selection: str, layer: int | None, spoken: Sequence[Spoken]) -> Scores:
    """Return the errors of one hidden state, or of all.

    Args:
        upstream: an upstream in evaluation mode.
        name: name in tables.
        selection: key of the upstream's outputs.
        layer: number of a hidden state, 0 is the first; None is all.
        spoken: utterances with their segments.

    Raises:
        AalbertError: the layer or key does not exist.
    """
    rate = samples_per_token(upstream, selection)
    pooled = []
    for one in spoken:
        states = hidden_states(upstream, read_audio(Path(one.path)), selection)
        if layer is not None and not 0 <= layer < len(states):
            raise AalbertError(f"-l {layer}: {name} has {len(states)} hidden states, expected 0 to {len(states) - 1}")
        chosen = range(len(states)) if layer is None else [layer]
        pooled.append({index: pool_segments(states[index], rate, one.segments) for index in chosen})
    phones = [segment.phone for one in spoken for segment in one.segments]
    speakers = [one.speaker for one in spoken for _ in one.segments]
    vectors = {index: np.concatenate([each[index] for each in pooled]) for index in pooled[0]}
    return Scores(name, selection, {index: abx_errors(each, phones, speakers) for index, each in vectors.items()})


def format_scores(spoken: Sequence[Spoken], scores: Scores, baseline: Scores | None) -> str:
    """Return one row per layer: errors within and across speakers, and their differences from the baseline.

    Args:
        spoken: the scored utterances.
        scores: errors of the upstream.
        baseline: errors of one layer of another upstream, if there is one.
    """
    speakers = len({one.speaker for one in spoken})
    lines = [
        f"ABX error (%) of {sum(len(one.segments) for one in spoken):,} segments of {speakers} speakers; "
        "50 is chance; mean over speakers ± its standard error",
        f"{'layer':>5}  {'within':>14}  {'across':>14}" + (f"  less {baseline.upstream}" if baseline else ""),
    ]
    less = _by_condition(next(iter(baseline.layers.values()))) if baseline else None
    for layer, errors in scores.layers.items():
        own = _by_condition(errors)
        line = _line(str(layer), own)
        if less:
            line += "  " + "  ".join(f"{percent(differences(own[c], less[c]), True):>14}" for c in CONDITIONS)
        lines.append(line)
    return "\n".join([*lines, *([f"{_line('', less)}  {baseline.upstream}"] if baseline and less else [])])


def _by_condition(errors: AbxErrors) -> dict[str, dict[str, float]]:
    return {"within": errors.within(), "across": errors.across()}


def _line(label: str, errors: dict[str, dict[str, float]]) -> str:
    return f"{label:>5}  " + "  ".join(f"{percent(errors[condition]):>14}" for condition in CONDITIONS)


def write_scores(path: Path, found: Sequence[Scores]) -> None:
    """Write the error of every upstream, layer and pair of speakers as CSV."""
    rows: list[Sequence[object]] = [("upstream", "selection", "layer", "condition", "speaker", "speaker_of_x", "error")]
    for scores in found:
        for layer, errors in scores.layers.items():
            for row, first in enumerate(errors.speakers):
                for column, second in enumerate(errors.speakers):
                    error, condition = f"{errors.matrix[row, column]:.6f}", CONDITIONS[row != column]
                    rows.append((scores.upstream, scores.selection, layer, condition, first, second, error))
    write_csv(path, rows)
