"""What the scripts of SUPERB's tasks ask for: the best run on dev, ASR's tables of lengths, missing packages."""

import csv
import importlib
import importlib.util
import sys
import warnings

import numpy as np
import pytest
import soundfile
from naming import mentions, naming
from superb_experiments import checkpoint

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.submission import superb_best, superb_lengths
from s3prl_aalbert.toolkit.repairs import tasks


@pytest.mark.parametrize(("option", "best"), [("ks", "lr_1"), ("pr", "lr_2"), ("asr_no_lm", "lr_2")])
def test_accuracy_is_best_high_and_an_error_rate_low(tmp_path, option, best):
    for name, score in (("lr_1", 0.75), ("lr_2", 0.5), ("lr_3", 0.6)):
        checkpoint(tmp_path / name / "dev-best.ckpt", score, option)
    folders = sorted(tmp_path.iterdir())
    assert superb_best.rank_runs("dev-best.ckpt", folders)[0].name == best


def test_folds_are_averaged_and_an_unfinished_rate_does_not_count(tmp_path, capsys):
    scores = {"lr_1": (0.9, 0.1), "lr_2": (0.6, 0.6), "lr_3": (0.95,), "lr_4": ()}
    for name, folds in scores.items():
        (tmp_path / name).mkdir()
        for fold, score in enumerate(folds):
            checkpoint(tmp_path / name / f"fold{fold}/dev-best.ckpt", score)
    assert [path.name for path in superb_best.rank_runs("dev-best.ckpt", sorted(tmp_path.iterdir()))] == [
        "lr_2",
        "lr_1",
    ]
    said = capsys.readouterr().err
    assert mentions(said, "lr_1", 0.5, "dev") and mentions(said, "lr_4", "no dev-best.ckpt")


def test_the_script_gets_one_line(tmp_path, capsys, monkeypatch):
    checkpoint(tmp_path / "lr_1/dev-best.ckpt", 0.5)
    monkeypatch.setattr(sys, "argv", ["superb_best", "dev-best.ckpt", str(tmp_path / "lr_1")])
    assert superb_best.main() == 0
    assert capsys.readouterr().out == f"{tmp_path / 'lr_1'}\n"


def test_no_run_that_learned_anything_is_one_sentence(tmp_path, capsys, monkeypatch):
    (tmp_path / "lr_1").mkdir()
    monkeypatch.setattr(sys, "argv", ["superb_best", "dev-best.ckpt", str(tmp_path / "lr_1")])
    assert superb_best.main() == 2
    out, err = capsys.readouterr()
    assert not out and "train longer, or at other learning rates" in err
    (tmp_path / "lr_1/dev-best.ckpt").write_bytes(b"no checkpoint")
    assert superb_best.main() == 2
    assert mentions(capsys.readouterr().err, "dev-best.ckpt")


def test_a_flipped_byte_is_one_sentence(tmp_path):
    """Any byte: torch answers with errors of many kinds."""
    path = tmp_path / "dev-best.ckpt"
    checkpoint(path, 0.5)
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            superb_best.load_states(path)
        except AalbertError as error:
            assert "dev-best.ckpt: not a" in str(error)


def test_the_table_of_lengths_is_sorted_and_leads_to_the_files(tmp_path):
    lengths = {"1/2/1-2-0000": 300, "1/2/1-2-0001": 900, "3/4/3-4-0000": 500}
    for name, samples in lengths.items():
        path = tmp_path / f"dev-clean/{name}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(samples), 16000)
    table = superb_lengths.write_lengths(tmp_path, "dev-clean")
    rows = list(csv.DictReader(table.open()))
    assert table == tmp_path / "len_for_bucket/dev-clean.csv"
    assert [int(row["length"]) for row in rows] == [900, 500, 300]
    assert {row["file_path"]: int(row["length"]) for row in rows} == {
        f"dev-clean/{name}.flac": samples for name, samples in lengths.items()
    }


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "dev-clean").mkdir()
    (tmp_path / "dev-clean" / "1-2-0000.flac").write_bytes(b"no audio")
    with pytest.raises(AalbertError, match=naming("1-2-0000.flac", "decoded")):
        superb_lengths.write_lengths(tmp_path, "dev-clean")


def test_a_split_without_audio_is_one_sentence(tmp_path):
    with pytest.raises(AalbertError, match=naming("test-clean", ".flac", "LibriSpeech")):
        superb_lengths.write_lengths(tmp_path, "test-clean")


def test_a_task_names_the_packages_that_it_lacks(monkeypatch):
    monkeypatch.setitem(tasks.PACKAGES, "ctc", {"no_such_one": "no-such-one", "sys": "x", "nor_this": "nor-this"})
    with pytest.raises(AalbertError, match=naming("-d ctc", "pip install no-such-one nor-this")):
        tasks.prepare("ctc")


def test_decoding_with_a_language_model_names_its_package(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoder = importlib.import_module("s3prl.downstream.asr.w2l_decoder")
    monkeypatch.setattr(decoder, "W2lKenLMDecoder", decoder.W2lKenLMDecoder)  # put back afterwards
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: name != "flashlight" and find(name, *more))
    tasks.name_package_of_language_model()
    with pytest.raises(AalbertError, match=naming("decoder_type=kenlm", "pip install flashlight-text")):
        decoder.W2lKenLMDecoder(None, None)
