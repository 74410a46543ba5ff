"""Renders the report as one HTML page that contains its pictures, style and data."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from matplotlib.figure import Figure

from s3prl_aalbert.printable import csv_cell, html_text
from s3prl_aalbert.report.describe import describe_overlap, unique
from s3prl_aalbert.report.figures import format_parameters
from s3prl_aalbert.report.models import Model
from s3prl_aalbert.report.runs import Skipped
from s3prl_aalbert.report.style import Layout
from s3prl_aalbert.report.summary import (
    OVERLAP,
    RESULT_COLUMNS,
    ResultRow,
    by_task,
    compare,
    features_of,
    full_rows,
    result_cells,
)

NUMERIC_MARKS = frozenset("0123456789.+-±, kM%seedplit")
ABSOLUTE_PATH = re.compile(r"(?<![\w.~…])/(?:[^/\s:;,'\"()]+/)+(?=[^/\s:;,'\"()]+/[^/\s:;,'\"()])")
"""Matches an absolute path up to its last two parts."""


MAX_NARROW_COLUMNS = 3
"""Tables with more columns have another form on a narrow screen."""


@dataclass(frozen=True)
class Table:
    """A table of text cells."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class ReportFigure:
    """A picture with its caption and its data."""

    name: str
    """Stem of its PNG and CSV files."""
    title: str
    caption: str
    alt: str
    """Description for readers who cannot see the picture."""
    draw: Callable[[Layout], Figure]
    columns: Sequence[str]
    """Columns of the CSV file."""
    rows: Sequence[Sequence[object]]
    table: Table | None = None
    """Table below the picture."""


@dataclass(frozen=True)
class NotDrawn:
    """A figure without data, and what it needs."""

    title: str
    reason: str


@dataclass(frozen=True)
class Pictures:
    """A figure as PNG, in a wide form for screens and a narrow one for telephones."""

    wide: bytes
    inches: float
    """Width of the wide form."""
    narrow: bytes


@dataclass(frozen=True)
class Page:
    """The content of the page."""

    title: str
    introduction: str
    results: Sequence[ResultRow]
    downloads: Mapping[str, str]
    """The CSV files of all results, by name."""
    models: Sequence[Model]
    figures: Sequence[tuple[ReportFigure, Pictures]]
    not_drawn: Sequence[NotDrawn]
    skipped: Sequence[Skipped]


def file_stem(*parts: str) -> str:
    """Return a file name of lower-case letters, digits and underscores."""
    words = "_".join(parts).lower()
    plain = "".join(character if character.isalnum() and character.isascii() else "_" for character in words)
    return "_".join(word for word in plain.split("_") if word)


def png_of(figure: Figure, layout: Layout) -> bytes:
    """Return a picture as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=layout.dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def csv_of(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV text with a header, safe for spreadsheets."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([csv_cell(cell) for cell in row] for row in (columns, *rows))
    return buffer.getvalue()


def short_paths(text: str) -> str:
    """Shorten absolute paths in a text to their last two parts, since the page may be published."""
    return ABSOLUTE_PATH.sub("…/", text)


def short_path(path: str | Path) -> str:
    """Return the last two parts of an absolute path, which may contain spaces; other paths unchanged."""
    parts = Path(path).parts
    return "/".join(["…", *parts[-2:]]) if Path(path).is_absolute() and len(parts) > 3 else str(path)


def render(page: Page) -> str:
    """Return the HTML."""
    style = resources.files("s3prl_aalbert.report").joinpath("page.css").read_text(encoding="utf-8")
    sections = [
        _how_to_read(page.results),
        _results(page),
        _models(page.models),
        *(_figure(figure, pictures) for figure, pictures in page.figures),
        _not_drawn(page.not_drawn),
        _skipped(page.skipped),
    ]
    shown = [section for section in sections if section.content]
    contents = _list(f'<a href="#{section.anchor}">{html_text(section.title)}</a>' for section in shown)
    body = "\n".join(section.html() for section in shown)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html_text(page.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<header>\n<h1>{html_text(page.title)}</h1>\n<p class="soft">{html_text(page.introduction)}</p>\n</header>\n'
        f'<nav aria-label="contents">\n{contents}\n</nav>\n<main>\n{body}\n</main>\n</body>\n</html>\n'
    )


class _Section(NamedTuple):
    """A part of the page with an entry in its table of contents; without content it is left out."""

    anchor: str
    title: str
    content: str
    kind: str = ""

    def html(self) -> str:
        attribute = f' class="{self.kind}"' if self.kind else ""
        heading = f"<h2>{html_text(self.title)}</h2>"
        return f'<section id="{self.anchor}"{attribute}>\n{heading}\n{self.content}\n</section>'


def _list(items: Iterable[str]) -> str:
    lines = "\n".join(f"<li>{item}</li>" for item in items)
    return f"<ul>\n{lines}\n</ul>" if lines else ""


def _download(name: str, text: str) -> str:
    encoded = base64.b64encode(text.encode()).decode()
    return f'<p class="download"><a download="{name}" href="data:text/csv;base64,{encoded}">{name}</a></p>'


def tables_of(html: str) -> set[str]:
    """Return the names, without ".csv", of all tables that a page offers for download."""
    return set(re.findall(r'<p class="download"><a download="(\w+)\.csv"', html, re.ASCII))


# -------------------------------------------------------------------------------------------- tables


def table_html(table: Table) -> str:
    """Return a table; columns of numbers are aligned to the right, and empty columns are dropped.

    Each cell has the name of its column, since a row of a wide table becomes a list on a narrow screen.
    """
    kept = [i for i in range(len(table.columns)) if not table.rows or any(row[i] for row in table.rows)]
    numeric = {i for i in kept if all(_is_number(row[i]) for row in table.rows)}
    names = {i: html_text(table.columns[i]).replace(" %", "&nbsp;%") for i in kept}
    head = "".join(f'<th scope="col"{_number_class(i in numeric)}>{names[i]}</th>' for i in kept)
    lines = []
    for row in table.rows:
        cells = ((_number_class(i in numeric), names[i], html_text(row[i])) for i in kept)
        lines.append("<tr>" + "".join(_cell(*cell) for cell in cells) + "</tr>")
    title = f"<caption>{html_text(table.caption)}</caption>\n" if table.caption else ""
    rows = "\n".join(lines)
    kind = ' class="wide"' if len(kept) > MAX_NARROW_COLUMNS else ""
    inside = f"{title}<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>"
    return f'<div class="scroll"><table{kind}>\n{inside}\n</table></div>'


def _cell(kind: str, name: str, value: str) -> str:
    return f'<td{kind} data-name="{name}">{value}</td>' if value else f"<td{kind}></td>"


def _number_class(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _is_number(text: str) -> bool:
    return set(text) <= NUMERIC_MARKS


METRIC_TITLES = {"per": "phone error %"}
"""Metrics that tables show beside accuracy; results.csv has all metrics."""


def _how_to_read(results: Sequence[ResultRow]) -> _Section:
    """Explain the columns of the tables on the page."""
    # Only columns that the tables on this page really have are explained.
    shown = full_rows(results)
    items = [
        "Test accuracy is the share of right answers on speech that is used neither to train nor to choose. The best "
        "step of each run is chosen by dev accuracy alone.",
        "A value with ± is a mean and its standard error. The mean is over splits or folds, each of them averaged over "
        "its seeds first; if there is one split, it is over seeds.",
    ]
    if any(any(compare(row, shown)) for row in shown):
        items.append(
            "“Minus features” and “minus untrained” are differences of test accuracy in points, paired seed by seed "
            "and split by split: from the input features of the task that are best on dev, and from the same model "
            "before its training. A difference of less than two standard errors may be chance."
        )
    if any("per" in row.others for row in shown):
        items.append(
            "Phone error is the number of wrong, missing and superfluous phones after repeated labels are merged, "
            "divided by the number of phones. Lower is better, and it may exceed 100 %."
        )
    if any(describe_overlap(row.runs) for row in shown):
        items.append(
            "The last column shows how much test speech was in a model's pre-training, without its labels. Such a row "
            "says less about speech that is new to the model."
        )
    items.append(
        "The line above a table gives the accuracy of always predicting the most frequent training class. "
        "A model is useful only above it."
    )
    items.append(
        "The setting is how a model was used: a learned weighted sum of its layers, one layer, or fine-tuned. "
        "Layer 0 is the input embedding."
    )
    return _Section("how-to-read", "How to read this page", _list(map(html_text, items if shown else ())))


def _results(page: Page) -> _Section:
    shown = full_rows(page.results)
    parts = []
    for task, rows in by_task(shown).items():
        table = table_html(_task_table(rows))
        parts.append(f"<h3>{html_text(task)}</h3>\n{table}")
    parts += [_download(name, text) for name, text in page.downloads.items()]
    return _Section("results", "Results", "\n".join(parts))


def _task_table(rows: Sequence[ResultRow]) -> Table:
    """Return the rows of one task, with a column for each of its metrics."""
    metrics = unique(name for row in rows for name in row.others if name in METRIC_TITLES)
    names = [METRIC_TITLES[name] for name in metrics]
    baselines = unique(other.model.label + ", " + other.setting for row in rows if (other := features_of(row, rows)))
    columns = [
        *("model", "setting", "test accuracy %", "minus features", "minus untrained", "dev accuracy %", *names),
        *("labels %", "repeats", OVERLAP),
    ]
    found = [
        {
            **dict(zip(RESULT_COLUMNS, result_cells(row, rows), strict=True)),
            **{METRIC_TITLES[name]: row.others[name].percent() for name in metrics if name in row.others},
        }
        for row in rows
    ]
    cells = [[values.get(column, "") for column in columns] for values in found]
    known = [row.majority for row in rows if row.majority is not None]
    notes = [f"Always predicting the most frequent class gives {100 * fmean(known):.1f} %."] if known else []
    notes += [f"The features compared with are: {baselines[0]}."] if baselines else []
    return Table(columns, cells, " ".join(notes))


def _models(models: Sequence[Model]) -> _Section:
    sizes = ["" if model.parameters is None else format_parameters(model.parameters) for model in models]
    rows = [(model.label, model.description, size, _origin(model)) for model, size in zip(models, sizes, strict=True)]
    table = Table(("model", "what it is", "parameters", "options"), rows)
    return _Section("models", "Models", table_html(table) if models else "")


def _origin(model: Model) -> str:
    parts = [f"-u {model.key.upstream}"]
    parts += [f"-k {short_path(model.key.checkpoint)}"] if model.key.checkpoint else []
    parts += [f"-g {short_path(model.key.config)}"] if model.key.config else []
    return " ".join(parts)


# ------------------------------------------------------------------------------------------- figures


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _figure(figure: ReportFigure, pictures: Pictures) -> _Section:
    wide, narrow = map(_data_url, (pictures.wide, pictures.narrow))
    # The width is in inches, so that text has the same size in all pictures.
    image = f'<img style="--inches: {pictures.inches:.2f}" alt="{html_text(figure.alt)}" src="{wide}">'
    picture = f'<picture><source media="(max-width: 600px)" srcset="{narrow}">{image}</picture>'
    table = table_html(figure.table) if figure.table else ""
    download = _download(f"{figure.name}.csv", csv_of(figure.columns, figure.rows))
    caption = html_text(figure.caption)
    content = f"<figure>\n{picture}\n<figcaption>{caption}</figcaption>\n</figure>\n{table}\n{download}"
    return _Section(figure.name, figure.title, content, "drawn")


def _not_drawn(figures: Sequence[NotDrawn]) -> _Section:
    items = [f"{html_text(item.title)}: {html_text(short_paths(item.reason))}." for item in figures]
    return _Section("not-drawn", "Figures that were not drawn", _list(items))


def _skipped(skipped: Sequence[Skipped]) -> _Section:
    items = [
        f"<code>{html_text(short_path(item.folder))}</code>: {html_text(short_paths(item.reason))}" for item in skipped
    ]
    return _Section("not-used", "Runs that were not used", _list(items))
