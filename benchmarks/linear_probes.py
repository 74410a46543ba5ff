"""Phones of TIMIT in frozen states, one speaker left out at a time: a linear classifier and a small network.

    python benchmarks/linear_probes.py --timit data/timit -u aalbert fbank -k result/pretrain/NAME --out p.csv
    python benchmarks/linear_probes.py --timit data/LibriSpeech/dev-clean --alignments phones.tsv --utterances 3 \\
        --folds 4 -k result/pretrain/NAME --out p.csv    # to choose a model by speakers that no table tests

Each of the 16 speakers is tested once, by classifiers that were trained on the others, so that models are compared in
16 pairs. Every 10 ms frame has its label, in training as in scoring: a token of 30 ms has an output for each of its
three frames. The linear classifier is logistic regression at its optimum (nothing but the states differs between rows),
fitted to all other speakers; the network (one hidden layer of 256, dropout) takes its best step by a dev speaker. What
--out holds already is not run again. States are computed once for all folds.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from classifiers import IGNORED, Fold, Softmax, answers_of_networks
from commands import exit_code
from subjects import add_arguments, subjects
from tables import Records, table
from torch import Tensor, nn

from s3prl_aalbert.downstream.alignments import labels_of_outputs, outputs_of_grid_frames
from s3prl_aalbert.downstream.phone.config import PhoneDataConfig
from s3prl_aalbert.downstream.phone.dataset import load_phone_data
from s3prl_aalbert.downstream.splits import split_by_speaker
from s3prl_aalbert.downstream.states import hidden_states, samples_per_token
from s3prl_aalbert.downstream.task import TaskData
from s3prl_aalbert.model.config import SAMPLE_RATE

CLASSIFIERS = ("linear", "network")
INVERSE_PENALTY = {"grid": 0.01, "token": 0.1}
"""C of the logistic regression by the labels: chosen by dev speakers, and as it was before."""
COLUMNS = ("model", "layer", "classifier", "folds", "labels", "speaker", "correct", "count")


class Setting(NamedTuple):
    """How to divide and to train."""

    folds: int | None = None
    """Speaker-disjoint parts; None leaves one speaker out at a time."""
    labels: str = "grid"
    """"grid": a label for each 10 ms frame of a token; "token": one a token, as before."""
    classifiers: tuple[str, ...] = CLASSIFIERS
    layers: tuple[int, ...] | None = None
    """None takes all."""
    alignments: str | None = None
    """Labels of another corpus than TIMIT, as in the phoneme task."""
    utterances: int | None = None
    """Of a speaker, the first by name; None takes all."""
    seed: int = 0
    """Of the network."""


class Score(NamedTuple):
    """Frames of one speaker."""

    correct: int
    count: int


class Frames(NamedTuple):
    """All labelled speech of a corpus at one rate. N tokens, H outputs a token, G frames of 10 ms."""

    utterances: list[str]
    speakers: list[str]
    """Of each utterance."""
    tokens: list[int]
    """Of each utterance."""
    targets: Tensor
    """(N, H)."""
    token: np.ndarray
    """(G,): which token answers for a frame."""
    output: np.ndarray
    """(G,): with which of its outputs."""
    label: np.ndarray
    """(G,)."""
    classes: int


# --------------------------------------------------------------------------------------------------- data


def load_phones(speech: Path, rate: int = 480, setting: Setting = Setting()) -> TaskData:  # noqa: B008 - frozen
    """Read audio and labels: 39 phones, without the two sentences that all speakers of TIMIT read."""
    labels = {"alignments": setting.alignments, "phone_set": "39", "token_label": "centre"}
    config = PhoneDataConfig(str(speech), exclude=["sa1", "sa2"] if setting.alignments is None else None, **labels)
    with tempfile.TemporaryDirectory() as folder:
        data = load_phone_data(config, rate, 0, Path(folder))
    kept: Counter[str] = Counter()
    names = []
    for name in sorted(data.num_samples):
        kept[data.speakers[name]] += 1
        if setting.utterances is None or kept[data.speakers[name]] <= setting.utterances:
            names.append(name)
    return replace(data, num_samples={name: data.num_samples[name] for name in names})


def all_states(upstream: nn.Module, data: TaskData) -> list[list[np.ndarray]]:
    """Return for every utterance, by name, its layers (tokens, D)."""
    return [hidden_states(upstream, data.store.read(name)) for name in sorted(data.num_samples)]


def label_frames(data: TaskData, rate: int, tokens: Sequence[int], labels: str) -> Frames:
    """Say which output of which token answers for each 10 ms frame, and what training tells them."""
    names = sorted(data.num_samples)
    targets, token, output, label, start = [], [], [], [], 0
    for name, count in zip(names, tokens, strict=True):
        found = data.label_of(name)
        which, head, _ = outputs_of_grid_frames(len(found.grid), rate, count)
        if labels == "token":
            wanted = np.full((count, 1), IGNORED)
            wanted[: len(found.token), 0] = found.token[:count]
            head = np.zeros_like(head)
        else:
            wanted = labels_of_outputs(found.grid, rate, count)
        targets.append(wanted)
        token.append(which + start)
        output.append(head)
        label.append(found.grid)
        start += count
    speakers = [data.speakers[name] for name in names]
    joined = (np.concatenate(parts) for parts in (token, output, label))
    return Frames(names, speakers, list(tokens), torch.from_numpy(np.concatenate(targets)), *joined, len(data.classes))


def folds_of(frames: Frames, folds: int | None) -> list[Fold]:
    """Divide the tokens by speaker; without ``folds`` each speaker is a fold."""
    speakers = dict(zip(frames.utterances, frames.speakers, strict=True))
    number = folds or len(set(frames.speakers))
    found = []
    for fold in range(number):
        split = split_by_speaker(speakers, 0, fold, number)
        role = np.repeat([split[name] for name in frames.utterances], frames.tokens)
        found.append(Fold(*(torch.from_numpy(np.flatnonzero(role == part)) for part in ("train", "dev", "test"))))
    return found


# ------------------------------------------------------------------------------------------------ probing


def probe(
    upstream: nn.Module, timit: Path, setting: Setting, done: Collection[tuple[int, str]] = ()
) -> Iterator[tuple[int, str, dict[str, Score]]]:
    """Yield layer (0 is the input embedding), classifier and the score of every speaker, but for what is done."""
    rate, number = samples_per_token(upstream), len(hidden_states(upstream, np.full(SAMPLE_RATE, 0.1, np.float32)))
    layers = [layer for layer in range(number) if setting.layers is None or number == 1 or layer in setting.layers]
    wanted = [(layer, name) for layer in layers for name in setting.classifiers if (layer, name) not in done]
    if not wanted:
        return
    data = load_phones(timit, rate, setting)
    states = all_states(upstream, data)
    frames = label_frames(data, rate, [len(each[0]) for each in states], setting.labels)
    folds = folds_of(frames, setting.folds)
    for layer, classifier in wanted:
        inputs = torch.from_numpy(np.concatenate([each[layer] for each in states]))
        yield layer, classifier, _by_speaker(_answers(inputs, frames, folds, classifier, setting), frames)


def _answers(inputs: Tensor, frames: Frames, folds: Sequence[Fold], classifier: str, setting: Setting) -> np.ndarray:
    """Return what every token is taken for (N, H), each by the fold that tests it."""
    if classifier == "network":
        found: Iterable[Tensor] = answers_of_networks(inputs, frames.targets, folds, frames.classes, setting.seed)
    else:
        found = (_linear(inputs, frames, fold, setting)(inputs[fold.test]) for fold in folds)
    answers = torch.empty_like(frames.targets)
    for fold, tested in zip(folds, found, strict=True):
        answers[fold.test] = tested
    return answers.numpy()


def _linear(inputs: Tensor, frames: Frames, fold: Fold, setting: Setting) -> Softmax:
    """Fit to all speakers but the tested one; with few folds to the training part alone, as before."""
    rows = fold.train if setting.folds else torch.cat([fold.train, fold.dev])
    rows = rows[(frames.targets[rows] >= 0).any(1)]
    return Softmax(inputs[rows], frames.targets[rows], frames.classes, INVERSE_PENALTY[setting.labels])


def _by_speaker(answers: np.ndarray, frames: Frames) -> dict[str, Score]:
    """Count the labelled 10 ms frames of each speaker and those answered correctly."""
    right = answers[frames.token, frames.output] == frames.label
    starts = np.cumsum([0, *frames.tokens])
    utterance = np.searchsorted(starts, frames.token, side="right") - 1
    speaker = np.array(frames.speakers)[utterance]
    labelled = frames.label >= 0
    members = {name: labelled & (speaker == name) for name in sorted(set(frames.speakers))}
    return {name: Score(int(right[mask].sum()), int(mask.sum())) for name, mask in members.items()}


# ------------------------------------------------------------------------------------------------ command


def main() -> None:
    """Probe what is not probed yet, write the values, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--timit", type=Path, required=True, metavar="DIR", help="the TIMIT sample, or other speech with --alignments")
    add("--alignments", metavar="PATH", help="labels of other speech, as in aalbert_phone; default: TIMIT's .phn")
    add("--utterances", type=int, metavar="N", help="of a speaker, the first by name; default: all")
    add_arguments(parser)
    add("--folds", type=int, metavar="N", help="speaker-disjoint folds, e.g. 4; default: one a speaker")
    add("--labels", choices=tuple(INVERSE_PENALTY), default="grid", help="of a token: one a 10 ms frame, or one in all")
    add("--layers", type=int, nargs="+", metavar="N", help="some of the hidden states; default: all")
    add("--classifiers", nargs="+", choices=CLASSIFIERS, default=list(CLASSIFIERS))
    add("--out", type=Path, required=True, metavar="CSV", help="correct frames of every model, layer and speaker")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    layers = args.layers and tuple(args.layers)
    setting = Setting(args.folds, args.labels, tuple(args.classifiers), layers, args.alignments, args.utterances)
    records = Records(args.out, COLUMNS, {"folds": str(args.folds or "speakers"), "labels": args.labels})
    records.check_speakers([args.timit])
    compared = subjects(args)
    for subject in compared:
        upstream, done = subject.build().eval(), records.done(subject.name)
        for layer, classifier, by_speaker in probe(upstream, args.timit, setting, done):
            logging.info("%s, layer %d, %s: done", subject.name, layer, classifier)
            own = {"model": subject.name, "layer": layer, "classifier": classifier}
            records.add([{**own, "speaker": name, **score._asdict()} for name, score in by_speaker.items()])
    shown = [row for row in records.own() if row["classifier"] in setting.classifiers]
    print(table("phone accuracy (%)", shown, compared))


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
