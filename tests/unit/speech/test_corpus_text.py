"""Text of corpora (lists, speakers, labels) and the names in it, however they are spelt."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from naming import mentions, naming

from s3prl_aalbert.downstream.alignments import Segment, read_converted, read_phn, read_tsv
from s3prl_aalbert.downstream.speaker.dataset import _read_speakers
from s3prl_aalbert.downstream.splits import match_names, read_list, split_by_lists
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.speech.names import NameMatcher, commonest, first_names, plain
from s3prl_aalbert.speech.text import number, read_lines, whole_number

MARK = "\ufeff"
DECOMPOSED, COMPOSED = "e\u0301te\u0301", "\u00e9t\u00e9"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_lines_are_the_same_in_every_encoding(tmp_path: Path, encoding: str, line_end: str) -> None:
    lines = ["one", "  two words ", f"{MARK}{DECOMPOSED}", "next\u2028line", "\x1a\0"]
    text = "".join(f"{line}{line_end}" for line in lines)
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert read_lines(tmp_path / "a.txt") == ["one", "two words", COMPOSED, "next\u2028line"]


def test_devices_and_pipes_as_text(tmp_path: Path) -> None:
    with pytest.raises(AalbertError, match=naming("/dev/zero")):
        read_lines(Path("/dev/zero"))
    with pytest.raises(AalbertError, match=naming(tmp_path, "Is a directory")):
        read_lines(tmp_path)
    reader, writer = os.pipe()  # as the shell's <(command) is one
    os.write(writer, b"\xef\xbb\xbfu1\nu2\n")
    os.close(writer)
    assert read_list(Path(f"/dev/fd/{reader}")) == ["u1", "u2"]
    os.close(reader)


def test_a_list_table_and_label_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    def file(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        return tmp_path / name

    assert read_list(file("list", "u1\nu2\n")) == ["u1", "u2"]
    assert _read_speakers(file("utt2spk", "u1 s1\nu2 s2\n"), False) == {"u1": "s1", "u2": "s2"}
    assert _read_speakers(file("tsv", "utterance\tspeaker\nu1\ts1\n"), True) == {"u1": "s1"}
    assert read_tsv(file("labels", "utterance\tstart\tend\tphone\nu1\t0\t1\ta\n")).alignments == {
        "u1": [Segment(0, 1, "a")]
    }
    assert read_converted(file("converted", "u1 5\n")).alignments == {"u1": [Segment(0, 0.01, "5")]}
    assert read_phn(file("phn", "0 16000 a\n")) == [Segment(0, 1, "a")]


def test_blanks_around_names_and_labels_make_none_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("u1 \t 0 \t0.5\t aa \n  u1\t0.5\t1\taa\u00a0\n \n")
    assert read_tsv(tmp_path / "a").alignments == {"u1": [Segment(0, 0.5, "aa"), Segment(0.5, 1, "aa")]}
    (tmp_path / "a").write_text(f"u1\t0\t1\t{DECOMPOSED}\nu1\t1\t2\t{COMPOSED}\n")
    assert {s.phone for s in read_tsv(tmp_path / "a").alignments["u1"]} == {COMPOSED}
    (tmp_path / "a").write_text(" my utt 1  s1 \nmy utt 2\ts 2\n")
    assert _read_speakers(tmp_path / "a", False) == {"my utt 1": "s1", "my utt 2": "s 2"}
    (tmp_path / "a").write_text(" my utt 1 \n\nu2\tanything\n")
    assert read_list(tmp_path / "a") == ["my utt 1", "u2"]


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1.0), (" 0.5", 0.5), ("+.5", 0.5), ("1e-3", 1e-3), ("1.", 1.0), ("-2", -2.0)]
)
def test_numbers(text: str, value: float) -> None:
    assert number(text) == value


@pytest.mark.parametrize("text", ["1_0.3", "nan", "inf", "", "\u0661", "0x10", "1,5", "1 2", "--1"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="not a number"):
        number(text)
    with pytest.raises(ValueError, match="not a whole number"):
        whole_number(text)


def test_whole_numbers() -> None:
    assert whole_number(" 160 ") == 160
    for text in ("1.0", "1_000", "9" * 19):
        with pytest.raises(ValueError, match="not a whole number"):
            whole_number(text)


def test_one_bad_row_loses_its_utterance_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(
        "good\t0\t0.5\taa\noverlap\t0\t0.5\taa\noverlap\t0.4\t0.8\tiy\nwords\t0\tten\taa\nwide\t0\t1\taa\tbb\n"
        "back\t0.5\t0.2\taa\nwords\t1\t2\tb\n\t0\t1\taa\nendless\t0\t1e999\taa\n"
    )
    table = read_tsv(path)
    assert table.alignments == {"good": [Segment(0, 0.5, "aa")]}
    expected = {
        "words": ["line 4", '"words | 0 | ten | aa"', "UTTERANCE START END PHONE"],
        "wide": ["line 5", '"wide | 0 | 1 | aa | bb"', "UTTERANCE START END PHONE"],
        "": ["line 8", '" | 0 | 1 | aa"', "UTTERANCE START END PHONE"],
        "overlap": ['"overlap"', "line 3", "overlap at 0.400 s", "(aa, iy)"],
        "back": ['"back"', "line 6", "ends before"],
        "endless": ['"endless"', "line 9", "inf"],
    }
    assert table.faults.keys() == expected.keys()
    assert all(mentions(table.faults[name], path, *named) for name, named in expected.items())
    (tmp_path / "c").write_text("a 1 1\nb 2\nb 3\nc\n")
    table = read_converted(tmp_path / "c")
    assert list(table.alignments) == ["a"]
    assert table.faults.keys() == {"b", "c"}
    assert mentions(table.faults["b"], tmp_path / "c", "line 3", '"b"', "second time")
    assert mentions(table.faults["c"], tmp_path / "c", "line 4", '"c"', "no phones")


# -------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ("mary/sa1", "mary/sa1"),
        ("mary/sa1.wav", "mary/sa1"),
        ("mary/sa1.WAV.wav", "mary/sa1"),
        ("./data/mary/sa1.flac", "mary/sa1"),
        ("C:\\data\\mary\\sa1.wav", "mary/sa1"),
        ("sx9", "john/sx9"),
        ("sx9.opus", "john/sx9"),
        (" sx9 ", "john/sx9"),
        ("sa1", None),  # two have it
        ("john/sx1", None),  # mary has it: a listed folder counts
        ("gone", None),
        (f"{DECOMPOSED}/a.b", f"{COMPOSED}/a.b"),
        (f"{COMPOSED}/a.b", f"{COMPOSED}/a.b"),
        ("a", None),  # .b is no suffix of audio
    ],
)
def test_names_are_matched_however_they_are_spelt(listed: str, found: str | None) -> None:
    known = ["mary/sa1", "john/sa1", "john/sx9", "mary/sx1", f"{COMPOSED}/a.b"]
    assert NameMatcher(known).find(listed) == found
    wanted = found and unicodedata.normalize("NFD", found)
    decomposed = NameMatcher([unicodedata.normalize("NFD", name) for name in known])
    assert decomposed.find(listed) == wanted, "as macOS writes names on its disks"


def test_a_list_of_files_with_suffixes_and_paths() -> None:
    assert match_names(["t00.wav", "x/t01.wav", "t00", "no.wav"], ["t00", "t01"]) == (["t00", "t01"], ["no.wav"])
    assert plain("a/b.c") == "a/b.c" and plain(".wav") == ".wav"


@pytest.mark.parametrize(
    ("missing", "hint"),
    [
        ("SA1", '"SA1" is listed (did you mean "mary/sa1"?)'),
        ("mary/sa01", '"mary/sa01" is listed (did you mean "mary/sa1"?)'),
        ("103-1240-0000", '"103-1240-0000" is listed, the audio is called "mary/sa1"'),
    ],
)
def test_a_hint_says_why_a_name_fits_nothing(missing: str, hint: str) -> None:
    assert NameMatcher(["mary/sa1", "mary/sa2"]).hint([missing, "other"]) == hint
    assert NameMatcher([]).hint([missing]) == NameMatcher(["a"]).hint([]) == ""


def test_one_utterance_in_training_and_test_under_two_names_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("a/u1\na/u2\n")
    (tmp_path / "test").write_text("data/a/u2.wav\n")
    with pytest.raises(AalbertError, match=naming(1, "a/u2")):
        split_by_lists(["a/u1", "a/u2"], str(tmp_path / "train"), str(tmp_path / "test"), None, 0.5, 0)


def test_summaries() -> None:
    assert first_names("gfedcba") == "a, b, c, d, e, ..." and first_names(["x\udcff"]) == "x\\udcff"
    assert commonest(["a", "b", "b"]) == "; b (2 of them)" and commonest([]) == ""
