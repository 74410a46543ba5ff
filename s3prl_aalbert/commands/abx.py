"""``aalbert abx``: how well the hidden states of any upstream tell phones apart, without training anything."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from s3prl_aalbert.errors import AalbertError

if TYPE_CHECKING:
    from s3prl_aalbert.downstream.abx import AbxErrors, Spoken

EXAMPLES = """\
examples:
  aalbert abx -u aalbert --speech timit                             # every layer, beside the input features
  aalbert abx -u aalbert_local -k CKPT -l 3 --speech timit --out abx.csv
  aalbert abx -u fbank --against none --speech timit
  aalbert abx -u aalbert_6l -g aalbert_small --speech timit         # the same model untrained
"""
NOTHING = "none"
CONDITIONS = ("within", "across")
Scores = dict[int, "AbxErrors"]
"""By layer."""


class Source(NamedTuple):
    """What is scored: an upstream, its key, and one layer or all."""

    name: str
    ckpt: str | None = None
    model_config: str | None = None
    selection: str = "hidden_states"
    layer: int | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("-u", "--upstream", required=True, help="any upstream of S3PRL or of this plugin")
    add("-k", "--upstream_ckpt", metavar="CKPT", help="its checkpoint, where it takes one")
    add("-g", "--upstream_model_config", metavar="YAML", help="its configuration, where it takes one")
    add("-s", "--upstream_feature_selection", default="hidden_states", metavar="KEY", help="default: %(default)s")
    add("-l", "--layer", type=int, metavar="N", help="one hidden state, 0 is the first; default: all")
    add("--speech", required=True, type=Path, metavar="DIR", help="audio of several speakers, e.g. TIMIT")
    add("--alignments", metavar="PATH", help="labels as in aalbert_phone; default: the .phn beside the audio")
    add("--phone-set", default="39", metavar="SET", help="39, 48, 61 (TIMIT's) or as_found; default: %(default)s")
    add(
        "--exclude", nargs="*", default=["sa1", "sa2"], metavar="NAME", help="utterances to leave out; default: sa1 sa2"
    )
    add(
        "--against", default="aalbert_features", metavar="U", help="upstream to subtract, or none; default: %(default)s"
    )
    add("--out", type=Path, metavar="CSV", help="the value of every layer and pair of speakers")
    add("--seed", type=int, default=0, help="of an untrained upstream; default: %(default)s")


def main(args: argparse.Namespace) -> int:
    """Print the table, write the values and return 0."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    from s3prl_aalbert.downstream.abx import load_segments
    from s3prl_aalbert.downstream.phone.config import PhoneDataConfig
    from s3prl_aalbert.yaml_config import from_dict

    values = {"audio": str(args.speech), "alignments": args.alignments}
    config = from_dict(PhoneDataConfig, {**values, "phone_set": args.phone_set, "exclude": args.exclude}, "abx")
    spoken = load_segments(config)
    own = Source(
        args.upstream, args.upstream_ckpt, args.upstream_model_config, args.upstream_feature_selection, args.layer
    )
    other = Source(args.against)
    scores = _score(own, spoken, args.seed)
    baseline = {} if args.against == NOTHING else _score(other, spoken, args.seed)
    if len(baseline) > 1:
        raise AalbertError(f"--against {args.against}: has {len(baseline)} layers, expected an upstream with one")
    print(_table(args, spoken, scores, next(iter(baseline.values()), None)))
    if args.out:
        _write(args.out, [(own, scores), (other, baseline)])
    return 0


def _score(source: Source, spoken: Sequence[Spoken], seed: int) -> Scores:
    """Return the errors of one upstream, of the layer asked for or of all."""
    import numpy as np
    import torch

    from s3prl_aalbert.audio_io import read_audio
    from s3prl_aalbert.downstream.abx import abx_errors, pool_segments
    from s3prl_aalbert.downstream.states import hidden_states, samples_per_token
    from s3prl_aalbert.toolkit.upstreams import build_upstream

    torch.manual_seed(seed)
    name, ckpt, model_config, selection, layer = source
    upstream = build_upstream(name, ckpt, model_config).eval()
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
    layers = list(pooled[0])
    return {i: abx_errors(np.concatenate([each[i] for each in pooled]), phones, speakers) for i in layers}


def _table(args: argparse.Namespace, spoken: Sequence[Spoken], scores: Scores, baseline: AbxErrors | None) -> str:
    """Return one row a layer: errors within and across speakers, and how they differ from the baseline's."""
    from s3prl_aalbert.downstream.paired import differences, percent

    speakers = len({one.speaker for one in spoken})
    lines = [
        f"ABX error (%) of {sum(len(one.segments) for one in spoken):,} segments of {speakers} speakers; "
        "50 is chance; mean over speakers ± its standard error",
        f"{'layer':>5}  {'within':>14}  {'across':>14}" + (f"  less {args.against}" if baseline else ""),
    ]
    rows = [("", baseline)] if baseline else []
    for label, errors in [*((str(layer), found) for layer, found in scores.items()), *rows]:
        values = [getattr(errors, condition)() for condition in CONDITIONS]
        line = f"{label:>5}  " + "  ".join(f"{percent(value):>14}" for value in values)
        if baseline and errors is not baseline:
            pairs = zip(values, CONDITIONS, strict=True)
            line += "  " + "  ".join(f"{percent(differences(v, getattr(baseline, c)()), True):>14}" for v, c in pairs)
        lines.append(line + (f"  {args.against}" if errors is baseline else ""))
    return "\n".join(lines)


def _write(path: Path, found: Sequence[tuple[Source, Scores]]) -> None:
    """Write the error of every upstream, layer and pair of speakers as CSV."""
    from s3prl_aalbert.downstream.results import write_csv

    rows: list[Sequence[object]] = [("upstream", "selection", "layer", "condition", "speaker", "speaker_of_x", "error")]
    for source, scores in found:
        for layer, errors in scores.items():
            for row, first in enumerate(errors.speakers):
                for column, second in enumerate(errors.speakers):
                    value = errors.matrix[row, column]
                    condition = CONDITIONS[row != column]
                    rows.append((source.name, source.selection, layer, condition, first, second, f"{value:.6f}"))
    write_csv(path, rows)
