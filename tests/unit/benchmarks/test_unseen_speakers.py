"""benchmarks/unseen_speakers.py: excerpts, divisions and counts, on synthetic speech."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import unseen_speakers as unseen
from naming import naming

from s3prl_aalbert.errors import AalbertError


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Two speakers in LibriSpeech's names, 12 utterances each: noise of another colour for each."""
    generator = np.random.default_rng(0)
    for speaker, smooth in (("11", 1), ("22", 8)):
        folder = tmp_path / "dev-clean" / speaker / "5"
        folder.mkdir(parents=True)
        for index in range(12):
            noise = np.convolve(generator.normal(size=9000 + 100 * index), np.ones(smooth) / smooth, "same")
            soundfile.write(folder / f"{speaker}-5-{index:04}.wav", 0.1 * noise, 16000)
    return tmp_path / "dev-clean"


def test_excerpts_are_the_middle_of_some_utterances(speech: Path) -> None:
    found = unseen.load_excerpts([speech], unseen.Setting(utterances=10, seconds=0.25))
    assert found.speakers == ["11"] * 10 + ["22"] * 10 and len(set(found.names)) == 20
    whole, _ = soundfile.read(speech / "11" / "5" / f"{found.names[0]}.wav", dtype="float32")
    start = (len(whole) - 4000) // 2
    np.testing.assert_allclose(found.wavs[0], whole[start : start + 4000], atol=1e-4)


def test_every_division_tests_a_tenth_of_each_speaker(speech: Path) -> None:
    found = unseen.load_excerpts([speech], unseen.Setting(utterances=12))
    labels = torch.tensor([[1.0, 0.0]] * 12 + [[0.0, 1.0]] * 12) + 0.01 * torch.arange(24)[:, None]
    told = unseen.classify(unseen.Inputs(labels, np.arange(24)), found, 0)
    assert told == {"11": (1, 1), "22": (1, 1)}
    nothing = unseen.classify(unseen.Inputs(torch.zeros(24, 2), np.arange(24)), found, 0)
    assert sorted(nothing.values()) == [(0, 1), (1, 1)]  # one answer for all
    twice = unseen.Inputs(labels.repeat_interleave(2, 0), np.repeat(np.arange(24), 2))
    assert unseen.classify(twice, found, 1) == {"11": (2, 2), "22": (2, 2)}


def test_one_run_records_every_split_and_speaker(
    speech: Path, tiny_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "speakers.csv"
    argv = ["unseen_speakers", "--speech", str(speech), "-k", str(tiny_release), "--splits", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", argv)
    unseen.main()
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == (1 + 1 + 4 + 4) * 2 * 2 * 2  # layers of the four models; levels, splits, speakers
    frames = {row["count"] for row in rows if row["classifier"] == "frame"}
    assert frames == {str(unseen.TOKENS)}
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 1 + (1 + 1 + 4 + 4) * 2
    without = next(line for line in shown if line.startswith("aalbert_features without CMVN, utterance"))
    assert "100.0 ± 0.0" in without  # two colours of noise
    before = out.read_bytes()
    unseen.main()
    assert out.read_bytes() == before and capsys.readouterr().out.splitlines() == shown
    monkeypatch.setattr(sys, "argv", [*argv, "--splits", "3"])  # the recorded values are of two
    with pytest.raises(AalbertError, match=naming(out, "2", "--splits", "3", "--out")):
        unseen.main()
    monkeypatch.setattr(sys, "argv", argv)
    argv[2] = str(next(speech.iterdir()))  # other speech: what the file holds is not of it
    with pytest.raises(AalbertError, match=naming(out, "1 speakers", "--out")):
        unseen.main()
