"""The base of the phone and speaker experts: S3PRL's downstream interface with a dataset, a classifier and results."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from s3prl_aalbert.downstream.audio_dataset import AudioStore, ItemDataset, make_loader
from s3prl_aalbert.downstream.classes import KnowsClasses
from s3prl_aalbert.downstream.classifier import CLASSIFIERS, ClassifierConfig, build_classifier
from s3prl_aalbert.downstream.pretraining_overlap import check_overlap
from s3prl_aalbert.downstream.recorder import Recorder
from s3prl_aalbert.downstream.results import DataFacts, ModelFacts, RunnerOptions, RunResults, training_sections
from s3prl_aalbert.downstream.skipped import Skipped
from s3prl_aalbert.downstream.splits import SPLITS, check_not_trained_on, check_same_split, save_split
from s3prl_aalbert.errors import AalbertError, did_you_mean
from s3prl_aalbert.model.config import SAMPLE_RATE

logger = logging.getLogger(__name__)

BEST_CHECKPOINT = "dev-best.ckpt"
Label = TypeVar("Label")
Label_co = TypeVar("Label_co", covariant=True)
Records = TypeVar("Records")


class ScalarLog(Protocol):
    """What the tasks use of S3PRL's logger, a SummaryWriter of tensorboardX."""

    def add_scalar(self, tag: str, scalar_value: float, *, global_step: int) -> None:
        """Log one value."""


@dataclass(frozen=True)
class TaskData(Generic[Label_co]):
    """Audio and labels of a task, split and ready."""

    classes: tuple[str, ...]
    names: Mapping[str, Sequence[str]]
    """Utterances by split."""
    store: AudioStore
    label_of: Callable[[str], Label_co]
    num_samples: Mapping[str, int]
    """Length of each utterance."""
    facts: DataFacts
    """What was used and skipped, for results.json."""
    speakers: Mapping[str, str] = field(default_factory=dict)
    """Speaker of each utterance."""

    def by_length(self, split: str) -> list[str]:
        """Return a split's utterances for evaluation: the longest first, so that batches have little padding."""
        return sorted(self.names[split], key=lambda name: -self.num_samples[name])


def split_data(
    classes: tuple[str, ...],
    split: Mapping[str, str],
    store: AudioStore,
    label_of: Callable[[str], Label],
    num_samples: Mapping[str, int],
    speakers: Mapping[str, str],
    skipped: Skipped,
    num_speakers: int | None = None,
) -> TaskData[Label]:
    """Return the data of a task from its parts, and count what is used.

    Args:
        classes: names of the classes.
        split: split of each used utterance.
        store: their audio.
        label_of: returns the label of an utterance.
        num_samples: length of each utterance.
        speakers: speaker of each utterance.
        skipped: what is not used.
        num_speakers: number of speakers, where they are not the classes.
    """
    names = {part: [name for name in sorted(split) if split[name] == part] for part in SPLITS}
    facts = DataFacts(
        train=len(names["train"]),
        dev=len(names["dev"]),
        test=len(names["test"]),
        classes=len(classes),
        speakers=num_speakers,
        hours=sum(num_samples[name] for name in split) / SAMPLE_RATE / 3600,
        left_out=skipped.facts(),
    )
    return TaskData(classes, names, store, label_of, num_samples, facts, speakers)


class TaskExpert(KnowsClasses, Generic[Label, Records]):
    """A downstream expert as S3PRL's runner uses it; subclasses define how a batch is scored.

    Args:
        upstream_dim: width of the representation.
        upstream_rate: samples per token.
        data: the task's data.
        classifier: kind and sizes of the classifier.
        expdir: folder of the results.
        section: the task's section of the configuration, downstream_expert.
        kwargs: everything else that S3PRL passes (its options and the rest of the configuration).
        outputs: number of predictions for each input.
    """

    task = ""

    def __init__(
        self,
        upstream_dim: int,
        upstream_rate: int,
        data: TaskData[Label],
        classifier: ClassifierConfig,
        batch_sizes: tuple[int, int],
        num_workers: int,
        crop: int | None,
        expdir: str,
        section: dict[str, object],
        kwargs: Mapping[str, object],
        outputs: int = 1,
    ):
        super().__init__()
        self.upstream_rate, self.data, self.expdir = int(upstream_rate), data, Path(expdir)
        self.train_batch_size, self.eval_batch_size = batch_sizes
        self.num_workers, self.crop, self.seed = num_workers, crop, seed_of(kwargs)
        self.outputs = outputs
        # One classifier for all inputs; with several outputs per token, each has its own set of classes.
        self.model = build_classifier(
            upstream_dim,
            len(data.classes) * outputs,
            CLASSIFIERS[classifier.classifier],
            classifier.hidden_size,
            classifier.batch_norm,
            classifier.dropout,
        )
        keep_split(data, self.expdir, kwargs)
        # The record is complete before training starts, so that an interrupted run can still be described.
        check_order(kwargs.get("runner"))
        results = RunResults(
            self.task,
            RunnerOptions.of(kwargs),
            training_sections(kwargs),
            config=section,
            data=with_overlap(kwargs, data, section.get("datarc")),
            model=ModelFacts(upstream_dim, self.upstream_rate, sum(p.numel() for p in self.model.parameters())),
            majority=self.majority(),
        )
        self.recorder = Recorder(self.expdir, results, kwargs, resume=bool(kwargs.get("init_ckpt")))

    def classes(self) -> dict[str, list[str]]:
        """Return the names of the classes, which the checkpoint stores."""
        return {self.task: list(self.data.classes)}

    # ------------------------------------------------------------------------------- S3PRL's interface

    def get_dataloader(self, split: str, epoch: int = 0) -> DataLoader:
        """Return the loader of "train", "dev" or "test"."""
        if split not in self.data.names:
            known = ", ".join(self.data.names)
            raise AalbertError(f'split "{split}"{did_you_mean(split, self.data.names)} is unknown; there are {known}')
        train = not self.recorder.is_evaluation(split)
        crop = self.crop if train else None
        names = self.data.names[split] if train else self.data.by_length(split)
        dataset = ItemDataset(names, self.data.store, self.data.label_of, crop, self.seed)
        size = self.train_batch_size if train else self.eval_batch_size
        return make_loader(dataset, size, self.num_workers, train, epoch)

    def forward(
        self,
        split: str,
        features: Sequence[Tensor],
        labels: Sequence[Label],
        names: Sequence[str],
        records: Records,
        **_: object,
    ) -> Tensor:
        """Classify a batch, append its scores to ``records``, return the loss.

        Args:
            split: "train", "dev" or "test".
            features: list of (tokens, upstream_dim), unpadded.
            labels: one entry per utterance.
            names: utterance names.
            records: S3PRL's defaultdict(list).
        """
        raise NotImplementedError

    def log_records(self, split: str, records: Records, logger: ScalarLog, global_step: int, **_: object) -> list[str]:
        """Average the records, log and store them; return the names of the checkpoints to save."""
        metrics = self.metrics(records)
        for key, value in metrics.items():
            logger.add_scalar(f"{self.task}/{split}-{key}", value, global_step=global_step)
        if self.recorder.is_evaluation(split):
            shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            print(f"{self.task} {split} {self.recorder.place(global_step)}: {shown}")
        improved = self.recorder.add(split, global_step, metrics)
        if split == "test" and self.recorder.best_step in (global_step, None):
            self.write_artefacts(records)
        return [BEST_CHECKPOINT] if improved and global_step > 0 else []

    # ----------------------------------------------------------------------------------- for subclasses

    @abstractmethod
    def majority(self) -> dict[str, float]:
        """Return the accuracy of always predicting the most frequent training class, by split."""

    @abstractmethod
    def metrics(self, records: Records) -> dict[str, float]:
        """Return the metrics of accumulated records; ``acc`` decides the best step."""

    def write_artefacts(self, records: Records) -> None:
        """Write confusion matrices and the like for the test split's best step."""


def with_overlap(args: Mapping[str, object], data: TaskData[object], datarc: object) -> DataFacts:
    """Return the facts of the data, with the overlap of the test and the upstream's pre-training.

    Raises:
        AalbertError: there is an overlap, and the configuration refuses it.
    """
    choice = datarc.get("pretraining_overlap", "refuse") if isinstance(datarc, Mapping) else "refuse"
    found = check_overlap(args, data.names.get("test", ()), data.speakers, choice)
    return replace(data.facts, pretraining_overlap=found)


def data_folder(expdir: str | Path, kwargs: Mapping[str, object]) -> Path | None:
    """Return where the data are recorded; None with ``-m evaluate``, whose data may differ from the training."""
    return None if kwargs.get("mode") == "evaluate" else Path(expdir)


def keep_split(data: TaskData[object], expdir: Path, kwargs: Mapping[str, object], task: str = "") -> None:
    """Write the split of a training; refuse one that a checkpoint does not fit.

    Args:
        data: the task's data.
        expdir: folder of the run.
        kwargs: everything that S3PRL passes.
        task: folder of the task below that of the run, if it has one.

    Raises:
        AalbertError: a run that goes on began with another split, or a checkpoint was trained on what would test it.
    """
    folder, checkpoint = data_folder(expdir / task, kwargs), kwargs.get("init_ckpt")
    split = {name: part for part, names in data.names.items() for name in names}
    if checkpoint:
        trained = Path(str(checkpoint)).parent / task
        if folder and trained.resolve() == folder.resolve():
            check_same_split(folder, split)
        else:
            tested = ("dev", "test") if folder else {str(kwargs.get("evaluate_split", "test"))} - {"train"}
            check_not_trained_on(trained, [name for name, part in split.items() if part in tested])
    if folder:
        save_split(folder, split, data.speakers)


def seed_of(args: Mapping[str, object]) -> int:
    """Return ``--seed`` among everything that S3PRL passes; 0 if it is missing."""
    seed = args.get("seed")
    return seed if isinstance(seed, int) else 0


def check_order(runner: object) -> None:
    """Raise AalbertError where test would be evaluated before dev, which chooses the best step."""
    order = list(runner.get("eval_dataloaders") or ()) if isinstance(runner, Mapping) else []
    if "test" in order and "dev" not in order[: order.index("test")]:
        raise AalbertError(f"runner.eval_dataloaders is {order}, expected dev before test: dev chooses the best step")


def as_paths(value: str | Sequence[str]) -> tuple[str, ...]:
    """Return one path or several as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value)


def check_classes(found: int, expected: int | None, what: str, audio: str | Sequence[str]) -> None:
    """Raise AalbertError where the number of classes is not ``datarc.expected_classes``."""
    if expected is not None and found != expected:
        where = ", ".join(as_paths(audio))
        raise AalbertError(
            f"{where}: has {found} {what} with audio and labels, expected {expected}; is some of the corpus missing? "
            "To switch the check off: datarc.expected_classes=None"
        )


def majority_of(data: TaskData[object], classes_of: Callable[[str], Tensor]) -> dict[str, float]:
    """Return the accuracy of always predicting the most frequent training class, by split.

    Args:
        data: the task's data.
        classes_of: returns the class of every scored item in an utterance, (items,); negative ones are not scored.
    """
    labels = {split: torch.cat([classes_of(name) for name in names]) for split, names in data.names.items()}
    counts = {split: torch.bincount(own[own >= 0], minlength=len(data.classes)) for split, own in labels.items()}
    best = int(counts["train"].argmax())
    return {split: float(c[best] / c.sum().clamp_min(1)) for split, c in counts.items() if split != "train"}
