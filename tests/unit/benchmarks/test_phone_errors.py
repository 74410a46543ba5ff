"""benchmarks/phone_errors.py, on utterances counted by hand."""

from __future__ import annotations

from pathlib import Path

import phone_errors
import pytest

from s3prl_aalbert.errors import AalbertError


def evaluated(folder: Path, hypotheses: str) -> Path:
    folder.mkdir()
    (folder / "test-hyp.ark").write_text(hypotheses)
    (folder / "test-ref.ark").write_text("1-1-0 A B C D\n1-2-0 A B\n2-1-0 A B C\n")
    return folder


def test_errors_by_speaker_and_their_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Speaker 1: a deletion and a substitution in 6 phones; speaker 2: an insertion in 3.
    some = evaluated(tmp_path / "some", "1-1-0 A C D\n1-2-0 A X\n2-1-0 A B C C\n")
    none = evaluated(tmp_path / "none", "1-1-0\n1-2-0\n2-1-0\n")
    assert phone_errors.speaker_errors(some) == pytest.approx({"1": 2 / 6, "2": 1 / 3})
    out = tmp_path / "errors.csv"
    assert phone_errors.main([str(none), str(some), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "none: 100.0 ± 0.0 %",
        "some: 33.3 ± 0.0 %, less the first -66.7 ± 0.0",
    ]
    assert out.read_text().splitlines()[-1] == "some,2,0.333333"


def test_runs_that_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(AalbertError, match=r"gone/test-hyp\.ark"):
        phone_errors.speaker_errors(tmp_path / "gone")
    other = evaluated(tmp_path / "other", "1-1-0 A\n")
    with pytest.raises(AalbertError, match=r"other.*1, 3"):
        phone_errors.speaker_errors(other)
