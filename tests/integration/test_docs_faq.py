"""The commands and the example of docs/faq.md, as they are written: configurations exist, and they run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import soundfile
import torch
from command_lines import REPOSITORY, blocks, commands_of, lay_out_speech, shorter, succeed

from s3prl_aalbert.model.config import find_config

PAGE = (REPOSITORY / "docs" / "faq.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    return commands_of("docs/faq.md")


def test_configurations_exist() -> None:
    found = [command for command in commands() if "-c" in command]
    assert len(found) > 5
    for command in found:
        folder = "upstream_configs" if command[1] == "pretrain" else "downstream_configs"
        assert find_config(command[command.index("-c") + 1], folder).is_file()


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]*?\.md)(?:#([^)]*))?\)", PAGE):
        page = (REPOSITORY / "docs" / target[0]).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.*)$", page, flags=re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not target[1] or target[1] in anchors, target


def test_every_answer_names_its_question(repository: Path) -> None:
    assert len(set(re.findall(r"#\d+\b", PAGE))) >= 30
    assert "docs/faq.md" in (repository / "README.md").read_text(encoding="utf-8")


def test_the_example_runs(tiny_release: Path, tmp_path: Path) -> None:
    (example,) = blocks("docs/faq.md", "python")
    soundfile.write(tmp_path / "speech.flac", 0.1 * torch.randn(22050, 2).numpy(), 22050)
    example = example.replace('"CKPT"', repr(str(tiny_release))).replace("speech.flac", str(tmp_path / "speech.flac"))
    names: dict[str, torch.Tensor] = {}
    exec(example, names)
    assert names["tokens"].shape == (34, 32), "one second, 16000 / 480 tokens"


@pytest.mark.slow
def test_they_run(tmp_path: Path, tiny_release: Path) -> None:
    lay_out_speech(tmp_path)
    runs = []
    for _, *command in commands():
        if command[0] == "pretrain" and "-a" not in command:
            command += ["-o", f"{shorter()},,config.optimizer.schedule_steps=4", "--device", "cpu"]
        elif command[0] == "pretrain":
            command += ["-o", shorter(total_steps=4), "--device", "cpu"]
        elif "-o" in command:
            command[command.index("-o") + 1] += f",,{shorter()}"
        small = {"CKPT": str(tiny_release), "aalbert_small": str(tiny_release / "config.yaml")}
        runs.append([small.get(word, word) for word in command])
    succeed(runs, tmp_path)
    assert (tmp_path / "result/pretrain/my_aalbert/states-4.ckpt").is_file(), "went on"
    best = json.loads((tmp_path / "result/downstream/phone_faq/results.json").read_text())
    assert best["best"]["step"] == 2 and best["evaluations"]
