"""Reports in one sentence that S3PRL's runner cannot use a configuration or a checkpoint."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import nn

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import shown
from s3prl_aalbert.toolkit.hub import plugin_upstreams
from s3prl_aalbert.toolkit.names import UnknownNameError, key_of
from s3prl_aalbert.toolkit.parts import Entry, Runner, Task
from s3prl_aalbert.toolkit.register import DOWNSTREAMS

T = TypeVar("T")
# Errors of Python and torch on a configuration that a task of S3PRL does not expect.
MISFITS = (
    *(TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError, ImportError, OSError),
    RuntimeError,
)


def checked_task(runner: Runner, build: Callable[[], Entry[Task]]) -> Entry[Task]:
    """Build the runner's task; if S3PRL's own task cannot use its configuration or a split, raise AalbertError."""
    task = runner.args.downstream
    try:
        if task in DOWNSTREAMS:  # our tasks check their configuration; any other error is a bug
            return build()
        with misfits_reported(f"-d {task}: cannot work with its configuration"):
            entry = build()
    except UnknownNameError as error:
        key = key_of(error.text, runner.config)
        raise AalbertError(f"{key}: {error}" if key else str(error)) from error
    entry.model.get_dataloader = _loading_data(entry.model.get_dataloader, task)
    return entry


def check_numbers(name: str, upstream: nn.Module) -> None:
    """Raise AalbertError if a weight of an upstream is NaN: a task would train with it to the end, at chance."""
    bad = [key for key, weight in upstream.named_parameters() if torch.isnan(weight).any()]
    if bad:
        raise AalbertError(f"-u {name}: its weights have NaN values, the first in {bad[0]}")


def upstream_misfits_reported(name: str, ckpt: str | None) -> AbstractContextManager[None]:
    """Report that an upstream of S3PRL cannot be built from its checkpoint; ours report it themselves.

    Raises:
        AalbertError: the upstream cannot be built; the message names both.
    """
    if name in plugin_upstreams() or ckpt is None:
        return nullcontext()
    return misfits_reported(f"-u {name}: cannot be built from -k {ckpt}")


def _loading_data(get_dataloader: Callable[..., T | None], task: str) -> Callable[..., T]:
    def checked(split: str, **options: object) -> T:
        try:
            loader = get_dataloader(split, **options)
        except MISFITS as error:
            if "unexpected keyword argument 'epoch'" in str(error):  # S3PRL tries again without it
                raise
            raise AalbertError(_sentence(f"-d {task}: cannot give the split {shown(split)}", error)) from error
        if loader is None:
            raise AalbertError(f"-d {task}: has no split {shown(split)}")
        return loader

    return checked


@contextmanager
def misfits_reported(beginning: str) -> Iterator[None]:
    """Turn errors of Python and torch into one sentence with this beginning."""
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
    """Describe what torch refused to unpickle."""
    clauses = [line.strip() for line in str(error).splitlines()] or ["no reason given"]
    reason = next((line for line in clauses if "GLOBAL" in line), clauses[0])
    return (
        "a checkpoint holds Python objects that torch does not load for safety "
        f"({reason.removeprefix('WeightsUnpickler error: ')}); save its weights alone and load those"
    )
