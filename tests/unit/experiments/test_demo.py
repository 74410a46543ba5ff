"""The demo's speech is sorted as promised and its steps are commands that exist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from report_runs import write_results

from s3prl_aalbert.cli import COMMANDS
from s3prl_aalbert.commands import demo as command
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.experiments import demo
from s3prl_aalbert.experiments.demo_speech import DemoSpeech, prepare_real
from s3prl_aalbert.experiments.demo_steps import log_of
from s3prl_aalbert.model.config import find_config


def make_speech(root: Path, labelled: int = 3, plain: int = 12) -> None:
    """Write two speakers with labelled files, sa1 among them, and three with others, one of which has too few."""
    noise = np.random.default_rng(0).normal(0, 0.1, 1600)
    for speaker in ("lab1", "lab2"):
        for name in ("sa1", *(f"u{i}" for i in range(labelled))):
            path = root / "timit" / speaker / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, noise, 16000)
            path.with_suffix(".phn").write_text("0 1600 aa\n")
    for speaker, count in (("p1", plain), ("p2", plain), ("few", 3)):
        for index in range(count):
            path = root / "other" / speaker / f"w{index}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, noise, 16000)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink()}


def test_real_speech_is_sorted_by_purpose(tmp_path: Path) -> None:
    make_speech(tmp_path / "speech")
    found = prepare_real([tmp_path / "speech"], tmp_path / "out", max_speakers=5)
    assert found.phones and found.speakers
    assert names(found.phones) == {
        f"{s}/{s}_u{i}.{suffix}" for s in ("lab1", "lab2") for i in range(3) for suffix in ("wav", "phn")
    }
    assert names(found.speakers) == {f"{s}/{s}_w{i}.flac" for s in ("p1", "p2") for i in range(12)}
    assert len(found.pretraining) == 1
    pretraining = names(found.pretraining[0])
    assert len(pretraining) == 27, "labelled speech must stay out of pre-training"
    assert not any(name.startswith("lab") for name in pretraining)


def test_the_largest_speakers_are_taken(tmp_path: Path) -> None:
    make_speech(tmp_path / "speech")
    for index in range(20):
        path = tmp_path / "speech" / "other" / "big" / f"w{index}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.zeros(1600), 16000)
    found = prepare_real([tmp_path / "speech"], tmp_path / "out", max_speakers=2)
    assert {name.split("/")[0] for name in names(found.speakers)} == {"big", "p1"}


def test_a_second_run_keeps_the_links(tmp_path: Path) -> None:
    make_speech(tmp_path / "speech")
    first = prepare_real([tmp_path / "speech"], tmp_path / "out", max_speakers=5)
    assert prepare_real([tmp_path / "speech"], tmp_path / "out", max_speakers=5) == first


def test_utterances_of_one_name_in_two_folders_are_both_there(tmp_path: Path) -> None:
    for half in ("a", "b"):
        make_speech(tmp_path / "speech" / half)
    found = prepare_real([tmp_path / "speech"], tmp_path / "out", max_speakers=5)
    assert len(names(found.pretraining[0])) == 2 * 27 and len(names(found.speakers)) == 2 * 24
    wavs = sorted(found.phones.rglob("*.wav"))
    assert len(wavs) == 2 * 6 and len({wav.readlink() for wav in wavs}) == 12
    assert all(wav.with_suffix(".phn").readlink() == wav.readlink().with_suffix(".phn") for wav in wavs)


def test_a_number_that_is_a_name_already_is_passed_over(tmp_path: Path) -> None:
    make_speech(tmp_path / "speech")
    for folder, name in (("a", "x"), ("b", "x"), ("c", "x_2")):
        path = tmp_path / "speech" / folder / "p1" / f"{name}.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.zeros(1600), 16000)
    found = prepare_real([tmp_path / "speech"], tmp_path / "out", max_speakers=5)
    assert len(names(found.pretraining[0])) == 27 + 3


def test_links_of_an_earlier_demo_are_replaced(tmp_path: Path) -> None:
    make_speech(tmp_path / "first")
    prepare_real([tmp_path / "first"], tmp_path / "out", max_speakers=5)
    (tmp_path / "first").rename(tmp_path / "moved")
    (tmp_path / "moved" / "other" / "p1" / "w0.flac").unlink()
    found = prepare_real([tmp_path / "moved"], tmp_path / "out", max_speakers=5)
    links = [path for path in (tmp_path / "out").rglob("*") if path.is_symlink()]
    assert links and all(link.exists() for link in links)
    assert len(names(found.speakers)) == 23


def remove_labels(speech: Path) -> None:
    for path in speech.rglob("*.phn"):
        path.unlink()


def planned(found: DemoSpeech, output: Path) -> list[tuple[str, ...]]:
    options = demo.DemoOptions(speech=(Path("speech"),), seed=1)
    return [step.argv for step in demo.plan(options, found, output)]


def test_without_phone_labels_the_phone_task_is_left_out(tmp_path: Path) -> None:
    make_speech(tmp_path / "speech")
    remove_labels(tmp_path / "speech")
    found = prepare_real([tmp_path / "speech"], tmp_path / "out", max_speakers=5)
    assert found.phones is None and found.speakers is not None
    assert "phone task skipped: no utterance has phone labels" in found.description
    assert len(names(found.pretraining[0])) == 27 + 8, "what would have been the phone task's is trained on"
    commands = planned(found, tmp_path)
    tasks = [argv[argv.index("-d") + 1] for argv in commands if "-d" in argv]
    assert tasks == ["aalbert_speaker_utterance"] * 3 + ["aalbert_speaker_frame"] * 3
    assert commands[-1][commands[-1].index("--task") + 1] == "speaker" and "phone.audio" not in commands[-1][-1]


def test_with_too_few_utterances_a_speaker_those_tasks_are_left_out(tmp_path: Path) -> None:
    make_speech(tmp_path / "speech", plain=2)
    found = prepare_real([tmp_path / "speech"], tmp_path / "out", max_speakers=5)
    assert found.speakers is None and found.phones is not None
    assert "speaker tasks skipped: fewer than two speakers have 10 utterances" in found.description
    commands = planned(found, tmp_path)
    assert {argv[argv.index("-d") + 1] for argv in commands if "-d" in argv} == {"aalbert_phone"}
    assert commands[-1][commands[-1].index("--task") + 1] == "phone" and "speaker.audio" not in commands[-1][-1]


def test_speech_for_no_task_is_one_sentence(tmp_path: Path) -> None:
    make_speech(tmp_path / "speech", plain=2)
    remove_labels(tmp_path / "speech")
    with pytest.raises(AalbertError, match=r"no task of the demo: .*phone labels .*; fewer than two speakers"):
        prepare_real([tmp_path / "speech"], tmp_path / "out", max_speakers=5)


def everything(folder: Path) -> DemoSpeech:
    return DemoSpeech((folder,), folder, folder, "speech")


def test_every_step_is_a_command_with_packaged_configs(tmp_path: Path) -> None:
    steps = demo.plan(demo.DemoOptions(), everything(tmp_path), tmp_path)
    assert [step.argv[0] for step in steps] == ["pretrain", *["downstream"] * 10, "probe"]
    assert len({log_of(step, tmp_path) for step in steps}) == len(steps)
    for step in steps:
        assert step.argv[0] in COMMANDS
        config = step.argv[step.argv.index("-c") + 1]
        find_config(config, "upstream_configs" if step.argv[0] == "pretrain" else "downstream_configs")


@pytest.mark.parametrize(
    ("speech", "steps", "limits"),
    [
        ((), None, ["total_steps=600", "max_hours=0.045"]),
        ((Path("d"),), None, ["total_steps=1500", "max_hours=0.1"]),
        ((), 7, ["total_steps=7", "max_hours=null"]),
    ],
)
def test_pretraining_ends_by_steps_or_time_and_at_the_steps_asked_for(
    speech: tuple[Path, ...], steps: int | None, limits: list[str], tmp_path: Path
) -> None:
    argv = demo.plan(demo.DemoOptions(speech, steps), everything(tmp_path), tmp_path)[0].argv
    assert argv[argv.index("-o") + 1].split(",,") == [f"config.runner.{limit}" for limit in limits]


def test_the_verdict_says_which_way_it_went(tmp_path: Path) -> None:
    assert demo.verdict(tmp_path) == ""
    for model, accuracy in {"features": 0.8, "untrained": 0.7, "pretrained": 0.75, "aalbert": 0.9}.items():
        write_results(tmp_path / "tasks" / f"aalbert_phone-{model}", test=accuracy)
    said = demo.verdict(tmp_path)
    assert "above the same model untrained (+5.0 points) and not above input features (-5.0 points)" in said
    assert "aalbert_units is above input features (+10.0 points)" in said
    assert "too little to beat the input features" in said


def test_a_folder_with_a_demo_of_other_choices_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its finished steps would stay: one demo's models beside another's tables."""

    def ended(*_: object, **__: object) -> None:
        raise InterruptedError

    monkeypatch.setattr("s3prl_aalbert.experiments.demo_steps.StepRunner.run", ended)
    monkeypatch.setattr("s3prl_aalbert.experiments.demo_speech.synthesise_corpus", lambda folder, seed: folder)
    monkeypatch.chdir(tmp_path)
    make_speech(tmp_path / "speech")

    real = {"speech": [Path("speech")]}
    for options in ({}, {}, real, real):
        with pytest.raises(InterruptedError):
            command.demo(**options)
    assert sorted(path.name for path in (tmp_path / "result").iterdir()) == ["demo", "demo_speech"]
    for options, difference in (
        ({"steps": 700}, "steps null instead of 700;"),
        ({"seed": 1}, "seed 1337 instead of 1;"),
        ({**real, "output": Path("result/demo")}, r"speech \[\] instead of \['.*speech'\];"),
    ):
        with pytest.raises(AalbertError, match=f"result/demo: .* {difference}"):
            command.demo(**options)
    (tmp_path / "result" / "demo" / demo.RECORD).write_text("[]")
    with pytest.raises(AalbertError, match=r"result/demo: .* speech null instead of"):
        command.demo()
