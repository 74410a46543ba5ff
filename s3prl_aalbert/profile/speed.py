"""Measures real-time factor and peak memory of an upstream, each length in a process of its own."""

from __future__ import annotations

import importlib
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import nn

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.machine import processor as processor_name
from s3prl_aalbert.model.config import SAMPLE_RATE

MIB = 2**20


@dataclass(frozen=True)
class Speed:
    """Speed and memory of one upstream on one utterance."""

    seconds: float
    """Length of the audio."""
    real_time_factor: float
    """Median time of a forward pass divided by the length of the audio; 0.01 is a hundred times real time."""
    peak_mib: float | None
    """Peak memory in MiB: of the GPU, or of the process beyond its memory before the model was built. None if
    unknown."""


def measure(
    build: Callable[[], nn.Module],
    seconds: float,
    device: str = "cpu",
    threads: int | None = None,
    repeats: int = 5,
    preload: str | None = None,
) -> Speed:
    """Build an upstream in a fresh process, run it on one utterance of noise, and time it.

    Args:
        build: returns the upstream; it must be picklable, since the other process calls it.
        seconds: length of the utterance.
        device: where to run.
        threads: number of torch threads; None leaves torch's default.
        repeats: number of timed passes, after one that is not timed.
        preload: module that ``build`` imports; its memory is not the model's.

    Raises:
        AalbertError: the process could not build or run the upstream.
    """
    # A fresh process has a memory peak of its own, and may run out of memory without ending this one.
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    run = partial(_run, build, seconds, device, threads, repeats)
    process = spawn.Process(target=_measure, args=(sender, run, preload))
    process.start()
    sender.close()  # so that the pipe ends if the child dies
    try:
        result = receiver.recv()
    except EOFError:
        process.join()
        result = f"the process ended with code {process.exitcode}, perhaps because memory ran out"
    process.join()
    if isinstance(result, str):
        raise AalbertError(f"{seconds:g} s of audio on {device} could not be measured: {result}")
    return result


def machine(device: str = "cpu", threads: int | None = None) -> str:
    """Describe the machine of a measurement: processor, threads, system, torch."""
    if device.startswith("cuda"):
        processor = torch.cuda.get_device_name(device)
    else:
        processor = f"{processor_name()}, {threads or torch.get_num_threads()} threads"
    return f"{processor}; {platform.system()} {platform.machine()}; torch {torch.__version__}, float32"


def _measure(sender: Connection, run: Callable[[], Speed], preload: str | None) -> None:
    try:
        if preload:
            importlib.import_module(preload)
        sender.send(run())
    except (AalbertError, RuntimeError, MemoryError) as error:
        sender.send(str(error) or type(error).__name__)


def _run(build: Callable[[], nn.Module], seconds: float, device: str, threads: int | None, repeats: int) -> Speed:
    if threads:
        torch.set_num_threads(threads)
    before = _memory("VmRSS")
    upstream = build().to(device).eval()
    wav = 0.1 * torch.randn(round(seconds * SAMPLE_RATE), generator=torch.Generator().manual_seed(0))
    wavs, times = [wav.to(device)], []
    with torch.no_grad():
        for _ in range(repeats + 1):
            start = time.perf_counter()
            upstream(wavs)
            if device.startswith("cuda"):
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
    if device.startswith("cuda"):
        peak: float | None = torch.cuda.max_memory_allocated(device) / MIB
    else:
        most = _memory("VmHWM")
        peak = None if most is None or before is None else most - before
    return Speed(seconds, statistics.median(times[1:]) / seconds, peak)


def _memory(key: str) -> float | None:
    """Return a line of Linux' status of this process in MiB: VmRSS is the present memory, VmHWM the peak."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    for line in status.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024  # kB
    return None
