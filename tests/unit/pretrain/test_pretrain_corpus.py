"""The corpus: which files it holds, what it says of the others, and that nothing is decoded twice."""

from __future__ import annotations

import dataclasses
import logging
import os
import pickle
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from naming import mentions, naming

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import ConfigError, from_dict
from s3prl_aalbert.pretrain import corpus as corpus_module
from s3prl_aalbert.pretrain import decoding
from s3prl_aalbert.pretrain.config import DataConfig
from s3prl_aalbert.pretrain.corpus import load_corpus, manifest_path
from s3prl_aalbert.pretrain.utterances import UNKNOWN, Utterance, Utterances

SEED = 11


def record(path: Path, seconds: float = 0.5, rate: int = 16000, channels: int = 1, **options: str) -> Path:
    """Write noise that lasts ``seconds``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path))).uniform(-0.3, 0.3, (round(seconds * rate), channels))
    soundfile.write(path, noise, rate, **options)
    return path


def load(
    *folders: Path, manifest: Path, seed: int = SEED, strict: bool = False, save: bool = True, **keys
) -> Utterances:
    config = DataConfig(paths=tuple(map(str, folders)), **{"dev_fraction": 0.0, "cache_hours": 0.0, **keys})
    assert config.problems() == []
    return load_corpus(config, manifest, seed, strict, save)


def names(corpus: Utterances, split: str | None = None) -> list[str]:
    return [Path(u.path).name for u in corpus if split in (None, u.split)]


def reasons(corpus: Utterances) -> dict[str, str]:
    return {Path(path).name: reason for path, reason in corpus.skipped}


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Return a folder of 6 speakers with 2 files each."""
    for speaker in "abcdef":
        for take in (1, 2):
            record(tmp_path / "speech" / speaker / f"{take}.wav", 0.4 + take / 10)
    return tmp_path / "speech"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tmp_path / "run" / "manifest.tsv"


# --------------------------------------------------------------------------------------------- what is used


def test_any_format_rate_and_channels_with_their_length_at_16_khz(tmp_path: Path, manifest: Path) -> None:
    folder = tmp_path / "mixed"
    record(folder / "s1" / "mono.wav", 1.0)
    record(folder / "s1" / "telephone.wav", 1.0, rate=8000)
    record(folder / "s1" / "stereo.flac", 0.75, channels=2)
    record(folder / "s2" / "cd.WAV", 0.5, rate=44100, channels=2, format="WAV")
    record(folder / "s2" / "vorbis.ogg", 0.5, format="OGG", subtype="VORBIS")
    record(folder / "s2" / "opus.opus", 0.5, format="OGG", subtype="OPUS")
    (folder / "s2" / "notes.txt").write_text("no audio")
    corpus = load(folder, manifest=manifest)
    lengths = {Path(u.path).name: u.samples for u in corpus}
    expected = {"mono.wav": 16000, "telephone.wav": 16000, "stereo.flac": 12000, "cd.WAV": 8000}
    assert lengths == expected | {"vorbis.ogg": 8000, "opus.opus": 8000}
    assert {u.speaker for u in corpus} == {"s1", "s2"}
    record(folder / "s2" / "last.mp3", 0.5, format="MP3")
    mp3 = {Path(u.path).name: u.samples for u in load(folder, manifest=manifest)}["last.mp3"]
    assert 8000 <= mp3 <= 8000 + 3 * 1152  # MP3 pads to its frames


def test_unusable_files_are_skipped_by_name_and_reason(speech: Path, manifest: Path, decoded: list[str]) -> None:
    record(speech / "a" / "short.wav", 0.2)
    whole = record(speech / "a" / "truncated.flac", 2.0).read_bytes()
    (speech / "a" / "truncated.flac").write_bytes(whole[: len(whole) // 2])
    (speech / "a" / "corrupt.ogg").write_bytes(bytes(range(256)) * 20)
    (speech / "a" / "empty.wav").touch()
    (speech / "a" / "no samples.wav").write_bytes(record(speech / "x.wav", 0.0).read_bytes())
    (speech / "a" / "text.wav").write_text("this is a text, whatever its name says\n" * 20)
    (speech / "x.wav").unlink()
    corpus = load(speech, manifest=manifest)
    assert len(corpus) == 12
    assert set(reasons(corpus)) == {
        "short.wav", "truncated.flac", "corrupt.ogg", "empty.wav", "no samples.wav", "text.wav"
    }  # fmt: skip
    assert reasons(corpus)["short.wav"] == "0.20 s is shorter than min_seconds 0.3"
    assert reasons(corpus)["no samples.wav"] == "holds no samples"
    listed = manifest.with_suffix(".skipped.tsv").read_text().splitlines()
    assert {Path(line.split("\t")[0]).name for line in listed[1:]} == set(reasons(corpus))

    decoded.clear()
    again = load(speech, manifest=manifest)
    assert decoded == [] and reasons(again) == reasons(corpus)
    record(speech / "a" / "text.wav", 1.0)
    assert len(load(speech, manifest=manifest)) == 13 and decoded == ["text"]
    with pytest.raises(AalbertError, match=naming("--strict", 5, speech / "a" / "corrupt.ogg")):
        load(speech, manifest=manifest, strict=True)


def test_silence_kinds_that_are_not_read_and_cancelled_channels(
    speech: Path, manifest: Path, decoded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    soundfile.write(speech / "a" / "1.wav", np.zeros(8000), 16000)
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 8000)
    soundfile.write(speech / "b" / "1.wav", np.stack([noise, -noise], 1), 16000)
    (speech / "c" / "phone.m4a").write_bytes(b"x")
    corpus = load(speech, manifest=manifest)
    assert reasons(corpus) == {
        "1.wav": "is silent from beginning to end",
        "phone.m4a": "is .m4a, which is not decoded here: convert it to .flac or .wav",
    }
    assert len(corpus) == 11
    assert mentions(caplog.text, 1, "channels", speech / "b" / "1.wav")
    assert "phone.m4a\tis .m4a" in manifest.with_suffix(".skipped.tsv").read_text()
    decoded.clear()
    assert reasons(load(speech, manifest=manifest)) == reasons(corpus) and decoded == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_manifest_in_other_encodings_and_spellings(tmp_path: Path, manifest: Path, encoding: str) -> None:
    decomposed = record(tmp_path / "speech" / "e\u0301cole.wav")
    record(tmp_path / "speech" / "two words.wav")
    given = tmp_path / "given.tsv"
    given.write_text("path\tspeaker\nspeech/\u00e9cole.wav\t s1 \nspeech/two words.wav \ts2\n", encoding=encoding)
    corpus = load_given(given, manifest)
    assert [(u.path, u.speaker) for u in corpus] == [
        (str(decomposed), "s1"),
        (str(tmp_path / "speech" / "two words.wav"), "s2"),
    ]
    assert corpus.skipped == () and len(load_given(given, manifest)) == 2


def load_given(given: Path, manifest: Path) -> Utterances:
    return load_corpus(DataConfig(manifest=str(given), dev_fraction=0.0, cache_hours=0.0), manifest, SEED)


def test_a_corpus_of_silence_is_an_error(speech: Path, manifest: Path) -> None:
    for path in speech.rglob("*.wav"):
        soundfile.write(path, np.zeros(8000), 16000)
    with pytest.raises(AalbertError, match=naming(speech, 12, "is silent")):
        load(speech, manifest=manifest)


def test_the_same_recording_in_two_formats_is_one_utterance(speech: Path, manifest: Path) -> None:
    for path in sorted(speech.rglob("*.wav")):
        sound, rate = soundfile.read(path)
        soundfile.write(path.with_suffix(".flac"), sound, rate)
    corpus = load(speech, manifest=manifest, dev_fraction=0.3)
    assert len(corpus) == 12 and {Path(u.path).suffix for u in corpus} == {".wav"}
    assert set(reasons(corpus).values()) == {f"is the recording of {take}.wav in another format" for take in (1, 2)}


def test_one_folder_of_many_speakers_gets_a_hint(
    tmp_path: Path, manifest: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for speaker in ("mary", "john"):
        for word in ("yes", "no"):
            record(tmp_path / "flat" / f"{speaker}_{word}.wav")
    load(tmp_path / "flat", manifest=manifest, dev_fraction=0.3)
    assert mentions(caplog.text, "dev split", "2 speakers")


def test_nothing_usable_or_nothing_there(tmp_path: Path, manifest: Path) -> None:
    (tmp_path / "train-clean-100").mkdir()
    with pytest.raises(AalbertError, match=naming(tmp_path / "train-clean-100", ".wav")):
        load(tmp_path / "train-clean-100", manifest=manifest)
    with pytest.raises(AalbertError, match=naming("train-clean-10", '"train-clean-100"')):
        load(tmp_path / "train-clean-10", manifest=manifest)
    record(tmp_path / "train-clean-100" / "click.wav", 0.1)
    with pytest.raises(AalbertError, match=naming("train-clean-100", 1, "min_seconds")):
        load(tmp_path / "train-clean-100", manifest=manifest)
    with pytest.raises(AalbertError, match=naming("--speech", "pretrain_expert.datarc.paths")):
        load(manifest=tmp_path / "never" / "m.tsv")
    assert not (tmp_path / "never").exists()


def test_lengths_outside_the_limits_come_back_when_the_limits_change(
    speech: Path, manifest: Path, decoded: list[str]
) -> None:
    record(speech / "a" / "long.wav", 3.0)
    strict_limits = {"min_seconds": 0.55, "max_utterance_seconds": 2.0}
    corpus = load(speech, manifest=manifest, **strict_limits)
    assert names(corpus) == ["2.wav"] * 6
    assert reasons(corpus)["long.wav"] == "3.00 s is longer than max_utterance_seconds 2.0"
    decoded.clear()
    assert len(load(speech, manifest=manifest)) == 13
    assert decoded == []


@pytest.mark.parametrize("name", ["two words.wav", "Übung, 録音.wav", "%s {x} #1.wav", b"caf\xe9.wav"])
def test_names_of_any_kind(tmp_path: Path, manifest: Path, name: str | bytes, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "spoken words ü"
    plain = record(folder / "plain.wav")
    odd = os.fsencode(folder) + b"/" + (name if isinstance(name, bytes) else os.fsencode(name))
    shutil.copy(plain, odd)
    shutil.copy(plain, odd[:-4] + b"-2.wav")
    Path(os.fsdecode(odd[:-4] + b"-2.wav")).write_bytes(b"no audio")
    expected = {str(plain), os.fsdecode(odd)}
    assert {u.path for u in load(folder, manifest=manifest)} == expected
    again = load(folder, manifest=manifest)
    assert {u.path for u in again} == expected
    assert [path for path, _ in again.skipped] == [os.fsdecode(odd[:-4] + b"-2.wav")]
    caplog.text.encode()  # what a terminal has to be able to show


def test_a_name_that_a_table_cannot_hold_is_skipped(speech: Path, manifest: Path) -> None:
    shutil.copy(speech / "a" / "1.wav", speech / "a" / "tab\there.wav")
    assert "has a tab" in reasons(load(speech, manifest=manifest))["tab\there.wav"]


def test_a_link_to_itself_hides_nothing_beside_it(speech: Path, manifest: Path) -> None:
    for name in ("0", "loop", "z"):
        (speech / "a" / name).symlink_to(name)
    corpus = load(speech, manifest=manifest)
    assert len(corpus) == 12
    assert set(reasons(corpus)) == {"0", "loop", "z"} and "not accessible" in reasons(corpus)["loop"]


def test_linked_folders_are_followed_once(speech: Path, tmp_path: Path, manifest: Path) -> None:
    elsewhere = record(tmp_path / "disk 2" / "g" / "1.wav").parents[1]
    (speech / "loop").symlink_to(speech)
    (speech / "a" / "up").symlink_to("..")
    (speech / "more").symlink_to(elsewhere)
    (speech / "again").symlink_to(elsewhere)
    (speech / "gone.wav").symlink_to("nowhere.wav")
    os.mkfifo(speech / "pipe.wav")
    corpus = load(speech, manifest=manifest)
    paths = [u.path for u in corpus]
    assert len(paths) == len(set(paths)) == 13
    assert str(elsewhere / "g" / "1.wav") in paths
    assert set(reasons(corpus)) == {"gone.wav", "pipe.wav"}


def open_to_all(folder: Path) -> None:
    """Let other users enter a temporary folder."""
    for parent in (folder, *folder.parents):
        if not parent.stat().st_mode & 0o001:
            parent.chmod(0o755)


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Give up root's rights, for which no folder is closed."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_closed_folder_or_file_is_reported(speech: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    open_to_all(tmp_path)
    (speech / "b").chmod(0)
    (speech / "c" / "1.wav").chmod(0)
    request.getfixturevalue("ordinary_user")
    corpus = load(speech, manifest=tmp_path / "none.tsv", save=False)
    os.seteuid(os.getuid())
    (speech / "b").chmod(0o755)
    assert len(corpus) == 9
    assert reasons(corpus)["b"] == "cannot be listed (Permission denied)"
    assert "1.wav" in reasons(corpus)


def test_librispeech_sets_as_s3prl_names_them(tmp_path: Path, manifest: Path) -> None:
    for name in (
        "train-clean-100/19/198/19-198-0001",
        "train-clean-100/26/495/26-495-0000",
        "dev-clean/84/1/84-1-0000",
    ):
        record(tmp_path / "LibriSpeech" / f"{name}.flac")
    root = str(tmp_path / "LibriSpeech")
    corpus = load(manifest=manifest, libri_root=root, sets=("train-clean-100",))
    assert [(Path(u.path).stem, u.speaker) for u in corpus] == [("19-198-0001", "19"), ("26-495-0000", "26")]
    with pytest.raises(AalbertError, match=naming("train-clean-10", '"train-clean-100"')):
        load(manifest=manifest, libri_root=root, sets=("train-clean-10",))
    with pytest.raises(ConfigError, match=naming("libri_root", "sets")):
        from_dict(DataConfig, {"libri_root": root})


# ------------------------------------------------------------------------------------- what is decoded again


def test_only_what_changed_is_decoded_again(speech: Path, manifest: Path, decoded: list[str]) -> None:
    load(speech, manifest=manifest)
    assert len(decoded) == 12
    written = manifest.stat().st_mtime_ns
    decoded.clear()
    load(speech, manifest=manifest)
    assert decoded == [] and manifest.stat().st_mtime_ns == written

    record(speech / "a" / "1.wav", 0.9)
    record(speech / "d" / "new.wav", 0.7)
    (speech / "f" / "2.wav").unlink()
    corpus = load(speech, manifest=manifest)
    assert sorted(decoded) == ["1", "new"]
    lengths = {u.path: u.samples for u in corpus}
    assert len(lengths) == 12 and str(speech / "f" / "2.wav") not in lengths
    assert lengths[str(speech / "a" / "1.wav")] == 14400 and lengths[str(speech / "d" / "new.wav")] == 11200
    assert "f/2.wav" not in manifest.read_text()


def test_same_size_but_another_time_is_decoded_again(speech: Path, manifest: Path, decoded: list[str]) -> None:
    load(speech, manifest=manifest)
    decoded.clear()
    os.utime(speech / "c" / "2.wav", ns=(1, 1))
    load(speech, manifest=manifest)
    assert decoded == ["2"]


@pytest.mark.parametrize("seconds", [-10, -300_000_000])
def test_a_date_before_1970_is_one_as_any_other(speech: Path, manifest: Path, decoded: list[str], seconds: int) -> None:
    os.utime(speech / "c" / "2.wav", ns=(0, seconds * 10**9))
    before = load(speech, manifest=manifest)
    decoded.clear()
    assert list(load(speech, manifest=manifest)) == list(before) and decoded == []


def test_several_workers_see_what_one_sees(tmp_path: Path) -> None:
    for index in range(decoding.FEW + 20):
        record(tmp_path / "many" / f"s{index % 7}" / f"{index}.wav", 0.31 + index / 1000)
    (tmp_path / "many" / "bad.wav").write_bytes(b"bad")
    one = load(tmp_path / "many", manifest=tmp_path / "1.tsv", prepare_workers=1)
    three = load(tmp_path / "many", manifest=tmp_path / "3.tsv", prepare_workers=3)
    assert list(one) == list(three) and one.skipped == three.skipped
    assert (tmp_path / "1.tsv").read_bytes() == (tmp_path / "3.tsv").read_bytes()
    assert [u.samples for u in one if Path(u.path).name == "60.wav"] == [round(0.37 * 16000)]


def test_a_killed_worker_is_told_with_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(decoding.FEW + 1):
        record(tmp_path / "many" / f"{index:03}.wav")
    monkeypatch.setattr(decoding, "read_audio", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(AalbertError, match=naming(tmp_path / "many" / "000.wav", "killed", "prepare_workers")):
        load(tmp_path / "many", manifest=tmp_path / "m.tsv", prepare_workers=2)


def in_child(work: Callable[[], object]) -> int:
    """Run ``work`` in a forked process and return its process number."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def test_an_interrupted_check_goes_on_where_it_was(
    speech: Path, manifest: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = decoding.read_audio

    def stop_at(number: int, how: Callable[[], object]) -> None:
        def read(path: str, rate: int, notes: list[str]) -> np.ndarray:
            if len(decoded) == number:
                how()
            return original(path, rate, notes)

        monkeypatch.setattr(decoding, "read_audio", read)

    def interrupt() -> None:
        raise KeyboardInterrupt

    stop_at(3, interrupt)
    with pytest.raises(KeyboardInterrupt):
        load(speech, manifest=manifest, cache_hours=1.0)
    assert len(decoded) == 3

    monkeypatch.setattr(corpus_module, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(corpus_module, "SAVE_PAUSE", 0.0)
    stop_at(7, lambda: os.kill(os.getpid(), signal.SIGKILL))  # 4 more
    child = in_child(lambda: load(speech, manifest=manifest, cache_hours=1.0))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    monkeypatch.setattr(decoding, "read_audio", original)
    decoded.clear()
    corpus = load(speech, manifest=manifest, cache_hours=1.0)
    assert len(corpus) == 12
    assert len(decoded) == 12 - 7


def test_an_interrupted_check_forgets_nobody_who_is_held_out(
    speech: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All files look new, as after a copy that did not keep their times."""
    held_out = {u.speaker for u in load(speech, manifest=manifest, dev_fraction=1 / 3).split("dev")}
    for path in speech.rglob("*.wav"):
        os.utime(path, (1, 1))
    original, seen = decoding.read_audio, []

    def read(path: str, rate: int, notes: list[str]) -> np.ndarray:
        seen.append(path)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return original(path, rate, notes)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(decoding, "read_audio", read)
        with pytest.raises(KeyboardInterrupt):
            load(speech, manifest=manifest, dev_fraction=1 / 3)
    again = load(speech, manifest=manifest, dev_fraction=1 / 3, seed=SEED + 1)
    assert {u.speaker for u in again.split("dev")} == held_out and len(again) == 12


# -------------------------------------------------------------------------------------------- several runs


def test_two_runs_share_a_manifest(
    speech: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    original = decoding.read_audio

    def read(path: str, rate: int, notes: list[str]) -> np.ndarray:
        with log.open("a") as file:
            file.write(f"{path}\n")
        return original(path, rate, notes)

    monkeypatch.setattr(decoding, "read_audio", read)
    monkeypatch.setattr(corpus_module, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(corpus_module, "SAVE_PAUSE", 0.0)
    runs = [in_child(lambda: load(speech, manifest=manifest, cache_hours=1.0)) for _ in range(3)]
    assert [os.waitstatus_to_exitcode(os.waitpid(run, 0)[1]) for run in runs] == [0, 0, 0]
    assert sorted(log.read_text().splitlines()) == sorted(str(p) for p in speech.rglob("*.wav"))
    corpus = load(speech, manifest=manifest, cache_hours=1.0)
    assert len(corpus) == 12
    for row, utterance in enumerate(corpus):
        wav = soundfile.read(utterance.path, dtype="float32")[0]
        np.testing.assert_array_equal(corpus.cache.read(row, 0, utterance.samples), wav)


def test_a_manifest_describes_the_corpus_of_the_last_run_alone(
    speech: Path, manifest: Path, tmp_path: Path, decoded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    other = record(tmp_path / "other" / "z" / "9.wav").parents[1]
    (other / "bad.wav").write_bytes(b"bad")
    load(speech, manifest=manifest, cache_hours=1.0)
    assert len(load(speech, other, manifest=manifest, cache_hours=1.0)) == 13
    assert len(decoded) == 14, "the first folder's rows were used again"
    load(other, manifest=manifest, cache_hours=1.0)
    assert [mentions(message, manifest, 12, "dropped") for message in caplog.messages].count(True) == 1
    rows = manifest.read_text().splitlines()
    assert [Path(row.split("\t")[0]).name for row in rows[1:]] == ["9.wav"]
    skipped = manifest.with_suffix(".skipped.tsv").read_text().splitlines()
    assert [Path(row.split("\t")[0]).name for row in skipped[1:]] == ["bad.wav"]
    (data,) = manifest.parent.glob("*.i16")
    assert data.stat().st_size == 2 * 8000, "of 13 files one is left"
    decoded.clear()
    assert len(load(speech, manifest=manifest, cache_hours=1.0)) == 12 and len(decoded) == 12


def test_without_save_nothing_is_written(speech: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    corpus = load(speech, manifest=tmp_path / "new" / "m.tsv", save=False, cache_hours=1.0)
    assert len(corpus) == 12 and corpus.cache is None
    assert sorted(tmp_path.rglob("*")) == before


def test_a_manifest_in_a_read_only_folder_serves(speech: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    open_to_all(tmp_path)
    manifest = tmp_path / "kept" / "m.tsv"
    load(speech, manifest=manifest)
    (tmp_path / "kept").chmod(0o555)
    (tmp_path / "kept" / ".m.tsv.lock").unlink()
    request.getfixturevalue("ordinary_user")
    assert len(load(speech, manifest=manifest)) == 12


# -------------------------------------------------------------------------------------------------- splits


def test_dev_is_whole_speakers_drawn_by_the_seed(speech: Path, tmp_path: Path) -> None:
    corpus = load(speech, manifest=tmp_path / "a.tsv", dev_fraction=1 / 3)
    order = np.random.default_rng(SEED).permutation(["a", "b", "c", "d", "e", "f"])
    assert {u.speaker for u in corpus.split("dev")} == set(order[:2])
    assert {u.speaker for u in corpus.split("train")} == set(order[2:])
    assert len(corpus.split("dev")) == 4 and len(corpus.split("train")) == 8
    others = {
        frozenset(
            u.speaker for u in load(speech, manifest=tmp_path / f"{s}.tsv", seed=s, dev_fraction=0.3).split("dev")
        )
        for s in range(5)
    }
    assert len(others) > 1
    seconds = 8 * 0.55
    assert corpus.describe() == (
        f"train: 8 utterances, {seconds / 3600:.2f} h, 4 speakers; dev: 4 utterances, 0.00 h, 2 speakers"
    )


def test_speakers_stay_in_their_split_when_the_corpus_grows(speech: Path, manifest: Path) -> None:
    first = load(speech, manifest=manifest, dev_fraction=1 / 3)
    dev = {u.speaker for u in first.split("dev")}
    for speaker in "0123456789mnop":
        record(speech / speaker / "1.wav")
    record(speech / min(dev) / "later.wav")
    grown = load(speech, manifest=manifest, dev_fraction=1 / 3)
    held_out = {u.speaker for u in grown.split("dev")}
    assert dev < held_out and len(held_out) == round(20 / 3)
    assert {u.speaker for u in grown.split("train")}.isdisjoint(held_out)
    assert "later.wav" in names(grown, "dev")


def test_another_dev_fraction_on_a_finished_manifest_is_said_not_to_apply(
    speech: Path, manifest: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(speech, manifest=manifest, dev_fraction=1 / 3)
    load(speech, manifest=manifest, dev_fraction=1 / 3)
    assert caplog.records == []
    corpus = load(speech, manifest=manifest, dev_fraction=0.5)
    assert len(corpus.split("dev")) == 4
    assert mentions(caplog.text, "dev_fraction", 0.5, manifest, "2 of 6 speakers")


def test_one_speaker_is_held_out_by_utterance(tmp_path: Path, manifest: Path, caplog: pytest.LogCaptureFixture) -> None:
    for take in range(10):
        record(tmp_path / "me" / f"{take}.wav")
    corpus = load(tmp_path / "me", manifest=manifest, dev_fraction=0.2)
    assert len(corpus.split("dev")) == 2 and len(corpus.split("train")) == 8
    assert mentions(caplog.text, "one speaker", "dev split")
    load(tmp_path / "me", manifest=manifest, dev_fraction=0.5)
    assert mentions(caplog.text, "dev_fraction", 0.5, manifest, "2 of 10 utterances")


def test_no_dev_without_a_fraction(speech: Path, manifest: Path) -> None:
    corpus = load(speech, manifest=manifest, dev_fraction=0.0)
    assert len(corpus.split("dev")) == 0 and len(corpus.split("train")) == 12


# ------------------------------------------------------------------------------------- a manifest as corpus


def given(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_a_users_manifest_is_the_corpus(speech: Path, tmp_path: Path, manifest: Path, decoded: list[str]) -> None:
    lines = ["path\tage\tspeaker\tsplit", "a/1.wav\t7\tAnn\ttrain", "b/1.wav\t8\tBob\tdev", "c/1.wav\t9\tCy\ttest"]
    file = given(speech / "mine.tsv", [*lines, f"{speech}/d/1.wav\t\tDi\ttrain", "gone.wav\t\tX\ttrain"])
    before = file.read_bytes()
    config = DataConfig(manifest=str(file), cache_hours=0.0)
    assert manifest_path(config, manifest.parent) == manifest
    corpus = load_corpus(config, manifest, SEED)
    assert [(Path(u.path).parent.name, u.speaker, u.split) for u in corpus] == [
        ("a", "Ann", "train"), ("b", "Bob", "dev"), ("d", "Di", "train")
    ]  # fmt: skip
    assert reasons(corpus) == {
        "gone.wav": "is not accessible (No such file or directory)", "1.wav": 'split is "test"'
    }  # fmt: skip
    assert file.read_bytes() == before and manifest.is_file()
    decoded.clear()
    assert list(load_corpus(config, manifest, SEED)) == list(corpus)
    assert decoded == []


def test_a_users_manifest_in_the_experiment_folder_stays_as_it_is(speech: Path, tmp_path: Path) -> None:
    file = given(tmp_path / "manifest.tsv", ["path\tage", f"{speech}/a/1.wav\t7"])
    before = file.read_bytes()
    config = DataConfig(manifest=str(file), cache_hours=0.0)
    kept = manifest_path(config, tmp_path)
    assert len(load_corpus(config, kept, SEED)) == 1
    assert kept.is_file() and file.read_bytes() == before


def test_a_users_manifest_from_a_spreadsheet(speech: Path, manifest: Path) -> None:
    file = speech / "mine.tsv"
    file.write_bytes("\ufeffpath\tsplit\r\na/1.wav\t\r\nb/1.wav\t\r\nc/2.wav\t\r\n".encode())
    corpus = load_corpus(DataConfig(manifest=str(file), dev_fraction=0.3, cache_hours=0.0), manifest, SEED)
    assert len(corpus.split("train")) == 2 and len(corpus.split("dev")) == 1


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (["file\tsplit", "a/1.wav\ttrain"], ("'file'", "'split'", "['path']")),
        (["path\tsplit", "a/1.wav"], ("line 2", "1 columns", "expected 2")),
        (["path\tsplit", "a/1.wav\tdevel"], ("split", "a/1.wav", '"devel"', '"dev"')),
        (["path", "a/1.wav", "a/../a/1.wav"], ("a/1.wav", "twice")),
        (["path\tsamples", "a/1.wav\tmany"], ("samples", "a/1.wav", '"many"', "whole number")),
        (["path"], ("none of 0 files",)),
        (["path", "nowhere.wav"], ("none of 1 files", "No such file")),
    ],
)
def test_what_is_wrong_with_a_users_manifest(
    speech: Path, manifest: Path, lines: list[str], named: tuple[str, ...]
) -> None:
    file = given(speech / "mine.tsv", lines)
    with pytest.raises(AalbertError, match=naming(file, *named)):
        load_corpus(DataConfig(manifest=str(file)), manifest, SEED)


def test_a_missing_or_damaged_manifest_is_named(speech: Path, manifest: Path) -> None:
    with pytest.raises(AalbertError, match=naming(speech / "absent.tsv", "No such file")):
        load_corpus(DataConfig(manifest=str(speech / "absent.tsv")), manifest, SEED)
    manifest.parent.mkdir(exist_ok=True)
    given(manifest, ["path\tsamples", "x\t1"])
    with pytest.raises(AalbertError, match=naming(manifest, "'samples'", "'mtime_ns'")):
        load(speech, manifest=manifest)


def test_a_trusted_manifest_is_neither_searched_nor_checked(
    speech: Path, manifest: Path, tmp_path: Path, decoded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    full = load(speech, manifest=manifest, dev_fraction=0.3, cache_hours=1.0)
    shutil.rmtree(speech)
    decoded.clear()
    config = DataConfig(manifest=str(manifest), trust_manifest=True)
    trusted = load_corpus(config, tmp_path / "b" / "m.tsv", SEED)
    assert list(trusted) == list(full) and decoded == []
    assert trusted.cache is not None
    short = dataclasses.replace(config, min_seconds=0.55)
    assert len(load_corpus(short, tmp_path / "b" / "m.tsv", SEED).skipped) == 6
    assert mentions(caplog.text, "skipped", 6) and "skipped.tsv" not in caplog.text, "no list is written"
    (speech / "a").mkdir(parents=True)
    below = dataclasses.replace(config, paths=(str(speech / "a"),))
    assert len(load_corpus(below, manifest, SEED)) == 2
    given(tmp_path / "bare.tsv", ["path", "a.wav"])
    with pytest.raises(
        AalbertError, match=naming(tmp_path / "bare.tsv", "samples", tmp_path / "a.wav", "trust_manifest")
    ):
        load_corpus(dataclasses.replace(config, manifest=str(tmp_path / "bare.tsv")), manifest, SEED)


def test_a_table_gives_back_its_rows() -> None:
    odd = os.fsdecode(b"/s/caf\xe9.wav")
    rows = [
        Utterance("/s/\u00fc.wav", 5, "a", "train", 10, -7),
        Utterance(odd, UNKNOWN, "", "dev", 1 << 40, 1 << 60, "is silent"),
        Utterance("/s/3.wav", 7, "a", "test"),
        Utterance("/s/4.wav", 9, "b", "train", 1, 2),
    ]
    table = Utterances(iter(rows))
    assert list(table) == [table[row] for row in range(4)] == rows and table[-3] == rows[1]
    assert list(table[::3]) == list(table.split("train")) == [rows[0], rows[3]]
    assert table.paths[1] == table.path(1) == odd and table.faults == {1: "is silent"}
    assert (table[::3].num_speakers, table[2:].hours) == (2, 16 / 16000 / 3600)
    table.fill(0, Utterance("", 6, "c", "dev", 10, -7))  # the file is as it was
    table.fill(1, Utterance("", 6, "c", "train", 10, 1 << 60))  # of another size
    assert table[0] == rows[0]._replace(samples=6) and table[1] == rows[1]._replace(speaker="c")


def test_a_large_corpus_is_a_few_arrays(tmp_path: Path, manifest: Path) -> None:
    count = 100_000
    with (tmp_path / "big.tsv").open("w") as file:
        file.write("path\tsamples\tspeaker\tsplit\n")
        for i in range(count):
            file.write(
                f"LibriSpeech/train/{i // 130}/{i // 13}/{i // 130}-{i // 13}-{i:06}.flac\t{16000 + i}\t{i // 130}\t\n"
            )
    config = DataConfig(manifest=str(tmp_path / "big.tsv"), trust_manifest=True)
    corpus = load_corpus(config, manifest, SEED)
    assert len(corpus) == count
    path = str(tmp_path / "LibriSpeech/train/769/7692/769-7692-099999.flac")
    assert corpus[count - 1].path == path and corpus[-1].samples == 16000 + count - 1
    # All that is kept, as bytes: the paths' text and at most 42 more for each utterance.
    assert len(pickle.dumps(corpus)) < count * (len(path) + 42)
    dev = corpus.split("dev")
    assert {u.speaker for u in dev}.isdisjoint(u.speaker for u in corpus.split("train"))
    assert len({u.speaker for u in dev}) == round(0.02 * 770)
    assert dev[3] == corpus[[u.path for u in corpus].index(dev[3].path)]


def test_what_is_skipped_is_logged_once(speech: Path, manifest: Path, caplog: pytest.LogCaptureFixture) -> None:
    for index in range(7):
        (speech / "a" / f"bad{index}.wav").write_bytes(b"bad")
    with caplog.at_level(logging.WARNING):
        load(speech, manifest=manifest)
    assert len(caplog.records) == 1
    assert mentions(caplog.text, "skipped", 7, "2 more", manifest.with_suffix(".skipped.tsv"))
