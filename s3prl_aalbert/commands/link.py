"""``aalbert link``: make the plugin known to an S3PRL checkout or installation, or undo it."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

EXAMPLES = """examples:
  aalbert link ~/s3prl                 # then, in ~/s3prl/s3prl:
  python3 run_downstream.py -m train -n phone -u aalbert_local -k MODEL -d aalbert_phone
  aalbert link ~/s3prl --dry-run
  aalbert link ~/s3prl --undo          # every byte as before
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``aalbert link``."""
    parser.add_argument("path", type=Path, metavar="DIR", help="an S3PRL checkout, or its package folder s3prl")
    parser.add_argument("--undo", action="store_true", help="restore S3PRL as it was")
    parser.add_argument("--dry-run", action="store_true", help="only say what would change")


def main(args: argparse.Namespace) -> int:
    """Link or unlink, print what changed, and return 0."""
    from s3prl_aalbert.toolkit import link

    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    change = link.undo if args.undo else link.link
    lines = change(args.path, dry_run=args.dry_run)
    state = "not linked" if args.undo else "linked already"
    print("\n".join(lines) or f"nothing to do: {link.find_package(args.path)} is {state}")
    if args.dry_run and lines:
        print("(dry run: nothing was changed)")
    elsewhere = link.imported_elsewhere(args.path)
    if elsewhere and not args.undo:
        print(
            f"note: this Python imports s3prl from {elsewhere}; to use the one linked here, install it "
            f"(pip install -e CHECKOUT) or set PYTHONPATH to the folder above its package s3prl"
        )
    return 0
