"""The base of both speaker tasks: data, counting, metrics."""

from __future__ import annotations

from typing import TypedDict

import torch

from s3prl_aalbert.downstream.audio_dataset import check_paths
from s3prl_aalbert.downstream.classifier import ClassifierConfig
from s3prl_aalbert.downstream.speaker.dataset import SpeakerDataConfig, load_speaker_data
from s3prl_aalbert.downstream.task import TaskData, TaskExpert, data_folder, majority_of, seed_of
from s3prl_aalbert.model.config import from_dict, samples_in


class SpeakerRecords(TypedDict):
    """What the batches append to S3PRL's defaultdict(list)."""

    loss_sum: list[float]
    correct: list[int]
    count: list[int]


class SpeakerExpert(TaskExpert[int, SpeakerRecords]):
    """A speaker task; subclasses define what is classified."""

    def __init__(self, upstream_dim: int, upstream_rate: int, downstream_expert: dict, expdir: str, **kwargs: object):
        config = from_dict(SpeakerDataConfig, downstream_expert.get("datarc"), "downstream_expert.datarc")
        check_paths(config, "downstream_expert.datarc")
        modelrc = downstream_expert.get("modelrc") or {}
        modelrc = {"classifier": "linear", **modelrc} if isinstance(modelrc, dict) else modelrc
        model = from_dict(ClassifierConfig, modelrc, "downstream_expert.modelrc")
        super().__init__(
            upstream_dim,
            upstream_rate,
            load_speaker_data(config, seed_of(kwargs), data_folder(expdir, kwargs)),
            model,
            (config.train_batch_size, config.eval_batch_size),
            config.num_workers,
            None if config.max_seconds is None else samples_in(config.max_seconds),
            expdir,
            downstream_expert,
            kwargs,
        )

    def majority(self) -> dict[str, float]:
        """Return the rate of the speaker with the most training utterances, by split."""
        return majority_of(self.data, lambda name: torch.tensor([self.data.label_of(name)]))

    def metrics(self, records: SpeakerRecords) -> dict[str, float]:
        """Return mean loss and accuracy over the classified items (utterances or frames)."""
        count = max(1, sum(records["count"]))
        return {"loss": sum(records["loss_sum"]) / count, "acc": sum(records["correct"]) / count}


def frame_majority(data: TaskData[int], upstream_rate: int) -> dict[str, float]:
    """Return the rate of the speaker with the most training tokens, by split."""

    def classes_of(name: str) -> torch.Tensor:
        return torch.full((round(data.num_samples[name] / upstream_rate),), data.label_of(name))

    return majority_of(data, classes_of)
