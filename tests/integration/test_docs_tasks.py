"""The commands of the pages on tasks, probing and data, as they are written: files exist, keys exist, and they run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_lines import commands_of, lay_out_speech, shorter, succeed

from s3prl_aalbert.model.config import find_config, read_yaml


def commands() -> list[list[str]]:
    """All commands of the pages in their order."""
    return [*commands_of("docs/tasks.md"), *commands_of("docs/probing.md"), *commands_of("docs/data.md")]


def overrides(command: list[str]) -> dict[str, str]:
    if "-o" not in command:
        return {}
    return dict(part.split("=", 1) for part in command[command.index("-o") + 1].split(",,"))


def test_there_are_commands() -> None:
    assert len(commands()) > 10 and all(command[0] == "aalbert" for command in commands())


@pytest.mark.parametrize("command", [c for c in commands() if "-c" in c], ids=lambda c: c[c.index("-n") + 1])
def test_configurations_and_overridden_keys_exist(command: list[str]) -> None:
    config = read_yaml(find_config(command[command.index("-c") + 1], "downstream_configs"))
    for key in overrides(command):
        _, *parts, last = key.split(".")
        section = config
        for part in parts:
            section = section[part]
        # The short files leave keys at their defaults; the long one of each task has them all.
        if last not in section:
            task = command[command.index("-d") + 1]
            assert last in read_yaml(find_config(task, "downstream_configs"))["downstream_expert"]["datarc"], key


@pytest.mark.slow
def test_they_run(tmp_path: Path, tiny_release: Path) -> None:
    lay_out_speech(tmp_path)
    runs = []
    for _, *command in commands():
        if "-o" in command:
            command[command.index("-o") + 1] += f",,{shorter()}"
        elif command[0] == "probe":
            command += ["-o", shorter(total_steps=4)]
        runs.append([str(tiny_release) if word == "CKPT" else word for word in command])
    succeed(runs, tmp_path)
    steps = [h["step"] for h in json.loads((tmp_path / "result/downstream/probe/results.json").read_text())["history"]]
    assert steps == [2, 2, 4, 4], "went on"
    assert (tmp_path / "result" / "report" / "index.html").is_file()
