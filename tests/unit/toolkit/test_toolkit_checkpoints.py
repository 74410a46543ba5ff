"""S3PRL's runner, as `aalbert downstream` runs it, loses no checkpoint and outlives a full disk."""

from __future__ import annotations

import errno
import logging
import os
import threading
from pathlib import Path

import pytest
import torch
from naming import mentions

from s3prl_aalbert.files import FileError
from s3prl_aalbert.toolkit.writing import Checkpoints, Writers


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_old_state_goes_when_the_new_one_is_there(tmp_path: Path) -> None:
    files = Checkpoints()
    files.save({"Step": 2}, str(tmp_path / "states-2.ckpt"))
    files.remove(str(tmp_path / "states-2.ckpt"))
    files.save({"Step": 4}, str(tmp_path / "dev-best.ckpt"))
    assert names(tmp_path) == ["dev-best.ckpt", "states-2.ckpt"]
    files.save({"Step": 4}, str(tmp_path / "states-4.ckpt"))
    assert names(tmp_path) == ["dev-best.ckpt", "states-4.ckpt"]
    files.remove(str(tmp_path / "states-4.ckpt"))
    files.save({"Step": 5}, str(tmp_path / "states-4.ckpt"))
    assert torch.load(tmp_path / "states-4.ckpt") == {"Step": 5}


def test_a_save_that_fails_leaves_every_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("states-2.ckpt", "dev-best.ckpt"):
        torch.save({"Step": 2}, tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(content: object, target: Path) -> None:
        Path(target).write_bytes(b"PK half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", full)
    files = Checkpoints()
    files.remove(str(tmp_path / "states-2.ckpt"))
    for name in ("dev-best.ckpt", "states-4.ckpt"):
        with pytest.raises(FileError, match="No space left on device"):
            files.save({"Step": 4}, str(tmp_path / name))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_events_that_cannot_be_written_stop_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fallen: list[object] = []
    monkeypatch.setattr(threading, "excepthook", fallen.append)
    with caplog.at_level(logging.WARNING), Writers() as writers:
        writer = writers.open(str(tmp_path), flush_secs=0)
        events = writer.file_writer.event_writer._ev_writer._py_recordio_writer
        events._writer.close()
        events._writer = Path("/dev/full").open("wb")  # noqa: SIM115
        for step in range(40):  # more than fit into its queue: without its thread it would wait for ever
            writer.add_scalar("loss", 1.0, global_step=step)
    assert fallen == []
    (record,) = caplog.records
    assert mentions(record.getMessage(), "TensorBoard", "No space left on device")
