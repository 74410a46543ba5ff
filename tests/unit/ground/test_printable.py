"""Names that hold more than letters: on a terminal, in logs, bars, pages, figures and tables."""

from __future__ import annotations

import csv
import io
import logging
import os
import re
import subprocess
import sys
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from report_runs import write_featurizer, write_probe_run, write_release, write_results

from s3prl_aalbert.checkpoint.content import CheckpointError
from s3prl_aalbert.downstream.result_tables import Confusion
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.printable import (
    LONGEST_IN_FIGURE,
    PrintableRecord,
    csv_cell,
    figure_text,
    html_text,
    markdown_cell,
    printable,
    printable_lines,
)
from s3prl_aalbert.profile.tables import markdown_table
from s3prl_aalbert.report.page import Table, csv_of, table_html
from s3prl_aalbert.report.style import Styles, add_legend
from s3prl_aalbert.report.write import summarise_runs, write_report

# A terminal's title, a bell, a line break, a byte that is no UTF-8, an order reversed, a formula, a tag, a table's bar.
HOSTILE = "\x1b]0;owned\x07\r\n\udcff\u202e$\\frac$<b>|x"


def shows(text: str) -> bool:
    """Tell whether no character does more than show, by Unicode's own categories."""
    return all(unicodedata.category(c)[0] != "C" and unicodedata.category(c) not in ("Zl", "Zp") for c in text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("größe 音素 👍", "größe 音素 👍"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\nb\tc\rd\x00\x7f\x9b", r"a\nb\tc\rd\x00\x7f\x9b"),
        (os.fsdecode(b"caf\xe9"), r"caf\udce9"),
        ("\u202eabc\u2066\u2028\ufeff", r"\u202eabc\u2066\u2028\ufeff"),
        ("\U000e0041", r"\U000e0041"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
        (Path("a\nb"), r"a\nb"),
        (3, "3"),
    ],
)
def test_every_character_shows(text: object, expected: str) -> None:
    assert printable(text) == expected


def test_every_character_of_unicode_shows() -> None:
    everything = "".join(map(chr, [*range(0x3000), *range(0xD700, 0xE100), *range(0x3000, 0x110000, 101)]))
    text = printable(everything).replace("\u200c", "").replace("\u200d", "")
    assert shows(text)
    text.encode()
    assert shows(printable_lines(everything).translate(dict.fromkeys(map(ord, "\n\t\u200c\u200d"))))


def test_a_long_text_keeps_both_ends() -> None:
    text = printable("9" * 5000 + "end", 90)
    assert text.startswith("999") and text.endswith("end") and len(text) <= 95


def test_lines_stay_lines() -> None:
    assert printable_lines("a\n\x1bb\tc") == "a\n\\x1bb\tc"


def test_html() -> None:
    assert html_text('<a href="x">&\x1b') == "&lt;a href=&quot;x&quot;&gt;&amp;\\x1b"
    page = table_html(Table([HOSTILE], [[HOSTILE]], HOSTILE))
    page.encode()
    assert "<b>" not in page and "\x1b" not in page


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("=1+1", "'=1+1"),
        ("@cmd", "'@cmd"),
        ("+x", "'+x"),
        ("-x|y", "'-x|y"),
        ("-0.5", "-0.5"),
        ("+1e-3", "+1e-3"),
        ("-", "-"),
        (-1.5, -1.5),
        (Path("=x"), "'=x"),
        ("a\nb", r"a\nb"),
        ("", ""),
    ],
)
def test_csv(value: object, expected: object) -> None:
    assert csv_cell(value) == expected


def test_a_table_as_csv_reads_back_row_by_row() -> None:
    text = csv_of([HOSTILE, "b"], [[HOSTILE, 0.5]])
    text.encode()
    rows = list(csv.reader(io.StringIO(text)))
    assert rows == [[printable(HOSTILE), "b"], [printable(HOSTILE), "0.5"]]


def test_markdown() -> None:
    assert markdown_cell("a|b\n<c>") == r"a\|b\n&lt;c>"
    lines = markdown_table([HOSTILE, "n"], [[HOSTILE, "1"]]).split("\n")
    assert len(lines) == 3 and all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines)


@pytest.mark.parametrize("name", [HOSTILE, r"$\frac", "$x$", r"\$", "$", "_hidden", "__", "x" * 5000])
def test_a_figure_draws_a_name_as_it_is(name: str) -> None:
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(figure_text(name))
    axes.set_yticks([0], [figure_text(name)])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        add_legend(figure, Styles((name,)).legend_handles([name], []))
        figure.savefig(io.BytesIO())
    (entry,) = figure.legends[0].get_texts()
    assert "".join(entry.get_text().split()) == "".join(figure_text(name).split()), "but for its line breaks"
    assert len(entry.get_text()) <= 2 * LONGEST_IN_FIGURE
    assert not entry.get_parse_math() or entry._preprocess_math(entry.get_text())[1] is False


def test_a_log_line_is_one_line() -> None:
    def message(text: str, *values: object) -> str:
        return PrintableRecord("n", logging.INFO, "p", 1, text, values, None).getMessage()

    assert message("read %s: %d of %5.1f", "a\nWARNING: b\x1b", 3, 2.5) == r"read a\nWARNING: b\x1b: 3 of   2.5"
    assert message("left out %s", ValueError("x\x07")) == r"left out x\x07"
    assert message("two\nlines \x1b") == "two\nlines \\x1b"
    assert message("%(a)s", {"a": "b"}) == "b" and message("100 %") == "100 %"


def run(*argv: str | bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "s3prl_aalbert", *argv]
    return subprocess.run(command, capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "utf-8"})


NAMES = (HOSTILE.replace("/", ""), r"$\frac", "_hidden", "=1+1", "音素", "音声")


def hostile_runs(root: Path, names: Sequence[str] = NAMES) -> Path:
    """Write models, settings, classes, speakers and probes, all with names of the worst kind."""
    for index, name in enumerate(names):
        release = write_release(root / name, "aalbert_3l" if index % 2 else "mockingjay_3l")
        for fraction in (0.5, 1.0):
            for task in ("aalbert_phone", "aalbert_speaker_utterance", f"speaker {name}"):
                folder = write_results(
                    root / f"{name} {fraction} {task}",
                    task,
                    "aalbert_local",
                    release,
                    test=0.3 + 0.1 * index,
                    selection="layer_states",
                    datarc={"audio": name, "train_fraction": fraction},
                    modelrc={"classifier": name},
                )
                Confusion(("a", "$\\frac", "_x", "=y", "\x1b"), np.array([[1, 0, 1, 0, 2]] * 5)).write(folder)
                write_featurizer(folder, [0.2, 0.3, 0.5])
        said = name.replace("\udcff", "")  # the table is UTF-8
        rows = [(said, layer, said, 0.5, 0.4) for layer in range(3)]
        write_probe_run(root / f"probe {name}", rows, upstream="aalbert_local", ckpt=release)
    return root


def test_the_report_of_runs_with_such_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The command below renders such a report; pixels add nothing here.
    monkeypatch.setattr("s3prl_aalbert.report.write.png_of", lambda *_: b"png")
    runs = hostile_runs(tmp_path / "runs")
    (runs / "damaged\x1b\udcff").mkdir()
    (runs / "damaged\x1b\udcff" / "results.json").write_text("{")
    summary = summarise_runs([runs])
    page = write_report([runs], tmp_path / "out", title=HOSTILE, note=HOSTILE, summary=summary).read_text()
    assert shows(page.replace("\n", "")) and "<b>" not in page
    assert r"\x1b]0;owned" in page and r"$\frac" in page and r"damaged\x1b\udcff" in page
    assert shows(summary.table().replace("\n", ""))
    anchors = re.findall(r'<section id="([^"]*)"', page)
    assert len(anchors) == len(set(anchors)) and {"confusion_speaker", "confusion_speaker_2"} <= set(anchors)
    tables = list((tmp_path / "out").rglob("*.csv"))
    assert len(tables) > 5
    for path in tables:
        text = path.read_text()
        assert shows(text.replace("\n", "")) and not re.search(r"(?m)(^|,)[=@]", text)


def test_a_message_names_a_file_without_its_control_sequences(tmp_path: Path) -> None:
    for command in (["convert", tmp_path / HOSTILE.replace("/", ""), "-o", "x"], ["report", HOSTILE], [HOSTILE]):
        done = run(*(os.fsencode(word) for word in command))
        assert done.returncode == 2 and done.stdout == b""
        line = done.stderr.decode().rstrip("\n")
        assert shows(line) and r"\x1b]0;owned\x07\r\n\udcff\u202e" in line


def test_what_a_command_prints_and_logs_shows_as_well(tmp_path: Path) -> None:
    runs = hostile_runs(tmp_path / os.fsdecode(b"runs\xff\x1b"), NAMES[:1])
    out = tmp_path / os.fsdecode(b"out\xff\x1b\n")
    done = run("report", os.fsencode(runs), "-o", os.fsencode(out))
    assert done.returncode == 0, done.stderr
    assert shows(done.stdout.decode().replace("\n", "")) and shows(done.stderr.decode().replace("\n", ""))


def test_the_message_of_an_error_shows_every_character() -> None:
    """For who calls the package from Python, too."""
    error = CheckpointError(f"{Path('a' + HOSTILE)}: is damaged")
    assert shows(str(error)) and str(error) == printable(f"{Path('a' + HOSTILE)}: is damaged")


def test_an_error_is_bounded() -> None:
    from s3prl_aalbert import cli

    with pytest.MonkeyPatch.context() as patch:
        stream = io.StringIO()
        patch.setattr(sys, "stderr", stream)
        patch.setattr(cli, "_run_command", lambda *_: (_ for _ in ()).throw(AalbertError("x" * 10**6)))
        assert cli.main(["report"]) == 2
    assert len(stream.getvalue()) < 5000
