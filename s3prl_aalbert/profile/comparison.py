"""Compares costs and speed of several models, as text for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import nn

from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.profile import costs, speed, tables


class Subject(NamedTuple):
    """One model to profile."""

    name: str
    config: ModelConfig | None
    """Configuration of one of our models; None for an upstream that must be run to be counted."""
    build: Callable[[], nn.Module]
    """Function that returns the upstream; it must be picklable."""
    preload: str | None = None
    """Module that ``build`` imports."""


def describe_costs(subjects: Sequence[Subject], seconds: float, superb: bool) -> str:
    """Return tables of parameters and multiply-accumulates.

    Args:
        subjects: the models.
        seconds: length of the utterance for the MACs per second.
        superb: also run upstreams of S3PRL on SUPERB's 32 utterances.
    """
    ours, others = [], []
    profiles = []
    for subject in subjects:
        if subject.config is not None:
            profile = costs.profile_config(subject.name, subject.config, seconds)
            ours.append(profile)
        else:
            profile = costs.profile_upstream(subject.name, subject.build(), seconds, superb)
            others.append(profile)
        profiles.append(profile)
    parts = [tables.cost_table(profiles)]
    parts += [tables.module_table(ours)] if ours else []
    parts += [tables.upstream_table(profile) for profile in others]
    note = f"MACs are per second of audio, in an utterance of {seconds:g} s; Fourier transforms are not counted."
    return "\n\n".join([*parts, note])


def describe_speed(
    subjects: Sequence[Subject], lengths: Sequence[float], repeats: int, threads: int | None, device: str
) -> str:
    """Measure speed and memory, and return a table.

    Args:
        subjects: the models.
        lengths: lengths of the utterances in seconds.
        repeats: number of timed passes.
        threads: number of torch threads; None leaves torch's default.
        device: where to run.

    Raises:
        AalbertError: a model could not be built or run.
    """
    speeds = [
        (s.name, [speed.measure(s.build, seconds, device, threads, repeats, s.preload) for seconds in lengths])
        for s in subjects
    ]
    where = "GPU memory" if device.startswith("cuda") else "the process beyond Python, torch and S3PRL"
    return (
        f"{tables.speed_table(speeds)}\n\n"
        f"RTF: median time of {repeats} passes over one utterance / its length; MiB: peak memory, "
        f"{where}.\nMeasured on {speed.machine(device, threads)}."
    )
