"""The phoneme task from each kind of label file, against labels worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from s3prl_aalbert.downstream.alignments import IGNORED
from s3prl_aalbert.downstream.phone.config import PhoneDataConfig
from s3prl_aalbert.downstream.phone.dataset import load_phone_data
from s3prl_aalbert.downstream.speaker.dataset import SpeakerDataConfig, load_speaker_data
from s3prl_aalbert.downstream.task import TaskData
from s3prl_aalbert.yaml_config import ConfigError, from_dict

VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split()  # noqa: SIM905
CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH".split()  # noqa: SIM905
MFA_PHONES = [v + stress for v in VOWELS for stress in "012"] + CONSONANTS + ["sil", "sp", "spn"]


def textgrid(segments: list[tuple[float, float, str]]) -> str:
    """Write a TextGrid as Montreal Forced Aligner does: words first, then phones."""
    tiers = []
    for name, intervals in (("words", [(0.0, segments[-1][1], "word")]), ("phones", segments)):
        body = "".join(
            f'        intervals [{i}]:\n            xmin = {a}\n            xmax = {b}\n            text = "{p}"\n'
            for i, (a, b, p) in enumerate(intervals, 1)
        )
        tiers.append(
            f'    item [1]:\n        class = "IntervalTier"\n        name = "{name}"\n        xmin = 0\n'
            f"        xmax = {segments[-1][1]}\n        intervals: size = {len(intervals)}\n{body}"
        )
    head = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 1\ntiers? <exists>\nsize = 2\n'
    return head + "item []:\n" + "".join(tiers)


def write_wav(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, round(seconds * 16000)), 16000)


@pytest.fixture
def librispeech(tmp_path: Path) -> Path:
    """Three speakers of four utterances in LibriSpeech's layout, each of the 72 phones 50 ms long, in every file."""
    for speaker in (84, 174, 251):
        for index in range(4):
            name = f"{speaker}-12-{index:04}"
            write_wav(tmp_path / "audio" / str(speaker) / "12" / f"{name}.flac", 3.6)
            grid = tmp_path / "aligned" / str(speaker) / "12" / f"{name}.TextGrid"
            grid.parent.mkdir(parents=True, exist_ok=True)
            grid.write_text(textgrid([(i / 20, (i + 1) / 20, p) for i, p in enumerate(MFA_PHONES)]))
    return tmp_path


def load(root: Path, rate: int = 480, seed: int = 0, **more: Any) -> TaskData:
    settings = {"audio": str(root / "audio"), "alignments": str(root / "aligned"), "num_folds": 3, **more}
    return load_phone_data(PhoneDataConfig(**settings), rate, seed, root)


@pytest.mark.parametrize(
    ("options", "classes"),
    [
        ({}, 72),
        ({"fold_stress": True}, 39 + 3),
        ({"silence": "ignore"}, 69),
        ({"fold_stress": True, "silence": "ignore"}, 39),
    ],
)
def test_phones_of_the_montreal_forced_aligner(librispeech: Path, options: dict[str, Any], classes: int) -> None:
    assert len(MFA_PHONES) == 72
    data = load(librispeech, **options)
    assert len(data.classes) == classes
    assert {part: len(names) for part, names in data.names.items()} == {"train": 4, "dev": 4, "test": 4}
    speakers = {part: {name.split("-")[0] for name in names} for part, names in data.names.items()}
    assert sorted(s for members in speakers.values() for s in members) == ["174", "251", "84"], "disjoint"
    grid = data.label_of("84-12-0000").grid  # five frames of 10 ms a phone
    for index, phone in enumerate(MFA_PHONES):
        folded = phone.rstrip("012") if options.get("fold_stress") else phone
        wanted = data.classes.index(folded) if folded in data.classes else IGNORED
        assert set(grid[5 * index : 5 * index + 5]) == {wanted}


def test_textgrids_whose_names_recur_in_every_speakers_folder(librispeech: Path) -> None:
    for path in [*librispeech.rglob("*.flac"), *librispeech.rglob("*.TextGrid")]:
        top = "audio" if path.suffix == ".flac" else "aligned"
        speaker, _, number = path.stem.split("-")
        target = librispeech / "moved" / top / f"s{speaker}" / f"sent{number}{path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    data = load(librispeech / "moved")
    assert sum(map(len, data.names.values())) == 12 and "s84/sent0000" in {n for m in data.names.values() for n in m}


def test_training_labels_by_centre_or_majority(librispeech: Path) -> None:
    for path in librispeech.rglob("*.TextGrid"):  # the first 30 ms: 14 ms AA0, 2 ms B around the centre, 14 ms AA0
        path.write_text(textgrid([(0, 0.014, "AA0"), (0.014, 0.016, "B"), (0.016, 0.03, "AA0"), (0.03, 3.6, "sil")]))
    names = {kind: load(librispeech, token_label=kind) for kind in ("centre", "majority")}
    first = {kind: data.classes[data.label_of("84-12-0000").token[0]] for kind, data in names.items()}
    assert first == {"centre": "B", "majority": "AA0"}
    grids = [data.label_of("84-12-0000").grid for data in names.values()]
    assert np.array_equal(*grids), "scoring does not depend on how training is labelled"


@pytest.mark.parametrize(("silence", "first"), [("keep", "sil"), ("ignore", None)])
def test_a_token_of_silence_is_no_phone(librispeech: Path, silence: str, first: str | None) -> None:
    """29 ms of silence and 1 ms of a phone, whether silence is a class or is not scored."""
    for path in librispeech.rglob("*.TextGrid"):
        path.write_text(textgrid([(0, 0.029, "sil"), (0.029, 0.06, "AA0"), (0.06, 3.6, "B")]))
    data = load(librispeech, token_label="majority", silence=silence)
    token = data.label_of("84-12-0000").token
    assert [data.classes[label] if label >= 0 else None for label in token[:3]] == [first, "AA0", "B"]


def test_s3prls_converted_file_with_cpcs_lists(librispeech: Path) -> None:
    names = sorted(path.stem for path in librispeech.rglob("*.flac"))
    generator = np.random.default_rng(1)
    numbers = {name: generator.integers(0, 41, 360) for name in names}
    table = librispeech / "converted_aligned_phones.txt"
    table.write_text("".join(f"{name} {' '.join(map(str, row))}\n" for name, row in numbers.items()))
    (librispeech / "train_split.txt").write_text("\n".join(n for n in names if n[-1] != "3") + "\n")
    (librispeech / "test_split.txt").write_text("\n".join(n for n in names if n[-1] == "3") + "\n")
    lists = {f"{part}_list": str(librispeech / f"{part}_split.txt") for part in ("train", "test")}
    data = load(librispeech, alignments=str(table), split="lists", dev_fraction=0.2, **lists)
    assert len(data.classes) == 41
    assert sorted(data.names["test"]) == [n for n in names if n[-1] == "3"]
    assert sorted([*data.names["train"], *data.names["dev"]]) == [n for n in names if n[-1] != "3"]
    assert len(data.names["dev"]) == 2 and not set(data.names["train"]) & set(data.names["dev"])
    for name in names:
        assert [int(data.classes[i]) for i in data.label_of(name).grid] == numbers[name].tolist()
    speaker = SpeakerDataConfig(audio=str(librispeech / "audio"), speaker_from="librispeech", **lists)
    split = load_speaker_data(speaker, 0, librispeech)
    assert sorted(split.names["test"]) == sorted(data.names["test"]) and split.classes == ("174", "251", "84")


def test_a_table_names_utterances_by_folder_where_stems_recur(tmp_path: Path) -> None:
    for speaker in "abc":
        for sentence in ("sa1", "sx1"):
            write_wav(tmp_path / "audio" / speaker / f"{sentence}.wav", 0.1)
    rows = [
        f"{s}/{u}\t{t / 100}\t{(t + 5) / 100}\t{p}"
        for s in "abc"
        for u in ("sa1", "sx1")
        for t, p in ((0, "x"), (5, s))
    ]
    (tmp_path / "labels.tsv").write_text("utterance\tstart\tend\tphone\n" + "\n".join(rows) + "\n")
    data = load(tmp_path, alignments=str(tmp_path / "labels.tsv"))
    assert data.classes == ("a", "b", "c", "x")
    assert data.label_of("b/sa1").grid.tolist() == [3] * 5 + [1] * 5
    (tmp_path / "speakers.tsv").write_text(
        "utterance\tspeaker\n" + "".join(f"{s}/sa1\tone\n{s}/sx1\ttwo\n" for s in "abc")
    )
    config = SpeakerDataConfig(str(tmp_path / "audio"), "tsv", str(tmp_path / "speakers.tsv"))
    speakers = load_speaker_data(config, 0, tmp_path)
    assert speakers.classes == ("one", "two") and speakers.facts.left_out == {}


def test_smaller_shares_of_the_labels_are_nested_and_test_the_same(librispeech: Path) -> None:
    shares = [load(librispeech, seed=7, train_fraction=fraction) for fraction in (0.25, 0.5, 1.0)]
    train = [set(data.names["train"]) for data in shares]
    assert [len(names) for names in train] == [1, 2, 4] and train[0] < train[1] < train[2]
    assert len({(tuple(d.names["dev"]), tuple(d.names["test"]), d.classes) for d in shares}) == 1
    drawn = {frozenset(load(librispeech, seed=seed, train_fraction=0.5).names["train"]) for seed in range(8)}
    assert len(drawn) > 1, "the run's seed decides"
    config = {"audio": str(librispeech / "audio"), "speaker_from": "librispeech"}
    whole = load_speaker_data(SpeakerDataConfig(**config), 0, librispeech)
    few = load_speaker_data(SpeakerDataConfig(**config, train_fraction=0.2), 0, librispeech)
    assert len(few.names["train"]) == 1 and len(whole.names["train"]) == 6
    assert few.classes == whole.classes and few.names["test"] == whole.names["test"], "the same question"


def test_a_phone_set_is_a_name_that_yaml_may_read_as_a_number() -> None:
    assert from_dict(PhoneDataConfig, {"audio": "x", "phone_set": 39}, "here").phone_set == "39"
    for wrong in (40, True, 39.0):
        with pytest.raises(ConfigError, match="phone_set"):
            from_dict(PhoneDataConfig, {"audio": "x", "phone_set": wrong}, "here")
