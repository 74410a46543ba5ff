"""``aalbert list``: what can be named, with a line on each."""

from __future__ import annotations

import argparse
from typing import Literal

from s3prl_aalbert.typed_options import add_options, call

EXAMPLES = """\
examples:
  aalbert list models           # for -u: upstreams of this plugin
  aalbert list models --all     # and those of S3PRL
  aalbert list configs          # for -g and -c: packaged YAML files
  aalbert list tasks            # for -d: tasks of this plugin, and those of S3PRL
"""
Kind = Literal["models", "configs", "tasks"]


def list_names(kind: Kind, *, all: bool = False) -> None:
    """Print what can be named, with a line on each.

    Args:
        kind: models (for -u), configs (for -g and -c) or tasks (for -d)
        all: with models: list those of S3PRL too, which takes seconds
    """
    from s3prl_aalbert.toolkit import catalogue

    if kind == "models":
        sections = catalogue.models(all)
    else:
        sections = catalogue.configs() if kind == "configs" else catalogue.tasks()
    for title, rows in sections.items():
        pairs = list(rows)
        width = max(len(name) for name, _ in pairs)
        print(f"{title}:")
        print("\n".join(f"  {name:<{width}}  {text}".rstrip() for name, text in pairs) + "\n")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_options(parser, list_names, metavars={"kind": "KIND"})


def main(args: argparse.Namespace) -> int:
    """Print the list and return 0."""
    call(list_names, args)
    return 0
