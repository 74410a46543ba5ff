"""What the benchmarks record of every model, layer, classifier and speaker, and the table of it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from math import isnan, nan, sqrt
from pathlib import Path
from statistics import fmean

from subjects import FEATURES, Subject

from s3prl_aalbert.downstream.audio_dataset import find_audio
from s3prl_aalbert.downstream.paired import Values, differences, mean_and_error, percent, percent_of
from s3prl_aalbert.downstream.result_tables import write_csv
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.speech.speakers import speaker_of

Row = dict[str, str]


def read_table(path: Path) -> list[Row]:
    """Return the rows of a CSV file; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Records:
    """A CSV file that grows with every result, so that nothing in it is run again.

    Args:
        path: the file.
        columns: its columns; model, layer, classifier, speaker, correct and count are among them.
        protocol: values of some columns that tell what is run from what an earlier run with other options wrote.
    """

    def __init__(self, path: Path, columns: Sequence[str], protocol: Mapping[str, str]):
        self.path, self.columns, self.protocol = path, tuple(columns), dict(protocol)
        self.rows = read_table(path)

    def own(self) -> list[Row]:
        """Return the rows of this protocol."""
        return [row for row in self.rows if self.protocol.items() <= row.items()]

    def done(self, model: str) -> set[tuple[int, str]]:
        """Return the layers and classifiers of a model that are there."""
        return {(int(row["layer"]), row["classifier"]) for row in self.own() if row["model"] == model}

    def check_speakers(self, speech: Iterable[Path]) -> None:
        """Refuse a file that holds speakers of another corpus, whose values would stand for those of ``speech``.

        Raises:
            AalbertError: some of its speakers are not in these folders, or there is no audio in them.
        """
        if not self.own():
            return
        there = {speaker_of(path) for path in find_audio([str(folder) for folder in speech])}
        others = sorted({row["speaker"] for row in self.own()} - there)
        if others:
            raise AalbertError(
                f"{self.path}: holds {len(others)} speakers of other speech, e.g. {others[0]}; give another --out"
            )

    def add(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Write more rows, without the protocol's columns."""
        self.rows += [{key: str(value) for key, value in {**row, **self.protocol}.items()} for row in rows]
        write_csv(self.path, [self.columns, *([row[column] for column in self.columns] for row in self.rows)])


def shares(rows: Iterable[Row]) -> dict[tuple[str, str, str], Values]:
    """Return the share of correct answers of every speaker, by model, classifier and layer."""
    counts: dict[tuple[str, str, str], dict[str, tuple[int, int]]] = {}
    for row in rows:
        by_speaker = counts.setdefault((row["model"], row["classifier"], row["layer"]), {})
        correct, count = by_speaker.get(row["speaker"], (0, 0))
        by_speaker[row["speaker"]] = correct + int(row["correct"]), count + int(row["count"])
    return {key: {name: c / n for name, (c, n) in found.items()} for key, found in counts.items()}


Crossed = Mapping[tuple[str, str], float]
"""Scores by seed and speaker: every training is tested on the same speakers."""


def crossed_mean_and_error(values: Crossed) -> tuple[float, float]:
    """Return the mean, and its standard error over trainings and speakers together.

    The values of one training, and those of one speaker, are not independent. The variances of the means of trainings
    and of the means of speakers are added; a single training leaves that of speakers alone.
    """
    variances = []
    for part in (0, 1):
        groups: dict[str, list[float]] = {}
        for key, value in values.items():
            groups.setdefault(key[part], []).append(value)
        error = mean_and_error({name: fmean(group) for name, group in groups.items()})[1]
        variances += [] if isnan(error) else [error**2]
    return fmean(values.values()), sqrt(sum(variances)) if variances else nan


def crossed_percent(values: Crossed, sign: bool = False) -> str:
    """Return the mean and its standard error in per cent; ``sign`` also shows +."""
    return percent_of(*crossed_mean_and_error(values), sign)


def markdown_line(cells: Iterable[str]) -> str:
    """Return a line of a table in Markdown."""
    return "| " + " | ".join(cells) + " |"


def markdown_head(cells: Sequence[str]) -> list[str]:
    """Return the first two lines of a table in Markdown."""
    return [markdown_line(cells), "|" + "---|" * len(cells)]


def table(title: str, rows: Sequence[Row], compared: Sequence[Subject]) -> str:
    """Return one line a model, classifier and layer: mean over speakers, and paired differences."""
    values = shares(rows)
    twins = {subject.name: subject.twin for subject in compared}
    heads = ("mean ± se", "less features", "less untrained")
    lines = [f"{title:44} {'layer':>5}" + "".join(f"  {head:>14}" for head in heads)]
    for classifier in dict.fromkeys(key[1] for key in values):
        for subject in compared:
            for (model, own, layer), found in values.items():
                if (model, own) == (subject.name, classifier):
                    less = [values.get((FEATURES, own, "0")), values.get((twins[model] or "", own, layer))]
                    lines.append(f"{model + ', ' + own:44} {layer:>5}  {percent(found):>14}" + _less(found, less))
    return "\n".join(lines)


def _less(found: Values, baselines: Sequence[Values | None]) -> str:
    """Return the columns of the paired differences."""
    cells = [percent(differences(found, other), True) if other and other is not found else "" for other in baselines]
    return "".join(f"  {cell:>14}" for cell in cells).rstrip()
