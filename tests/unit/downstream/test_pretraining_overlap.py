"""What a release was pre-trained on, and the tasks that test on it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from naming import mentions, naming

from s3prl_aalbert.checkpoint.published import PUBLISHED
from s3prl_aalbert.downstream.phone.expert import DownstreamExpert as PhoneExpert
from s3prl_aalbert.downstream.pretraining_overlap import UNKNOWN, check_overlap, overlap_problems
from s3prl_aalbert.downstream.speaker.frame import DownstreamExpert as FrameExpert
from s3prl_aalbert.downstream.speaker.utterance import DownstreamExpert as UtteranceExpert
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus
from s3prl_aalbert.speech.training_list import (
    TRAINING_LIST_FILE,
    Heard,
    heard,
    overlap,
    read_training_list,
    write_training_list,
)

HEARD = {
    "/data/train-clean-5/19/198/19-198-0001.flac": "19",
    "/data/train-clean-5/26/495/26-495-0000.flac": "26",
    "/data/children/0001/hello.wav": "0001",
    "/data/children/0001/bye.wav": "0001",
}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    write_training_list(tmp_path, heard(HEARD))
    return tmp_path


def test_the_list_holds_digests_alone(release: Path) -> None:
    text = (release / TRAINING_LIST_FILE).read_text()
    content = json.loads(text)
    assert set(content) == {"digest", "utterances", "speakers"}
    digest = hashlib.sha256(b"librispeech 19-198-0001").hexdigest()[:10]
    assert digest in content["utterances"] and len(content["utterances"]) == 4
    assert hashlib.sha256(b"speaker 0001").hexdigest()[:10] in content["speakers"] and len(content["speakers"]) == 3
    write_training_list(release, heard(dict(reversed(HEARD.items()))))
    assert (release / TRAINING_LIST_FILE).read_text() == text


def test_several_trainings_are_one_list_and_an_unknown_one_makes_it_incomplete(tmp_path: Path) -> None:
    known = [heard({name: speaker}) for name, speaker in HEARD.items()]
    write_training_list(tmp_path / "all", *known, Heard(set(), set()))
    found = overlap(tmp_path / "all", HEARD, HEARD)
    assert found == (sorted(HEARD), ["0001", "19", "26"], True)
    write_training_list(tmp_path / "some", *known, None)
    assert overlap(tmp_path / "some", HEARD, HEARD) == (sorted(HEARD), ["0001", "19", "26"], False)
    write_training_list(tmp_path / "more", known[0], read_training_list(tmp_path / "some"))
    assert overlap(tmp_path / "more", HEARD, HEARD) == overlap(tmp_path / "some", HEARD, HEARD)
    write_training_list(tmp_path / "none", None)
    assert read_training_list(tmp_path / "none") is None and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("name", "speaker", "utterance_too"),
    [
        ("19-198-0001", "19", True),  # wherever it lies
        ("198/19-198-0001", "19", True),  # FOLDER/STEM
        ("/other/19-198-0001.opus", "19", True),
        ("19-198-0002", "19", False),
        ("0001/hello", "0001", True),
        ("hello", "0001", True),
        ("0001/other", "0001", False),
    ],
)
def test_what_was_heard_is_found(release: Path, name: str, speaker: str, utterance_too: bool) -> None:
    found = overlap(release, [name, "new"], {name: speaker, "new": "someone"})
    assert found == ([name] if utterance_too else [], [speaker], True)
    assert overlap(release / "model.safetensors", [name], {name: speaker}) == found  # a file of the release


@pytest.mark.parametrize(
    ("name", "speaker"),
    [("84-121123-0000", "84"), ("0001-198-0000", "0001"), ("0002/hello", "0002"), ("x/hello", "19")],
)
def test_others_are_not(release: Path, name: str, speaker: str) -> None:
    """LibriSpeech's speaker 19 is another than a folder of that name."""
    assert overlap(release, [name], {name: speaker}) == ([], [], True)


def test_the_tested_names_alone_count(release: Path) -> None:
    speakers = {"19-198-0001": "19", "84-121123-0000": "84"}
    assert overlap(release, ["84-121123-0000"], speakers) == ([], [], True)


def test_a_task_refuses_or_marks_it(release: Path, caplog: pytest.LogCaptureFixture) -> None:
    args = {"upstream": "aalbert_local", "upstream_ckpt": str(release)}
    speakers = {"19-198-0001": "19", "26-495-0003": "26", "84-121123-0000": "84"}
    with pytest.raises(AalbertError, match=naming("1 of 3", "2", "19-198-0001")):
        check_overlap(args, list(speakers), speakers, "refuse")
    assert check_overlap(args, list(speakers), speakers, "mark") == {"utterances": 1, "speakers": 2}
    assert mentions(caplog.text, "1 of 3")
    assert check_overlap(args, ["84-121123-0000"], speakers, "refuse") == {"utterances": 0, "speakers": 0}


def test_a_release_at_a_url_is_known_by_its_hash_or_its_folder(release: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    heard_here = {"19-198-0001": "19"}
    url = f"file://{release / 'model.safetensors'}"
    assert check_overlap({"upstream": "aalbert_url", "upstream_ckpt": url}, list(heard_here), heard_here, "mark") == {
        "utterances": 1,
        "speakers": 1,
    }
    packaged = f"https://example.org/copy.safetensors#sha256={PUBLISHED['aalbert_tiny'].sha256.upper()}"
    in_tiny = {"1088-134315-0000": "1088"}  # train-clean-100, as it was in its pre-training
    own = check_overlap({"upstream": "aalbert_tiny"}, list(in_tiny), in_tiny, "mark")
    assert isinstance(own, dict) and own["speakers"] == 1
    assert check_overlap({"upstream": "aalbert_url", "upstream_ckpt": packaged}, list(in_tiny), in_tiny, "mark") == own
    other = {"upstream": "aalbert_url", "upstream_ckpt": "https://example.org/model.safetensors"}
    assert check_overlap(other, list(heard_here), heard_here, "refuse") == UNKNOWN
    assert mentions(caplog.text, other["upstream_ckpt"], "cannot be detected")


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    args = {"upstream": "aalbert_local", "upstream_ckpt": str(tmp_path)}
    assert check_overlap(args, ["a"], {"a": "b"}, "refuse") == UNKNOWN
    assert check_overlap({"upstream": "fbank", "upstream_ckpt": None}, ["a"], {"a": "b"}, "refuse") is None
    assert check_overlap({"upstream": "aalbert_6l"}, ["a"], {"a": "b"}, "refuse") is None  # untrained
    write_training_list(tmp_path, heard({"s/a": "s"}), None)
    assert check_overlap(args, ["s/b"], {"s/b": "t"}, "refuse") == UNKNOWN
    assert check_overlap(args, ["s/a"], {"s/a": "s"}, "mark") == {"utterances": 1, "speakers": 1}


@pytest.mark.parametrize("text", ["{", "[]", '{"utterances": []}', '{"utterances": 3, "speakers": []}',
                                  '{"utterances": ["ab"], "speakers": []}',
                                  '{"utterances": [], "speakers": [], "complete": "no"}'])  # fmt: skip
def test_a_damaged_list_is_told(release: Path, text: str) -> None:
    (release / TRAINING_LIST_FILE).write_text(text)
    with pytest.raises(AalbertError, match=naming(TRAINING_LIST_FILE, "damaged")):
        overlap(release, ["a"], {"a": "b"})


def test_the_key_has_two_values() -> None:
    assert overlap_problems("refuse") == overlap_problems("mark") == []
    assert overlap_problems("yes") == ['datarc.pretraining_overlap is "yes", expected refuse or mark']


@pytest.mark.parametrize("task", ["phone", "utterance", "frame"])
def test_every_task_asks(tmp_path: Path, task: str) -> None:
    corpus = synthesise_corpus(
        tmp_path / "speech", num_speakers=4, utterances_per_speaker=3, seconds=(0.5, 0.6), seed=1
    )
    spoken = {str(path): path.parent.name for path in corpus.rglob("*.wav")}
    release = tmp_path / "release"
    release.mkdir()
    write_training_list(release, heard(spoken))
    expert = {"phone": PhoneExpert, "utterance": UtteranceExpert, "frame": FrameExpert}[task]
    args = {"upstream": "aalbert_local", "upstream_ckpt": str(release)}
    config: dict = {"datarc": {"audio": str(corpus)}, "modelrc": {}}
    with pytest.raises(AalbertError, match="pre-trained on"):
        expert(6, 480, config, str(tmp_path / "run"), seed=5, **args)
    config["datarc"]["pretraining_overlap"] = "mark"
    made = expert(6, 480, config, str(tmp_path / "run"), seed=5, **args)
    tested = made.data.names["test"]
    told = made.recorder.results.data.pretraining_overlap
    assert told == {"utterances": len(tested), "speakers": len({made.data.speakers[name] for name in tested})}
