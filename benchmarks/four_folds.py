"""The probes of compression.py and masking.py: phones on four folds of TIMIT, speakers on speechocean762.

New comparisons take linear_probes.py, which leaves one speaker out, and unseen_speakers.py.

Logistic regression on standardised hidden states has one solution, so that nothing but the model differs between rows;
states are computed once for all folds. Data, labels and scoring are those of the tasks aalbert_phone and
aalbert_speaker_utterance.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import nn

from s3prl_aalbert.downstream.alignments import token_of_grid_frame
from s3prl_aalbert.downstream.phone.config import PhoneDataConfig
from s3prl_aalbert.downstream.phone.dataset import load_phone_data
from s3prl_aalbert.downstream.speaker.dataset import SpeakerDataConfig, load_speaker_data
from s3prl_aalbert.downstream.splits import split_within_speakers
from s3prl_aalbert.downstream.task import TaskData

RATE = 480
"""Samples a token."""
FOLDS = 4
SPEAKER_SPLITS = 3
SPEAKERS = 100
BATCH = 16
ITERATIONS = 100
INVERSE_PENALTY = {"phone": 0.1, "speaker": 0.01}
"""C of the logistic regression."""


class Accuracy(NamedTuple):
    """Of one layer (0 is the input embedding), over all folds or splits."""

    layer: int
    dev: float
    test: float


class ProbeData(NamedTuple):
    """Loaded once for all models."""

    phones: list[TaskData]
    """One a fold; the same utterances in all of them."""
    speakers: list[TaskData]
    """One a split."""


def load_data(timit: Path, speechocean: Path) -> ProbeData:
    """Read audio and labels of both tasks."""
    with tempfile.TemporaryDirectory() as folder:
        config = SpeakerDataConfig(str(speechocean), max_speakers=SPEAKERS)
        first = load_speaker_data(config, 0, Path(folder))
    return ProbeData(load_phones(timit), [_split_anew(first, seed) for seed in range(SPEAKER_SPLITS)])


def load_phones(timit: Path) -> list[TaskData]:
    """Read audio and labels of the phones, a fold each."""
    phone = PhoneDataConfig(str(timit), phone_set="39", num_folds=FOLDS, exclude=["sa1", "sa2"], token_label="centre")
    with tempfile.TemporaryDirectory() as folder:
        return [load_phone_data(replace(phone, fold=fold), RATE, 0, Path(folder)) for fold in range(FOLDS)]


def _split_anew(data: TaskData, seed: int) -> TaskData:
    """Divide the same decoded utterances 8:1:1 by another seed."""
    utterances = [name for names in data.names.values() for name in names]
    split, _ = split_within_speakers({name: data.classes[data.label_of(name)] for name in utterances}, seed)
    return replace(data, names={part: sorted(n for n in split if split[n] == part) for part in data.names})


def probe_phones(upstream: nn.Module, folds: Sequence[TaskData]) -> list[Accuracy]:
    """Return the accuracy of every layer on the 10 ms grid, over the utterances of all folds."""
    states = hidden_states(upstream, folds[0])
    return [Accuracy(layer, *_phones(states, layer, folds)) for layer in range(_layers(states))]


def probe_speakers(upstream: nn.Module, splits: Sequence[TaskData]) -> list[Accuracy]:
    """Return the accuracy of every layer's mean over time, over the utterances of all splits."""
    states = hidden_states(upstream, splits[0])
    means = {name: [layer.mean(0) for layer in layers] for name, layers in states.items()}
    return [Accuracy(layer, *_speakers(means, layer, splits)) for layer in range(_layers(states))]


def hidden_states(upstream: nn.Module, data: TaskData) -> dict[str, list[np.ndarray]]:
    """Return the layers (tokens, hidden) of every utterance."""
    names = sorted({name for split in data.names.values() for name in split}, key=lambda name: data.num_samples[name])
    found = {}
    for start in range(0, len(names), BATCH):
        batch = names[start : start + BATCH]
        with torch.inference_mode():
            layers = upstream([torch.from_numpy(data.store.read(name)) for name in batch])["hidden_states"]
        for row, name in enumerate(batch):
            tokens = -(-data.num_samples[name] // RATE)
            found[name] = [layer[row, :tokens].numpy() for layer in layers]
    return found


def _layers(states: Mapping[str, list[np.ndarray]]) -> int:
    return len(next(iter(states.values())))


def _phones(states: Mapping[str, list[np.ndarray]], layer: int, folds: Sequence[TaskData]) -> tuple[float, float]:
    """Return (dev, test) accuracy; every utterance is tested once."""
    right, all_frames = dict.fromkeys(("dev", "test"), 0), dict.fromkeys(("dev", "test"), 0)
    for data in folds:
        inputs = np.concatenate([states[name][layer] for name in data.names["train"]])
        wanted = np.concatenate([data.label_of(name).token for name in data.names["train"]])
        classifier = Classifier(inputs[wanted >= 0], wanted[wanted >= 0], "phone")
        for split in right:
            for name in data.names[split]:
                answers, grid = classifier(states[name][layer]), data.label_of(name).grid
                answers = answers[token_of_grid_frame(len(grid), RATE, len(answers))]
                right[split] += int((answers == grid)[grid >= 0].sum())
                all_frames[split] += int((grid >= 0).sum())
    return right["dev"] / all_frames["dev"], right["test"] / all_frames["test"]


def _speakers(means: Mapping[str, list[np.ndarray]], layer: int, splits: Sequence[TaskData]) -> tuple[float, float]:
    """Return (dev, test) accuracy, averaged over the splits."""
    found = []
    for data in splits:
        inputs = {split: np.stack([means[name][layer] for name in data.names[split]]) for split in data.names}
        wanted = {split: np.array([data.label_of(name) for name in data.names[split]]) for split in data.names}
        classifier = Classifier(inputs["train"], wanted["train"], "speaker")
        found.append([float((classifier(inputs[split]) == wanted[split]).mean()) for split in ("dev", "test")])
    dev, test = np.mean(found, axis=0)
    return float(dev), float(test)


class Classifier:
    """Logistic regression on standardised inputs."""

    def __init__(self, inputs: np.ndarray, wanted: np.ndarray, task: str):
        """Fit to inputs (N, D) and classes (N,)."""
        self.mean, self.scale = inputs.mean(0), inputs.std(0) + 1e-6
        self.model = LogisticRegression(C=INVERSE_PENALTY[task], max_iter=ITERATIONS)
        with warnings.catch_warnings():
            # The last iterations change nothing that accuracy shows.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.model.fit((inputs - self.mean) / self.scale, wanted)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Return the classes (N,) of inputs (N, D)."""
        return self.model.predict((inputs - self.mean) / self.scale)
