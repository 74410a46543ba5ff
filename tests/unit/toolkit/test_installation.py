"""`aalbert doctor` names what is wrong and what to type."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from s3prl_aalbert import machine
from s3prl_aalbert.checkpoint import published
from s3prl_aalbert.commands.doctor import doctor
from s3prl_aalbert.toolkit import installation

GOOD = dict.fromkeys(installation.PACKAGES, "1.0") | {
    "torch": "2.11.0",
    "torchaudio": "2.11.0+cpu",
    "s3prl": "0.4.18",
    "huggingface_hub": "0.36.2",
}


@pytest.mark.parametrize(
    ("change", "bad", "fix"),
    [
        ({}, None, None),
        ({"torch": "2.8.0", "torchaudio": "2.8.0"}, None, None),
        ({"torch": "2.15.0"}, "torch with torchaudio", 'pip install "torch==2.11.0" "torchaudio==2.11.0"'),
        ({"torch": "2.8.0"}, "torch with torchaudio", 'pip install "torch==2.8.0" "torchaudio==2.8.0"'),
        ({"torchaudio": "2.11.1+cpu"}, "torch with torchaudio", 'pip install "torch==2.11.0" "torchaudio==2.11.0"'),
        ({"huggingface_hub": "1.2.0"}, "huggingface_hub", 'pip install "huggingface_hub<1"'),
        ({"s3prl": "0.4.14"}, "s3prl", "pip install s3prl==0.4.18"),
        ({"soundfile": None}, "packages", "pip install soundfile"),
    ],
)
def test_versions(monkeypatch: pytest.MonkeyPatch, change: dict, bad: str | None, fix: str | None) -> None:
    monkeypatch.setattr(installation, "version_of", {**GOOD, **change}.get)
    found = [(f.name, f.fix) for f in installation.check_versions() if not f.good]
    assert found == ([] if bad is None else [(bad, fix)])


def test_a_package_that_does_not_import_is_a_finding_not_a_crash(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert doctor() == 1
    shown = capsys.readouterr().out
    assert "BAD  audio: soundfile does not import" in shown
    assert shown.splitlines()[-1].startswith("training would fail") and shown.rstrip().endswith("audio")


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(installation.tempfile, "gettempdir", lambda: str(tmp_path / "gone"))
    assert [f.name for f in installation.check_writing() if not f.good] == ["temporary folder"]


def test_weights_that_are_missing_or_altered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (here,) = installation.check_weights()
    assert here.good and here.found.endswith("aalbert_units (11.9 MB), aalbert_tiny (2.0 MB)")
    monkeypatch.setattr(published, "PACKAGED_WEIGHTS", tmp_path)
    (gone,) = installation.check_weights()
    assert not gone.good and "are missing" in gone.found and "git checkout s3prl_aalbert/pretrained" in gone.fix
    (tmp_path / "aalbert_units").mkdir()
    (tmp_path / "aalbert_units" / "model.safetensors").write_bytes(b"something else")
    (altered,) = installation.check_weights()
    assert not altered.good and "has the SHA-256" in altered.found


def finding(name: str) -> installation.Finding:
    return next(f for check in (installation.check_room, installation.check_limits) for f in check() if f.name == name)


@pytest.mark.parametrize(
    ("meminfo", "limit", "used", "expected"),
    [
        (9_000_000, None, None, 9_000_000 * 1024),
        (9_000_000, "max", "5", 9_000_000 * 1024),
        (9_000_000, "3000000000", "1000000000", 2_000_000_000),
        (9_000_000, "3000000000", "3000000001", 0),
        (None, None, None, None),
    ],
)
def test_a_containers_memory_counts(
    meminfo: int | None, limit: str | None, used: str | None, expected: int | None, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    files = {
        "meminfo": f"MemTotal: 1 kB\nMemAvailable:  {meminfo} kB\n" if meminfo else None,
        "limit": limit,
        "used": used,
    }
    for name, text in files.items():
        if text is not None:
            (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "CONTROL_GROUPS", [(tmp_path / "limit", tmp_path / "used")])
    assert machine.available_memory() == expected


@pytest.mark.parametrize(
    ("size", "good", "hint"), [(0.5e9, False, True), (2e9, True, True), (8e9, True, False)]
)  # fmt: skip
def test_too_little_memory_is_bad_and_little_gets_a_hint(
    size: float, good: bool, hint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: int(size))
    memory = finding("memory")
    assert (memory.good, bool(memory.fix), memory.found) == (good, hint, f"{size / 1e9:.1f} GB available")


@pytest.mark.parametrize(("size", "good", "hint"), [(1e8, False, True), (1e9, True, True), (1e10, True, False)])
def test_disk_likewise(size: float, good: bool, hint: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_disk", lambda folder: int(size))
    assert (finding("disk").good, bool(finding("disk").fix)) == (good, hint)


def test_little_shared_memory_and_few_open_files_are_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_disk", lambda folder: 64_000_000)
    monkeypatch.setattr(machine, "open_files", lambda: 64)
    shared, files = finding("shared memory"), finding("open files")
    assert shared.good and "--shm-size" in shared.fix and shared.found == "0.1 GB free in /dev/shm"
    assert files.good and "ulimit -n" in files.fix and files.found == "up to 64"


def test_the_allocator_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in machine.MALLOC_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "MAPS", tmp_path / "maps")
    (tmp_path / "maps").write_text("7f00 r-xp /usr/lib/libc.so.6\n")
    assert "MALLOC_MMAP_THRESHOLD_=65536" in finding("memory allocator").fix
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    assert (finding("memory allocator").found, finding("memory allocator").fix) == (
        "the system's MALLOC_MMAP_THRESHOLD_=65536", "",
    )  # fmt: skip
    (tmp_path / "maps").write_text("7f00 r-xp /usr/lib/x86_64-linux-gnu/libjemalloc.so.2\n")
    assert (finding("memory allocator").found, finding("memory allocator").fix) == ("jemalloc", "")


def test_this_machine_is_healthy(capsys: pytest.CaptureFixture) -> None:
    assert doctor() == 0
    assert "everything that training needs is here" in capsys.readouterr().out
