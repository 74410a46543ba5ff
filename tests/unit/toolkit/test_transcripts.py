"""Transcripts of SUPERB's corpora: what is wrong with one is told by file and line."""

from pathlib import Path

import pytest
from naming import naming

from s3prl_aalbert.errors import AalbertError


def test_lines_become_texts_by_utterance(tmp_path: Path) -> None:
    from s3prl_aalbert.toolkit.repairs.missing_modules.ctc_batches import read_transcripts

    path = tmp_path / "1-2.trans.txt"
    path.write_text("1-2-0000 A WORD\n\n1-2-0001 ANOTHER\n")
    assert read_transcripts(path) == {"1-2-0000": "A WORD", "1-2-0001": "ANOTHER"}
    path.write_text("1-2-0000 A\n1-2-0001\n")
    with pytest.raises(AalbertError, match=naming("1-2.trans.txt:2", '"1-2-0001"')):
        read_transcripts(path)


def test_an_utterance_without_a_line_and_a_split_without_speakers(tmp_path: Path) -> None:
    from s3prl_aalbert.toolkit.repairs.missing_modules.ctc_libriphone import _utterances
    from s3prl_aalbert.toolkit.repairs.missing_modules.ctc_snips import SnipsDataset

    folder = tmp_path / "dev-clean" / "1" / "2"
    folder.mkdir(parents=True)
    (folder / "1-2-0001.flac").touch()
    (folder / "1-2.trans.txt").write_text("1-2-0000 A\n")
    with pytest.raises(AalbertError, match=naming("1-2.trans.txt", "1-2-0001.flac")):
        list(_utterances(tmp_path / "dev-clean"))
    with pytest.raises(AalbertError, match=naming("valid_speakers")):
        SnipsDataset(["valid"], None, 1, str(tmp_path))
