"""Summarises repeated runs as one row: mean, standard error and paired differences."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from s3prl_aalbert.downstream.paired import Values, differences, mean_and_error, percent
from s3prl_aalbert.downstream.result_tables import ProbeResult
from s3prl_aalbert.printable import printable
from s3prl_aalbert.report.describe import (
    TOTAL_STEPS,
    Repeat,
    describe_overlap,
    describe_probed,
    describe_setting,
    freeze,
    grouped,
    probe_key,
    probed,
    repeat_of,
    selection_key,
    task_key,
    title_probes,
    title_tasks,
    training_settings,
    unique,
)
from s3prl_aalbert.report.describe import differences as describe_differences
from s3prl_aalbert.report.models import Model, ModelKey, model_key
from s3prl_aalbert.report.runs import DownstreamRun, ProbeRun, Run, Skipped


@dataclass(frozen=True)
class Scores:
    """One metric of one experiment, as a share, by seed and split."""

    values: Mapping[Repeat, float]

    @classmethod
    def of(cls, values: Iterable[tuple[Run, float]]) -> Scores:
        """Collect the value of each run."""
        return cls({repeat_of(run): value for run, value in values})

    @property
    def parts(self) -> Values:
        """The values behind the standard error: one per split, averaged over seeds; with one split, one per seed."""
        over_splits = self.splits > 1
        repeats = grouped(self.values, lambda repeat: repeat.split if over_splits else repeat.seed)
        return {part: statistics.fmean(self.values[repeat] for repeat in own) for part, own in repeats.items()}

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len({repeat.seed for repeat in self.values})

    @property
    def splits(self) -> int:
        """Number of splits; folds are splits."""
        return len({repeat.split for repeat in self.values})

    @property
    def mean(self) -> float:
        """Mean over ``parts``."""
        return mean_and_error(self.parts)[0]

    @property
    def error(self) -> float | None:
        """Standard error of the mean; None for a single value."""
        error = mean_and_error(self.parts)[1]
        return None if math.isnan(error) else error

    @property
    def low(self) -> float:
        """One standard error below the mean."""
        return self.mean - (self.error or 0)

    @property
    def high(self) -> float:
        """One standard error above the mean."""
        return self.mean + (self.error or 0)

    def percent(self) -> str:
        """Return e.g. ``45.3 ± 0.4`` per cent: the mean and, for several values, its standard error."""
        return percent(self.parts)

    def less(self, baseline: Scores) -> Scores:
        """Return the differences from a baseline, seed by seed and split by split, where both were run."""
        return Scores(differences(self.values, baseline.values))

    def repeats(self) -> str:
        """Describe the numbers of seeds and splits, e.g. ``3 seeds`` or ``3 seeds, 4 splits``."""
        counts = [(self.seeds, "seed"), *([(self.splits, "split")] if self.splits > 1 else [])]
        return ", ".join(f"{count} {name}{'s' if count > 1 else ''}" for count, name in counts)


@dataclass(frozen=True)
class ResultRow:
    """One experiment with all its repeats."""

    task: str
    """Title, unique to task, data and labels."""
    task_name: str
    """The task's name, ``-d``."""
    model: Model
    setting: str
    fraction: float
    """Share of the training labels that was used."""
    dev: Scores
    test: Scores
    majority: float | None
    """Test accuracy of always predicting the most frequent class."""
    classes: int | None
    runs: tuple[DownstreamRun, ...]

    @property
    def fine_tuned(self) -> bool:
        """Whether the upstream was trained too."""
        return bool(self.runs[0].results.args.upstream_trainable)

    @property
    def others(self) -> dict[str, Scores]:
        """Test metrics of every run, without accuracy and loss."""
        shared = set.intersection(*(set(run.test) for run in self.runs)) - {"acc", "loss"}
        return {name: Scores.of((run, run.test[name]) for run in self.runs) for name in sorted(shared)}


@dataclass(frozen=True)
class ProbeRow:
    """One probe with all its repeats."""

    task: str
    model: Model
    use: str
    """The representation, if it is not that of all hidden states; see ``describe_probed``."""
    classifier: str
    layer: int
    dev: Scores
    test: Scores

    @property
    def name(self) -> str:
        """The model's label and the use of it."""
        return f"{self.model.label}, {self.use}" if self.use else self.model.label


AnyRun = TypeVar("AnyRun", bound=Run)


def drop_repeated(
    runs: Sequence[AnyRun], experiment_of: Callable[[AnyRun], tuple[Hashable, ...]]
) -> tuple[list[AnyRun], list[Skipped]]:
    """Skip runs with the same experiment, seed and split as another, which would make the error look smaller."""
    kept: dict[tuple[Hashable, ...], AnyRun] = {}
    repeated: list[Skipped] = []
    for run in runs:
        key: tuple[Hashable, ...] = (*experiment_of(run), repeat_of(run))
        if key in kept:
            repeated.append(Skipped(run.folder, f"same experiment and seed as {kept[key].folder}"))
        else:
            kept[key] = run
    return list(kept.values()), repeated


def experiment_key(run: DownstreamRun) -> tuple[Hashable, ...]:
    """Return the key of an experiment, without its seeds and splits."""
    settings = freeze(training_settings(run))
    return (task_key(run), model_key(run), describe_setting(run.results.args), settings, run.train_fraction)


def probing_key(run: ProbeRun) -> tuple[Hashable, ...]:
    """Return the key of a probing experiment, without its seeds and splits."""
    tasks = unique(probe.task for probe in run.probes)
    return (model_key(run), selection_key(run), *(probe_key(run, task) for task in tasks), probed(run))


def summarise(runs: Sequence[DownstreamRun], models: Mapping[ModelKey, Model]) -> list[ResultRow]:
    """Group the repeats of each experiment; return rows sorted by task, model, setting and share of labels."""
    titles = title_tasks(runs)
    settings = _setting_titles(runs)
    rows = [
        _row(titles[task_key(members[0])], models[model_key(members[0])], settings[key], members)
        for key, members in grouped(runs, experiment_key).items()
    ]
    order = list(models.values())
    return sorted(rows, key=lambda r: (r.task, order.index(r.model), r.fine_tuned, r.setting, -r.fraction))


def _row(task: str, model: Model, setting: str, runs: Sequence[DownstreamRun]) -> ResultRow:
    rates = [run.results.majority.get("test") for run in runs]
    majority = [rate for rate in rates if isinstance(rate, float)]
    return ResultRow(
        task=task,
        task_name=runs[0].results.task,
        model=model,
        setting=setting,
        fraction=runs[0].train_fraction,
        dev=Scores.of((run, run.dev["acc"]) for run in runs),
        test=Scores.of((run, run.test["acc"]) for run in runs),
        majority=statistics.fmean(majority) if majority else None,
        classes=runs[0].data.classes,
        runs=tuple(runs),
    )


def _setting_titles(runs: Sequence[DownstreamRun]) -> dict[tuple[Hashable, ...], str]:
    """Name the setting of each ``experiment_key``; if runs differ in other configuration keys, these are named.

    The same setting has the same name with every share of labels, also where each share has its own number of steps.
    """
    titles = {}
    for (_, _, setting), members in grouped(runs, lambda run: experiment_key(run)[:3]).items():
        compared = {experiment_key(run): training_settings(run) for run in members}
        of_share = grouped(compared, lambda key: key[-1])
        if all(len({compared[key].get(TOTAL_STEPS) for key in keys}) == 1 for keys in of_share.values()):
            for values in compared.values():
                values.pop(TOTAL_STEPS, None)
        variants = {freeze(values): values for values in compared.values()}
        texts = dict(zip(variants, describe_differences(list(variants.values())), strict=True))
        for key, values in compared.items():
            text = texts[freeze(values)]
            titles[key] = f"{setting}, {text}" if text else str(setting)
    return titles


def by_task(rows: Sequence[ResultRow]) -> dict[str, list[ResultRow]]:
    """Return the rows of each task."""
    return grouped(rows, lambda row: row.task)


def full_rows(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Return the rows with all labels, or with the largest share that their task has."""
    largest = {task: max(row.fraction for row in members) for task, members in by_task(rows).items()}
    return [row for row in rows if row.fraction == largest[row.task]]


def summarise_probes(runs: Sequence[ProbeRun], models: Mapping[ModelKey, Model]) -> list[ProbeRow]:
    """Group the repeats of each probe; return rows sorted by task, classifier, model and layer."""
    titles = title_probes(runs)
    probes = [(run, probe) for run in runs for probe in run.probes]
    groups = grouped(probes, lambda pair: _probe_group(*pair))
    rows = [
        ProbeRow(
            titles[probe_key(run, probe.task)],
            models[model_key(run)],
            describe_probed(run.results.args),
            probe.classifier,
            probe.layer,
            Scores.of((run, probe.dev_acc) for run, probe in pairs),
            Scores.of((run, probe.test_acc or 0.0) for run, probe in pairs),
        )
        for pairs in groups.values()
        for run, probe in pairs[:1]
    ]
    order = list(models.values())
    classifiers = unique(row.classifier for row in rows)
    return sorted(rows, key=lambda r: (r.task, classifiers.index(r.classifier), order.index(r.model), r.use, r.layer))


def _probe_group(run: ProbeRun, probe: ProbeResult) -> tuple[Hashable, ...]:
    return (probe_key(run, probe.task), probe.classifier, model_key(run), selection_key(run), probe.layer)


def best_layers(rows: Sequence[ProbeRow]) -> list[ProbeRow]:
    """Return, for each task, classifier, model and use of it, the layer with the highest dev accuracy."""
    layers = grouped(rows, lambda row: (row.task, row.classifier, row.name))
    return [max(members, key=lambda row: row.dev.mean) for members in layers.values()]


# ------------------------------------------------------------------------------- what a row is compared with

AnyRow = TypeVar("AnyRow", ResultRow, ProbeRow)


def features_of(row: AnyRow, rows: Sequence[AnyRow]) -> AnyRow | None:
    """Return the row of acoustic features to compare with: the best on dev of the same task."""
    if row.model.parameters == 0:
        return None
    candidates = [other for other in rows if other.model.parameters == 0 and _comparable(row, other)]
    return max(candidates, key=lambda other: other.dev.mean, default=None)


def untrained_of(row: AnyRow, rows: Sequence[AnyRow]) -> AnyRow | None:
    """Return the row of the same model before its training, in the same setting."""
    twins = [other for other in rows if other.model.is_twin_of(row.model) and _comparable(row, other)]
    return next((other for other in twins if _use(other) == _use(row)), None)


def _comparable(row: AnyRow, other: AnyRow) -> bool:
    return _conditions(row) == _conditions(other)


def _conditions(row: ResultRow | ProbeRow) -> object:
    return (row.task, row.fraction if isinstance(row, ResultRow) else row.classifier)


def _use(row: ResultRow | ProbeRow) -> object:
    return row.setting if isinstance(row, ResultRow) else (row.use, row.layer)


def paired_scores(row: AnyRow, rows: Sequence[AnyRow]) -> tuple[Scores | None, Scores | None]:
    """Return the paired differences of test accuracy from the features and from the untrained model."""
    paired = (other and row.test.less(other.test) for other in (features_of(row, rows), untrained_of(row, rows)))
    features, untrained = (found if found and found.values else None for found in paired)
    return features, untrained


def compare(row: AnyRow, rows: Sequence[AnyRow]) -> tuple[str, str]:
    """Return these differences in points with standard errors, e.g. ``+3.1 ± 0.2``; "" if there are none."""
    features, untrained = ("" if found is None else percent(found.parts, True) for found in paired_scores(row, rows))
    return features, untrained


OVERLAP = "test speech in pre-training"
RESULT_COLUMNS = (
    *("task", "model", "setting", "labels %", "test accuracy %", "minus features", "minus untrained"),
    *("dev accuracy %", "most frequent class %", "repeats", OVERLAP),
)
PROBE_COLUMNS = (
    *("model", "probed for", "classifier", "best layer", "test accuracy %", "minus features", "minus untrained"),
    "dev accuracy %",
)
HOW_TO_READ = (
    "Accuracy in per cent, mean ± standard error over splits (seeds averaged) or, with one split, over seeds. "
    "Differences are paired: each seed and split with its own. Each run's best step is chosen on dev alone."
)


def result_cells(row: ResultRow, rows: Sequence[ResultRow]) -> tuple[str, ...]:
    """Return a row's cells in the order of RESULT_COLUMNS."""
    majority = "" if row.majority is None else f"{100 * row.majority:.1f}"
    share = "" if row.fraction == 1 else f"{100 * row.fraction:g}"
    tail = (row.dev.percent(), majority, row.test.repeats(), describe_overlap(row.runs))
    return (row.task, row.model.label, row.setting, share, row.test.percent(), *compare(row, rows), *tail)


def probe_cells(row: ProbeRow, rows: Sequence[ProbeRow]) -> tuple[str, ...]:
    """Return a row's cells in the order of PROBE_COLUMNS."""
    head = (row.name, row.task, row.classifier, str(row.layer))
    return (*head, row.test.percent(), *compare(row, rows), row.dev.percent())


def format_table(rows: Sequence[ResultRow], probes: Sequence[ProbeRow] = ()) -> str:
    """Return results (with all labels) and the best layer of each probe as plain text for a terminal."""
    blocks = []
    shown = full_rows(rows)
    if shown:
        blocks.append(_align(RESULT_COLUMNS, [result_cells(row, shown) for row in shown]))
    if probes:
        blocks.append(_align(PROBE_COLUMNS, [probe_cells(row, probes) for row in best_layers(probes)]))
    return "\n\n".join([*blocks, *([HOW_TO_READ] if blocks else [])])


def _align(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with columns as wide as their longest cell; empty columns are dropped."""
    kept = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    table = [[printable(row[index]) for index in kept] for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
