"""Seeds to mean and spread: one row per task, model, setting and share of the labels."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from s3prl_aalbert.analysis.models import Model, ModelKey, model_key
from s3prl_aalbert.analysis.runs import DownstreamRun, ProbeResult, ProbeRun, Skipped
from s3prl_aalbert.analysis.settings import (
    class_count,
    describe_setting,
    differences,
    freeze,
    probe_key,
    probed,
    replicate_settings,
    task_key,
    title_probes,
    title_tasks,
    training_settings,
    unique,
)
from s3prl_aalbert.analysis.spread import Spread
from s3prl_aalbert.printable import printable


@dataclass(frozen=True)
class ResultRow:
    """One experiment over all its seeds."""

    task: str
    """Title; unique per task, data and labels."""
    task_name: str
    """S3PRL's name, ``-d``."""
    model: Model
    setting: str
    fraction: float
    """Share of the training labels."""
    dev: Spread
    test: Spread
    majority: float | None
    """Accuracy of always answering the most frequent class, on test."""
    classes: int | None
    runs: tuple[DownstreamRun, ...]

    @property
    def fine_tuned(self) -> bool:
        """Whether the upstream was trained as well."""
        return bool(self.runs[0].args.get("upstream_trainable"))

    @property
    def others(self) -> dict[str, Spread]:
        """Test metrics besides accuracy and loss that every run has."""
        shared = set.intersection(*(set(run.test) for run in self.runs)) - {"acc", "loss"}
        return {name: Spread.over((run, run.test[name]) for run in self.runs) for name in sorted(shared)}


@dataclass(frozen=True)
class ProbeRow:
    """One probe over all its seeds."""

    task: str
    model: Model
    classifier: str
    layer: int
    dev: Spread
    test: Spread


AnyRun = TypeVar("AnyRun", bound=DownstreamRun | ProbeRun)


def drop_repeated(
    runs: Sequence[AnyRun], experiment_of: Callable[[AnyRun], tuple[Any, ...]]
) -> tuple[list[AnyRun], list[Skipped]]:
    """Leave out runs that repeat another one, seed included: they would make the spread look smaller."""
    kept: dict[tuple[Any, ...], AnyRun] = {}
    repeated = []
    for run in runs:
        key = (*experiment_of(run), replicate_settings(run))
        if key in kept:
            repeated.append(Skipped(run.folder, f"same experiment and seed as {kept[key].folder}"))
        else:
            kept[key] = run
    return list(kept.values()), repeated


def experiment_key(run: DownstreamRun) -> tuple[Any, ...]:
    """Return what tells an experiment from others, its seeds and folds apart."""
    settings = freeze(training_settings(run))
    return (task_key(run), model_key(run), describe_setting(run.args), settings, run.train_fraction)


def probing_key(run: ProbeRun) -> tuple[Any, ...]:
    """Return what tells a probing experiment from others, its seeds and folds apart."""
    tasks = unique(result.task for result in run.results)
    return (model_key(run), *(probe_key(run, task) for task in tasks), probed(run))


def summarise(runs: Sequence[DownstreamRun], models: Mapping[ModelKey, Model]) -> list[ResultRow]:
    """Group runs that differ in their seed alone, and return their rows by task, model, setting and share of labels."""
    titles = title_tasks(runs)
    settings = _setting_titles(runs)
    groups: dict[tuple[Any, ...], list[DownstreamRun]] = {}
    for run in runs:
        groups.setdefault(experiment_key(run), []).append(run)
    rows = []
    for key, members in groups.items():
        task, model, _, _, fraction = key
        rows.append(_row(titles[task], models[model], settings[key[:4]], fraction, members))
    order = list(models.values())
    return sorted(rows, key=lambda r: (r.task, order.index(r.model), r.fine_tuned, r.setting, -r.fraction))


def _row(task: str, model: Model, setting: str, fraction: float, runs: Sequence[DownstreamRun]) -> ResultRow:
    majority = [run.majority["test"] for run in runs if "test" in run.majority]
    return ResultRow(
        task=task,
        task_name=runs[0].task,
        model=model,
        setting=setting,
        fraction=fraction,
        dev=Spread.over((run, run.dev["acc"]) for run in runs),
        test=Spread.over((run, run.test["acc"]) for run in runs),
        majority=statistics.fmean(majority) if majority else None,
        classes=class_count(runs[0]),
        runs=tuple(runs),
    )


def _setting_titles(runs: Sequence[DownstreamRun]) -> dict[tuple[Any, ...], str]:
    """Name each setting; runs alike but for other configuration keys are told apart by these."""
    alike: dict[tuple[Any, ...], dict[tuple[Any, ...], DownstreamRun]] = {}
    for run in runs:
        key = experiment_key(run)
        alike.setdefault(key[:3], {})[key[:4]] = run
    titles = {}
    for (_, _, setting), variants in alike.items():
        texts = differences([training_settings(run) for run in variants.values()])
        for key, text in zip(variants, texts, strict=True):
            titles[key] = f"{setting}, {text}" if text else setting
    return titles


def full_rows(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Return the rows with all labels, or with the largest share that their task was run with."""
    largest: dict[str, float] = {}
    for row in rows:
        largest[row.task] = max(row.fraction, largest.get(row.task, 0))
    return [row for row in rows if row.fraction == largest[row.task]]


def summarise_probes(runs: Sequence[ProbeRun], models: Mapping[ModelKey, Model]) -> list[ProbeRow]:
    """Group probes over seeds, by task, classifier, model and layer."""
    titles = title_probes(runs)
    groups: dict[tuple[str, str, ModelKey, int], list[tuple[ProbeRun, ProbeResult]]] = {}
    for run in runs:
        for probe in run.results:
            key = (titles[probe_key(run, probe.task)], probe.classifier, model_key(run), probe.layer)
            groups.setdefault(key, []).append((run, probe))
    rows = [
        ProbeRow(
            task,
            models[model],
            classifier,
            layer,
            Spread.over((run, probe.dev) for run, probe in pairs),
            Spread.over((run, probe.test) for run, probe in pairs),
        )
        for (task, classifier, model, layer), pairs in groups.items()
    ]
    order = list(models.values())
    classifiers = unique(row.classifier for row in rows)
    return sorted(rows, key=lambda r: (r.task, classifiers.index(r.classifier), order.index(r.model), r.layer))


def best_layers(rows: Sequence[ProbeRow]) -> list[ProbeRow]:
    """Return, for each task, classifier and model, the layer with the highest dev accuracy."""
    best: dict[tuple[str, str, ModelKey], ProbeRow] = {}
    for row in rows:
        key = (row.task, row.classifier, row.model.key)
        if key not in best or row.dev.mean > best[key].dev.mean:
            best[key] = row
    return list(best.values())


# ------------------------------------------------------------------------------------------ as text

RESULT_COLUMNS = ("task", "model", "setting", "labels %", "dev %", "test %", "majority %", "seeds")
PROBE_COLUMNS = ("probed for", "model", "classifier", "best layer", "dev %", "test %")


def result_cells(row: ResultRow) -> tuple[str, ...]:
    """Return a row's cells in the order of RESULT_COLUMNS."""
    majority = "" if row.majority is None else f"{100 * row.majority:.1f}"
    share = f"{100 * row.fraction:g}"
    tail = (row.dev.percent(), row.test.percent(), majority, row.test.repetitions())
    return (row.task, row.model.label, row.setting, share, *tail)


def probe_cells(row: ProbeRow) -> tuple[str, ...]:
    """Return a row's cells in the order of PROBE_COLUMNS."""
    return (row.task, row.model.label, row.classifier, str(row.layer), row.dev.percent(), row.test.percent())


def format_table(rows: Sequence[ResultRow], probes: Sequence[ProbeRow] = ()) -> str:
    """Return results (with all labels) and the best layer of each probe as plain text for a terminal."""
    blocks = []
    shown = full_rows(rows)
    if shown:
        cells = [result_cells(row) for row in shown]
        drop = {3} if all(row.fraction == 1 for row in shown) else set()
        blocks.append(_align(RESULT_COLUMNS, cells, drop))
    if probes:
        blocks.append(_align(PROBE_COLUMNS, [probe_cells(row) for row in best_layers(probes)], set()))
    if any(row.test.count > 1 for row in rows):
        blocks.append(
            "mean [smallest-largest] over seeds (folds averaged); each run's best step is chosen on dev alone"
        )
    return "\n\n".join(blocks)


def _align(columns: Sequence[str], rows: Sequence[Sequence[str]], drop: set[int]) -> str:
    kept = [index for index in range(len(columns)) if index not in drop]
    table = [[printable(row[index]) for index in kept] for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
