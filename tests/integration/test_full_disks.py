"""Full disks, read-only folders: one sentence, and what was there stays as it was."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import pytest
from command_lines import Outcome, run

from s3prl_aalbert.downstream.results import BestStep, RunnerOptions, RunResults
from s3prl_aalbert.model.config import load_model_config
from s3prl_aalbert.pretrain.config import DataConfig, PretrainConfig, PretrainExpertConfig, RunnerConfig
from s3prl_aalbert.pretrain.launch import RunOptions
from s3prl_aalbert.pretrain.runner import Pretrainer
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus

LARGEST_FILE = 3000
"""A limit of the process; with it, writing fails as it does on a disk that is full, without a disk to fill."""


@dataclass(frozen=True)
class Place:
    """What became of the commands in one kind of place."""

    folder: Path
    before: dict[str, str]
    commands: list[list[str]]
    outcomes: list[Outcome]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("disks") / "speech"
    return synthesise_corpus(root, num_speakers=4, utterances_per_speaker=3, seconds=(0.5, 0.6), seed=1)


def prepare(folder: Path, speech: Path) -> None:
    """Write a pre-training run of two steps and a downstream run to report on."""
    expert = PretrainExpertConfig(DataConfig(paths=(str(speech),), prepare_workers=1))
    config = PretrainConfig(RunnerConfig(total_steps=2, precision="fp32"), pretrain_expert=expert)
    Pretrainer(load_model_config("debug"), config, RunOptions(folder / "pretrained")).run()
    results = RunResults("aalbert_phone", RunnerOptions("fbank", seed=1), best=BestStep(1, {"acc": 0.5}, {"acc": 0.4}))
    results.write(folder / "phone")


def commands(folder: Path, speech: Path, release: Path) -> list[list[str]]:
    """Return a command line for every way to write files into the folder."""
    data = ",,".join(f"config.downstream_expert.datarc.{part}audio='{speech}'" for part in ("phone.", "speaker."))
    runner = "config.runner.total_steps=1,,config.runner.eval_step=1,,config.runner.save_step=1"
    phone = f"config.downstream_expert.datarc.audio='{speech}',,{runner}"
    pretrain = ["pretrain", "-g", "debug", "-c", "pretrain_debug", "--speech", str(speech), "--device", "cpu"]
    upstream = ["-u", "aalbert_local", "-k", str(release), "--device", "cpu"]
    return [
        [*pretrain, "-p", str(folder / "new")],
        ["pretrain", "-p", str(folder / "pretrained"), "-a", "-o", "config.runner.total_steps=4", "--device", "cpu"],
        ["downstream", "-m", "train", *upstream, "-d", "aalbert_phone", "-p", str(folder / "task"), "-o", phone],
        ["probe", *upstream, "--task", "phone,speaker", "-p", str(folder / "probe"), "-o", f"{data},,{runner}"],
        ["convert", str(release), "-o", str(folder / "converted"), "--no-head"],
        ["export", str(release), str(folder / "exported")],
        ["report", str(folder / "phone"), "-o", str(folder / "report")],
    ]


def drop_override() -> None:
    """Give up root's right to write into every folder (PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)


@contextlib.contextmanager
def closed(folder: Path) -> Iterator[Path]:
    """Close a folder for writing, with all that is in it."""
    every = [folder, *folder.rglob("*")]
    for path in every:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder
    for path in every:
        path.chmod(0o755 if path.is_dir() else 0o644)


@contextlib.contextmanager
def full(source: Path, disk: Path) -> Iterator[Path | None]:
    """Mount a small disk with a folder's content and a few kilobytes left; None without the right to mount."""
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        subprocess.run(["cp", "-r", f"{source}/.", str(disk)], check=True)
        free = os.statvfs(disk)
        (disk / "filler").write_bytes(bytes(free.f_bavail * free.f_bsize - (16 << 10)))
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture(scope="module")
def places(speech: Path, tiny_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Place]]:
    root = tmp_path_factory.mktemp("places")
    prepare(root / "limited", speech)
    shutil.copytree(root / "limited", root / "closed")
    with closed(root / "closed"), full(root / "limited", root / "full") as disk:
        folders = {"closed": root / "closed", "limited": root / "limited", **({"full": disk} if disk else {})}
        before = {name: contents(folder) for name, folder in folders.items()}
        lines = {name: commands(folder, speech, tiny_release) for name, folder in folders.items()}
        limits = [LARGEST_FILE if name == "limited" else 0 for name in folders for _ in lines[name]]
        preexec = drop_override if os.geteuid() == 0 else None
        outcomes = iter(run(list(chain.from_iterable(lines.values())), root, limits, preexec=preexec))
        yield {
            name: Place(folder, before[name], lines[name], list(islice(outcomes, len(lines[name]))))
            for name, folder in folders.items()
        }


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


REASONS = {
    "closed": ("Permission denied",),
    "limited": ("File too large",),
    "full": ("No space left on device",),
}


@pytest.mark.parametrize("name", REASONS)
def test_every_command_tells_it_in_a_sentence(name: str, places: dict[str, Place]) -> None:
    if name not in places:
        pytest.skip("needs the right to mount a disk")
    place = places[name]
    bad = []
    for argv, (code, told) in zip(place.commands, place.outcomes, strict=True):
        last = (told.rstrip().splitlines() or [""])[-1]
        sentence = last.startswith(f"aalbert {argv[0]}: ") and any(reason in last for reason in REASONS[name])
        if code != 2 or "Traceback" in told or not sentence:
            bad.append(f"{argv[:4]} {code}: {told[-1500:]}")
    assert not bad, "\n\n".join(bad)


@pytest.mark.parametrize("name", REASONS)
def test_what_was_there_stays(name: str, places: dict[str, Place]) -> None:
    if name not in places:
        pytest.skip("needs the right to mount a disk")
    place, after = places[name], contents(places[name].folder)
    if name == "closed":
        assert after == place.before
    kept = [path for path in place.before if "tfevents" not in path]  # TensorBoard's events are written as they come
    assert kept and {path: after[path] for path in kept} == {path: place.before[path] for path in kept}
    new = set(after) - set(place.before)
    assert not [path for path in new if path.endswith((".tmp", ".ckpt", ".safetensors", ".html"))], new
