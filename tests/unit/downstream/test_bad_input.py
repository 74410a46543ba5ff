"""Data that a task cannot use: named and counted once; an error only where a result would be wrong."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from naming import mentions, naming

from s3prl_aalbert.downstream.phone.config import PhoneDataConfig
from s3prl_aalbert.downstream.phone.dataset import load_phone_data
from s3prl_aalbert.downstream.phone.expert import DownstreamExpert as PhoneExpert
from s3prl_aalbert.downstream.probe.expert import DownstreamExpert as ProbeExpert
from s3prl_aalbert.downstream.speaker.dataset import SpeakerDataConfig, load_speaker_data
from s3prl_aalbert.downstream.task import TaskData
from s3prl_aalbert.errors import AalbertError

PHN = "0 4000 aa\n4000 8000 b\n"
"""Labels of the half second that ``write`` writes."""


def write(path: Path, phn: str | None = PHN, seconds: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(len(str(path))).normal(0, 0.1, int(seconds * 16000)), 16000)
    if phn is not None:
        path.with_suffix(".phn").write_text(phn)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Four speakers of ten utterances, all with labels."""
    for speaker in "abcd":
        for index in range(10):
            write(tmp_path / "speech" / speaker / f"u{index}.wav")
    return tmp_path / "speech"


def phones(speech: Path, **more: Any) -> TaskData:
    return load_phone_data(PhoneDataConfig(audio=str(speech), **more), 480, 0, speech.parent)


def speakers(speech: Path, **more: Any) -> TaskData:
    return load_speaker_data(SpeakerDataConfig(audio=str(speech), **more), 0, speech.parent)


def skipped(data: TaskData) -> dict[str, list[str]]:
    found = data.facts.left_out
    assert all(entry["count"] == len(entry["names"]) for entry in found.values())
    return {reason: entry["names"] for reason, entry in found.items()}


def test_clean_data_leave_nothing_out(speech: Path) -> None:
    assert skipped(phones(speech)) == skipped(speakers(speech)) == {}
    assert not (speech.parent / "left_out.tsv").exists()


# ------------------------------------------------------------------------------------------------- phones


def test_audio_without_labels(speech: Path, caplog: pytest.LogCaptureFixture) -> None:
    for index in range(7):
        write(speech / "a" / f"new{index}.wav", None)
    write(speech / "a" / "silent.wav", "")  # a label file that labels nothing
    with caplog.at_level(logging.WARNING):
        data = phones(speech)
    assert skipped(data) == {"no_labels": [*(f"a/new{i}" for i in range(7)), "a/silent"]}
    (record,) = caplog.records
    assert mentions(record.getMessage(), 8, "without labels", "a/new0, a/new1, a/new2, a/new3, a/new4, ...")
    assert sum(map(len, data.names.values())) == 40
    rows = list(csv.reader((speech.parent / "left_out.tsv").open(), delimiter="\t"))
    assert rows[0] == ["name", "reason", "detail"] and len(rows) == 9, "all of them beside the run"


def test_labels_without_audio(speech: Path) -> None:
    table = speech.parent / "labels.tsv"
    names = [f"{s}/u{i}" for s in "abcd" for i in range(10)]
    table.write_text("".join(f"{n}\t0\t0.2\taa\n{n}\t0.2\t0.5\tb\n" for n in [*names, "a/gone"]))
    assert skipped(phones(speech, alignments=str(table))) == {"no_audio": ["a/gone"]}


def test_labels_past_the_end_of_the_audio(speech: Path) -> None:
    write(speech / "a" / "late.wav", "0 4000 aa\n4000 8801 b\n")  # 50.06 ms too long
    write(speech / "a" / "nearly.wav", "0 4000 aa\n4000 8799 b\n")
    data = phones(speech)
    assert skipped(data) == {"labels_past_end": ["a/late"]}
    assert "a/nearly" in {name for names in data.names.values() for name in names}
    assert mentions((speech.parent / "left_out.tsv").read_text(), "a/late", "0.55 s", "0.50 s")


def test_a_damaged_label_file_among_good_ones(speech: Path) -> None:
    write(speech / "a" / "bad.wav", "0 ten aa\n")
    assert skipped(phones(speech)) == {"labels_unreadable": ["a/bad"]}
    assert "bad.phn: line 1" in (speech.parent / "left_out.tsv").read_text()


def test_label_files_that_are_all_damaged_stop_with_the_first_reason(speech: Path) -> None:
    for path in speech.rglob("*.phn"):
        path.write_text("0 ten aa\n")
    with pytest.raises(AalbertError, match=naming(40, "labels", "u0.phn", "line 1")):
        phones(speech)


def test_one_phone_is_no_classification(speech: Path) -> None:
    for path in speech.rglob("*.phn"):
        path.write_text("0 8000 aa\n")
    with pytest.raises(AalbertError, match=naming("two phones", "aa")):
        phones(speech)


def test_an_empty_split_names_what_was_left_out(speech: Path) -> None:
    for path in (speech / "a").glob("*.wav"):
        path.write_bytes(b"RIFF")
    tested = 0
    for fold in range(4):
        try:
            phones(speech, fold=fold)
        except AalbertError as error:
            tested += 1
            assert mentions(str(error), "split is empty", 10, "decoded")
    assert tested == 2, "speaker a is the test of one fold and the dev of another"


def test_an_excluded_name_that_is_nowhere_is_a_warning(speech: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = phones(speech, exclude=["U1.wav", "data/c/u2", "c/u2", "sa1"])
    assert skipped(data) == {"excluded": ["a/u1", "b/u1", "c/u1", "c/u2", "d/u1"]}
    assert mentions(caplog.text, "datarc.exclude", "data/c/u2, sa1")


def test_lists_that_do_not_fit_the_audio(speech: Path) -> None:
    folder = speech.parent
    (folder / "train.txt").write_text("".join(f"{s}/u{i}\n" for s in "abcd" for i in range(6)) + "a/gone\n")
    (folder / "test.txt").write_text("".join(f"{s}/u7\n" for s in "abcd"))
    lists = {"train_list": str(folder / "train.txt"), "test_list": str(folder / "test.txt")}
    expected = {
        "listed_but_unusable": ["a/gone"],
        "in_no_list": [f"{s}/u{i}" for s in "abcd" for i in (6, 8, 9)],
    }
    assert skipped(phones(speech, split="lists", **lists)) == expected
    assert skipped(speakers(speech, **lists)) == expected


@pytest.mark.parametrize("load", [phones, speakers])
def test_lists_of_another_corpus_are_an_error(speech: Path, load: Any) -> None:
    folder = speech.parent
    (folder / "train.txt").write_text("103-1240-0000\n103-1240-0001\n")
    (folder / "test.txt").write_text("103-1240-0002\n")
    lists = {"train_list": str(folder / "train.txt"), "test_list": str(folder / "test.txt")}
    with pytest.raises(
        AalbertError,
        match=naming("train", "dev", "test", "empty", 3, '"103-1240-0000"', '"a/u0"'),
    ):
        load(speech, **lists, **({"split": "lists"} if load is phones else {}))


def test_one_bad_row_of_a_label_table(speech: Path) -> None:
    table = speech.parent / "labels.tsv"
    rows = [f"{s}/u{i}\t{t}\t{t + 0.25}\t{p}\n" for s in "abcd" for i in range(10) for t, p in ((0, "aa"), (0.25, "b"))]
    rows[7] = "a/u3\t0.2\t0.5\tb\n"
    table.write_text("".join(rows))
    assert skipped(phones(speech, alignments=str(table))) == {"labels_unreadable": ["a/u3"]}
    assert mentions((speech.parent / "left_out.tsv").read_text(), "line 8", "overlap", "0.200 s", "(aa, b)")


def test_labels_of_files_with_suffixes_paths_and_other_accents(tmp_path: Path) -> None:
    speech = tmp_path / "speech"
    for speaker in "ab\u00e9":
        write(speech / speaker / f"{speaker}_u.wav", None)
    names = [f"/elsewhere/{s}_u.WAV" for s in ("a", "b", "e\u0301")]
    table = tmp_path / "labels.tsv"
    table.write_text("".join(f"{n}\t0\t0.2\taa\n{n}\t0.2\t0.5\tb\n" for n in names))
    data = phones(speech, alignments=str(table), num_folds=3)
    assert skipped(data) == {} and sum(map(len, data.names.values())) == 3
    table.write_text(table.read_text() + "b_u.flac\t0\t0.5\taa\n")
    write(speech / "d" / "d_u.wav", None)
    table.write_text(table.read_text() + "d_u\t0\t0.5\taa\n")
    assert skipped(phones(speech, alignments=str(table), num_folds=3)) == {"labels_unreadable": ["b_u"]}
    assert '"b_u.flac" is one of two names for b_u' in (tmp_path / "left_out.tsv").read_text()
    table.write_text("A_U\t0\t0.5\taa\n")
    with pytest.raises(AalbertError, match=naming(4, "labels", '"A_U"', 'did you mean "a_u"')):
        phones(speech, alignments=str(table))


@pytest.mark.parametrize(
    ("rate", "unit"), [(8000, 8000), (8000, 16000), (44100, 44100), (44100, 16000), (16000, 16000)]
)
def test_phn_counts_samples_of_the_audio_or_of_16_khz(tmp_path: Path, rate: int, unit: int) -> None:
    """Half a second each of aa and iy, at any rate of the audio, and TIMIT's labels beside resampled audio."""
    for speaker in "abcd":
        path = tmp_path / "speech" / speaker / "u.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, rate), rate)
        path.with_suffix(".phn").write_text(f"0 {unit // 2} aa\n{unit // 2} {unit} iy\n")
    data = phones(tmp_path / "speech")
    assert skipped(data) == {} and data.classes == ("aa", "iy")
    assert data.label_of("a/u").grid.tolist() == [0] * 50 + [1] * 50
    # 34 tokens of 30 ms; the last holds 10 ms of audio, and its centre lies past the end.
    each = data.label_of("a/u").token.tolist()
    assert each == [[0, 0, 0]] * 16 + [[0, 0, 1]] + [[1, 1, 1]] * 16 + [[1, -100, -100]]
    data = phones(tmp_path / "speech", token_label="centre")
    assert data.label_of("a/u").token.tolist() == [0] * 17 + [1] * 17


def test_labels_that_end_early_are_suspected(speech: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(speech / "a" / "half.wav", "0 2000 aa\n2000 4000 b\n")
    phones(speech)
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert mentions(record.getMessage(), "labels", 1, 41, "60 %", "a/half")


@pytest.mark.parametrize("load", [phones, speakers])
def test_silence_and_kinds_that_are_not_read(speech: Path, load: Any, caplog: pytest.LogCaptureFixture) -> None:
    soundfile.write(speech / "a" / "u0.wav", np.zeros(8000), 16000)
    sound = np.random.default_rng(0).normal(0, 0.1, 8000)
    soundfile.write(speech / "b" / "u0.wav", np.stack([sound, -sound], 1), 16000)
    soundfile.write(speech / "c" / "u0.flac", sound, 16000)
    for name in ("phone.m4a", "._u1.wav", "notes.txt"):
        (speech / "d" / name).write_bytes(b"x")
    assert skipped(load(speech)) == {"not_read": ["c/u0.flac", "d/phone.m4a"], "silent": ["a/u0"]}
    assert mentions(caplog.text, 1, "channels", "b/u0")
    for path in speech.rglob("*.wav"):
        if path.name[0] != ".":
            soundfile.write(path, np.zeros(8000), 16000)
    with pytest.raises(AalbertError, match=naming("empty", 40, "silent")):
        load(speech)


def test_lowercase_textgrids_and_their_hidden_copies(tmp_path: Path) -> None:
    text = 'File type = "ooTextFile"\n"TextGrid"\n0\n0.5\n<exists>\n1\n"IntervalTier"\n"Phones"\n0\n0.5\n2\n'
    for speaker in "abcd":
        write(tmp_path / "speech" / speaker / f"{speaker}.wav", None)
        (tmp_path / "speech" / speaker / f"{speaker}.textgrid").write_text(text + '0\n0.2\n"aa"\n0.2\n0.5\n"b"\n')
        (tmp_path / "speech" / speaker / f"._{speaker}.TextGrid").write_bytes(b"\0\5\x16\7")
    data = phones(tmp_path / "speech", alignment_format="textgrid")
    assert skipped(data) == {} and data.label_of("a").grid.tolist() == [0] * 20 + [1] * 30


# ----------------------------------------------------------------------------------------------- speakers


def test_speakers_with_too_few_utterances(speech: Path) -> None:
    for index in range(2):
        write(speech / "e" / f"u{index}.wav")
    for index in range(3):
        write(speech / "f" / f"u{index}.wav")
    data = speakers(speech)
    assert skipped(data) == {"too_few_utterances": ["e"]}
    assert data.classes == ("a", "b", "c", "d", "f"), "three utterances are one for each split"


def test_nobody_with_enough_utterances_is_an_error(tmp_path: Path) -> None:
    for speaker in "abc":
        write(tmp_path / "speech" / speaker / "only.wav")
    with pytest.raises(AalbertError, match=naming("empty", "3 speakers", "8:1:1")):
        speakers(tmp_path / "speech")


def test_one_speaker_is_no_classification(speech: Path) -> None:
    with pytest.raises(AalbertError, match=naming("two speakers", 1)):
        speakers(speech, max_speakers=1)


def test_undecodable_and_nameless_audio(speech: Path) -> None:
    (speech / "a" / "u3.wav").write_bytes(b"no audio")
    assert skipped(speakers(speech)) == {"undecodable": ["a/u3"]}
    table = speech.parent / "utt2spk"
    table.write_text("".join(f"{s}/u{i} {s}\n" for s in "abc" for i in range(10)) + "c/gone c\n")
    data = speakers(speech, speaker_from="utt2spk", speakers_file=str(table))
    assert skipped(data) == {
        "no_audio": ["c/gone"],
        "no_speaker": [f"d/u{i}" for i in range(10)],
        "undecodable": ["a/u3"],
    }


def test_chapters_are_not_taken_as_speakers_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """LibriTTS: three chapters of each of two speakers."""
    for speaker in ("84", "174"):
        for chapter in ("1", "2", "3"):
            for number in range(3):
                name = f"{speaker}_{chapter}_00000{number}_000000.wav"
                write(tmp_path / "tts" / speaker / chapter / name, None)
    data = speakers(tmp_path / "tts")
    assert data.classes == ("1", "2", "3") and mentions(caplog.text, "3 folders", "of 2", "speaker_from=librispeech")
    caplog.clear()
    data = speakers(tmp_path / "tts", speaker_from="librispeech")
    assert data.classes == ("174", "84") and "folders" not in caplog.text


def test_names_unlike_librispeech_have_no_speaker(speech: Path) -> None:
    for speaker in (84, 174):
        for index in range(10):
            write(speech / str(speaker) / "121" / f"{speaker}-121-{index:04}.wav")
    for path in speech.glob("[bcd]/*"):
        path.unlink()
    data = speakers(speech, speaker_from="librispeech")
    assert data.classes == ("174", "84")
    assert skipped(data) == {"no_speaker": [f"u{i}" for i in range(10)]}


@pytest.mark.parametrize(
    ("text", "message"),
    [("a/u0\n", "line 1"), ("a/u0 a\na/u0 b\n", naming("line 2", "a/u0", "b", "a"))],
)
def test_a_wrong_speaker_table_is_one_sentence(speech: Path, text: str, message: str) -> None:
    (speech.parent / "utt2spk").write_text(text)
    with pytest.raises(AalbertError, match=message):
        speakers(speech, speaker_from="utt2spk", speakers_file=str(speech.parent / "utt2spk"))


def test_a_speaker_table_of_file_names_or_of_another_corpus(speech: Path) -> None:
    table = speech.parent / "utt2spk"
    table.write_text("".join(f"data/speech/{s}/u{i}.wav {s}\n" for s in "abcd" for i in range(10)))
    data = speakers(speech, speaker_from="utt2spk", speakers_file=str(table))
    assert skipped(data) == {} and data.classes == tuple("abcd")
    table.write_text("a/u1 x\ndata/a/u1.wav y\n")
    with pytest.raises(AalbertError, match=naming("utt2spk", "a/u1", "x", "data/a/u1.wav", "y")):
        speakers(speech, speaker_from="utt2spk", speakers_file=str(table))
    table.write_text("A/U1 x\nA/U2 y\n")
    message = naming("utt2spk", 2, '"A/U1"', 'did you mean "a/u1"')
    with pytest.raises(AalbertError, match=message):
        speakers(speech, speaker_from="utt2spk", speakers_file=str(table))


def test_one_bad_line_of_a_speaker_table_loses_its_utterance_alone(speech: Path) -> None:
    table = speech.parent / "utt2spk"
    lines = [f"{s}/u{i} {s}" for s in "abcd" for i in range(10)]
    lines[3], lines[15] = "a/u3", "b/u5 b\nb/u5.wav c\nb/u5 a"
    table.write_text("\n".join([*lines, "a/u7 b", "a/u7 c"]) + "\n")
    data = speakers(speech, speaker_from="utt2spk", speakers_file=str(table))
    assert skipped(data) == {"no_speaker": ["a/u3", "a/u7", "b/u5"]}
    details = (speech.parent / "left_out.tsv").read_text()
    assert f'{table}: line 4 is "a/u3", expected UTTERANCE SPEAKER' in details
    assert mentions(details, "a/u7", "b", "a")


def test_times_in_another_unit_are_suspected(speech: Path) -> None:
    table = speech.parent / "labels.tsv"
    table.write_text("".join(f"{s}/u{i}\t0\t500\taa\n" for s in "abcd" for i in range(10)))
    with pytest.raises(AalbertError, match=naming("40 utterances", "past the end")):
        phones(speech, alignments=str(table))
    assert mentions((speech.parent / "left_out.tsv").read_text(), "500.00 s", "0.50 s", "seconds")


def test_a_flat_folder_gets_a_hint(tmp_path: Path) -> None:
    for speaker in ("mary", "john"):
        for word in ("yes", "no", "maybe"):
            write(tmp_path / "flat" / f"{speaker}_{word}.wav", None)
    with pytest.raises(AalbertError, match=naming(1, "speaker_from folder", tmp_path / "flat", "2 speakers")):
        speakers(tmp_path / "flat")


# ------------------------------------------------------------------------------------------- in a whole run


def test_results_json_counts_them(speech: Path, tmp_path: Path) -> None:
    write(speech / "a" / "new.wav", None)
    config = {"datarc": {"audio": str(speech)}, "modelrc": {"hidden_size": 4}}
    expert = PhoneExpert(6, 480, config, str(tmp_path / "run"), seed=1)
    expert.recorder.results.write(tmp_path / "run")
    content = json.loads((tmp_path / "run" / "results.json").read_text())
    assert content["data"]["left_out"] == {"no_labels": {"count": 1, "names": ["a/new"]}}
    assert (tmp_path / "run" / "split.tsv").is_file() and (tmp_path / "run" / "left_out.tsv").is_file()
    config = {"datarc": {"phone": {"audio": str(speech)}, "speaker": {"audio": str(speech)}}, "modelrc": {}}
    probe = ProbeExpert(6, 480, config, str(tmp_path / "probe"), runner={"gradient_clipping": 1e9}, seed=1)
    probe.recorder.results.write(tmp_path / "probe")
    content = json.loads((tmp_path / "probe" / "results.json").read_text())
    assert content["data"]["phone"]["left_out"] == {"no_labels": {"count": 1, "names": ["a/new"]}}
    assert content["data"]["speaker"]["left_out"] == {}
    assert (tmp_path / "probe" / "phone" / "left_out.tsv").is_file()


def test_test_before_dev_is_refused(speech: Path, tmp_path: Path) -> None:
    config = {"datarc": {"audio": str(speech)}, "modelrc": {"hidden_size": 4}}
    with pytest.raises(AalbertError, match=naming("dev", "test")):
        PhoneExpert(6, 480, config, str(tmp_path), seed=1, runner={"eval_dataloaders": ["test", "dev"]})


def test_linked_folders_are_searched_once_and_keep_the_links_name(speech: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "wav"
    (speech / "d").rename(tmp_path / "d")
    (tmp_path / "d").rename(elsewhere.parent)
    elsewhere.parent.rename(tmp_path / "moved")
    (speech / "d").symlink_to(tmp_path / "moved")
    (speech / "a_again").symlink_to(speech / "a")
    (speech / "b" / "up").symlink_to(speech)
    assert speakers(speech).classes == ("a", "b", "c", "d")
    found = phones(speech)
    assert sum(map(len, found.names.values())) == 40 and "d/u3" in found.num_samples


def test_timit_in_upper_case(tmp_path: Path) -> None:
    for speaker in "abcd":
        for name in ("SA1", "SX2", "SX3"):
            write(tmp_path / "upper" / speaker / f"{name}.WAV", phn=None)
            (tmp_path / "upper" / speaker / f"{name}.PHN").write_text(PHN)
    found = phones(tmp_path / "upper", num_folds=4, exclude=["sa1"])
    assert sum(map(len, found.names.values())) == 8
    assert sorted(skipped(found)["excluded"]) == ["a/SA1", "b/SA1", "c/SA1", "d/SA1"]


@pytest.mark.parametrize("phone_set", ["as_found", "61", "48", "39"])
def test_silences_of_timit_can_be_ignored(tmp_path: Path, phone_set: str) -> None:
    for speaker in "abcd":
        silent = "0 1000 h#\n1000 4000 aa\n4000 6000 b\n6000 7000 pau\n7000 7500 epi\n7500 8000 h#\n"
        write(tmp_path / "timit" / speaker / "u.wav", silent)
    found = phones(tmp_path / "timit", num_folds=4, phone_set=phone_set, silence="ignore")
    assert found.classes == ("aa", "b")
