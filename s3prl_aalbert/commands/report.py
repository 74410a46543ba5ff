"""``aalbert report``: tables and figures from finished runs, as one page."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.printable import printable

if TYPE_CHECKING:
    from s3prl_aalbert.report.tsne import TsneRequest

EXAMPLES = """examples:
  aalbert report result                                # everything below result/, page in result/report
  aalbert report result/downstream -o paper --title "Phones and speakers"
  aalbert report result --tsne result/pretrain/aalbert_6l --speech LibriSpeech/dev-clean
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="experiment folders, searched for runs of every kind")
    add("-o", "--out", type=Path, default=Path("result/report"), metavar="DIR", help="default: %(default)s")
    add("--title", help="heading of the page")
    add("--note", default="", metavar="TEXT", help="what the reader should know first, e.g. the speech used")
    add("--tsne", type=Path, metavar="CKPT", help="draw speakers as this model represents them (needs --speech)")
    add("--speech", type=Path, nargs="+", metavar="DIR", help="speech of several speakers for --tsne")
    add("--tsne-layer", type=int, metavar="N", help="layer for --tsne, 0: input embedding; default: the last")
    add("--tsne-speakers", type=int, default=10, metavar="N", help="default: %(default)s")
    add("--tsne-utterances", type=int, default=20, metavar="N", help="at most, of each speaker; default: %(default)s")
    add("--seed", type=int, default=0, help="of t-SNE and of the choice of utterances; default: %(default)s")


def main(args: argparse.Namespace) -> int:
    """Write the report, print the table and where the page is, and return 0."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    logging.getLogger("tensorboard").setLevel(logging.WARNING)  # it announces the end of each event file
    if bool(args.tsne) != bool(args.speech):
        given, missing = ("--tsne", "--speech DIR") if args.tsne else ("--speech", "--tsne CKPT")
        raise AalbertError(f"{given} needs {missing}")
    from s3prl_aalbert.report.write import DEFAULT_TITLE, summarise_runs, write_report

    request = _tsne_request(args)
    summary = summarise_runs(args.runs)
    title = args.title or DEFAULT_TITLE
    page = write_report(args.runs, args.out, title, args.note, request, summary)
    table = summary.table()
    if table:
        print(table + "\n")
    print(f"report: {printable(page)}")
    return 0


def _tsne_request(args: argparse.Namespace) -> TsneRequest | None:
    if not args.tsne:
        return None
    if not 0 <= args.seed < 1 << 32:
        raise AalbertError(f"--seed {args.seed}: expected a whole number from 0 to {(1 << 32) - 1}")
    if args.tsne_speakers < 2 or args.tsne_utterances < 3:
        raise AalbertError("--tsne-speakers must be at least 2 and --tsne-utterances at least 3")
    from s3prl_aalbert.report.tsne import TsneRequest

    return TsneRequest(
        checkpoint=args.tsne.expanduser(),
        speech=tuple(path.expanduser() for path in args.speech),
        layer=args.tsne_layer,
        speakers=args.tsne_speakers,
        utterances=args.tsne_utterances,
        seed=args.seed,
    )
