"""What users can name: upstreams, packaged configurations and tasks, with a line on each, by section."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

Rows = Iterable[tuple[str, str]]
"""Names, with a line on each."""
CONFIG_FOLDERS = {"upstream_configs": "-g of pretrain and distill, -c (pretrain_..., distill_...)",
                  "downstream_configs": "-c of downstream and probe; sweep_... of sweep"}  # fmt: skip


def models(with_s3prls: bool) -> dict[str, Rows]:
    """Return the upstreams of this plugin, and those of S3PRL if wanted, which imports S3PRL."""
    from s3prl_aalbert.upstream import hubconf

    lines = {name: (getattr(hubconf, name).__doc__ or "").partition("\n")[0] for name in hubconf.__all__}
    own = {name: line.replace("``", "").rstrip(".") for name, line in lines.items()}
    sections: dict[str, Rows] = {"upstreams of this plugin (-u)": own.items()}
    if with_s3prls:
        from s3prl_aalbert.toolkit.hub import s3prl_upstreams

        sections["upstreams of S3PRL (-u)"] = [(name, "") for name in sorted(s3prl_upstreams())]
    return sections


def configs() -> dict[str, Rows]:
    """Return the packaged YAML files, by folder."""
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


def tasks() -> dict[str, Rows]:
    """Return the downstream tasks of this plugin, and those of S3PRL."""
    from s3prl_aalbert.toolkit.option_checks import downstream_folders
    from s3prl_aalbert.toolkit.register import DOWNSTREAMS

    own = {name: _docstring(module) for name, module in DOWNSTREAMS.items()}
    theirs = sorted(path.parent.name for folder in downstream_folders() for path in folder.glob("*/expert.py"))
    return {"tasks of this plugin (-d)": own.items(), "tasks of S3PRL (-d)": [(name, "") for name in theirs]}


def _docstring(module: str) -> str:
    """Return the first line of a module's docstring, without importing it."""
    import ast

    spec = importlib.util.find_spec(module)
    source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0].rstrip(".")
