"""Finds finished experiments below some folders and reads them; what cannot be used is listed with its reason.

Three kinds of folder: a downstream run (results.json), a probing run (probes.csv) and a pre-training run (TensorBoard
events of the tag ``pretrain/``, manifest.tsv or a release).
"""

from __future__ import annotations

import csv
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3prl_aalbert.checkpoint import STATES_PATTERN, WEIGHTS_FILE
from s3prl_aalbert.errors import AalbertError, did_you_mean
from s3prl_aalbert.yaml_config import INVALID_YAML, load_yaml

logger = logging.getLogger(__name__)

RESULTS_FILE, PROBES_FILE, MANIFEST_FILE = "results.json", "probes.csv", "manifest.tsv"
RESULTS_FORMAT = 1
PLAIN = (str, int, float, bool, type(None))
LARGEST_METRIC = 1e300
"""What a float can hold; JSON's whole numbers know no limit."""
TRAINING_SECTIONS = ("optimizer", "scheduler", "specaug")
"""Of S3PRL's configuration: what makes another training, and of the runner's section these keys."""
RUNNER_KEYS = ("total_steps", "gradient_accumulate_steps", "gradient_clipping", "precision", "fp16")
PROBE_COLUMNS = ("task", "layer", "classifier", "dev_acc", "test_acc")


class DamagedRun(AalbertError):
    """A run folder that cannot be used; the message is the reason, without the folder's name."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation during training."""

    step: int
    split: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class DownstreamRun:
    """A finished downstream run, as its results.json tells it."""

    folder: Path
    task: str
    args: Mapping[str, Any]
    """The runner's options: upstream, upstream_ckpt, upstream_feature_selection, seed, ..."""
    config: Mapping[str, Any]
    """The ``downstream_expert`` section: datarc and modelrc."""
    data: Mapping[str, Any]
    majority: dict[str, float]
    """Share of the most frequent class, by split."""
    history: tuple[Evaluation, ...]
    best_step: int
    dev: dict[str, float]
    """Metrics of the best step (chosen on dev); accuracies within [0, 1]."""
    test: dict[str, float]
    upstream_params: int | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    """Of S3PRL's configuration what makes another training: the optimiser, and some of the runner's keys."""

    @property
    def train_fraction(self) -> float:
        """Proportion of the training labels used, 1 where the configuration says nothing."""
        for section in (self.config.get("datarc"), self.config):
            value = section.get("train_fraction") if isinstance(section, Mapping) else None
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return float(value)
        return 1.0


@dataclass(frozen=True)
class ProbeResult:
    """One probe: a classifier on one layer."""

    task: str
    layer: int
    """0 is the input embedding."""
    classifier: str
    dev: float
    test: float


@dataclass(frozen=True)
class ProbeRun:
    """A finished probing run."""

    folder: Path
    args: Mapping[str, Any]
    results: tuple[ProbeResult, ...]
    upstream_params: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    """The ``downstream_expert`` section."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """As of a DownstreamRun."""


@dataclass(frozen=True)
class PretrainRun:
    """A pre-training folder."""

    folder: Path


@dataclass(frozen=True)
class Skipped:
    """A folder that could not be used, and why."""

    folder: Path
    reason: str


@dataclass(frozen=True)
class RunCollection:
    """Everything found."""

    downstream: tuple[DownstreamRun, ...] = ()
    probing: tuple[ProbeRun, ...] = ()
    pretraining: tuple[PretrainRun, ...] = ()
    skipped: tuple[Skipped, ...] = ()


def collect(paths: Sequence[Path]) -> RunCollection:
    """Read every run below some folders (or given by its results.json), each once.

    Raises:
        AalbertError: a path does not exist, or nothing below any of them is usable.
    """
    downstream: list[DownstreamRun] = []
    probing: list[ProbeRun] = []
    pretraining: list[PretrainRun] = []
    skipped: list[Skipped] = []
    for folder in _folders(paths):
        try:
            run = read_folder(folder)
        except DamagedRun as error:
            skipped.append(Skipped(folder, str(error)))
            continue
        if isinstance(run, DownstreamRun):
            downstream.append(run)
        elif isinstance(run, ProbeRun):
            probing.append(run)
        elif isinstance(run, PretrainRun):
            pretraining.append(run)
    for item in skipped:
        logger.warning("%s: left out: %s", item.folder, item.reason)
    if not (downstream or probing or pretraining):
        raise AalbertError(_nothing_usable(paths, skipped))
    return RunCollection(tuple(downstream), tuple(probing), tuple(pretraining), tuple(skipped))


def _nothing_usable(paths: Sequence[Path], skipped: Sequence[Skipped]) -> str:
    where = ", ".join(map(str, paths)) or "no folder given"
    if not skipped:
        return f"{where}: no run found, expected folders with {RESULTS_FILE}, {PROBES_FILE} or a pre-training"
    shown = "; ".join(f"{item.folder} ({item.reason})" for item in skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return f"{where}: none of {len(skipped)} runs is usable: {shown}{more}"


def _folders(paths: Sequence[Path]) -> list[Path]:
    """List all folders below the paths, sorted, each once; hidden ones are passed over."""
    found: dict[Path, Path] = {}
    for path in paths:
        path = Path(path).expanduser()
        if path.is_file():
            path = path.parent
        if not path.is_dir():
            near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            raise AalbertError(f"{path}: no such run folder{did_you_mean(path.name, near)}")
        for parent, names, _ in os.walk(path):
            names[:] = sorted(name for name in names if not name.startswith("."))
            found.setdefault(Path(parent).resolve(), Path(parent))
    return sorted(found.values())


def read_folder(folder: Path) -> DownstreamRun | ProbeRun | PretrainRun | None:
    """Read the run in one folder; None where there is none.

    Raises:
        DamagedRun: there is one, but it is unfinished or damaged.
    """
    if (folder / PROBES_FILE).is_file():
        return _read_probes(folder)
    if (folder / RESULTS_FILE).is_file():
        return _read_downstream(folder)
    if any(folder.glob("args_*.yaml")):  # S3PRL's runner leaves these when it starts
        raise DamagedRun(f"no {RESULTS_FILE}: unfinished, or a task that writes none")
    if (folder / WEIGHTS_FILE).is_file() or (folder / MANIFEST_FILE).is_file():
        return PretrainRun(folder)
    if any(folder.glob(STATES_PATTERN)) and any(folder.glob("events.out.tfevents.*")):
        return PretrainRun(folder)
    return None


# ---------------------------------------------------------------------------------------- downstream


def _read_downstream(folder: Path) -> DownstreamRun:
    content = _read_results(folder)
    best = content.get("best")
    if not isinstance(best, Mapping) or not isinstance(best.get("step"), int):
        raise DamagedRun(f"unfinished: {RESULTS_FILE} has no best step yet")
    entries = content.get("history") or []
    if not isinstance(entries, list):
        raise DamagedRun(f'{RESULTS_FILE}: "history" is {entries!r}, expected a list')
    history = tuple(_evaluation(entry) for entry in entries)
    _check_finished(folder, history)
    return DownstreamRun(
        folder=folder,
        task=_field(content, "task", str),
        args=_with_normalize(_options(content.get("args")), folder),
        config=_field({"config": content.get("config") or {}}, "config", Mapping),
        data=_field({"data": content.get("data") or {}}, "data", Mapping),
        majority=_numbers(content.get("majority") or {}, "majority"),
        history=history,
        best_step=int(best["step"]),
        dev=_accuracy(best, "dev"),
        test=_accuracy(best, "test"),
        upstream_params=_upstream_params(content),
        training=_training(content, folder),
    )


def _with_normalize(args: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Add an option that results.json did not hold at first from what S3PRL recorded."""
    name = "upstream_feature_normalize"
    return args if name in args else {**args, name: bool(_newest_yaml(folder, "args_*.yaml").get(name))}


def _training(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the settings of a training as dotted keys; of S3PRL's YAML where results.json did not hold them yet."""
    recorded = content.get("training") or _newest_yaml(folder, "config_*.yaml")
    flat = flatten(recorded) if isinstance(recorded, Mapping) else {}
    runner = {f"runner.{key}" for key in RUNNER_KEYS}
    return {key: value for key, value in flat.items() if key.split(".")[0] in TRAINING_SECTIONS or key in runner}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one mapping with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _read_results(folder: Path) -> dict[str, Any]:
    try:
        text = (folder / RESULTS_FILE).read_text(encoding="utf-8")
        if not text:
            raise DamagedRun(f"{RESULTS_FILE} is empty (0 bytes)")
        content = json.loads(text)
    except (OSError, ValueError) as error:
        raise DamagedRun(f"{RESULTS_FILE} is damaged ({error})") from error
    if not isinstance(content, dict):
        raise DamagedRun(f"{RESULTS_FILE} holds {type(content).__name__}, expected a mapping")
    if content.get("format") != RESULTS_FORMAT:
        raise DamagedRun(f"{RESULTS_FILE} has format {content.get('format')!r}, expected {RESULTS_FORMAT}")
    return content


def _field(content: Mapping[str, Any], name: str, kind: Any) -> Any:
    value = content.get(name)
    if not isinstance(value, kind):
        raise DamagedRun(f'{RESULTS_FILE}: "{name}" is {value!r}, expected {"text" if kind is str else "a mapping"}')
    return value


def _options(args: Any) -> Mapping[str, Any]:
    """Return the runner's options after checking that those that tell runs apart are plain values."""
    if not isinstance(args, Mapping):
        raise DamagedRun(f'{RESULTS_FILE}: "args" is {args!r}, expected a mapping')
    for name, value in args.items():
        if (name == "seed" or str(name).startswith("upstream")) and not isinstance(value, PLAIN):
            raise DamagedRun(f'{RESULTS_FILE}: "args.{name}" is {value!r}, expected text, a number or null')
    return args


def _numbers(values: Any, name: str) -> dict[str, float]:
    if not isinstance(values, Mapping):
        raise DamagedRun(f'{RESULTS_FILE}: "{name}" is {values!r}, expected a mapping of numbers')
    return {
        str(key): float(value)
        for key, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not abs(value) > LARGEST_METRIC
    }


def _accuracy(best: Mapping[str, Any], split: str) -> dict[str, float]:
    """Return the metrics of a split after checking its accuracy."""
    if split == "test" and not best.get(split):
        raise DamagedRun(f"unfinished: {RESULTS_FILE} has no test of its best step yet")
    metrics = _numbers(best.get(split) or {}, f"best.{split}")
    if "acc" not in metrics:
        raise DamagedRun(f'{RESULTS_FILE}: "best.{split}" has no "acc"')
    if not 0 <= metrics["acc"] <= 1:  # false for NaN, too
        raise DamagedRun(f'{RESULTS_FILE}: "best.{split}.acc" is {metrics["acc"]}, expected within [0, 1]')
    return metrics


def _evaluation(entry: Any) -> Evaluation:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("step"), int):
        raise DamagedRun(f'{RESULTS_FILE}: "history" holds {entry!r}, expected step, split and metrics')
    return Evaluation(entry["step"], str(entry.get("split")), _numbers(entry.get("metrics") or {}, "history"))


def _upstream_params(content: Mapping[str, Any]) -> int | None:
    model = content.get("model")
    value = model.get("upstream_params") if isinstance(model, Mapping) else None
    return value if isinstance(value, int) else None


def _check_finished(folder: Path, history: Sequence[Evaluation]) -> None:
    """Compare the last evaluation with the configuration that S3PRL's runner saved beside it, where there is one."""
    runner = _newest_yaml(folder, "config_*.yaml").get("runner")
    total, every = (runner.get(key) if isinstance(runner, Mapping) else None for key in ("total_steps", "eval_step"))
    if not (isinstance(total, int) and isinstance(every, int) and history):
        return
    last = max(entry.step for entry in history)
    if last + every <= total:
        raise DamagedRun(f"unfinished: last evaluated at step {last} of {total}")


def _newest_yaml(folder: Path, pattern: str) -> dict[str, Any]:
    """Return the newest of S3PRL's dated YAML files, empty where there is none."""
    files = sorted(folder.glob(pattern))
    if not files:
        return {}
    try:
        content = load_yaml(files[-1].read_text(encoding="utf-8"))
    except (OSError, *INVALID_YAML) as error:
        raise DamagedRun(f"{files[-1].name} is damaged ({' '.join(str(error).split())})") from error
    return content if isinstance(content, dict) else {}


# ------------------------------------------------------------------------------------------- probing


def _read_probes(folder: Path) -> ProbeRun:
    try:
        with (folder / PROBES_FILE).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DamagedRun(f"{PROBES_FILE} is damaged ({error})") from error
    if not rows:
        raise DamagedRun(f"unfinished: {PROBES_FILE} holds no probe yet")
    results = tuple(_probe_results(rows))
    content = _read_results(folder) if (folder / RESULTS_FILE).is_file() else {}
    _check_finished(folder, [_evaluation(entry) for entry in content.get("history") or ()])
    args = _options(content.get("args") or _newest_yaml(folder, "args_*.yaml"))
    config, training = content.get("config") or {}, _training(content, folder)
    return ProbeRun(folder, args, results, _upstream_params(content), config, training)


def _probe_results(rows: Iterable[Mapping[str, str]]) -> Iterable[ProbeResult]:
    for number, row in enumerate(rows, start=2):
        missing = [column for column in PROBE_COLUMNS if row.get(column) in (None, "")]
        if missing:
            raise DamagedRun(f"{PROBES_FILE} line {number}: no {', '.join(missing)}")
        try:
            layer, dev, test = int(row["layer"]), float(row["dev_acc"]), float(row["test_acc"])
        except ValueError as error:
            raise DamagedRun(f"{PROBES_FILE} line {number}: {error}") from error
        if not all(math.isfinite(value) and 0 <= value <= 1 for value in (dev, test)):
            raise DamagedRun(f"{PROBES_FILE} line {number}: accuracy {dev}, {test}, expected within [0, 1]")
        yield ProbeResult(row["task"], layer, row["classifier"], dev, test)
