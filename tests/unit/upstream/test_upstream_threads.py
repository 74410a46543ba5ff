"""One upstream serves many threads: each gets what it would get alone, bit for bit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import soak
import torch
from torch import Tensor

from s3prl_aalbert.upstream.expert import FeaturesExpert, UpstreamExpert

THREADS, ROUNDS = 4, 3


@pytest.fixture
def one_thread_each() -> Iterator[None]:
    """Keep torch's own threads out, whose number may change how sums are grouped."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread_each")
@pytest.mark.parametrize("kind", ["model", "features"])
def test_four_threads_get_what_one_gets(kind: str, tiny_release: Path, awkward_wavs: dict[str, Tensor], voice) -> None:
    upstream = UpstreamExpert(str(tiny_release)) if kind == "model" else FeaturesExpert()
    upstream.eval()
    wavs = [*awkward_wavs.values(), voice(90000, 20), voice(60000, 21)]
    batches = [wavs[i : i + 1 + i % 3] for i in range(len(wavs))]
    together = threading.Barrier(THREADS)

    def represent(batch: list[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return upstream(batch)["hidden_states"]

    def work(thread: int) -> dict[int, list[Tensor]]:
        found = {}
        for turn in range(ROUNDS):
            together.wait(60)
            for step in range(len(batches)):
                number = (step * (2 * thread + 1) + turn) % len(batches)  # each thread in an order of its own
                found[number] = represent(batches[number])
        return found

    with ThreadPoolExecutor(THREADS) as pool:  # before the single thread: nothing is warm yet
        results = list(pool.map(work, range(THREADS)))
    alone = [represent(batch) for batch in batches]
    compared = 0
    for found in results:
        for number, states in found.items():
            assert all(map(torch.equal, states, alone[number])), f"batch {number}"
            compared += 1
    assert compared == THREADS * len(batches)
    assert not torch.equal(alone[0][0], alone[-1][0]), "batches that differ"


def test_the_soak_notices_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    """The long one is tests/slow/test_soak.py."""
    kept = []

    def leaking(wavs: list[Tensor]) -> dict[str, list[Tensor]]:
        kept.append(wavs[0].repeat(6))  # more than an allocator may have kept of what earlier tests freed
        return {"hidden_states": wavs}

    monkeypatch.setattr(soak, "WARM_UP", 20)
    memory = list(soak.soak(leaking, 60, 20))
    assert [number for number, _ in memory] == [20, 40, 60]
    assert soak.growth(memory) > soak.ALLOWED_MIB
