"""`aalbert doctor` says what is wrong and how to mend it."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

import pytest

from s3prl_aalbert.commands import doctor
from s3prl_aalbert.upstream import download

GOOD = dict.fromkeys(doctor.PACKAGES, "1.0") | {
    "torch": "2.11.0",
    "torchaudio": "2.11.0+cpu",
    "s3prl": "0.4.18",
    "huggingface_hub": "0.36.2",
}


@pytest.mark.parametrize(
    ("change", "bad", "fix"),
    [
        ({}, None, None),
        ({"torch": "2.8.0", "torchaudio": "2.8.0"}, None, None),
        ({"torch": "2.15.0"}, "torch with torchaudio", 'pip install "torch==2.11.*" "torchaudio==2.11.*"'),
        ({"torch": "2.8.0"}, "torch with torchaudio", 'pip install "torch==2.8.*" "torchaudio==2.8.*"'),
        ({"huggingface_hub": "1.2.0"}, "huggingface_hub", 'pip install "huggingface_hub<1"'),
        ({"s3prl": "0.4.14"}, "s3prl", "pip install s3prl==0.4.18"),
        ({"soundfile": None}, "packages", "pip install soundfile"),
    ],
)
def test_versions(monkeypatch: pytest.MonkeyPatch, change: dict, bad: str | None, fix: str | None) -> None:
    monkeypatch.setattr(doctor, "version_of", {**GOOD, **change}.get)
    found = [(f.name, f.fix) for f in doctor.check_versions() if not f.good]
    assert found == ([] if bad is None else [(bad, fix)])


def test_a_package_that_does_not_import_is_a_finding_not_a_crash(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert doctor.main(Namespace()) == 1
    shown = capsys.readouterr().out
    assert "BAD  audio: soundfile does not import" in shown
    assert shown.splitlines()[-1].startswith("training would fail") and shown.rstrip().endswith("audio")


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor.tempfile, "gettempdir", lambda: str(tmp_path / "gone"))
    assert [f.name for f in doctor.check_writing() if not f.good] == ["temporary folder"]


def test_weights_that_are_missing_or_altered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (here,) = doctor.check_weights()
    assert here.good and here.found.endswith("aalbert_6l_7h (17.3 MB), aalbert_tiny (1.8 MB)")
    monkeypatch.setattr(download, "PACKAGED_WEIGHTS", tmp_path)
    (gone,) = doctor.check_weights()
    assert not gone.good and "are missing" in gone.found and "--force-reinstall" in gone.fix
    (tmp_path / "aalbert_6l_7h").mkdir()
    (tmp_path / "aalbert_6l_7h" / "model.safetensors").write_bytes(b"something else")
    (altered,) = doctor.check_weights()
    assert not altered.good and "has the SHA-256" in altered.found


def test_this_machine_is_healthy(capsys: pytest.CaptureFixture) -> None:
    assert doctor.main(Namespace()) == 0
    assert "everything that training needs is here" in capsys.readouterr().out
