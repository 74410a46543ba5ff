"""Commands in the ``wav.scp`` of a Kaldi folder, which S3PRL's diarization gives to a shell."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from naming import naming

from s3prl_aalbert import toolkit
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit.repairs import tasks

pytest.importorskip("h5py", reason="S3PRL's diarization needs it")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Kaldi folder of one recording of one second, whose entry is a command that leaves a mark."""
    wav = tmp_path / "a.wav"
    soundfile.write(wav, np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
    tables = {
        "wav.scp": f"a touch {tmp_path / 'ran'}; cat {wav} |",
        "segments": "u a 0.0 1.0",
        "utt2spk": "u s",
        "spk2utt": "s u",
        "reco2dur": "a 1.0",
    }
    for name, line in tables.items():
        (tmp_path / name).write_text(line + "\n")
    return tmp_path


def read(folder: Path) -> Any:
    """Return the first chunk that S3PRL's data set gives."""
    toolkit.activate()
    importlib.import_module("s3prl.downstream.diarization.expert")
    dataset: Any = importlib.import_module("s3prl.downstream.diarization.dataset")
    return dataset.DiarizationDataset("dev", str(folder), chunk_size=10, frame_shift=160, num_speakers=1)[0]


def test_a_command_is_refused_before_anything_runs(folder: Path) -> None:
    with pytest.raises(AalbertError, match=naming("wav.scp", "a", "command")) as told:
        read(folder)
    assert tasks.TRUST_WAV_SCP in str(told.value)
    assert not (folder / "ran").exists()


def test_a_command_that_is_trusted_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the control of the test above: the command would have left its mark."""
    monkeypatch.setenv(tasks.TRUST_WAV_SCP, "1")
    samples, labels = read(folder)
    assert samples.shape == (1600,) and labels.shape == (10, 1)
    assert (folder / "ran").exists()


def test_a_file_is_read(folder: Path) -> None:
    (folder / "wav.scp").write_text(f"a {folder / 'a.wav'}\n")
    samples, _ = read(folder)
    np.testing.assert_array_equal(samples, soundfile.read(folder / "a.wav")[0][:1600])
