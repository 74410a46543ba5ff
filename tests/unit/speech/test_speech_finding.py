"""One rule of what is audio, for pre-training and for tasks: found, named with a reason, or counted."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from naming import mentions, naming

from s3prl_aalbert.downstream.audio_dataset import find_audio as find_for_tasks
from s3prl_aalbert.downstream.skipped import Skipped
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.pretrain.corpus import find_speech
from s3prl_aalbert.speech.finding import AUDIO_SUFFIXES, FOREIGN_SUFFIXES, find_files, without_audio_suffix
from s3prl_aalbert.speech.reading import read_audio
from s3prl_aalbert.speech.speakers import speaker_of, speakers_in_names


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def both_ways(folder: Path) -> tuple[set[str], set[str]]:
    """Return the names found and the names skipped, the same for pre-training and tasks."""
    utterances = find_speech([str(folder.resolve())])
    skipped = Skipped()
    paths = find_for_tasks([str(folder)], skipped)
    found, missing = ({Path(u.path).name for u in utterances if bool(u.fault) is skip} for skip in (False, True))
    assert {path.name for path in paths} == found
    assert {Path(name).name for name in skipped.found.get("not_read", {})} == missing
    return found, missing


def test_every_format_of_libsndfile_is_found_and_read(tmp_path: Path) -> None:
    kinds: dict[str, dict[str, Any]] = {
        ".wav": {}, ".flac": {}, ".aiff": {}, ".aif": {"format": "AIFF"}, ".au": {}, ".snd": {"format": "AU"},
        ".caf": {}, ".w64": {}, ".rf64": {"format": "RF64"}, ".sph": {"format": "NIST"}, ".wv1": {"format": "NIST"},
        ".voc": {}, ".ogg": {}, ".oga": {"format": "OGG"}, ".opus": {"format": "OGG", "subtype": "OPUS"}, ".mp3": {},
        ".WAV": {"format": "WAV"},
    }  # fmt: skip
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 16000)
    for number, (suffix, options) in enumerate(kinds.items()):
        subtype = options.get("subtype") or (None if suffix in (".mp3", ".ogg", ".oga") else "PCM_16")
        soundfile.write(tmp_path / f"{number}{suffix}", noise, 16000, **{**options, "subtype": subtype})
    found, missing = both_ways(tmp_path)
    assert found == {f"{number}{suffix}" for number, suffix in enumerate(kinds)} and not missing
    for name in found:
        assert abs(len(read_audio(tmp_path / name)) - 16000) < 3000, name
    assert not AUDIO_SUFFIXES & FOREIGN_SUFFIXES


def test_what_is_not_decoded_is_named_and_the_rest_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (
        "good.wav",
        "a.m4a",
        "b.AAC",
        "c.wma",
        "d.webm",
        "._good.wav",
        ".hidden.flac",
        "notes.txt",
        "x.phn",
        "y.phn",
        "README",
    ):
        touch(tmp_path / "s" / name)
    os.mkfifo(tmp_path / "s" / "pipe.wav")
    with caplog.at_level(logging.INFO):
        assert both_ways(tmp_path) == ({"good.wav"}, {"a.m4a", "b.AAC", "c.wma", "d.webm", "pipe.wav"})
    reasons = {Path(u.path).name: u.fault for u in find_speech([str(tmp_path)])}
    assert mentions(reasons["b.AAC"], ".aac", ".flac", ".wav")
    assert mentions(reasons["pipe.wav"], "regular file")
    for record in caplog.records[:2]:
        assert mentions(record.getMessage(), tmp_path, "2 .phn", "2 hidden", "1 without suffix", "1 .txt")


def test_one_recording_in_several_formats_counts_once(tmp_path: Path) -> None:
    for name in (
        "u1.opus",
        "u1.flac",
        "u1.wav",
        "u2.mp3",
        "u2.flac",
        "u3.WAV",
        "u3.WAV.wav",
        "u4.m4a",
        "u4.ogg",
        "u5.wav",
    ):
        touch(tmp_path / "a" / name)
    touch(tmp_path / "b" / "u5.flac")
    found, missing = both_ways(tmp_path)
    assert found == {"u1.wav", "u2.flac", "u3.WAV", "u4.ogg", "u5.wav", "u5.flac"}, "other folders are other recordings"
    assert missing == {"u1.opus", "u1.flac", "u2.mp3", "u3.WAV.wav", "u4.m4a"}
    reasons = {Path(u.path).name: u.fault for u in find_speech([str(tmp_path)])}
    assert mentions(reasons["u1.opus"], "u1.wav", "another format")


def test_folders_of_one_format_each_hold_the_same_recordings(tmp_path: Path) -> None:
    for name in (
        "a/wav/1.wav",
        "a/FLAC/1.flac",
        "a/mp3/1.mp3",
        "a/mp3/2.mp3",
        "b/wav/1.wav",
        "b/1.flac",
        "wav/c/1.wav",
    ):
        touch(tmp_path / "speech" / name)
    touch(tmp_path / "speech" / "flac" / "c" / "1.flac")
    utterances = find_speech([str(tmp_path / "speech")])
    used = {str(Path(path).relative_to(tmp_path / "speech")) for path, *_, fault in utterances if not fault}
    assert used == {"a/wav/1.wav", "a/mp3/2.mp3", "b/wav/1.wav", "wav/c/1.wav"}
    reasons = {str(Path(path).relative_to(tmp_path / "speech")): fault for path, *_, fault in utterances if fault}
    assert mentions(reasons["a/mp3/1.mp3"], tmp_path / "speech/a/wav/1.wav", "another format")
    assert len(reasons) == 4, reasons
    both_ways(tmp_path / "speech")


def test_a_folder_without_audio_says_what_it_holds(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.json"):
        touch(tmp_path / "texts" / name)
    touch(tmp_path / "good" / "sub" / "a.wav")
    message = naming(tmp_path / "texts", ".wav", "2 .txt, 1 .json")
    for links in (False, True):
        with pytest.raises(AalbertError, match=message):
            find_files([str(tmp_path / "good"), str(tmp_path / "texts")], links)
        inside = find_files([str(tmp_path / "good"), str(tmp_path / "good" / "sub")], links)
        assert len(inside.files) == 1, "a folder inside another adds nothing, and is no mistake"
    touch(tmp_path / "phone" / "a.m4a")
    with pytest.raises(AalbertError, match=naming(tmp_path / "phone", "a.m4a", "not decoded")):
        find_files([str(tmp_path / "phone")], False)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.wav", "a"),
        ("SA1.WAV.wav", "SA1"),
        ("x/a.b", "x/a.b"),
        ("a.tar.flac", "a.tar"),
        (".wav", ".wav"),
        ("a.M4A", "a"),
    ],
)
def test_names_without_suffixes_of_audio(name: str, stem: str) -> None:
    assert without_audio_suffix(name) == stem


@pytest.mark.parametrize(
    ("path", "speaker"),
    [
        ("speech/mary/1.wav", "mary"),
        ("speech/mary/wav/1.wav", "mary"),  # as in VoxForge
        ("speech/mary/FLAC/1.flac", "mary"),
        ("LibriSpeech/84/12/84-12-0001.flac", "84"),
        ("/wav/1.wav", "wav"),
        ("84-121123-0001.flac", "84"),
        ("LibriTTS/dev-clean/84/121123/84_121123_000007_000000.wav", "84"),
        ("mls/dev/10087/10388/10087_10388_000000.flac", "10087"),
        ("VoxCeleb1/wav/id10270/5r0dWxy17C8/00001.wav", "id10270"),
        ("speech/mary/2024-05-01.wav", "mary"),  # no speaker 2024
        ("speech/mary/01-05-2024.wav", "mary"),
        ("speech/mary/84_121123_000007.wav", "mary"),
        ("speech/rm/1.wav", "rm"),  # initials, no format
    ],
)
def test_the_speaker_of_a_path(path: str, speaker: str) -> None:
    assert speaker_of(Path(path)) == speaker


def test_a_flat_folder_of_speakers(tmp_path: Path) -> None:
    flat = [tmp_path / f"{speaker}_{word}.wav" for speaker in ("mary", "john", "ann") for word in ("yes", "no")]
    assert mentions(speakers_in_names(flat), '"mary_yes.wav"', "3 speakers", "table")
    assert speakers_in_names(flat[:2]) == speakers_in_names([tmp_path / "one.wav"]) == ""
    assert speakers_in_names([tmp_path / f"{word}_1.wav" for word in "abc"]) == "", "no two begin alike"
