"""``aalbert list``: what can be named, with a line on each."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path
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
Rows = Iterable[tuple[str, str]]
CONFIG_FOLDERS = {"upstream_configs": "-g of pretrain and distill, -c (pretrain_..., distill_...)",
                  "downstream_configs": "-c of downstream and probe; sweep_... of sweep"}  # fmt: skip


def list_names(kind: Kind, *, all: bool = False) -> None:
    """Print what can be named, with a line on each.

    Args:
        kind: models (for -u), configs (for -g and -c) or tasks (for -d)
        all: with models: list those of S3PRL too, which takes seconds
    """
    listed: dict[Kind, Callable[[], dict[str, Rows]]] = {
        "models": lambda: _models(all), "configs": _configs, "tasks": _tasks,
    }  # fmt: skip
    for title, rows in listed[kind]().items():
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


def _models(with_s3prls: bool) -> dict[str, Rows]:
    from s3prl_aalbert.upstream import hubconf

    lines = {name: (getattr(hubconf, name).__doc__ or "").partition("\n")[0] for name in hubconf.__all__}
    own = {name: line.replace("``", "").rstrip(".") for name, line in lines.items()}
    sections: dict[str, Rows] = {"upstreams of this plugin (-u)": own.items()}
    if with_s3prls:
        from s3prl_aalbert.toolkit.hub import s3prl_upstreams

        sections["upstreams of S3PRL (-u)"] = [(name, "") for name in sorted(s3prl_upstreams())]
    return sections


def _configs() -> dict[str, Rows]:
    from s3prl_aalbert.model.config import packaged_configs

    return {
        f"{folder} ({use})": [
            (path.stem, _first_comment(path)) for path in sorted(packaged_configs(folder).glob("*.yaml"))
        ]
        for folder, use in CONFIG_FOLDERS.items()
    }


def _first_comment(path: Path) -> str:
    """Return the first sentence of the comment that a file begins with."""
    text = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# ") or line.startswith("#  "):  # what is indented is a command
            break
        text += line[1:].rstrip()
    return text.strip().split(". ")[0].rstrip(".:")


def _tasks() -> dict[str, Rows]:
    from s3prl_aalbert.toolkit.register import DOWNSTREAMS

    own = {name: _docstring(module) for name, module in DOWNSTREAMS.items()}
    spec = importlib.util.find_spec("s3prl")
    folders = [Path(folder) / "downstream" for folder in (spec.submodule_search_locations or [])] if spec else []
    theirs = sorted(path.parent.name for folder in folders for path in folder.glob("*/expert.py"))
    return {"tasks of this plugin (-d)": own.items(), "tasks of S3PRL (-d)": [(name, "") for name in theirs]}


def _docstring(module: str) -> str:
    """Return the first line of a module's docstring, without importing it."""
    import ast

    spec = importlib.util.find_spec(module)
    source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0].rstrip(".")
