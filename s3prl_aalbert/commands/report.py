"""``aalbert report``: tables and figures from finished runs, as one page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s3prl_aalbert.commands import run_command
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.parsing import Parser
from s3prl_aalbert.printable import printable
from s3prl_aalbert.seeds import NUMPY_LARGEST, checked_seed
from s3prl_aalbert.typed_options import add_options, given

EXAMPLES = """examples:
  aalbert report result                                # everything below result/, page in result/report
  aalbert report result/downstream -o paper --title "Phones and speakers"
  aalbert report result --tsne result/pretrain/aalbert_6l --speech LibriSpeech/dev-clean
"""


def report(
    runs: list[Path],
    *,
    out: Path = Path("result/report"),
    title: str | None = None,
    note: str = "",
    tsne: Path | None = None,
    speech: list[Path] | None = None,
    tsne_layer: int | None = None,
    tsne_speakers: int = 10,
    tsne_utterances: int = 20,
    seed: int = 0,
) -> None:
    """Write the report, and print its table and where it is.

    Args:
        runs: experiment folders, searched for runs of every kind
        out: folder of the report
        title: title of the page
        note: a first paragraph, e.g. the speech used; default: none
        tsne: draw speakers as this model represents them (needs --speech)
        speech: speech of several speakers for --tsne
        tsne_layer: layer for --tsne, 0 is the input embedding; default: the last
        tsne_speakers: how many speakers to draw
        tsne_utterances: at most this many of each speaker
        seed: for t-SNE and the choice of utterances

    Raises:
        AalbertError: a folder is missing, nothing in it is usable, or options that do not go together.
    """
    if bool(tsne) != bool(speech):
        raise AalbertError("--tsne needs --speech DIR" if tsne else "--speech needs --tsne CKPT")
    checked_seed(seed, NUMPY_LARGEST)
    if tsne_speakers < 2 or tsne_utterances < 3:
        raise AalbertError("--tsne-speakers must be at least 2 and --tsne-utterances at least 3")
    from s3prl_aalbert.report.tsne import TsneRequest
    from s3prl_aalbert.report.write import DEFAULT_TITLE, summarise_runs, write_report

    request = None
    if tsne and speech:
        folders = tuple(path.expanduser() for path in speech)
        request = TsneRequest(tsne.expanduser(), folders, tsne_layer, tsne_speakers, tsne_utterances, seed)
    summary = summarise_runs(runs)
    page = write_report(runs, out, title or DEFAULT_TITLE, note, request, summary)
    table = summary.table()
    if table:
        print(table + "\n")
    print(f"report: {printable(page)}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    metavars = {"runs": "RUN", "out": "DIR", "note": "TEXT", "tsne": "CKPT", "speech": "DIR"}
    metavars |= dict.fromkeys(("tsne_layer", "tsne_speakers", "tsne_utterances"), "N")
    add_options(parser, report, {"out": ("-o", "--out")}, metavars)


def options_of(texts: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of ``report`` that a sweep's file gives as the command's options.

    Raises:
        AalbertError: an option that there is not, or without its value.
    """
    parser = Parser(prog="aalbert report")
    add_arguments(parser)
    found = given(report, parser.parse_args(["RUN", *texts]))
    del found["runs"]
    return found


def main(args: argparse.Namespace) -> int:
    """Write the report and return 0."""
    return run_command(report, args)
