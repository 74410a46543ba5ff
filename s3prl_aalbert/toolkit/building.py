"""What S3PRL's runner builds out of a configuration or restores from a checkpoint: a misfit is one sentence."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from s3prl_aalbert.config import shown
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit.hub import plugin_upstreams
from s3prl_aalbert.toolkit.names import UnknownNameError, key_of
from s3prl_aalbert.toolkit.register import DOWNSTREAMS
from s3prl_aalbert.toolkit.replace import replaced

# What Python and torch answer a configuration with that a task of S3PRL did not expect.
MISFITS = (
    *(TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError, ImportError, OSError),
    RuntimeError,
)


@contextmanager
def checked_building() -> Iterator[None]:
    """Let S3PRL's runner say in one sentence which part does not fit: task, data, or weights of a checkpoint."""
    from s3prl.downstream.runner import Runner

    with ExitStack() as stack:
        stack.enter_context(replaced(Runner, "_get_upstream", _building_upstreams(Runner._get_upstream)))
        stack.enter_context(replaced(Runner, "_get_downstream", _naming_the_key(_building_tasks(Runner))))
        stack.enter_context(replaced(Runner, "_load_weight", _loading(Runner._load_weight)))
        yield


def _naming_the_key(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Name the key of the configuration where S3PRL found an unknown name."""

    def checked(runner: Any) -> Any:
        try:
            return build(runner)
        except UnknownNameError as error:
            key = key_of(error.text, runner.config)
            raise AalbertError(f"{key}: {error}" if key else str(error)) from error

    return checked


def _building_upstreams(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def checked(runner: Any) -> Any:
        with upstream_misfits_told(runner.args.upstream, runner.args.upstream_ckpt):
            entry = build(runner)
        check_numbers(runner.args.upstream, entry.model)
        return entry

    return checked


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


def _building_tasks(runner_class: Any) -> Callable[[Any], Any]:
    build = runner_class._get_downstream

    def checked(runner: Any) -> Any:
        task = runner.args.downstream
        if task in DOWNSTREAMS:  # ours check their configuration; what else they raise is a bug
            return build(runner)
        with misfits_told(f"-d {task}: cannot work with its configuration"):
            entry = build(runner)
        entry.model.get_dataloader = _loading_data(entry.model.get_dataloader, task)
        return entry

    return checked


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


def _loading(load: Callable[[Any, Any, str], None]) -> Callable[[Any, Any, str], None]:
    def checked(runner: Any, model: Any, name: str) -> None:
        with misfits_told(f"{runner.args.init_ckpt}: its {name} does not fit this run"):
            load(runner, model, name)

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
