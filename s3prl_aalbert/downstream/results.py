"""Writes and reads results.json, the record of a downstream or probing run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.files import write_text
from s3prl_aalbert.model.config import ConfigError, from_dict

RESULTS_FILE = "results.json"
RESULTS_FORMAT = 1
TRAINING_SECTIONS = ("runner", "optimizer", "scheduler", "specaug")
"""Sections of S3PRL's configuration that are recorded."""

NOT_MEASURED = ("seed", "expname")
"""Options that do not change what a checkpoint is measured to be; another split of the data is refused."""
MEASURING: dict[str, object] = {"evaluate_ratio": 1, "precision": "fp32"}
"""Keys of S3PRL's runner that change it, with their defaults."""

KINDS: dict[type, str] = {str: "text", dict: "a mapping", list: "a list"}
T = TypeVar("T")
Metrics = dict[str, float]
"""Values of one evaluation by name; ``acc`` decides the best step."""
Overlap = dict[str, int] | str | None
"""How much of the test was in the upstream's pre-training, or that this is unknown; None without pre-training."""


class ResultsError(AalbertError):
    """A file of results that cannot be used; the message names the file without its folder."""


@dataclass(frozen=True)
class RunnerOptions:
    """The options of S3PRL's runner that distinguish runs."""

    upstream: str | None = None
    upstream_ckpt: str | None = None
    upstream_model_config: str | None = None
    upstream_feature_selection: str | None = None
    upstream_layer_selection: int | None = None
    upstream_feature_normalize: bool | None = None
    upstream_trainable: bool | None = None
    seed: int | None = None
    expname: str | None = None

    @classmethod
    def of(cls, args: Mapping[str, Any]) -> RunnerOptions:
        """Select these options from everything that S3PRL passes to an expert."""
        return cls(**{option.name: args.get(option.name) for option in fields(cls)})


@dataclass(frozen=True)
class ModelFacts:
    """Sizes of the trained model."""

    upstream_dim: int | None = None
    upstream_rate: int | None = None
    """Samples per token."""
    classifier_params: int | None = None
    layer_dims: list[int] | None = None
    """Widths of the layers in a probing run."""


@dataclass(frozen=True)
class DataFacts:
    """The data of a task, without what could not be used."""

    train: int = 0
    """Utterances."""
    dev: int = 0
    test: int = 0
    classes: int | None = None
    speakers: int | None = None
    hours: float | None = None
    left_out: dict[str, dict[str, object]] = field(default_factory=dict)
    """Count and first names of what was skipped, by reason."""
    pretraining_overlap: Overlap = None


@dataclass(frozen=True)
class Evaluation:
    """One evaluation during training."""

    step: int
    split: str
    metrics: Metrics


@dataclass
class BestStep:
    """The step of the highest accuracy on dev."""

    step: int
    dev: Metrics
    test: Metrics | None = None
    """Metrics of the same step on test; None until it is evaluated."""


@dataclass(frozen=True)
class CheckpointEvaluation:
    """One evaluation by ``-m evaluate``."""

    checkpoint: str
    step: int | None
    """The step at which S3PRL wrote the checkpoint; None if it is not recorded."""
    split: str
    metrics: Metrics
    datarc: dict[str, object] = field(default_factory=dict)
    """The settings that differ from the training's, with their values; see ``changed_settings``."""
    pretraining_overlap: Overlap | dict[str, Overlap] = None
    """Of what was evaluated, in a probing run by task; None for other splits than test, and in older records."""


@dataclass
class RunResults:
    """results.json: the whole record of a downstream or probing run."""

    task: str
    """The task's name, ``-d``."""
    args: RunnerOptions = field(default_factory=RunnerOptions)
    training: dict[str, object] = field(default_factory=dict)
    """The sections of S3PRL's configuration that describe the training."""
    config: dict[str, object] = field(default_factory=dict)
    """The ``downstream_expert`` section: datarc and modelrc."""
    data: DataFacts | dict[str, DataFacts] = field(default_factory=DataFacts)
    """Facts of the data; in a probing run by task."""
    model: ModelFacts = field(default_factory=ModelFacts)
    majority: Mapping[str, float | Metrics] = field(default_factory=dict)
    """Accuracy of always predicting the most frequent training class, by split; in a probing run by task."""
    history: list[Evaluation] = field(default_factory=list)
    best: BestStep | None = None
    evaluations: list[CheckpointEvaluation] = field(default_factory=list)

    @property
    def seed(self) -> int | None:
        """The seed of the run."""
        return self.args.seed

    def write(self, folder: Path) -> None:
        """Write results.json atomically."""
        # Users find all settings of a run in one place, with those of the training.
        settings = {**self.config, **self.training}
        content = {"format": RESULTS_FORMAT, **asdict(self), "config": settings}
        if not self.evaluations:
            del content["evaluations"]
        write_text(folder / RESULTS_FILE, json.dumps(content, indent=1, default=str))

    @classmethod
    def read(cls, folder: Path) -> RunResults:
        """Read results.json.

        Raises:
            ResultsError: the file is missing, damaged or of another format.
        """
        content = _read_json(folder / RESULTS_FILE)
        best = content.get("best")
        return cls(
            task=_field(content, "task", str),
            args=_section(RunnerOptions, content, "args"),
            training=_field(content, "training", dict),
            config={k: v for k, v in _field(content, "config", dict).items() if k not in TRAINING_SECTIONS},
            data=_data(content),
            model=_section(ModelFacts, content, "model"),
            majority=_majority(content),
            history=[_evaluation(entry) for entry in _field(content, "history", list)],
            best=None if best is None else _best(best),
            evaluations=[_checkpoint_evaluation(entry) for entry in _field(content, "evaluations", list)],
        )


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested mappings as one mapping with dotted keys."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def changed_keys(values: object, before: object) -> dict[str, object]:
    """Return the keys of ``datarc`` whose values are not those of before; keys of a task's section are ``task.key``."""
    new, old = (flatten(each) if isinstance(each, Mapping) else {} for each in (values, before))
    return {key: new.get(key) for key in {**new, **old} if new.get(key) != old.get(key)}


def changed_settings(evaluation: RunResults, training: RunResults) -> dict[str, object]:
    """Return what an evaluation changed that can change its metrics, with its values.

    Keys of ``datarc`` are as in ``changed_keys``; the others are ``args.KEY`` and ``runner.KEY``, as for ``-o``.
    """
    return {
        **changed_keys(evaluation.config.get("datarc"), training.config.get("datarc")),
        **_changed_args(evaluation.args, training.args),
        **_changed_runner(evaluation.training.get("runner"), training.training.get("runner")),
    }


def _changed_args(args: RunnerOptions, before: RunnerOptions) -> dict[str, object]:
    if before == RunnerOptions():
        return {}  # they were not recorded

    def value(options: RunnerOptions, name: str) -> object:
        found = getattr(options, name)
        return None if found is False else found  # a flag of which an older record knows nothing was not set

    names = [option.name for option in fields(RunnerOptions) if option.name not in NOT_MEASURED]
    return {f"args.{name}": getattr(args, name) for name in names if value(args, name) != value(before, name)}


def _changed_runner(runner: object, before: object) -> dict[str, object]:
    new, old = ({**MEASURING, **each} if isinstance(each, Mapping) else MEASURING for each in (runner, before))
    return {f"runner.{key}": new[key] for key in MEASURING if new[key] != old[key]}


def training_sections(args: Mapping[str, object]) -> dict[str, object]:
    """Return the recorded sections among everything that S3PRL passes to an expert."""
    return {section: args[section] for section in TRAINING_SECTIONS if args.get(section)}


def _read_json(path: Path) -> Mapping[str, object]:
    try:
        text = path.read_text(encoding="utf-8")
        if not text:
            raise ResultsError(f"{path.name} is empty (0 bytes)")
        content = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(f"{path.name} is damaged ({error})") from error
    if not isinstance(content, dict):
        raise ResultsError(f"{path.name} holds {type(content).__name__}, expected a mapping")
    if content.get("format") != RESULTS_FORMAT:
        raise ResultsError(f"{path.name} has format {content.get('format')!r}, expected {RESULTS_FORMAT}")
    return content


def _field(content: Mapping[str, object], name: str, kind: type[T]) -> T:
    """Return a value after checking its type; a missing mapping or list is empty."""
    value = content.get(name)
    if value is None and kind is not str:
        value = kind()
    if not isinstance(value, kind):
        raise ResultsError(f'{RESULTS_FILE}: "{name}" is {value!r}, expected {KINDS[kind]}')
    return value


def _data(content: Mapping[str, object]) -> DataFacts | dict[str, DataFacts]:
    """Return the facts of the data of one task, or of several by task."""
    found = _field(content, "data", dict)
    if set(found) <= {fact.name for fact in fields(DataFacts)}:
        return _section(DataFacts, content, "data")
    return {task: _section(DataFacts, found, task) for task in found}


def _section(kind: type[T], content: Mapping[str, object], name: str) -> T:
    try:
        return from_dict(kind, _field(content, name, dict), f'{RESULTS_FILE}: "{name}"')
    except ConfigError as error:
        raise ResultsError(str(error)) from error


def _metrics(values: object, where: str, needs_accuracy: bool = True) -> Metrics:
    """Return numbers by name after checking them; accuracies lie within [0, 1]."""
    if not isinstance(values, dict):
        raise ResultsError(f'{RESULTS_FILE}: "{where}" is {values!r}, expected a mapping of numbers')
    try:
        metrics = {name: float(value) for name, value in values.items()}
    except (TypeError, ValueError, OverflowError) as error:
        raise ResultsError(f'{RESULTS_FILE}: "{where}" is not a mapping of numbers ({error})') from error
    if "acc" not in metrics and needs_accuracy:
        raise ResultsError(f'{RESULTS_FILE}: "{where}" has no "acc"')
    if not 0 <= metrics.get("acc", 0) <= 1:  # also refuses NaN
        raise ResultsError(f'{RESULTS_FILE}: "{where}.acc" is {metrics["acc"]}, expected within [0, 1]')
    return metrics


def _majority(content: Mapping[str, object]) -> dict[str, float | Metrics]:
    """Return majority rates by split, or by task and split."""
    found = _field(content, "majority", dict)
    nested = {name: rates for name, rates in found.items() if isinstance(rates, dict)}
    flat = _metrics({name: rate for name, rate in found.items() if name not in nested}, "majority", False)
    return {**flat, **{name: _metrics(rates, f"majority.{name}", False) for name, rates in nested.items()}}


def _evaluation(value: object) -> Evaluation:
    entry = _entry(value, "history")
    split = str(entry.get("split"))
    return Evaluation(entry["step"], split, _metrics(entry.get("metrics"), "history.metrics", split != "train"))


def _best(value: object) -> BestStep:
    entry = _entry(value, "best")
    test = entry.get("test")
    dev = _metrics(entry.get("dev"), "best.dev")
    return BestStep(entry["step"], dev, None if test is None else _metrics(test, "best.test"))


def _checkpoint_evaluation(value: object) -> CheckpointEvaluation:
    entry = _entry(value, "evaluations", (int, type(None)))
    metrics = _metrics(entry.get("metrics"), "evaluations.metrics")
    where = str(entry.get("checkpoint")), entry.get("step"), str(entry.get("split"))
    heard = entry.get("pretraining_overlap")
    if not _is_overlap(heard) and not (isinstance(heard, dict) and all(map(_is_overlap, heard.values()))):
        raise ResultsError(f'{RESULTS_FILE}: "evaluations.pretraining_overlap" is {heard!r}, expected counts or a text')
    return CheckpointEvaluation(*where, metrics, _field(entry, "datarc", dict), heard)


def _is_overlap(value: object) -> bool:
    counts = isinstance(value, dict) and all(type(count) is int for count in value.values())
    return counts or value is None or isinstance(value, str)


def _entry(value: object, where: str, kinds_of_step: tuple[type, ...] = (int,)) -> Mapping[str, Any]:
    """Return a value after checking that it is a mapping with a step."""
    if not isinstance(value, dict) or type(value.get("step")) not in kinds_of_step:
        raise ResultsError(f'{RESULTS_FILE}: "{where}" holds {value!r}, expected step, split and metrics')
    return value
