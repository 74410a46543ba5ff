"""``aalbert link``: make the plugin known to an S3PRL checkout or installation, or undo it."""

from __future__ import annotations

import argparse
from pathlib import Path

from s3prl_aalbert.commands import run_command
from s3prl_aalbert.typed_options import add_options

EXAMPLES = """examples:
  aalbert link ~/s3prl                 # then, in ~/s3prl/s3prl:
  python3 run_downstream.py -m train -n phone -u aalbert_local -k MODEL -d aalbert_phone
  aalbert link ~/s3prl --dry-run
  aalbert link ~/s3prl --undo          # every byte as before
"""


def link(path: Path, *, undo: bool = False, dry_run: bool = False) -> None:
    """Make the plugin known to S3PRL and print what changed.

    Args:
        path: an S3PRL checkout, or its package folder s3prl
        undo: restore S3PRL as it was
        dry_run: print what would change, and change nothing

    Raises:
        AalbertError: there is no S3PRL of a known version, or its files were changed by someone else.
    """
    from s3prl_aalbert.toolkit import link as linking

    lines = (linking.undo if undo else linking.link)(path, dry_run=dry_run)
    state = "not linked" if undo else "linked already"
    print("\n".join(lines) or f"nothing to do: {linking.find_package(path)} is {state}")
    if dry_run and lines:
        print("(dry run: nothing was changed)")
    elsewhere = linking.imported_elsewhere(path)
    if elsewhere and not undo:
        print(
            f"note: this Python imports s3prl from {elsewhere}; to use the one linked here, install it "
            f"(pip install -e CHECKOUT) or set PYTHONPATH to the folder above its package s3prl"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_options(parser, link, metavars={"path": "DIR"})


def main(args: argparse.Namespace) -> int:
    """Link or unlink and return 0."""
    return run_command(link, args)
