"""Types of S3PRL's runner, its parts and its checkpoints, as far as this package uses them; S3PRL declares none."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, Protocol, TypedDict, TypeVar

from torch import Tensor, nn

from s3prl_aalbert.pretrain.signals import StopSignal

Model = TypeVar("Model")
Features = Tensor | list[Tensor] | tuple[Tensor, ...]
Rates = int | list[int] | tuple[int, ...]


class Upstream(Protocol):
    """An upstream; its features are by name, each a tensor (batch, tokens, width) or several."""

    def __call__(self, wavs: Sequence[Tensor], /) -> dict[str, Features]:
        """Return the features of waveforms of shape (num_samples,)."""

    def get_downsample_rates(self, key: str, /) -> Rates:
        """Return the samples per token."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the weights, as torch.nn.Module does."""

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the buffers, as torch.nn.Module does."""


class Featurizer(Protocol):
    """What turns the features of an upstream into the input of a task."""

    feature_selection: str


class Loader(Sized, Iterable[object], Protocol):
    """What gives the batches of an epoch, such as torch's DataLoader."""


class Task(Protocol):
    """A downstream expert."""

    get_dataloader: Callable[..., Loader]


class Entry(Protocol[Model]):
    """S3PRL's ModelEntry: a model of the runner."""

    model: Model
    name: str
    trainable: bool


class Position(TypedDict):
    """A position in an epoch, and the states of the random generators at the epoch's start and there."""

    batches: int
    length: int
    start: Mapping[str, Any]
    now: Mapping[str, Any]


class States(TypedDict, total=False):
    """A checkpoint of the runner; the weights are under the names of the entries that are trained."""

    Args: argparse.Namespace
    Config: dict[str, Any]
    Downstream: Mapping[str, Tensor]
    Featurizer: Mapping[str, Tensor]
    Upstream: Mapping[str, Tensor]
    Step: int
    Epoch: int
    Position: Position
    Scaler: dict[str, object]


class Runner(Protocol):
    """The runner with the additions of this package."""

    args: argparse.Namespace
    config: dict[str, Any]
    init_ckpt: States
    stop: StopSignal
    upstream: Entry[Upstream]
    downstream: Entry[Task]
    all_entries: Sequence[Entry[nn.Module]]
