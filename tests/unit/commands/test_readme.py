"""What the README tells users to type exists and runs."""

from __future__ import annotations

import argparse
import importlib
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_lines import blocks

from s3prl_aalbert.cli import COMMANDS
from s3prl_aalbert.model.config import find_config


def command_lines() -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks("README.md", "bash") for line in block.splitlines()]
    return [line for line in lines if line]


def test_the_readme_has_commands() -> None:
    programs = {line.split()[0] for line in command_lines()}
    assert programs == {"make", "aalbert", "git", "cd", "source"}


def test_every_command_and_page_is_named(repository: Path) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    table = readme.split("## Commands")[1].split("## Models")[0]
    assert [name for name in COMMANDS if f"`{name}`" not in table] == []
    assert [page.name for page in (repository / "docs").glob("*.md") if f"(docs/{page.name})" not in readme] == []


@pytest.mark.parametrize("line", [line for line in command_lines() if line.startswith("make ")])
def test_make_targets_exist(line: str, repository: Path) -> None:
    result = subprocess.run(["make", "-n", *line.split()[1:]], cwd=repository, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("line", [line for line in command_lines() if line.startswith("aalbert ")])
def test_aalbert_commands_parse(line: str) -> None:
    _, name, *argv = shlex.split(line.replace("...", ""))
    assert name in COMMANDS
    module = importlib.import_module(f"s3prl_aalbert.commands.{name}")
    if not getattr(module, "PASS_THROUGH", False):
        parser = argparse.ArgumentParser(exit_on_error=False)
        module.add_arguments(parser)
        parser.parse_args(argv)
    if "-c" in argv:
        folder = "upstream_configs" if name == "pretrain" else "downstream_configs"
        assert find_config(argv[argv.index("-c") + 1], folder).is_file()


def test_the_python_example_runs(repository: Path) -> None:
    (example,) = blocks("README.md", "python")
    script = example.replace("PATH/TO/s3prl-aalbert", str(repository))
    script += "\nassert len(hidden_states) == 4 and upstream.num_layers == 4\n"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
