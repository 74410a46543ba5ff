"""Makes the report from run folders: collect, summarise, draw, write."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from s3prl_aalbert.files import write_atomically, write_text
from s3prl_aalbert.report.describe import describe_overlap, repeat_of, unique
from s3prl_aalbert.report.model_figures import name_pretraining, pretraining_curves, reconstructions, speaker_map
from s3prl_aalbert.report.models import Model, name_models
from s3prl_aalbert.report.page import (
    NotDrawn,
    Page,
    Pictures,
    ReportFigure,
    csv_of,
    png_of,
    render,
    short_path,
    tables_of,
)
from s3prl_aalbert.report.runs import RunCollection, Skipped, collect
from s3prl_aalbert.report.sections import TASK_SECTIONS, FigureData, Part
from s3prl_aalbert.report.style import NARROW, WIDE, Styles, figure_style
from s3prl_aalbert.report.summary import (
    ProbeRow,
    ResultRow,
    drop_repeated,
    experiment_key,
    format_table,
    paired_scores,
    probing_key,
    summarise,
    summarise_probes,
)
from s3prl_aalbert.report.tsne import TsneRequest

logger = logging.getLogger(__name__)

PAGE_FILE, FIGURE_FOLDER = "index.html", "figures"
RESULTS_CSV, VALUES_CSV = "results.csv", "values.csv"
DEFAULT_TITLE = "Audio ALBERT: results"


@dataclass(frozen=True)
class Summary:
    """The results of some runs, before anything is drawn."""

    runs: RunCollection
    models: tuple[Model, ...]
    rows: tuple[ResultRow, ...]
    probes: tuple[ProbeRow, ...]
    skipped: tuple[Skipped, ...]

    def table(self) -> str:
        """Return the results as plain text for a terminal."""
        return format_table(self.rows, self.probes)


def summarise_runs(runs: Sequence[Path]) -> Summary:
    """Read every run below some folders and summarise their repeats.

    Raises:
        AalbertError: a folder is missing, or no run is usable.
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
    """Write the page with results.csv, values.csv (every seed and split), and a PNG and CSV file of each figure.

    The files of an earlier report in the same folder are replaced or removed.

    Args:
        runs: folders, which are searched for runs of every kind.
        out: folder of the report.
        title: heading of the page.
        note: what the reader should know first, such as the speech of the runs.
        tsne: model and speech of Figure 5; None omits the figure.
        summary: summary of the same runs, if it was computed already.

    Returns:
        The page, ``out/index.html``.

    Raises:
        AalbertError: a folder is missing, no run is usable, or ``out`` cannot be written.
    """
    summary = summary or summarise_runs(runs)
    # Everything is drawn before anything is written, so that a failure leaves no incomplete report.
    with figure_style():
        parts, problems = _figures(summary, tsne)
        figures = _with_unique_names([part for part in parts if isinstance(part, ReportFigure)])
        pictures = [_draw(figure) for figure in figures]
    for figure, drawn in zip(figures, pictures, strict=True):
        _write_bytes(out / FIGURE_FOLDER / f"{figure.name}.png", drawn.wide)
        write_text(out / FIGURE_FOLDER / f"{figure.name}.csv", csv_of(figure.columns, figure.rows))
    # The tables are inside the page and also files beside it.
    downloads = {RESULTS_CSV: _results_csv(summary.rows)} if summary.rows else {}
    if summary.rows or summary.probes:
        downloads[VALUES_CSV] = _values_csv(summary.rows, summary.probes)
    for name, text in downloads.items():
        write_text(out / name, text)
    # The page is written last: while it is missing, the report is incomplete.
    page = Page(
        title=title,
        introduction=" ".join(filter(None, [_sentence(note), _introduction(summary)])),
        results=summary.rows,
        downloads=downloads,
        models=summary.models,
        figures=list(zip(figures, pictures, strict=True)),
        not_drawn=[part for part in parts if isinstance(part, NotDrawn)],
        skipped=[*summary.skipped, *problems],
    )
    _replace_page(out, render(page))
    return out / PAGE_FILE


def _replace_page(out: Path, html: str) -> None:
    """Write the page; then remove the files of the page before it, which names them, that this page does not have."""
    page = out / PAGE_FILE
    before = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    write_text(page, html)
    for path in _files_beside(out, before) - _files_beside(out, html):
        path.unlink(missing_ok=True)


def _files_beside(out: Path, html: str) -> set[Path]:
    names, tables = tables_of(html), {Path(RESULTS_CSV).stem, Path(VALUES_CSV).stem}
    figures = {out / FIGURE_FOLDER / f"{name}.{kind}" for name in names - tables for kind in ("png", "csv")}
    return figures | {out / f"{name}.csv" for name in names & tables}


def _draw(figure: ReportFigure) -> Pictures:
    wide = figure.draw(WIDE)
    return Pictures(png_of(wide, WIDE), wide.get_figwidth(), png_of(figure.draw(NARROW), NARROW))


def _figures(summary: Summary, tsne: TsneRequest | None) -> tuple[list[Part], list[Skipped]]:
    """Return all figures in the order of the page, with those not drawn, and the unusable files."""
    names = name_pretraining(summary.runs.pretraining, summary.models)
    labels = unique(
        [*(model.label for model in summary.models), *names.values(), *(row.name for row in summary.probes)]
    )
    styles = Styles(tuple(labels), tuple(_ordered_settings(summary.rows)))
    figure_data = FigureData(list(summary.rows), list(summary.probes), styles)
    parts = [part for section in TASK_SECTIONS for part in section(figure_data)]
    parts += speaker_map(tsne)
    parts += pretraining_curves(figure_data, names)
    parts += reconstructions(names)
    return parts, figure_data.problems


def _with_unique_names(figures: Sequence[ReportFigure]) -> list[ReportFigure]:
    """Number figures with the same file name, which keeps only the letters a to z of a title."""
    unique_names: dict[str, ReportFigure] = {}
    for figure in figures:
        number, name = 1, figure.name
        while name in unique_names:
            number += 1
            name = f"{figure.name}_{number}"
        unique_names[name] = replace(figure, name=name)
    return list(unique_names.values())


def _ordered_settings(rows: Sequence[ResultRow]) -> list[str]:
    """Order settings for their styles: models before input features, fixed before fine-tuned."""
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
    skipped = f" {number} {'folders' if number > 1 else 'folder'} could not be used, see the end." if number else ""
    return f"The page is drawn from {', '.join(parts)}.{skipped}"


def _results_csv(rows: Sequence[ResultRow]) -> str:
    """Return one line per row of the tables, with every share of labels."""
    others = sorted({name for row in rows for name in row.others})
    head = ("task", "downstream", "model", "setting", "parameters", "train_fraction", "classes", "majority_test")
    metrics = [f"{name}_{part}" for name in ("dev", "test", *others) for part in ("mean", "error")]
    compared = ("minus_features", "minus_features_error", "minus_untrained", "minus_untrained_error")
    columns = (*head, "pretraining_overlap", "seeds", "splits", *metrics, *compared)
    return csv_of(columns, (_csv_cells(row, rows, others) for row in rows))


def _csv_cells(row: ResultRow, rows: Sequence[ResultRow], others: Sequence[str]) -> list[object]:
    cells: list[object] = [row.task, row.task_name, row.model.label, row.setting, row.model.parameters, row.fraction]
    cells += [row.classes, row.majority, describe_overlap(row.runs), row.test.seeds, row.test.splits]
    scores = [row.dev, row.test, *(row.others.get(name) for name in others), *paired_scores(row, rows)]
    for score in scores:
        cells += [None, None] if score is None else [score.mean, score.error]
    return ["" if cell is None else cell for cell in cells]


def _values_csv(rows: Sequence[ResultRow], probes: Sequence[ProbeRow]) -> str:
    """Return every value of every run: one line per seed, split and metric."""
    columns = ("task", "model", "setting", "train_fraction", "seed", "split", "part", "metric", "value", "run")
    cells = []
    for row in rows:
        for run in row.runs:
            head = (row.task, row.model.label, row.setting, row.fraction, *repeat_of(run))
            folder = short_path(run.folder.resolve())
            for part, metrics in (("dev", run.dev), ("test", run.test)):
                cells += [(*head, part, metric, value, folder) for metric, value in metrics.items()]
    for probe in probes:
        use = (f"probed for {probe.task}", probe.name, f"layer {probe.layer}, {probe.classifier}", 1.0)
        for part, scores in (("dev", probe.dev), ("test", probe.test)):
            cells += [(*use, *repeat, part, "acc", value, "") for repeat, value in scores.values.items()]
    return csv_of(columns, cells)


def _write_bytes(path: Path, content: bytes) -> None:
    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomically(path, write)
