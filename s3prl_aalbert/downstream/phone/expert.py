"""The phoneme task as an S3PRL downstream: trained on tokens, scored on a 10 ms grid for upstreams of any rate."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from s3prl_aalbert.downstream.alignments import answers_on_grid
from s3prl_aalbert.downstream.audio_dataset import check_paths
from s3prl_aalbert.downstream.classifier import ClassifierConfig
from s3prl_aalbert.downstream.phone.config import PhoneDataConfig
from s3prl_aalbert.downstream.phone.dataset import PhoneLabels, load_phone_data
from s3prl_aalbert.downstream.result_tables import Confusion, write_csv
from s3prl_aalbert.downstream.task import TaskData, TaskExpert, data_folder, majority_of, seed_of
from s3prl_aalbert.model.config import from_dict


class PhoneRecords(TypedDict):
    """What the batches append to S3PRL's defaultdict(list); the last four are empty for the training."""

    loss_sum: list[float]
    tokens: list[int]
    token_correct: list[int]
    grid_frames: list[int]
    confusion: list[np.ndarray]
    phone_errors: list[int]
    phones: list[int]


class DownstreamExpert(TaskExpert[PhoneLabels, PhoneRecords]):
    """Frame-wise phoneme classification."""

    task = "aalbert_phone"

    def __init__(self, upstream_dim: int, upstream_rate: int, downstream_expert: dict, expdir: str, **kwargs: object):
        config = from_dict(PhoneDataConfig, downstream_expert.get("datarc"), "downstream_expert.datarc")
        check_paths(config, "downstream_expert.datarc")
        model = from_dict(ClassifierConfig, downstream_expert.get("modelrc"), "downstream_expert.modelrc")
        super().__init__(
            upstream_dim,
            upstream_rate,
            load_phone_data(config, int(upstream_rate), seed_of(kwargs), data_folder(expdir, kwargs)),
            model,
            (config.train_batch_size, config.eval_batch_size),
            config.num_workers,
            None,
            expdir,
            downstream_expert,
            kwargs,
            config.outputs(int(upstream_rate)),
        )

    def majority(self) -> dict[str, float]:
        """Return the rate of the most frequent training phone on the 10 ms grid of each split."""
        return phone_majority(self.data)

    def forward(
        self,
        split: str,
        features: Sequence[Tensor],
        labels: Sequence[PhoneLabels],
        names: Sequence[str],
        records: PhoneRecords,
        **_: object,
    ) -> Tensor:
        """Classify every token of a batch; see ``TaskExpert.forward``."""
        lengths = [min(len(feature), len(label.token)) for feature, label in zip(features, labels, strict=True)]
        tokens = torch.cat([feature[:n] for feature, n in zip(features, lengths, strict=True)])  # (tokens, dim)
        targets = [torch.from_numpy(label.token[:n]).reshape(-1) for label, n in zip(labels, lengths, strict=True)]
        target = torch.cat(targets)  # (tokens * outputs,)
        logits = self.model(tokens).view(len(target), len(self.data.classes))
        target = target.to(logits.device)
        labelled = int((target >= 0).sum())
        total = F.cross_entropy(logits, target, reduction="sum")
        predicted = logits.argmax(-1).cpu().numpy()
        records["loss_sum"].append(float(total))
        records["tokens"].append(labelled)
        records["token_correct"].append(int((predicted == target.cpu().numpy()).sum()))
        if self.recorder.is_evaluation(split):
            offsets = np.cumsum([0, *lengths])
            predicted = predicted.reshape(-1, self.outputs)  # (tokens, outputs)
            for index, label in enumerate(labels):
                own = predicted[offsets[index] : offsets[index + 1]]
                self._score_on_grid(own, label.grid, records)
        return total / max(1, labelled)

    def _score_on_grid(self, predicted: np.ndarray, grid: np.ndarray, records: PhoneRecords) -> None:
        """Score each 10 ms frame with the token that covers its centre; ``predicted`` is (tokens, outputs)."""
        size = len(self.data.classes)
        valid = grid >= 0
        if not len(predicted):  # too short for one token of S3PRL's Featurizer: every frame and phone counts as wrong
            missed = len(collapse(grid[valid]))
            records["grid_frames"].append(int(valid.sum()))
            records["phone_errors"].append(missed)
            records["phones"].append(missed)
            return
        answers = answers_on_grid(predicted, len(grid), self.upstream_rate)
        confusion = np.bincount(grid[valid] * size + answers[valid], minlength=size * size).reshape(size, size)
        records["grid_frames"].append(int(valid.sum()))
        records["confusion"].append(confusion)
        reference, hypothesis = collapse(grid[valid]), collapse(answers[valid])
        records["phone_errors"].append(edit_distance(reference, hypothesis))
        records["phones"].append(len(reference))

    def metrics(self, records: PhoneRecords) -> dict[str, float]:
        """Return loss and accuracies: ``acc`` on the 10 ms grid, ``acc_token`` at the upstream's own rate, ``per``."""
        tokens = max(1, sum(records["tokens"]))
        acc_token = sum(records["token_correct"]) / tokens
        result = {"loss": sum(records["loss_sum"]) / tokens, "acc": acc_token, "acc_token": acc_token}
        if records["grid_frames"]:
            correct = sum(int(np.trace(confusion)) for confusion in records["confusion"])
            result["acc"] = correct / max(1, sum(records["grid_frames"]))
            result["per"] = sum(records["phone_errors"]) / max(1, sum(records["phones"]))
        return result

    def write_artefacts(self, records: PhoneRecords) -> None:
        """Write confusion.csv (rows: reference) and per_class.csv."""
        if not records["confusion"]:
            return
        classes = self.data.classes
        confusion = sum(records["confusion"], np.zeros((len(classes), len(classes)), np.int64))
        Confusion(classes, confusion).write(self.expdir)
        table = [["class", "frames", "acc"]]
        for i, phone in enumerate(classes):
            frames = int(confusion[i].sum())
            table.append([phone, str(frames), f"{confusion[i, i] / frames:.4f}" if frames else ""])
        write_csv(self.expdir / "per_class.csv", table)


def phone_majority(data: TaskData[PhoneLabels]) -> dict[str, float]:
    """Return the rate of the most frequent training phone on the 10 ms grid, by split."""
    return majority_of(data, lambda name: torch.from_numpy(data.label_of(name).grid))


def collapse(labels: np.ndarray) -> list[int]:
    """Return labels with repeats merged: 1 1 2 2 1 -> 1 2 1."""
    return [label for label, _ in itertools.groupby(labels.tolist())]


def edit_distance(reference: Sequence[int], hypothesis: Sequence[int]) -> int:
    """Return the smallest number of insertions, deletions and substitutions (Levenshtein)."""
    row = places = np.arange(len(hypothesis) + 1)
    target = np.asarray(hypothesis)
    for index, symbol in enumerate(reference, 1):
        candidates = np.minimum(row[1:] + 1, row[:-1] + (target != symbol))
        # Insertions chain along the row: a running minimum of (candidate - place).
        row = np.minimum.accumulate(np.concatenate([[index], candidates - places[1:]])) + places
    return int(row[-1])
