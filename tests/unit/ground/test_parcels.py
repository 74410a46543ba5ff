"""Loader processes: too little shared memory, too few open files, a process that is killed."""

from __future__ import annotations

import logging
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from naming import mentions
from torch import Tensor

from s3prl_aalbert import parcels
from s3prl_aalbert.errors import AalbertError, environment_fault, lost_worker
from s3prl_aalbert.pretrain.loading import load


class Pair(NamedTuple):
    """A batch of which one tensor may stand in two places."""

    wavs: Tensor
    noisy_wavs: Tensor


class Source:
    """Batches of known numbers."""

    def __getitem__(self, key: tuple[int, int]) -> int:
        epoch, index = key
        if index == 666:
            os.kill(os.getpid(), signal.SIGKILL)
        return 10 * epoch + index

    def collate(self, items: list[int]) -> Pair:
        wavs = torch.tensor(items, dtype=torch.float32).unsqueeze(1).expand(-1, 5000).contiguous()
        return Pair(wavs, wavs)


def keys() -> Iterator[list[tuple[int, int]]]:
    return iter([[(0, 1), (0, 2)], [(1, 1), (1, 2)], [(2, 1), (2, 2)]])


def assert_right(batches: list[Any]) -> None:
    assert [batch.wavs[:, 0].tolist() for batch in batches] == [[1, 2], [11, 12], [21, 22]]
    for batch in batches:
        assert batch.noisy_wavs is batch.wavs and batch.wavs.shape == (2, 5000)
        batch.wavs.add_(1)  # ours to write to


@pytest.mark.parametrize(("free", "shared"), [(3 * 40000 - 1, False), (3 * 40000, True), (float("inf"), True)])
def test_batches_come_by_pipe_where_they_do_not_fit_once_more_than_there_are_processes(
    free: float, shared: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parcels._warn_once.cache_clear()
    monkeypatch.setattr(parcels, "free_shared_memory", lambda: free)
    with caplog.at_level(logging.WARNING):
        batches = list(load(Source(), keys(), 2))
    assert_right(batches)
    assert [batch.wavs.is_shared() for batch in batches] == [shared] * 3
    assert len(caplog.records) == (0 if shared else 1), "one warning"


def test_shared_memory_that_another_process_took_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensor: Tensor) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(Tensor, "share_memory_", full)
    assert_right(list(load(Source(), keys(), 2)))


def test_a_system_without_that_folder_shares(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(parcels, "SHARED_MEMORY", tmp_path / "none")
    assert parcels.free_shared_memory() == float("inf")


def test_a_disk_of_two_megabytes_at_dev_shm() -> None:
    """The whole thing, on batches of 4 MB; before, this waited for ever."""
    code = """
        import sys, torch
        from s3prl_aalbert.pretrain.loading import load
        class Source:
            def __getitem__(self, key): return key[1]
            def collate(self, items): return torch.full((1_000_000,), float(items[0]))
        batches = load(Source(), iter([[(0, i)] for i in range(6)]), 2)
        print([float(batch.mean()) for batch in batches])
    """
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a /dev/shm of one's own needs root")
    mount = "mount -t tmpfs -o size=2m tmpfs /dev/shm && exec"
    command = ["unshare", "-m", "sh", "-c", f'{mount} "$0" -c "$1"', sys.executable, textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if "permission denied" in done.stderr:
        pytest.skip("a /dev/shm of one's own needs root")
    assert done.stdout.strip() == "[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]", done.stderr
    assert "/dev/shm has 2 MB left" in done.stderr and "Traceback" not in done.stderr


def test_a_killed_process_ends_the_run_with_a_sentence() -> None:
    with pytest.raises((AalbertError, RuntimeError)) as caught:
        list(load(Source(), iter([[(0, 666)]]), 1))
    # torch raises where the signal of the system meets the program: in the loader, or outside of it.
    fault = str(caught.value) if isinstance(caught.value, AalbertError) else environment_fault(caught.value)
    assert fault is not None
    assert mentions(fault, "killed", "memory", "num_workers", "-a")


def test_an_error_inside_a_loader_process_is_not_taken_for_its_end() -> None:
    assert lost_worker(RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback")) is None
    assert lost_worker(RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"))
    assert lost_worker(RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. "))


@pytest.mark.parametrize(
    ("soft", "hard", "workers", "raised_to"),
    [
        (64, 4096, 8, 64 + 32 * 8),
        (64, 100, 8, None),
        (64, 100, 0, None),
        (1024, 4096, 8, None),
        (64, resource.RLIM_INFINITY, 1, 96),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 8, None),
    ],
)
def test_open_files(
    soft: int, hard: int, workers: int, raised_to: int | None, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    limits = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: limits.append(pair))
    too_few = hard == 100 and workers
    assert parcels.workers_within_limits(workers) == (0 if too_few else workers)
    assert limits == ([(raised_to, hard)] if raised_to else [])
    assert len(caplog.records) == bool(too_few)
    assert not too_few or mentions(caplog.text, "ulimit -n", 100, 8, 320)
