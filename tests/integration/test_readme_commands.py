"""Every `aalbert` command of the README runs as it is written, in its order, with a smaller model and fewer steps.

`make demo` is run by tests/slow/test_demo_command.py, and `make test` is what runs this.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_docs_tasks import DRIVER, REPOSITORY, commands_of, speech

pytest.importorskip("s3prl")
STEPS = {"runner.total_steps": 2, "runner.eval_step": 2, "runner.save_step": 2, "runner.log_step": 2}


def shortened(command: list[str], checkpoint: Path) -> list[str]:
    """Put in what stands for the user's own (CKPT, FOLDER), and make a run short."""
    own = {
        "CKPT": [str(checkpoint)],
        "FOLDER...": ["data/LibriSpeech"],
        "data/speechocean762/audio": ["data/LibriSpeech"],
        "aalbert_6l": ["debug"],
    }
    command = [word.replace("s3prl_aalbert/", f"{REPOSITORY}/s3prl_aalbert/") for word in command]
    words = [word for each in command for word in own.get(each, [each])]
    if "-c" not in words:
        return words
    short = ",,".join(f"config.{key}={value}" for key, value in STEPS.items())
    if "-o" in words:
        words[words.index("-o") + 1] += f",,{short}"
        return words
    return [*words, "-o", short, "--device", "cpu"]


def test_they_run_in_their_order(tmp_path: Path, tiny_release: Path) -> None:
    speech(tmp_path)
    runs = [shortened(command[1:], tiny_release) for command in commands_of("README.md") if command[0] == "aalbert"]
    assert {run[0] for run in runs} == {"downstream", "probe", "report", "pretrain"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRIVER],
        input=json.dumps(runs),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    codes = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("CODE")]
    assert codes == ["0"] * len(runs), done.stdout[-1500:] + done.stderr[-3000:]
    assert (tmp_path / "report" / "index.html").is_file()
    assert (tmp_path / "report" / "speakers" / "figures" / "speaker_map.png").is_file()
    assert (tmp_path / "result" / "pretrain" / "my_aalbert" / "model.safetensors").is_file()
