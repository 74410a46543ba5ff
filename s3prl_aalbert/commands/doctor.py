"""``aalbert doctor``: would training work here, and if not, what to type."""

from __future__ import annotations

import argparse

EXAMPLES = """\
examples:
  aalbert doctor
  aalbert doctor && aalbert demo      # exit code 0: training would work; 1: a listed problem must be fixed
"""


def doctor() -> int:
    """Print what was found of each part of the installation; return 0 if training would work, else 1."""
    from s3prl_aalbert.toolkit.installation import CHECKS

    findings = [finding for check in CHECKS for finding in check()]
    for finding in findings:
        mark = "ok  " if finding.good else "BAD "
        print(f"{mark} {finding.name}: {finding.found}" + (f"\n     -> {finding.fix}" if finding.fix else ""))
    bad = [finding.name for finding in findings if not finding.good]
    print(f"\ntraining would fail: fix {', '.join(bad)}" if bad else "\neverything that training needs is here")
    return 1 if bad else 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: there are none."""


def main(args: argparse.Namespace) -> int:
    """Print the report; return 0 if training would work, else 1."""
    return doctor()
