"""The whole chain with spaces and letters of other scripts in every path, in a shell without a locale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus


@pytest.mark.slow
def test_from_speech_to_the_report(tmp_path: Path) -> None:
    root = tmp_path / "mes données, 実験 (1)"
    speech = synthesise_corpus(
        root / "voix à écouter", num_speakers=4, utterances_per_speaker=4, seconds=(0.5, 0.8), seed=1
    )
    environment = {**os.environ, "LC_ALL": "C", "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}

    def aalbert(*argv: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "s3prl_aalbert.cli", *argv],
            cwd=root, env=environment, capture_output=True, text=True, encoding="utf-8", check=False, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    steps = "config.runner.total_steps=4,,config.runner.eval_step=2,,config.runner.save_step=2"
    model = ["-u", "aalbert_local", "-k", str(root / "modèle 1"), "--device", "cpu"]
    data = "config.downstream_expert.datarc"
    aalbert(
        "pretrain", "-g", "debug", "-c", "pretrain_debug", "--speech", str(speech), "-p", "modèle 1",
        "--device", "cpu", "-o", steps,
    )  # fmt: skip
    task = ["downstream", "-m", "train", *model, "-d", "aalbert_phone", "-p", str(root / "phonèmes 音素")]
    aalbert(*task, "-o", f"{data}.audio='{speech}',,{data}.pretraining_overlap=mark,,{steps}")
    aalbert("downstream", "-m", "evaluate", "-e", str(root / "phonèmes 音素" / "dev-best.ckpt"), "--device", "cpu")
    probed = [
        f"{data}.{kind}.{key}"
        for kind in ("phone", "speaker")
        for key in (f"audio='{speech}'", "pretraining_overlap=mark")
    ]
    shown = aalbert("probe", *model, "--task", "phone,speaker", "-p", "sondes ø", "-o", ",,".join([*probed, steps]))
    assert "phone: test accuracy" in shown and "speaker: test accuracy" in shown
    assert "phonemes" in aalbert("report", str(root), "-o", "rapport é")
    assert "modèle 1" in (root / "rapport é" / "index.html").read_text(encoding="utf-8")
    assert "phonèmes 音素" in (root / "rapport é" / "values.csv").read_text(encoding="utf-8")
    assert not list(root.rglob("*.tmp"))
