"""Reports in one sentence that S3PRL's runner cannot use a configuration or a checkpoint."""

from __future__ import annotations

import argparse
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from s3prl_aalbert.downstream.features import weights_digest
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import shown
from s3prl_aalbert.toolkit.hub import plugin_upstreams
from s3prl_aalbert.toolkit.names import UnknownNameError, key_of
from s3prl_aalbert.toolkit.overrides import parse_override
from s3prl_aalbert.toolkit.parts import Entry, Runner, Task, Upstream
from s3prl_aalbert.toolkit.positions import WEIGHTS
from s3prl_aalbert.toolkit.register import DOWNSTREAMS

logger = logging.getLogger(__name__)

T = TypeVar("T")
_NAMES_UPSTREAM = {"upstream", "upstream_ckpt", "upstream_model_config"}
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


def checked_weights(runner: Runner, entry: Entry[Upstream]) -> str | None:
    """Return the digest of a frozen upstream's weights; None if the upstream is trained or has no weights.

    Raises:
        AalbertError: ``-a`` or ``-e`` goes on from a checkpoint that was trained on other weights, and no ``-o`` of
            this command names the upstream.
    """
    args = runner.args
    trained_on = runner.init_ckpt.get(WEIGHTS) if args.past_exp else None
    if (entry.trainable and trained_on is None) or next(iter(entry.model.named_parameters()), None) is None:
        return None
    found = weights_digest(entry.model, buffers=False)
    if trained_on not in (None, found):
        _report_other_weights(args)
    return None if entry.trainable else found


def _report_other_weights(args: argparse.Namespace) -> None:
    """Warn where ``-o`` names the upstream, which is then deliberate; else raise AalbertError."""
    upstream = f"-u {args.upstream}" + (f" at -k {args.upstream_ckpt}" if args.upstream_ckpt else "")
    if _NAMES_UPSTREAM & parse_override(args.override).args.keys():
        logger.warning("%s: was trained on other weights than those of %s, which -o names", args.init_ckpt, upstream)
        return
    expected = (
        "give -o args.upstream_ckpt=PATH of the state or release that it was trained on"
        if args.upstream_ckpt
        else "keep the seed of an untrained upstream, and the version of a downloaded or packaged one"
    )
    raise AalbertError(
        f"{args.init_ckpt}: the upstream {upstream} now has other weights than the ones it was trained on; "
        f"{expected}, or start a new run"
    )


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
    return f"{beginning} ({type(error).__name__}: {reason[:300]}{_place_of(error)}); --verbose shows the stack trace"


def _place_of(error: Exception) -> str:
    """Return the file and line of a task, or of S3PRL, in which the error arose; "" where there is none."""
    import s3prl

    # This package, what is installed beside torch, and Python itself.
    libraries = Path(__file__).parents[1], Path(torch.__file__).parents[1], Path(traceback.__file__).parent

    def is_of_task(file: Path) -> bool:
        return file.is_relative_to(Path(s3prl.__file__).parent) or not any(map(file.is_relative_to, libraries))

    frames = [(Path(each.filename), each.lineno) for each in traceback.extract_tb(error.__traceback__)]
    own = [(file, line) for file, line in frames if is_of_task(file)]
    return f", at {'/'.join(own[-1][0].parts[-2:])}:{own[-1][1]}" if own else ""


def unpickling_sentence(error: pickle.UnpicklingError) -> str:
    """Describe what torch refused to unpickle."""
    clauses = [line.strip() for line in str(error).splitlines()] or ["no reason given"]
    reason = next((line for line in clauses if "GLOBAL" in line), clauses[0])
    return (
        "a checkpoint holds Python objects that torch does not load for safety "
        f"({reason.removeprefix('WeightsUnpickler error: ')}); save its weights alone and load those"
    )
