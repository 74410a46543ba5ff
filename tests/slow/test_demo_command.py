"""The whole demo, as a newcomer runs it, and Ctrl-C in the middle of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from s3prl_aalbert.errors import EXIT_INTERRUPTED
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus

SECONDS = 300
"""How long something may take that begins at once on an idle machine."""


@pytest.mark.slow
def test_demo_end_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s3prl_aalbert", "demo", "-o", str(tmp_path / "demo")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert f"Open {tmp_path}/demo/report/index.html" in result.stdout and "[13/13] report" in result.stdout
    page = (tmp_path / "demo" / "report" / "index.html").read_text(encoding="utf-8")
    assert "<img" in page and "http://" not in page and "untrained" in page
    results = {p.parent.name: json.loads(p.read_text()) for p in (tmp_path / "demo" / "tasks").rglob("results.json")}
    assert len(results) == 10
    for name, content in results.items():
        assert content["best"]["test"]["acc"] > 1.2 * content["majority"]["test"], name
    phones = {name: results[f"aalbert_phone-{name}"]["best"]["test"]["acc"] for name in ("pretrained", "untrained")}
    assert phones["pretrained"] > phones["untrained"]
    logs = {path: path.read_bytes() for path in (tmp_path / "demo" / "logs").glob("*.log")}
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and again.stdout.count("done already") == 12, again.stderr
    assert {path: path.read_bytes() for path in logs} == logs


class Demo:
    """A demo on four short voices in a process group of its own."""

    def __init__(self, folder: Path, steps: int):
        speech = synthesise_corpus(
            folder / "voices", num_speakers=4, utterances_per_speaker=10, seconds=(0.6, 1.0), seed=1
        )
        self.output, self.said = folder / "demo", folder / "said.txt"
        self.command = [sys.executable, "-m", "s3prl_aalbert", "demo", "--speech", str(speech)]
        self.command += ["--steps", str(steps), "-o", str(self.output)]

    def log(self, name: str) -> str:
        path = self.output / "logs" / f"{name}.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def interrupt_when(self, condition: Callable[[], object]) -> str:
        """Start it, press Ctrl-C once the condition holds, and return what it said."""
        with self.said.open("w") as said:
            demo = subprocess.Popen(self.command, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                deadline = time.monotonic() + SECONDS
                while not condition():
                    assert demo.poll() is None and time.monotonic() < deadline, self.said.read_text()
                    time.sleep(0.05)
                os.killpg(demo.pid, signal.SIGINT)
                assert demo.wait(SECONDS) == EXIT_INTERRUPTED
            finally:
                demo.kill()
                for number in [] if demo.returncode == EXIT_INTERRUPTED else self.processes():
                    os.kill(number, signal.SIGKILL)
        everything = self.said.read_text() + "".join(self.log(path.stem) for path in self.output.glob("logs/*.log"))
        assert "Traceback" not in everything, everything
        assert not self.processes(), "nothing goes on in the background"
        assert "the same command goes on from here" in self.said.read_text()
        return self.said.read_text()

    def processes(self) -> list[int]:
        """Return what runs in the demo's folder."""
        own = f"{self.output}/".encode()
        running = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                content = path.read_bytes()
            except OSError:  # it has just ended
                continue
            running += [int(path.parent.name)] if own in content else []
        return running


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_ctrl_c_in_pretraining_saves_and_the_next_demo_goes_on(tmp_path: Path) -> None:
    demo, model = Demo(tmp_path, steps=100_000), tmp_path / "demo" / "pretrained"
    log = "pre_train_a_small_AALBERT"
    said = demo.interrupt_when(lambda: re.search(r"pre-training:.*\b[2-9]/100000", demo.log(log)))
    (first,) = model.glob("states-*.ckpt")
    assert "stops and saves" in said and not list(demo.output.glob("tasks/*"))
    demo.interrupt_when(lambda: f"resumed from {first}" in demo.log(log))
    assert demo.log(log).count("aalbert pretrain") == 2, "the log of the first run is still there"
    assert list(model.glob("states-*.ckpt"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_ctrl_c_in_a_task_starts_no_other_and_the_next_demo_passes_over_what_is_done(tmp_path: Path) -> None:
    demo, task = Demo(tmp_path, steps=2), "phones_input_features"
    said = demo.interrupt_when(lambda: re.search(r"overall:.*\b[1-9]\d*/160", demo.log(task)))
    assert "[1/13] pre-train a small AALBERT: done in" in said
    begun = sorted(path.stem for path in demo.output.glob("logs/*.log"))
    said = demo.interrupt_when(lambda: demo.log(task).count("--device: cpu chosen") == 2)
    assert "[1/13] pre-train a small AALBERT: done already" in said
    assert sorted(path.stem for path in demo.output.glob("logs/*.log")) == begun
