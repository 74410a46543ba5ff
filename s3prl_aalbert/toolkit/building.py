"""What S3PRL's runner builds out of a configuration or restores from a checkpoint: a misfit is one sentence."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import shown
from s3prl_aalbert.toolkit.hub import plugin_upstreams
from s3prl_aalbert.toolkit.names import UnknownNameError, key_of
from s3prl_aalbert.toolkit.register import DOWNSTREAMS

# What Python and torch answer a configuration with that a task of S3PRL did not expect.
MISFITS = (
    *(TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError, ImportError, OSError),
    RuntimeError,
)


def checked_task(runner: Any, build: Callable[[], Any]) -> Any:
    """Build the runner's task; of S3PRL's own a misfit is one sentence, of a configuration or a split."""
    task = runner.args.downstream
    try:
        if task in DOWNSTREAMS:  # ours check their configuration; what else they raise is a bug
            return build()
        with misfits_told(f"-d {task}: cannot work with its configuration"):
            entry = build()
    except UnknownNameError as error:
        key = key_of(error.text, runner.config)
        raise AalbertError(f"{key}: {error}" if key else str(error)) from error
    entry.model.get_dataloader = _loading_data(entry.model.get_dataloader, task)
    return entry


def check_numbers(name: str, upstream: nn.Module) -> None:
    """Raise AalbertError where a weight of an upstream is NaN: a task would train on it to its end, at chance."""
    bad = [key for key, weight in upstream.named_parameters() if torch.isnan(weight).any()]
    if bad:
        raise AalbertError(f"-u {name}: its weights hold values that are no numbers (NaN), the first in {bad[0]}")


@contextmanager
def upstream_misfits_told(name: str, ckpt: str | None) -> Iterator[None]:
    """Say in one sentence that an upstream of S3PRL does not come out of its checkpoint; ours say it themselves.

    Raises:
        AalbertError: with the names of both.
    """
    if name in plugin_upstreams() or ckpt is None:
        yield
        return
    with misfits_told(f"-u {name}: cannot be built from -k {ckpt}"):
        yield


def _loading_data(get_dataloader: Callable[..., Any], task: str) -> Callable[..., Any]:
    def checked(split: str, **options: Any) -> Any:
        try:
            loader = get_dataloader(split, **options)
        except MISFITS as error:
            if "unexpected keyword argument 'epoch'" in str(error):  # S3PRL asks again without
                raise
            raise AalbertError(_sentence(f"-d {task}: cannot give the split {shown(split)}", error)) from error
        if loader is None:
            raise AalbertError(f"-d {task}: has no split {shown(split)}")
        return loader

    return checked


@contextmanager
def misfits_told(beginning: str) -> Iterator[None]:
    """Answer what Python and torch raise with one sentence that begins so."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise AalbertError(f"{beginning}: {unpickling_sentence(error)}") from error
    except MISFITS as error:
        raise AalbertError(_sentence(beginning, error)) from error


def _sentence(beginning: str, error: Exception) -> str:
    reason = " ".join(str(error).split())
    return f"{beginning} ({type(error).__name__}: {reason[:300]})"


def unpickling_sentence(error: pickle.UnpicklingError) -> str:
    """Say what torch refused to unpickle."""
    clauses = [line.strip() for line in str(error).splitlines()] or ["no reason given"]
    reason = next((line for line in clauses if "GLOBAL" in line), clauses[0])
    return (
        "a checkpoint holds Python objects that torch does not load for safety "
        f"({reason.removeprefix('WeightsUnpickler error: ')}); save its weights alone and load those"
    )
