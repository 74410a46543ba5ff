"""Speakers that pre-training never heard, in frozen states: by utterance and by token, with a linear classifier.

    python benchmarks/unseen_speakers.py --speech LibriSpeech/dev-clean LibriSpeech/test-clean -k CKPT --out s.csv

Excerpts of some utterances of every speaker are divided 8:1:1, several times anew; in each division logistic regression
is fitted to the means over time of the training excerpts, and to some of their tokens by themselves. Each speaker's
correct answers are recorded in every division, so that models are compared speaker by speaker. The input features stand
beside the models twice: with CMVN, whose mean over time is zero, and without.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from classifiers import Softmax
from commands import exit_code
from subjects import FEATURES, Subject, add_arguments, features_without_cmvn, subjects
from tables import Records, table
from torch import Tensor, nn

from s3prl_aalbert.audio_io import read_audio
from s3prl_aalbert.downstream.audio_dataset import by_name, find_audio, stem
from s3prl_aalbert.downstream.splits import split_within_speakers
from s3prl_aalbert.downstream.states import hidden_states
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import SAMPLE_RATE
from s3prl_aalbert.speech.speakers import speaker_of

COLUMNS = ("model", "layer", "classifier", "utterances", "seconds", "split", "speaker", "correct", "count")
INVERSE_PENALTY = 0.1
"""C of the logistic regression, chosen by dev excerpts of the features and of an untrained model."""
TOKENS = 12
"""Of an excerpt, for the frame level."""


class Setting(NamedTuple):
    """How much speech, and how often it is divided."""

    utterances: int = 30
    """Of a speaker, at most."""
    seconds: float = 4.0
    """Of an utterance, from its middle."""
    splits: int = 3


class Excerpts(NamedTuple):
    """The speech of the task."""

    names: list[str]
    speakers: list[str]
    wavs: list[np.ndarray]


class Inputs(NamedTuple):
    """One layer's vectors (N, D) and the excerpt (N,) each is from."""

    vectors: Tensor
    excerpt: np.ndarray


def load_excerpts(folders: Sequence[Path], setting: Setting) -> Excerpts:
    """Read the middle of some utterances of every speaker, drawn by a fixed seed."""
    paths = by_name(find_audio([str(folder) for folder in folders]), stem)
    by_speaker: dict[str, list[str]] = {}
    for name in sorted(paths):
        by_speaker.setdefault(speaker_of(paths[name]), []).append(name)
    found = Excerpts([], [], [])
    for number, (speaker, names) in enumerate(sorted(by_speaker.items())):
        order = np.random.default_rng([0, number]).permutation(len(names))[: setting.utterances]
        for index in sorted(order):
            wav = read_audio(paths[names[index]])
            start = max(0, (len(wav) - int(setting.seconds * SAMPLE_RATE)) // 2)
            for part, value in zip(
                found, (names[index], speaker, wav[start:][: int(setting.seconds * SAMPLE_RATE)]), strict=True
            ):
                part.append(value)
    return found


def layers_of(upstream: nn.Module, selection: str, excerpts: Excerpts) -> Iterator[tuple[int, str, Inputs]]:
    """Yield layer, level and inputs: the mean of every excerpt, and tokens drawn by a fixed seed."""
    means: list[list[np.ndarray]] = []
    tokens: list[list[np.ndarray]] = []
    for number, wav in enumerate(excerpts.wavs):
        states = hidden_states(upstream, wav, selection)
        drawn = np.random.default_rng([1, number]).integers(len(states[0]), size=TOKENS)
        means.append([layer.mean(0) for layer in states])
        tokens.append([layer[drawn] for layer in states])
    every = np.arange(len(means))
    for layer in range(len(means[0])):
        yield layer, "utterance", Inputs(torch.from_numpy(np.stack([each[layer] for each in means])), every)
        joined = np.concatenate([each[layer] for each in tokens])
        yield layer, "frame", Inputs(torch.from_numpy(joined), np.repeat(every, TOKENS))


def classify(inputs: Inputs, excerpts: Excerpts, seed: int) -> dict[str, tuple[int, int]]:
    """Return (correct, tested) of every speaker in one division 8:1:1; dev chooses nothing here and is left out."""
    names, speaker = np.unique(excerpts.speakers, return_inverse=True)
    split, _ = split_within_speakers(dict(zip(excerpts.names, excerpts.speakers, strict=True)), seed)
    role = np.array([split.get(name, "") for name in excerpts.names])[inputs.excerpt]
    wanted = torch.from_numpy(speaker)[inputs.excerpt]
    train, test = (torch.from_numpy(np.flatnonzero(role == part)) for part in ("train", "test"))
    model = Softmax(inputs.vectors[train], wanted[train, None], len(names), INVERSE_PENALTY)
    right = (model(inputs.vectors[test])[:, 0] == wanted[test]).numpy()
    found = {}
    for index, name in enumerate(names):
        own = wanted[test].numpy() == index
        if own.any():
            found[str(name)] = int(right[own].sum()), int(own.sum())
    return found


def main() -> None:
    """Classify what is not there yet, write the values, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, default = parser.add_argument, Setting()
    add("--speech", type=Path, nargs="+", required=True, metavar="DIR", help="LibriSpeech's dev-clean and test-clean")
    add_arguments(parser)
    add("--utterances", type=int, default=default.utterances, metavar="N", help="of a speaker; default: %(default)s")
    add("--seconds", type=float, default=default.seconds, help="of an utterance; default: %(default)s")
    add("--splits", type=int, default=default.splits, metavar="N", help="divisions; default: %(default)s")
    add("--layers", type=int, nargs="+", metavar="N", help="some of the hidden states; default: all")
    add("--out", type=Path, required=True, metavar="CSV", help="every model's, layer's, split's and speaker's value")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    setting = Setting(args.utterances, args.seconds, args.splits)
    records = Records(args.out, COLUMNS, {"utterances": str(args.utterances), "seconds": f"{args.seconds:g}"})
    records.check_speakers(args.speech)
    recorded = len({row["split"] for row in records.own()})
    if recorded not in (0, args.splits):
        raise AalbertError(f"{args.out}: holds {recorded} divisions, --splits is {args.splits}; give another --out")
    compared = [features_without_cmvn(), *subjects(args)]
    compared.sort(key=lambda subject: subject.name != FEATURES)  # the sort is stable
    excerpts = None
    for subject in compared:
        if records.done(subject.name):
            continue
        excerpts = excerpts or load_excerpts(args.speech, setting)
        logging.info("%s", subject.name)
        records.add(list(_rows(subject, excerpts, setting, args.layers)))
    print(table("speaker accuracy (%)", records.own(), compared))


def _rows(
    subject: Subject, excerpts: Excerpts, setting: Setting, layers: Sequence[int] | None
) -> Iterator[dict[str, object]]:
    for layer, level, inputs in layers_of(subject.build().eval(), subject.selection, excerpts):
        if layers and layer and layer not in layers:
            continue
        for seed in range(setting.splits):
            for speaker, (correct, count) in classify(inputs, excerpts, seed).items():
                own = {"model": subject.name, "layer": layer, "classifier": level, "split": seed}
                yield {**own, "speaker": speaker, "correct": correct, "count": count}


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
