"""From run folders to the report: collect, summarise, draw, write."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib

from s3prl_aalbert.analysis import page as html
from s3prl_aalbert.analysis.contents import Omitted, ReportFigure
from s3prl_aalbert.analysis.model_sections import name_pretraining, pretraining_curves, reconstructions, speaker_map
from s3prl_aalbert.analysis.models import Model, name_models
from s3prl_aalbert.analysis.runs import RunCollection, Skipped, collect
from s3prl_aalbert.analysis.sections import SPREAD_COLUMNS, TASK_SECTIONS, Findings, Part, spread_cells
from s3prl_aalbert.analysis.settings import unique
from s3prl_aalbert.analysis.style import RC, Styles
from s3prl_aalbert.analysis.summary import (
    ProbeRow,
    ResultRow,
    drop_repeated,
    experiment_key,
    format_table,
    probing_key,
    summarise,
    summarise_probes,
)
from s3prl_aalbert.analysis.tsne import TsneRequest
from s3prl_aalbert.checkpoint import write_atomically

logger = logging.getLogger(__name__)

PAGE_FILE, FIGURE_FOLDER, RESULTS_CSV = "index.html", "figures", "results.csv"
DEFAULT_TITLE = "Audio ALBERT: results"


@dataclass(frozen=True)
class Summary:
    """The numbers of some runs, before anything is drawn."""

    runs: RunCollection
    models: tuple[Model, ...]
    rows: tuple[ResultRow, ...]
    probes: tuple[ProbeRow, ...]
    skipped: tuple[Skipped, ...]

    def table(self) -> str:
        """Return the results as plain text for a terminal."""
        return format_table(self.rows, self.probes)


def summarise_runs(runs: Sequence[Path]) -> Summary:
    """Read every run below some folders and summarise seeds.

    Raises:
        AalbertError: a folder is missing, or nothing is usable.
    """
    found = collect(runs)
    downstream, repeated = drop_repeated(found.downstream, experiment_key)
    models = name_models([*downstream, *found.probing])
    rows = summarise(downstream, models)
    probing, repeated_probes = drop_repeated(found.probing, probing_key)
    probes = summarise_probes(probing, models)
    skipped = (*found.skipped, *repeated, *repeated_probes)
    used = replace(found, downstream=tuple(downstream), probing=tuple(probing))
    return Summary(used, tuple(models.values()), tuple(rows), tuple(probes), skipped)


def write_report(
    runs: Sequence[Path],
    out: Path,
    title: str = DEFAULT_TITLE,
    note: str = "",
    tsne: TsneRequest | None = None,
    summary: Summary | None = None,
) -> Path:
    """Write the page and, beside it, results.csv and a PNG and CSV of each figure.

    Args:
        runs: folders, searched for runs of every kind.
        out: folder to write to.
        title: heading of the page.
        note: what the reader should know first, e.g. which speech the runs are on.
        tsne: what to draw Figure 5 from; None leaves it out.
        summary: of the same runs, where it was computed already.

    Returns:
        the page, ``out/index.html``.

    Raises:
        AalbertError: a folder is missing, nothing is usable, or ``out`` cannot be written.
    """
    summary = summary or summarise_runs(runs)
    with matplotlib.rc_context(RC):
        parts, problems = _draw(summary, tsne)
        figures = _with_unique_names([part for part in parts if isinstance(part, ReportFigure)])
        pictures = {figure.name: html.png_of(figure) for figure in figures}
    for figure in figures:
        _write_bytes(out / FIGURE_FOLDER / f"{figure.name}.png", pictures[figure.name])
        _write_text(out / FIGURE_FOLDER / f"{figure.name}.csv", html.csv_of(figure.columns, figure.rows))
    results = _results_csv(summary.rows)
    if summary.rows:
        _write_text(out / RESULTS_CSV, results)
    page = html.Page(
        title=title,
        introduction=" ".join(filter(None, [_sentence(note), _introduction(summary)])),
        results=summary.rows,
        results_csv=results,
        models=summary.models,
        figures=figures,
        omitted=[part for part in parts if isinstance(part, Omitted)],
        skipped=[*summary.skipped, *problems],
    )
    _write_text(out / PAGE_FILE, html.render(page, pictures))
    return out / PAGE_FILE


def _draw(summary: Summary, tsne: TsneRequest | None) -> tuple[list[Part], list[Skipped]]:
    """Return all figures in the order of the page, those left out, and the files that could not be used."""
    names = name_pretraining(summary.runs.pretraining, summary.models)
    labels = unique([*(model.label for model in summary.models), *names.values()])
    styles = Styles(tuple(labels), tuple(_ordered_settings(summary.rows)))
    findings = Findings(list(summary.rows), list(summary.probes), styles)
    parts = [part for section in TASK_SECTIONS for part in section(findings)]
    parts += speaker_map(tsne)
    parts += pretraining_curves(findings, names)
    parts += reconstructions(names)
    return parts, findings.problems


def _with_unique_names(figures: Sequence[ReportFigure]) -> list[ReportFigure]:
    """Number figures of the same name: of what they show it keeps the letters a to z alone."""
    unique_names: dict[str, ReportFigure] = {}
    for figure in figures:
        number, name = 1, figure.name
        while name in unique_names:
            number += 1
            name = f"{figure.name}_{number}"
        unique_names[name] = replace(figure, name=name)
    return list(unique_names.values())


def _ordered_settings(rows: Sequence[ResultRow]) -> list[str]:
    """Order settings for their looks: of models before those of input features, fixed before fine-tuned."""
    ordered = sorted(rows, key=lambda row: (not row.model.parameters, row.fine_tuned))
    return unique(row.setting for row in ordered)


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text[-1] in ".!?" else f"{text}."


def _introduction(summary: Summary) -> str:
    runs = summary.runs
    used = len([run for row in summary.rows for run in row.runs])
    counts = [(used, "downstream run"), (len(runs.probing), "probing run"), (len(runs.pretraining), "pre-training")]
    parts = [f"{count} {name}{'s' if count > 1 else ''}" for count, name in counts if count]
    number = len(summary.skipped)
    left_out = f" {number} {'folders' if number > 1 else 'folder'} could not be used, see the end." if number else ""
    return f"Drawn from {', '.join(parts)}.{left_out}"


def _results_csv(rows: Sequence[ResultRow]) -> str:
    others = sorted({name for row in rows for name in row.others})
    head = ("task", "downstream", "model", "setting", "parameters", "train_fraction", "classes", "majority_test")
    dev = tuple(name.replace("test", "dev") for name in SPREAD_COLUMNS[:-1])
    extra = tuple(f"{name}_{part}" for name in others for part in ("mean", "min", "max", "std"))
    columns = (*head, *dev, *SPREAD_COLUMNS, *extra, "folders")
    return html.csv_of(columns, (_csv_cells(row, others) for row in rows))


def _csv_cells(row: ResultRow, others: Sequence[str]) -> tuple[object, ...]:
    cells: list[object] = [row.task, row.task_name, row.model.label, row.setting, row.model.parameters, row.fraction]
    cells += [row.classes, row.majority, *spread_cells(row.dev)[:-1], *spread_cells(row.test)]
    for name in others:
        cells += spread_cells(row.others[name])[:-1] if name in row.others else [""] * 4
    cells.append(" ".join(str(run.folder) for run in row.runs))
    return tuple("" if cell is None else cell for cell in cells)


def _write_text(path: Path, text: str) -> None:
    _write_bytes(path, text.encode("utf-8"))


def _write_bytes(path: Path, content: bytes) -> None:
    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomically(path, write)
