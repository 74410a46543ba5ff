"""The cache of decoded audio: the samples of the files, whatever happens to files, index, data and disk."""

from __future__ import annotations

import pickle
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import soundfile
from naming import mentions, naming

from s3prl_aalbert.audio_io import AudioError
from s3prl_aalbert.pretrain import audio_cache
from s3prl_aalbert.pretrain.audio_cache import MIN_FREE_BYTES
from s3prl_aalbert.pretrain.config import DataConfig
from s3prl_aalbert.pretrain.corpus import load_corpus
from s3prl_aalbert.pretrain.utterances import Utterances
from s3prl_aalbert.speech.sixteen_bit import quantise

SECONDS = 0.5
HOURS_OF_ONE = SECONDS / 3600


def record(path: Path, seed: int, seconds: float = SECONDS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-1, 1, round(seconds * 16000))
    soundfile.write(path, noise, 16000)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Return a folder of eight files."""
    for index in range(8):
        record(tmp_path / "speech" / f"s{index % 2}" / f"{index}.{'flac' if index % 3 else 'wav'}", index)
    return tmp_path / "speech"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tmp_path / "run" / "m.tsv"


def load(speech: Path, manifest: Path, hours: float = 1.0, save: bool = True, **keys) -> Utterances:
    config = DataConfig(paths=(str(speech),), cache_hours=hours, dev_fraction=0.0, **keys)
    return load_corpus(config, manifest, seed=0, save=save)


def cached(corpus: Utterances) -> list[str]:
    """Check the cached audio against the files, and return the names of the cached ones."""
    cache, found = corpus.cache, []
    for row, utterance in enumerate(corpus):
        if cache is not None and cache.holds(row):
            wav = soundfile.read(utterance.path, dtype="float32")[0]
            np.testing.assert_array_equal(cache.read(row, 0, len(wav)), wav)
            np.testing.assert_array_equal(cache.read(row, 100, 50), wav[100:150])
            found.append(Path(utterance.path).stem)
    return found


def data_files(manifest: Path) -> list[Path]:
    return sorted(manifest.parent.glob("*.i16"))


EIGHT = list("02461357")


def test_holds_the_very_samples_and_survives_a_restart(speech: Path, manifest: Path, decoded: list[str]) -> None:
    assert sorted(cached(load(speech, manifest))) == sorted(EIGHT)
    assert data_files(manifest)[0].stat().st_size == 8 * SECONDS * 16000 * 2
    decoded.clear()
    again = load(speech, manifest)
    assert sorted(cached(again)) == sorted(EIGHT) and decoded == []
    moved = pickle.loads(pickle.dumps(again))  # as it reaches a worker that is not forked
    assert sorted(cached(moved)) == sorted(EIGHT)
    assert sorted(cached(load(speech, manifest, save=False))) == sorted(EIGHT)  # other ranks read it too


def test_quantising_rounds_and_clips() -> None:
    wav = np.array([-1.5, -1.0, 0.0, 1 / 32768, 0.6 / 32768, 0.999999, 1.0, 2.0], np.float32)
    assert quantise(wav).tolist() == [-32768, -32768, 0, 1, 1, 32767, 32767, 32767]


def test_a_split_reads_its_own_rows(speech: Path, manifest: Path) -> None:
    corpus = load(speech, manifest)
    rows = np.array([5, 2])
    some = corpus.select(rows)
    for row, original in enumerate(rows):
        assert some[row] == corpus[int(original)]
        wav = soundfile.read(some[row].path, dtype="float32")[0]
        assert some.cache is not None
        np.testing.assert_array_equal(some.cache.read(row, 0, len(wav)), wav)


def test_hours_that_are_more_than_any_number_of_samples(speech: Path, manifest: Path) -> None:
    corpus = load(speech, manifest, hours=1e305)
    assert len(cached(corpus)) == len(corpus) > 0


def test_off_builds_and_reads_nothing(speech: Path, manifest: Path) -> None:
    assert load(speech, manifest, hours=0.0).cache is None
    assert data_files(manifest) == []
    load(speech, manifest)
    assert load(speech, manifest, hours=0.0).cache is None


def test_a_manifest_without_a_cache_gets_one(speech: Path, manifest: Path, decoded: list[str]) -> None:
    load(speech, manifest, hours=0.0)
    decoded.clear()
    assert sorted(cached(load(speech, manifest))) == sorted(EIGHT)
    assert sorted(decoded) == sorted(EIGHT)


def test_a_lost_manifest_takes_the_lengths_from_the_cache(speech: Path, manifest: Path, decoded: list[str]) -> None:
    """As after a kill between the two: the cache is saved first."""
    load(speech, manifest)
    rows = manifest.read_bytes()
    manifest.unlink()
    record(speech / "s0" / "0.wav", seed=99)
    decoded.clear()
    assert sorted(cached(load(speech, manifest))) == sorted(EIGHT) and decoded == ["0"]
    assert len(manifest.read_bytes()) == len(rows)


def test_a_changed_file_is_cached_anew(speech: Path, manifest: Path, decoded: list[str]) -> None:
    old = load(speech, manifest)
    old_wav = soundfile.read(old[0].path, dtype="float32")[0]
    decoded.clear()
    record(speech / "s0" / "0.wav", seed=99)
    new = load(speech, manifest)
    assert decoded == ["0"] and sorted(cached(new)) == sorted(EIGHT)
    assert old.cache is not None  # a run that goes on sees what it has checked
    np.testing.assert_array_equal(old.cache.read(0, 0, len(old_wav)), old_wav)


def test_the_budget_holds_and_the_rest_is_not_decoded_at_every_start(
    speech: Path, manifest: Path, decoded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    corpus = load(speech, manifest, hours=3.5 * HOURS_OF_ONE)
    assert cached(corpus) == EIGHT[:3] and len(corpus) == 8
    assert data_files(manifest)[0].stat().st_size == 3 * SECONDS * 16000 * 2
    assert sum(mentions(message, "cache_hours") for message in caplog.messages) == 1
    decoded.clear()
    assert cached(load(speech, manifest, hours=3.5 * HOURS_OF_ONE)) == EIGHT[:3] and decoded == []
    assert cached(load(speech, manifest, hours=5 * HOURS_OF_ONE)) == EIGHT[:5] and decoded == EIGHT[3:5]


def test_skipped_lengths_are_not_cached(speech: Path, manifest: Path, decoded: list[str]) -> None:
    record(speech / "s0" / "long.wav", 5, seconds=2.0)
    assert sorted(cached(load(speech, manifest, max_utterance_seconds=1.0))) == sorted(EIGHT)
    assert data_files(manifest)[0].stat().st_size == 8 * SECONDS * 16000 * 2
    decoded.clear()
    assert sorted(cached(load(speech, manifest, max_utterance_seconds=1.0))) == sorted(EIGHT)
    assert decoded == [], "nor decoded at every start"


def test_what_is_skipped_takes_no_room(speech: Path, manifest: Path, tmp_path: Path) -> None:
    """Neither long files nor those of the test split, which come first here."""
    record(speech / "s" / "long.wav", 5, seconds=2.0)
    options = {"hours": 8 * HOURS_OF_ONE, "max_utterance_seconds": 1.0}
    load(speech, manifest, **{**options, "hours": 0.0})  # all lengths are known
    assert sorted(cached(load(speech, manifest, **options))) == sorted(EIGHT)
    own = tmp_path / "own.tsv"
    rows = "\n".join(f"{path}\t{'test' if path.stem in '012' else ''}" for path in sorted(speech.rglob("?.*")))
    own.write_text(f"path\tsplit\n{rows}\n")
    config = DataConfig(manifest=str(own), cache_hours=5 * HOURS_OF_ONE, dev_fraction=0.0)
    assert len(cached(load_corpus(config, tmp_path / "b" / "m.tsv", seed=0))) == 5


def test_outdated_audio_is_cleared_away(speech: Path, manifest: Path) -> None:
    running = load(speech, manifest)
    before = data_files(manifest)
    for index in range(1, 8, 2):
        next(speech.rglob(f"{index}.*")).unlink()
    record(speech / "s0" / "0.wav", seed=99)
    assert sorted(cached(load(speech, manifest))) == ["0", "2", "4", "6"]
    after = data_files(manifest)
    assert len(after) == 1 and after != before
    assert after[0].stat().st_size == 4 * SECONDS * 16000 * 2
    assert running.cache is not None
    assert len(running.cache.read(7, 0, 8000)) == 8000  # the old file is still open there
    part = running.split("train")
    assert part.cache is not None and len(part.cache.read(7, 0, 8000)) == 8000
    assert "8 utterances" in running.describe()


@pytest.mark.parametrize("damage", ["index", "no index", "data gone", "data cut", "another format", "another table"])
def test_damage_is_mended(
    speech: Path, manifest: Path, decoded: list[str], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    load(speech, manifest)
    index, data = manifest.with_suffix(".audio.npz"), data_files(manifest)[0]
    if damage == "index":
        index.write_bytes(index.read_bytes()[:-200])
    elif damage == "no index":
        index.unlink()
    elif damage == "data gone":
        data.unlink()
    elif damage == "data cut":
        data.write_bytes(data.read_bytes()[:-1])
    else:
        changed = {"head": np.array([99, 8])} if damage == "another format" else {"table": np.zeros((8, 3), np.int64)}
        with np.load(index) as stored:
            np.savez(index, **(dict(stored) | changed))
    decoded.clear()
    assert sorted(cached(load(speech, manifest))) == sorted(EIGHT)
    assert len(decoded) == (1 if damage == "data cut" else 8)
    assert len(data_files(manifest)) == 1
    assert mentions(caplog.text, index) == (damage not in ("no index", "data cut"))


def test_data_cut_while_in_use_is_told(speech: Path, manifest: Path) -> None:
    corpus = load(speech, manifest)
    data = data_files(manifest)[0]
    with data.open("rb+") as file:
        file.truncate(100)
    assert corpus.cache is not None
    with pytest.raises(AudioError, match=naming(data, "remove")):
        corpus.cache.read(7, 0, 8000)


def test_a_nearly_full_disk_stops_caching_but_not_training(
    speech: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda path: usage(MIN_FREE_BYTES + 40000 - sum(f.stat().st_size for f in data_files(manifest))),
    )
    corpus = load(speech, manifest)
    assert len(corpus) == 8 and cached(corpus) == EIGHT[:2]
    assert sum(mentions(message, "disk", "2 GiB") for message in caplog.messages) == 1


def test_a_failing_write_leaves_the_cache_whole(
    speech: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import resource
    import signal

    # The kernel refuses to let a file grow beyond this, in the middle of the fourth recording.
    monkeypatch.setattr(audio_cache, "MIN_FREE_BYTES", 0)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * 16000 + 5001, limits[1]))
    try:
        corpus = load(speech, manifest)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(corpus) == 8 and cached(corpus) == EIGHT[:3]
    assert mentions(caplog.text, "audio cache", "cannot be written")
    assert sorted(cached(load(speech, manifest))) == sorted(EIGHT)
