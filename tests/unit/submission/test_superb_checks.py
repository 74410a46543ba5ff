"""The checks of prediction files: each mistake is one sentence with file and line."""

import h5py
import numpy as np
import pytest
from naming import naming

from s3prl_aalbert.commands import submit
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.submission import superb_checks as checks
from s3prl_aalbert.submission.superb_tasks import TASKS


@pytest.mark.parametrize(
    ("check", "text", "names"),
    [
        (checks.transcripts, "a AH0 T\nb \nc x  y\n", ["a", "b", "c"]),
        (checks.labels(checks.KEYWORDS), "x.wav go\ny.wav _unknown_\n", ["x.wav", "y.wav"]),
        (checks.speakers, "u id10001\nv id11251\n", ["u", "v"]),
        (checks.intents, "u,change language,none,none\n", ["u"]),
        (checks.scores, "a_b -0.5\na_c 1e-3\n", ["a_b", "a_c"]),
        (checks.metrics, "pesq 2.5\n", ["pesq"]),
        (checks.translations, "utt_id\thyp\tref\nu\tEin Hund\tEin Hund\n", ["u"]),
    ],
)
def test_what_s3prl_writes_passes(tmp_path, check, text, names):
    path = tmp_path / "predict"
    path.write_text(text, encoding="utf-8")
    assert check(path) == names


@pytest.mark.parametrize(
    ("check", "text", "sentence"),
    [
        (checks.transcripts, "", "predict: .*empty"),
        (checks.transcripts, "a x\nb y", "predict:2: .*last line"),
        (checks.transcripts, "a x\n\nb y\n", "predict:2: .*empty line"),
        (checks.transcripts, "a x\nb\n", 'predict:2: .*"b", expected an utterance'),
        (checks.transcripts, "a x\nb y\na z\n", r"predict:3: \ba\b.*second time"),
        (
            checks.labels(checks.EMOTIONS),
            "a neu\nb happ\n",
            r'predict:2: .*\bb\b.*"happ".*did you mean "hap"',
        ),
        (checks.speakers, "a id10001\nb 10002\n", r'predict:2: .*speaker.*\bb\b.*"10002", expected id1'),
        (checks.speakers, "a id11252\n", 'predict:1: .*speaker.*"id11252"'),
        (checks.intents, "a,b,c,d\ne,f,g\n", "predict:2: .*NAME,ACTION,OBJECT,LOCATION"),
        (checks.intents, "a,b,c,d\na,b,c,d\n", r"predict:2: \ba\b.*second time"),
        (checks.scores, "a_b 0.1\na_c nan\n", 'predict:2: .*a_c.*"nan".*finite number'),
        (checks.scores, "a_b 0.1\nab 0.2\n", 'predict:2: .*trial.*"ab"'),
        (checks.metrics, "pesq high\n", 'predict:1: .*pesq.*"high".*finite number'),
        (checks.translations, "utt_id\thyp\n", "predict:1: .*expected the header"),
        (checks.translations, "utt_id\thyp\tref\nu\tx\n", "predict:2: .*2 columns, expected 3"),
        (checks.translations, "utt_id\thyp\tref\n", "predict: .*no translation"),
        (checks.frame_shift, "160.5\n", 'predict:1: .*"160.5".*samples'),
        (checks.frame_shift, "160\n320\n", "expected a number of samples"),
        (checks.frame_shift, "9" * 5000, "expected a number of samples"),
        (checks.frame_shift, "\u0664\u0668\u0660", "expected a number of samples"),
        (checks.frame_shift, "0", "expected a number of samples"),
        (checks.frame_shift, "1_0", "expected a number of samples"),
        (checks.speakers, f"a id{'9' * 5000}\n", "predict:1: the speaker of a is"),
        (checks.speakers, "a id\uff11\uff10\uff10\uff10\uff11\n", "predict:1: the speaker of a is"),
        (checks.speakers, "a id010001\n", "predict:1: the speaker of a is"),
        (checks.scores, "a_b 1_0.3\n", 'predict:1: .*a_b.*"1_0.3".*finite number'),
        (checks.scores, f"a_b {'9' * 5000}\n", "expected a finite number"),
        (checks.scores, "a_b \u0661\n", "expected a finite number"),
        (checks.scores, "a_b 0.1 \n", "expected a finite number"),
        (checks.metrics, "pesq infinity\n", "expected a finite number"),
    ],
)
def test_a_mistake_names_the_line(tmp_path, check, text, sentence):
    path = tmp_path / "predict"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AalbertError, match=sentence):
        check(path)


def test_bytes_that_are_no_text_name_the_line(tmp_path):
    path = tmp_path / "predict"
    path.write_bytes(b"a x\nb \xff\n")
    with pytest.raises(AalbertError, match=naming("predict:2", "UTF-8")):
        checks.transcripts(path)


def test_a_frame_shift_that_is_no_text_is_told(tmp_path):
    (tmp_path / "frame_shift").write_bytes(b"160")
    assert checks.frame_shift(tmp_path / "frame_shift") == []
    (tmp_path / "frame_shift").write_bytes(b"\xff\x00")
    with pytest.raises(AalbertError, match=naming("frame_shift:1")):
        checks.frame_shift(tmp_path / "frame_shift")


TERM = '<term file="{0}" score="{1}" decision="{2}"/>\n'


def detected(*queries):
    body = "".join(f'<detected_termlist termid="{name}">\n{terms}</detected_termlist>\n' for name, terms in queries)
    return f"<stdlist>\n{body}</stdlist>\n"


GOOD = TERM.format("d1", 0.5, "NO") + TERM.format("d2", 2.5, "YES")


def test_detections_list_every_query(tmp_path):
    path = tmp_path / "predict"
    path.write_text(detected(("q1", GOOD), ("q2", GOOD)))
    assert checks.detections(path) == ["q1", "q2"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("<stdlist>\n<term", "predict:2: is not valid XML"),
        ("<stdlist>\n</stdlist>\n", "no detected terms"),
        ('<?xml version="1.0" encoding="utf-7"?>\n<stdlist/>\n', "predict:1: is not valid XML"),
        ('<?xml version="1.0" encoding="no-such"?>\n<stdlist/>\n', "predict:1: is not valid XML"),
        ('<!DOCTYPE s [<!ENTITY b SYSTEM "file:///etc/hostname">]>\n<stdlist>&b;</stdlist>', "no detected"),
        ("<stdlist>\n<other/>\n</stdlist>\n", "predict:2: found <other>"),
        (detected(("q1", GOOD), ("q1", GOOD)), "predict:6: .*q1.*second time"),
        (detected(("q1", GOOD + TERM.format("d1", 0, "NO"))), "predict:5: .*d1.*second time"),
        (detected(("q1", GOOD), ("q2", TERM.format("d1", 0, "NO"))), r"q2 .*\b1\b.*q1 .*\b2\b"),
        (detected(("q1", TERM.format("d1", "inf", "NO"))), 'predict:3: .*score.*"inf"'),
        (detected(("q1", TERM.format("d1", 0, "MAYBE"))), 'predict:3: .*decision.*"MAYBE"'),
        (detected(("q1", '<term file="d1"/>\n')), "predict:3: .*score.*missing"),
    ],
)
def test_a_mistake_in_the_detections_names_the_line(tmp_path, text, sentence):
    path = tmp_path / "predict"
    path.write_text(text)
    with pytest.raises(AalbertError, match=sentence):
        checks.detections(path)


def write_hdf5(path, values, name="T_hat"):
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=np.asarray(values, dtype=np.float32))


def test_diarisations_are_probabilities_of_two_speakers(tmp_path):
    write_hdf5(tmp_path / "b.h5", [[0.0, 1.0], [0.5, 0.5]])
    write_hdf5(tmp_path / "a.h5", [[0.1, 0.2]])
    assert checks.diarisations(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([[0.1, 0.2, 0.3]], r"a.h5: T_hat .*\(1, 3\).*\(frames, 2\)"),
        (np.zeros((0, 2)), r"a.h5: T_hat .*\(0, 2\)"),
        ([[0.1, 1.2]], "a.h5: T_hat .*0 to 1"),
        ([[0.1, np.nan]], "a.h5: T_hat .*0 to 1"),
    ],
)
def test_other_diarisations_are_refused(tmp_path, values, sentence):
    write_hdf5(tmp_path / "a.h5", values)
    with pytest.raises(AalbertError, match=sentence):
        checks.diarisations(tmp_path)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda file: file.create_group("T_hat"), "T_hat is a group, expected"),
        (lambda file: file.create_dataset("T_hat", data="text"), r"T_hat is \(\), expected"),
        (lambda file: file.create_dataset("T_hat", data=[["a", "b"]]), "T_hat is of type object, expected numbers"),
        (
            lambda file: file.create_dataset("T_hat", data=np.array([[b"a", b"b"]])),
            "T_hat is of type .*, expected",
        ),
        (lambda file: file.create_dataset("T_hat", data=h5py.Empty("f")), "T_hat is None, expected"),
        (lambda file: file.create_dataset("T_hat", (10**12, 2), "f4", chunks=True), "T_hat is .*, expected at most"),
        (
            lambda file: file.create_dataset("T_hat", (1, 2), np.dtype([("a", "f4")])),
            "T_hat is of type .*, expected",
        ),
        (lambda file: file.create_dataset("T_hat", (1, 2), "c8"), "T_hat is of type complex64, expected numbers"),
        (lambda file: file.__setitem__("T_hat", h5py.ExternalLink("other.h5", "T_hat")), "T_hat is nothing"),
        (lambda file: file.__setitem__("T_hat", h5py.SoftLink("/T_hat")), "T_hat is nothing"),
        (lambda file: file.__setitem__("T_hat", np.dtype("f4")), "T_hat is a datatype, expected"),
    ],
)
def test_what_is_no_table_of_numbers_in_hdf5(tmp_path, make, sentence):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file)
    with pytest.raises(AalbertError, match=f"a.h5: {sentence}"):
        checks.diarisations(tmp_path)


def test_other_files_among_the_diarisations_are_refused(tmp_path):
    with pytest.raises(AalbertError, match=naming(tmp_path, "no predictions")):
        checks.diarisations(tmp_path)
    (tmp_path / "a.h5").write_text("no HDF5")
    with pytest.raises(AalbertError, match=naming("a.h5", "HDF5")):
        checks.diarisations(tmp_path)
    write_hdf5(tmp_path / "a.h5", [[0.1, 0.2]], name="other")
    with pytest.raises(AalbertError, match=naming("a.h5", "T_hat", "nothing")):
        checks.diarisations(tmp_path)
    write_hdf5(tmp_path / "a.h5", [[0.1, 0.2]])
    (tmp_path / "b\x1b.h5").write_text("")
    with pytest.raises(AalbertError, match=naming("b\\x1b.h5")):
        checks.diarisations(tmp_path)
    (tmp_path / "b\x1b.h5").unlink()
    (tmp_path / "b.rttm").write_text("")
    with pytest.raises(AalbertError, match=naming("b.rttm")):
        checks.diarisations(tmp_path)


def test_help_lists_the_tasks_that_are_checked():
    assert list(submit.TASKS) == list(TASKS)
