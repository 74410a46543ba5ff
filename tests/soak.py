"""A soak of the upstream: thousands of utterances of random length, one after another; does memory stay flat?

    python tests/soak.py                                    # 2,000 utterances of 20 ms to 60 s
    python tests/soak.py --utterances 500 --csv soak.csv

Resident memory is printed every hundred utterances. On the CPU it rises at first: torch's oneDNN keeps the last 1,024
programs that it has made, and each new length takes four. Afterwards it must not grow by more than ``ALLOWED_MIB``:
keeping the waveforms alone would add about 3 GiB. Large blocks are allocated outside the heap
(``MALLOC_MMAP_THRESHOLD_``), so that what is freed returns to the system; ``--fragmented`` leaves that to chance.
"""

from __future__ import annotations

import argparse
import csv
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from s3prl_aalbert.upstream.expert import UpstreamExpert

SAMPLE_RATE = 16000
SHORTEST_SECONDS, LONGEST_SECONDS = 0.02, 60.0
WARM_UP = 400
ALLOWED_MIB = 64.0
ALLOCATOR = "MALLOC_MMAP_THRESHOLD_"
"""Read by glibc when a program starts."""


Upstream = Callable[[list[Tensor]], dict[str, Any]]


def soak(upstream: Upstream, utterances: int, every: int, seed: int = 0) -> Iterator[tuple[int, float]]:
    """Represent so many utterances of random length and yield (utterances so far, resident memory in MiB)."""
    dice = torch.Generator().manual_seed(seed)
    process = psutil.Process()
    for number in range(1, utterances + 1):
        seconds = SHORTEST_SECONDS + (LONGEST_SECONDS - SHORTEST_SECONDS) * float(torch.rand((), generator=dice))
        wav = 0.1 * torch.randn(round(seconds * SAMPLE_RATE), generator=dice)
        with torch.no_grad():
            states = upstream([wav])["hidden_states"]
        if not all(torch.isfinite(state).all() for state in states):
            raise ArithmeticError(f"utterance {number}: hidden states that are not finite")
        del wav, states
        if number % every == 0:
            gc.collect()
            yield number, process.memory_info().rss / 2**20


def growth(memory: list[tuple[int, float]]) -> float:
    """Return by how many MiB memory grew after the warm-up."""
    warm = [mib for number, mib in memory if number <= WARM_UP]
    return memory[-1][1] - warm[-1]


def main() -> int:
    """Run from the command line; exit code 1 if memory grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-g", "--model_config", default="debug", help="a model YAML or a packaged name")
    parser.add_argument("--utterances", type=int, default=2000)
    parser.add_argument("--fragmented", action="store_true", help="leave the allocator as it is")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the figures there, too")
    args = parser.parse_args()
    if not args.fragmented and ALLOCATOR not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, ALLOCATOR: str(64 << 10)})
    logging.disable(logging.WARNING)
    upstream = UpstreamExpert(model_config=args.model_config).eval()
    memory = []
    for number, mib in soak(upstream, args.utterances, 100):
        memory.append((number, mib))
        print(f"{number:6} utterances  {mib:7.1f} MiB", flush=True)
    if args.csv:
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["utterances", "resident_mib"])
            rows.writerows((number, f"{mib:.1f}") for number, mib in memory)
    grown = growth(memory)
    print(f"after the first {WARM_UP}: {grown:+.1f} MiB")
    return int(grown > ALLOWED_MIB)


if __name__ == "__main__":
    raise SystemExit(main())
