"""The probing task as an S3PRL downstream: layers x classifiers x tasks, each probe trained as if it were alone.

No probe influences another: the losses of all probes are summed, the optimiser (AdamW) works element by element, and
gradients are not clipped. The representation holds all layers side by side, see toolkit.probing.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3prl_aalbert.downstream.alignments import answers_on_grid
from s3prl_aalbert.downstream.audio_dataset import check_paths, loading_problems
from s3prl_aalbert.downstream.classes import KnowsClasses
from s3prl_aalbert.downstream.classifier import CLASSIFIERS, build_classifier
from s3prl_aalbert.downstream.phone.config import PhoneDataConfig
from s3prl_aalbert.downstream.phone.dataset import PhoneLabels, load_phone_data
from s3prl_aalbert.downstream.phone.expert import phone_majority
from s3prl_aalbert.downstream.probe.batches import ChainedBatches, JointTrainingBatches
from s3prl_aalbert.downstream.recorder import Recorder
from s3prl_aalbert.downstream.result_tables import ProbeResult, write_probes
from s3prl_aalbert.downstream.results import Evaluation, ModelFacts, RunnerOptions, RunResults, training_sections
from s3prl_aalbert.downstream.speaker.dataset import SpeakerDataConfig, load_speaker_data
from s3prl_aalbert.downstream.speaker.expert import frame_majority
from s3prl_aalbert.downstream.task import (
    BEST_CHECKPOINT,
    ScalarLog,
    TaskData,
    data_folder,
    keep_split,
    seed_of,
    with_overlap,
)
from s3prl_aalbert.errors import AalbertError, did_you_mean
from s3prl_aalbert.model.config import LARGEST_SIZE, from_dict, shown

Label = PhoneLabels | int
"""The labels of an utterance: its phones or its speaker's class."""
Records = dict[str, list[float]]
TASKS = ("phone", "speaker")
NOT_BY_TASK = {"train_batch_size", "eval_batch_size", "num_workers", "max_seconds"}
"""Keys of a task that have no effect on probes."""
NO_CLIPPING = 1e6
"""Gradient norms stay far below this bound; a smaller bound would couple the probes."""


@dataclass(frozen=True)
class ProbeConfig:
    """``downstream_expert.modelrc``."""

    tasks: list[str] = field(default_factory=lambda: list(TASKS))
    """Tasks of the probes: "phone", "speaker" or both."""
    classifiers: list[str] = field(default_factory=lambda: list(CLASSIFIERS))
    """Classifiers, each trained by itself."""
    hidden_size: int = 768
    """Width of the classifiers' hidden layers."""
    layer_dims: list[int] | None = None
    """Widths of the layers that lie side by side in the representation; null: the widths of the upstream's layers."""
    first_layer: int | None = None
    """Number of the first of these layers; null: that of the layers which -s and -l select, where 0 is the input
    embedding."""
    only: list[str] | None = None
    """Train only these probes, e.g. ["phone/layer2/linear"]; null: all."""

    def problems(self) -> list[str]:
        """Return what makes these values unusable."""
        sizes = {"hidden_size": [self.hidden_size], "layer_dims": self.layer_dims or []}
        found = [
            f"modelrc.{name} has {shown(value)}, expected 1 to {LARGEST_SIZE}"
            for name, values in sizes.items()
            for value in values
            if not 1 <= value <= LARGEST_SIZE
        ]
        for key, names, known in (("tasks", self.tasks, TASKS), ("classifiers", self.classifiers, CLASSIFIERS)):
            found += [f'modelrc.{key} has "{name}"{did_you_mean(name, known)}' for name in names if name not in known]
        if self.first_layer is not None and self.first_layer < 0:
            found.append(f"modelrc.first_layer is {self.first_layer}, expected at least 0")
        if not (self.tasks and self.classifiers):
            found.append("modelrc.tasks and modelrc.classifiers: none given")
        return found


@dataclass(frozen=True)
class Probe:
    """One classifier on one layer for one task."""

    task: str
    layer: int
    """Number among the hidden states; 0 is the input embedding."""
    classifier: str

    @property
    def name(self) -> str:
        """E.g. phone/layer2/linear."""
        return f"{self.task}/layer{self.layer}/{self.classifier}"


class DownstreamExpert(KnowsClasses):
    """All probes of a run."""

    task = "aalbert_probe"

    def __init__(self, upstream_dim: int, upstream_rate: int, downstream_expert: dict, expdir: str, **kwargs: object):
        super().__init__()
        config = from_dict(ProbeConfig, downstream_expert.get("modelrc"), "downstream_expert.modelrc")
        # A common gradient norm would let one probe influence the others.
        runner = kwargs["runner"]
        if not isinstance(runner, dict) or runner["gradient_clipping"] < NO_CLIPPING:
            raise AalbertError(
                f"runner.gradient_clipping must be at least {NO_CLIPPING:g}: clipping couples the probes"
            )
        self.rate, self.expdir, self.seed = int(upstream_rate), Path(expdir), seed_of(kwargs)
        self.layer_dims, self.first_layer = config.layer_dims or [upstream_dim], config.first_layer or 0
        if sum(self.layer_dims) != upstream_dim:
            raise AalbertError(
                f"modelrc.layer_dims sum to {sum(self.layer_dims)}, but the representation is {upstream_dim} wide"
            )
        # datarc holds a section for each task beside the keys that all tasks share.
        datarc = downstream_expert.get("datarc") or {}
        if not isinstance(datarc, dict):
            raise AalbertError(f"downstream_expert.datarc is {shown(datarc)}, expected a mapping of keys")
        datarc = dict(datarc)
        self.outputs = dict.fromkeys(config.tasks, 1)
        self.data: dict[str, TaskData[Label]] = {}
        majority: dict[str, dict[str, float]] = {}
        for task in config.tasks:
            self.data[task], majority[task] = self._load(task, datarc.pop(task, None), kwargs)
            keep_split(self.data[task], self.expdir, kwargs, task)
        for task in TASKS:
            datarc.pop(task, None)
        self.options = from_dict(BatchConfig, datarc, "downstream_expert.datarc")
        self.probes = _probes(config, range(self.first_layer, self.first_layer + len(self.layer_dims)))
        self.models = nn.ModuleDict({_key(probe.name): self._build(probe, config.hidden_size) for probe in self.probes})
        classifier_params = sum(p.numel() for p in self.models.parameters())
        # The record is complete before training starts, so that an interrupted run can still be described.
        results = RunResults(
            self.task,
            RunnerOptions.of(kwargs),
            training_sections(kwargs),
            config=downstream_expert,
            data={
                task: with_overlap(kwargs, data, (downstream_expert.get("datarc") or {}).get(task))
                for task, data in self.data.items()
            },
            model=ModelFacts(upstream_dim, self.rate, classifier_params, self.layer_dims),
            majority=majority,
        )
        self.recorder = Recorder(self.expdir, results, kwargs, resume=bool(kwargs.get("init_ckpt")))

    def _load(
        self, task: str, values: dict | None, kwargs: Mapping[str, object]
    ) -> tuple[TaskData[Label], dict[str, float]]:
        """Return the data of a task and the accuracy of its most frequent class, by split."""
        where = f"downstream_expert.datarc.{task}"
        ignored = sorted(NOT_BY_TASK & set(values if isinstance(values, dict) else ()))
        if ignored:
            raise AalbertError(
                f"{where} has {', '.join(ignored)}, which has no effect: all tasks share the batches of "
                "downstream_expert.datarc, with whole utterances"
            )
        folder = data_folder(self.expdir / task, kwargs)
        if task == "phone":
            phones = from_dict(PhoneDataConfig, values, where)
            check_paths(phones, where)
            self.outputs[task] = phones.outputs(self.rate)
            labelled = load_phone_data(phones, self.rate, self.seed, folder)
            return labelled, phone_majority(labelled)
        speakers = from_dict(SpeakerDataConfig, values, where)
        check_paths(speakers, where)
        data = load_speaker_data(speakers, self.seed, folder)
        return data, frame_majority(data, self.rate)

    def _build(self, probe: Probe, hidden_size: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(f"{self.seed} {probe.name}".encode()))
            answers = len(self.data[probe.task].classes) * self.outputs[probe.task]
            width = self.layer_dims[probe.layer - self.first_layer]
            return build_classifier(width, answers, CLASSIFIERS[probe.classifier], hidden_size)

    def classes(self) -> dict[str, list[str]]:
        """Return the names of the classes by task, which the checkpoint stores."""
        return {task: list(data.classes) for task, data in self.data.items()}

    # ------------------------------------------------------------------------------- S3PRL's interface

    def get_dataloader(self, split: str, epoch: int = 0) -> JointTrainingBatches | ChainedBatches:
        """Return the batches of a split: joined over tasks for training, one task after the other for evaluation."""
        workers = self.options.num_workers
        if not self.recorder.is_evaluation(split):
            return JointTrainingBatches(self.data, self.options.train_batch_size, workers, self.seed, epoch)
        return ChainedBatches(self.data, split, self.options.eval_batch_size, workers)

    def forward(
        self,
        split: str,
        features: Sequence[Tensor],
        labels: Sequence[Label],
        names: Sequence[str],
        tasks: Sequence[str],
        records: Records,
        **_: object,
    ) -> Tensor:
        """Run every probe on the utterances of its task; returns the sum of their losses.

        Args:
            split: "train", "dev" or "test".
            features: list of (tokens, sum of layer_dims), unpadded.
            labels: one per utterance.
            names: utterance names.
            tasks: task of each utterance.
            records: S3PRL's defaultdict(list).
        """
        total = features[0].new_zeros((), requires_grad=True)  # so that a batch without any token still has a gradient
        for task in self.data:
            chosen = [i for i, name in enumerate(tasks) if name == task and len(features[i])]
            if chosen:
                total = total + self._run_task(
                    split, task, [features[i] for i in chosen], [labels[i] for i in chosen], records
                )
        return total

    def _run_task(self, split: str, task: str, features: list[Tensor], labels: list[Label], records: Records) -> Tensor:
        lengths = [len(feature) for feature in features]
        layers = torch.cat(features).split(self.layer_dims, dim=-1)  # each (tokens, dim)
        target = _token_targets(labels, lengths).to(layers[0].device)  # (tokens * outputs,)
        labelled = max(1, int((target >= 0).sum()))
        losses = []
        for probe in self.probes:
            if probe.task != task:
                continue
            layer = layers[probe.layer - self.first_layer]
            logits = self.models[_key(probe.name)](layer).view(-1, len(self.data[task].classes))
            loss = F.cross_entropy(logits, target, reduction="sum") / labelled
            records[f"{probe.name}/loss"].append(loss.item())
            if math.isfinite(loss.item()):  # S3PRL's runner skips a step of NaN: one probe must not stop the others
                losses.append(loss)
            if self.recorder.is_evaluation(split):
                predicted = logits.argmax(-1).view(-1, self.outputs[task]).cpu().numpy()
                correct, count = self._score(predicted, labels, lengths)
                records[f"{probe.name}/correct"].append(correct)
                records[f"{probe.name}/count"].append(count)
        return torch.stack(losses).sum() if losses else layers[0].new_zeros(())

    def _score(self, predicted: np.ndarray, labels: list[Label], lengths: list[int]) -> tuple[int, int]:
        """Count correct answers (tokens, outputs): on the 10 ms grid for phones, on tokens for speakers."""
        correct = count = start = 0
        for label, length in zip(labels, lengths, strict=True):
            answers = predicted[start : start + length]
            start += length
            if isinstance(label, PhoneLabels):
                grid = label.grid
                answers = answers_on_grid(answers, len(grid), self.rate)
                correct, count = correct + int((answers == grid)[grid >= 0].sum()), count + int((grid >= 0).sum())
            else:
                correct, count = correct + int((answers[:, 0] == label).sum()), count + length
        return correct, count

    def log_records(self, split: str, records: Records, logger: ScalarLog, global_step: int, **_: object) -> list[str]:
        """Record every probe; on the last split of an evaluation rewrite probes.csv."""
        metrics: dict[str, float] = {}
        for probe in self.probes:
            losses = records[f"{probe.name}/loss"]
            if not losses:
                continue
            metrics[f"{probe.name}/loss"] = float(np.mean(losses))
            if self.recorder.is_evaluation(split):
                metrics[f"{probe.name}/acc"] = sum(records[f"{probe.name}/correct"]) / max(
                    1, sum(records[f"{probe.name}/count"])
                )
        for key, value in metrics.items():
            logger.add_scalar(f"{self.task}/{split}-{key}", value, global_step=global_step)
        if not self.recorder.is_evaluation(split):
            return []
        accuracies = [value for key, value in metrics.items() if key.endswith("/acc")]
        metrics["acc"] = float(np.mean(accuracies))
        shown = f"mean accuracy of {len(accuracies)} probes {metrics['acc']:.4f}"
        print(f"{self.task} {split} {self.recorder.place(global_step)}: {shown}")
        self.recorder.add(split, global_step, metrics)
        self._write_table()
        return [BEST_CHECKPOINT] if split == "dev" and self.recorder.best_step == global_step and global_step else []

    def _write_table(self) -> None:
        """Write probes.csv: each probe's best step by its own dev accuracy, and the test accuracy of that step."""
        found = []
        for probe in self.probes:
            best = best_of_probe(self.recorder.results.history, probe.name)
            if best is not None:
                step, dev, test = best
                params = sum(p.numel() for p in self.models[_key(probe.name)].parameters())
                found.append(ProbeResult(probe.task, probe.layer, probe.classifier, dev, test, step, params))
        write_probes(self.expdir, found)


@dataclass(frozen=True)
class BatchConfig:
    """The keys of ``datarc`` that all tasks share."""

    train_batch_size: int = 16
    """Utterances per training batch."""
    eval_batch_size: int = 16
    """Utterances per evaluation batch."""
    num_workers: int = 0
    """Number of processes that load audio; 0: the training process loads it."""

    def problems(self) -> list[str]:
        """Return what makes these values unusable."""
        return loading_problems(self.train_batch_size, self.eval_batch_size, self.num_workers)


def best_of_probe(history: Sequence[Evaluation], name: str) -> tuple[int, float, float | None] | None:
    """Return (step, dev accuracy, test accuracy there) of a probe's best dev accuracy; of equal ones the earliest."""
    key = f"{name}/acc"
    devs = [(h.step, h.metrics[key]) for h in history if h.split == "dev" and key in h.metrics]
    if not devs:
        return None
    step, dev = max(devs, key=lambda item: (item[1], -item[0]))
    tests = [h.metrics.get(key) for h in history if h.split == "test" and h.step == step]
    return step, dev, tests[0] if tests else None


def _token_targets(labels: Sequence[Label], lengths: Sequence[int]) -> Tensor:
    targets = [
        torch.from_numpy(label.token[:n]).reshape(-1) if isinstance(label, PhoneLabels) else torch.full((n,), label)
        for label, n in zip(labels, lengths, strict=True)
    ]
    return torch.cat(targets)


def _probes(config: ProbeConfig, layers: Sequence[int]) -> list[Probe]:
    probes = [Probe(t, layer, c) for t in config.tasks for layer in layers for c in config.classifiers]
    if config.only is None:
        return probes
    known = {probe.name for probe in probes}
    for name in config.only:
        if name not in known:
            raise AalbertError(f'modelrc.only has "{name}"{did_you_mean(name, known)}, which is no probe of this run')
    return [probe for probe in probes if probe.name in config.only]


def _key(name: str) -> str:
    return name.replace("/", "_")
