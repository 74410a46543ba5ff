"""The phoneme task with a folder of its own as the test, and the number of classes that there must be."""

from __future__ import annotations

from pathlib import Path

import pytest
from naming import mentions, naming

from s3prl_aalbert.downstream.phone.config import PhoneDataConfig
from s3prl_aalbert.downstream.phone.dataset import load_phone_data
from s3prl_aalbert.downstream.speaker.dataset import SpeakerDataConfig, load_speaker_data
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora")
    for seed, name in enumerate(("train", "test")):
        synthesise_corpus(folder / name, num_speakers=2 + seed, utterances_per_speaker=5, seconds=(0.5, 0.6), seed=seed)
    for speaker in sorted((folder / "test").iterdir()):  # the same names are other people there
        if speaker.is_dir():
            speaker.rename(speaker.with_name(f"test_{speaker.name}"))
    return folder


def phones(corpora: Path, **more: object) -> PhoneDataConfig:
    audio = {"audio": str(corpora / "train"), "test_audio": str(corpora / "test")}
    return PhoneDataConfig(**{**audio, "split": "folders", "dev_fraction": 0.2, **more})  # type: ignore[arg-type]


def test_a_folder_is_the_test_and_dev_leaves_training(corpora: Path) -> None:
    data = load_phone_data(phones(corpora), 480, 0, None)
    assert {part: len(names) for part, names in data.names.items()} == {"train": 8, "dev": 2, "test": 15}
    assert all(name.startswith("test_") for name in data.names["test"])
    assert not set(data.names["train"]) & set(data.names["dev"])
    assert not any(name.startswith("test_") for part in ("train", "dev") for name in data.names[part])
    few = load_phone_data(phones(corpora, train_fraction=0.25), 480, 0, None)
    assert {part: len(names) for part, names in few.names.items()} == {"train": 2, "dev": 2, "test": 15}


def test_the_number_of_classes_is_held_to(corpora: Path) -> None:
    found = len(load_phone_data(phones(corpora), 480, 0, None).classes)
    assert len(load_phone_data(phones(corpora, expected_classes=found), 480, 0, None).classes) == found
    with pytest.raises(AalbertError, match=naming("train", f"{found} phones", 72)):
        load_phone_data(phones(corpora, expected_classes=72), 480, 0, None)
    speakers = SpeakerDataConfig(str(corpora / "test"), expected_classes=251)
    with pytest.raises(AalbertError, match=naming("test", "3 speakers", 251)):
        load_speaker_data(speakers, 0, None)


def test_the_keys_go_together() -> None:
    for config in (PhoneDataConfig("a", split="folders"), PhoneDataConfig("a", test_audio="b")):
        (problem,) = config.problems()
        assert mentions(problem, f"datarc.split is {config.split}", "datarc.test_audio", "folders")
    assert not PhoneDataConfig("a", split="folders", test_audio="b").problems()
