"""Renders the report as one HTML page that needs nothing else: pictures, style and data are inside it."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

from s3prl_aalbert.analysis.contents import Omitted, ReportFigure, Table
from s3prl_aalbert.analysis.figures import format_parameters
from s3prl_aalbert.analysis.models import Model
from s3prl_aalbert.analysis.runs import Skipped
from s3prl_aalbert.analysis.settings import unique
from s3prl_aalbert.analysis.style import DPI
from s3prl_aalbert.analysis.summary import ResultRow, full_rows
from s3prl_aalbert.printable import csv_cell, html_text

NUMERIC_MARKS = frozenset("0123456789.-[] kM%")


@dataclass(frozen=True)
class Page:
    """Everything on the page."""

    title: str
    introduction: str
    results: Sequence[ResultRow]
    results_csv: str
    models: Sequence[Model]
    figures: Sequence[ReportFigure]
    omitted: Sequence[Omitted]
    skipped: Sequence[Skipped]


def png_of(figure: ReportFigure) -> bytes:
    """Return the figure's picture as PNG."""
    buffer = io.BytesIO()
    figure.picture.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def csv_of(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV text with a header, for people and their spreadsheets."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([csv_cell(cell) for cell in row] for row in (columns, *rows))
    return buffer.getvalue()


def render(page: Page, pictures: dict[str, bytes]) -> str:
    """Return the HTML; ``pictures`` holds the PNG of each figure by its name."""
    style = resources.files("s3prl_aalbert.analysis").joinpath("page.css").read_text(encoding="utf-8")
    sections = [
        _results(page),
        _models(page.models),
        *(_figure(figure, pictures[figure.name]) for figure in page.figures),
        _omitted(page.omitted),
        _skipped(page.skipped),
    ]
    body = "\n".join(section for section in sections if section)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html_text(page.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<header>\n<h1>{html_text(page.title)}</h1>\n<p class="soft">{html_text(page.introduction)}</p>\n</header>\n'
        f"{_contents(page)}\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _contents(page: Page) -> str:
    entries = [("results", "Results")] if page.results else []
    entries += [("models", "Models")] if page.models else []
    entries += [(figure.name, figure.title) for figure in page.figures]
    entries += [("left-out", "Figures left out")] if page.omitted else []
    entries += [("not-used", "Runs not used")] if page.skipped else []
    items = "\n".join(f'<li><a href="#{anchor}">{html_text(text)}</a></li>' for anchor, text in entries)
    return f'<nav aria-label="contents">\n<ul>\n{items}\n</ul>\n</nav>'


def _section(anchor: str, title: str, content: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f'<section id="{anchor}"{attribute}>\n<h2>{html_text(title)}</h2>\n{content}\n</section>'


def _download(name: str, text: str) -> str:
    encoded = base64.b64encode(text.encode()).decode()
    return f'<p class="download"><a download="{name}" href="data:text/csv;base64,{encoded}">{name}</a></p>'


# -------------------------------------------------------------------------------------------- tables


def table_html(table: Table, caption: str = "") -> str:
    """Return a table; columns that hold numbers alone are aligned to the right."""
    numeric = [all(_is_number(row[i]) for row in table.rows) for i in range(len(table.columns))]
    classes = [' class="number"' if right else "" for right in numeric]
    head = "".join(f'<th scope="col"{c}>{html_text(n)}</th>' for n, c in zip(table.columns, classes, strict=True))
    lines = [
        "<tr>" + "".join(f"<td{c}>{html_text(v)}</td>" for v, c in zip(row, classes, strict=True)) + "</tr>"
        for row in table.rows
    ]
    title = f"<caption>{html_text(caption)}</caption>\n" if caption else ""
    rows = "\n".join(lines)
    return (
        f'<div class="scroll"><table>\n{title}<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>'
    )


def _is_number(text: str) -> bool:
    return set(text) <= NUMERIC_MARKS


METRIC_TITLES = {"per": "phone error %", "acc_token": "at own rate %"}
RESULTS_NOTE = (
    "Accuracy: mean over seeds [lowest-highest seed]; folds are averaged first, and where there is one seed its folds "
    "take the place of seeds. Each run's best step is chosen on dev alone; test is its. "
    "Majority: accuracy on test of always answering the most frequent training class. "
    "Layer 0 of a model is its input embedding."
)


def _results(page: Page) -> str:
    if not page.results:
        return ""
    shown = full_rows(page.results)
    parts = [f'<p class="soft">{html_text(RESULTS_NOTE)}</p>']
    for task in unique(row.task for row in shown):
        table = table_html(_task_table([row for row in shown if row.task == task]))
        parts.append(f"<h3>{html_text(task)}</h3>\n{table}")
    parts.append(_download("results.csv", page.results_csv))
    return _section("results", "Results", "\n".join(parts))


def _task_table(rows: Sequence[ResultRow]) -> Table:
    """Return one task's rows with a column for each metric it has; empty columns are left out."""
    metrics = unique(name for row in rows for name in row.others)
    names = [METRIC_TITLES.get(name, f"{name} %") for name in metrics]
    columns = ["model", "setting", "parameters", "labels %", "dev %", "test %", "majority %", *names, "seeds", "folds"]
    cells = [
        (
            row.model.label,
            row.setting,
            _parameters(row.model),
            "" if row.fraction == 1 else f"{100 * row.fraction:g}",
            row.dev.percent(),
            row.test.percent(),
            "" if row.majority is None else f"{100 * row.majority:.1f}",
            *(row.others[name].percent() if name in row.others else "" for name in metrics),
            str(row.test.seeds),
            row.test.say_folds(),
        )
        for row in rows
    ]
    kept = [i for i in range(len(columns)) if any(row[i] for row in cells)]
    return Table([columns[i] for i in kept], [[row[i] for i in kept] for row in cells])


def _parameters(model: Model) -> str:
    return "" if model.parameters is None else format_parameters(model.parameters)


def _models(models: Sequence[Model]) -> str:
    if not models:
        return ""
    rows = "\n".join(
        f"<tr><td>{html_text(m.label)}</td><td>{html_text(m.description)}</td>"
        f'<td class="number">{_parameters(m)}</td><td>{_origin(m)}</td></tr>'
        for m in models
    )
    head = '<th scope="col">model</th><th scope="col">what it is</th><th scope="col" class="number">parameters</th>'
    table = f'<table>\n<thead><tr>{head}<th scope="col">from</th></tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>'
    return _section("models", "Models", f'<div class="scroll">{table}</div>')


def _origin(model: Model) -> str:
    parts = [f"-u {model.key.upstream}"]
    parts += [f"-k {model.key.checkpoint}"] if model.key.checkpoint else []
    parts += [f"-g {model.key.config}"] if model.key.config else []
    return f"<code>{html_text(' '.join(parts))}</code>"


# ------------------------------------------------------------------------------------------- figures


def _figure(figure: ReportFigure, png: bytes) -> str:
    encoded = base64.b64encode(png).decode()
    width = figure.picture.get_figwidth()  # inches, so that text has the same size in all pictures
    image = f'<img style="--inches: {width:.2f}" alt="{html_text(figure.alt)}" src="data:image/png;base64,{encoded}">'
    table = table_html(figure.table) if figure.table else ""
    download = _download(f"{figure.name}.csv", csv_of(figure.columns, figure.rows))
    content = f"<figure>\n{image}\n<figcaption>{html_text(figure.caption)}</figcaption>\n</figure>\n{table}\n{download}"
    return _section(figure.name, figure.title, content, "drawn")


def _omitted(omitted: Sequence[Omitted]) -> str:
    if not omitted:
        return ""
    items = "\n".join(f"<li>{html_text(item.title)}: {html_text(item.reason)}.</li>" for item in omitted)
    return _section("left-out", "Figures left out", f"<ul>\n{items}\n</ul>")


def _skipped(skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return ""
    items = "\n".join(f"<li><code>{html_text(str(s.folder))}</code>: {html_text(s.reason)}</li>" for s in skipped)
    return _section("not-used", "Runs not used", f"<ul>\n{items}\n</ul>")
