"""The commands of docs/tasks.md and docs/probing.md, as they are written: files exist, keys exist, and they run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from s3prl_aalbert.config import find_config, read_yaml
from s3prl_aalbert.synthesis import synthesise_corpus

pytest.importorskip("s3prl")
REPOSITORY = Path(__file__).resolve().parents[2]
SHORTER = {"runner.total_steps": 2, "runner.eval_step": 2, "runner.save_step": 2, "runner.log_step": 2}
DRIVER = """
import json, sys
if __name__ == "__main__":
    from s3prl_aalbert.cli import main
    for command in json.load(sys.stdin):
        print("CODE", main(command), " ".join(command), flush=True)
"""


def commands_of(page: str) -> list[list[str]]:
    """Return the commands of a page's bash blocks in their order."""
    blocks = re.findall(r"```bash\n(.*?)```", (REPOSITORY / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def commands() -> list[list[str]]:
    """All commands of both pages in their order."""
    return [*commands_of("docs/tasks.md"), *commands_of("docs/probing.md")]


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


def speech(place: Path) -> None:
    """Lay synthetic speech out as the pages' data/timit and data/LibriSpeech/test-other."""
    timit = synthesise_corpus(place / "data" / "timit", 4, 10, (0.5, 0.7), seed=3)
    for number, speaker in enumerate(sorted({path.parent for path in timit.rglob("*.wav")}), 100):
        for index, path in enumerate(sorted(speaker.glob("*.wav"))):
            target = place / "data" / "LibriSpeech" / "test-other" / f"{number}" / "1" / f"{number}-1-{index:04}.wav"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


@pytest.mark.slow
def test_they_run(tmp_path: Path, tiny_release: Path) -> None:
    speech(tmp_path)
    shorter = ",,".join(f"config.{key}={value}" for key, value in SHORTER.items())
    runs = []
    for _, *command in commands():
        if "-o" in command:
            command[command.index("-o") + 1] += f",,{shorter}"
        elif command[0] == "probe":
            command += ["-o", shorter.replace("total_steps=2", "total_steps=4")]
        runs.append([str(tiny_release) if word == "CKPT" else word for word in command])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRIVER],
        input=json.dumps(runs),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    codes = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("CODE")]
    assert codes == ["0"] * len(runs), done.stdout[-1500:] + done.stderr[-3000:]
    steps = [h["step"] for h in json.loads((tmp_path / "result/downstream/probe/results.json").read_text())["history"]]
    assert steps == [2, 2, 4, 4], "went on"
    assert (tmp_path / "result" / "report" / "index.html").is_file()
