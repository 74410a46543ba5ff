"""Counts parameters and multiply-accumulates (MACs) of a model, from its configuration or while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from s3prl_aalbert.model import macs
from s3prl_aalbert.model.aalbert import SpectrogramHead, UnitHead, count_parameters
from s3prl_aalbert.model.config import SAMPLE_RATE, ModelConfig
from s3prl_aalbert.upstream.named import count_of

# Lengths in samples of the 32 LibriSpeech test-clean utterances of SUPERB's profiling tool, which runs them singly:
# testing/s3prl_profiling_test.py of B06901052/DeepSpeed, branch superb-challenge.
SUPERB_SAMPLES = (
    *(20560, 34560, 38480, 42560, 45600, 48720, 52000, 55120),  # "short"
    *(59120, 62720, 66400, 71200, 75200, 78640, 82800, 87520),  # "medium"
    *(92720, 98560, 104400, 111120, 118480, 125040, 132720, 142640),  # "long"
    *(154000, 166720, 180880, 197920, 217920, 239280, 268160, 326000),  # "longer"
)


@dataclass(frozen=True)
class SuperbCost:
    """MACs by the convention of SUPERB's leaderboard."""

    total: int
    """Sum over the 32 utterances: the leaderboard's "MACs"."""
    least: float
    """MACs per second of audio, in the utterance where they are lowest."""
    most: float


@dataclass(frozen=True)
class Profile:
    """The parameters and MACs of one model."""

    name: str
    parameters: int
    """Without the pre-training head; weights shared between layers count once."""
    parameters_with_head: int | None
    """Parameters with the pre-training heads; None if there is none."""
    modules: Mapping[str, float]
    """MACs per second of audio, by module; for our own models the keys are macs.MODULES. They grow with the length of
    the utterance, attention maps with its square."""
    macs: float
    """MACs per second of audio, of all modules."""
    superb: SuperbCost | None
    """MACs by SUPERB's convention; None if not requested."""


def utterance_macs(config: ModelConfig, num_samples: int, every_frame: bool = False) -> dict[str, int]:
    """Return the MACs of one utterance by module, as ``macs.module_macs`` does.

    Args:
        config: the model.
        num_samples: length of the utterance.
        every_frame: a hidden state for every frame: the model hears the utterance once for each frame of a token.
    """
    times = config.transformer.downsample_rate if every_frame else 1
    counts = macs.module_macs(config, num_samples)
    return {name: count if name == macs.FEATURES else times * count for name, count in counts.items()}


def profile_config(name: str, config: ModelConfig, seconds: float = 15.0, every_frame: bool = False) -> Profile:
    """Profile one of our models from its configuration, without running it.

    Args:
        name: name in tables.
        config: the model.
        seconds: length of the utterance for the MACs per second.
        every_frame: as in ``utterance_macs``.
    """
    rate = config.audio.sample_rate
    num_samples = round(seconds * rate)
    modules = {name: count / seconds for name, count in utterance_macs(config, num_samples, every_frame).items()}
    parameters = count_of(config)
    with torch.device("meta"):  # only shapes
        kinds = (SpectrogramHead, config.task.reconstruction_weight), (UnitHead, config.task.unit_weight)
        heads = sum(count_parameters(head(config)) for head, weight in kinds if weight)
    return Profile(
        name=name,
        parameters=parameters,
        parameters_with_head=parameters + heads,
        modules=modules,
        macs=sum(modules.values()),
        superb=superb_cost([sum(utterance_macs(config, each, every_frame).values()) for each in SUPERB_SAMPLES]),
    )


def profile_upstream(name: str, upstream: nn.Module, seconds: float = 15.0, superb: bool = False) -> Profile:
    """Profile any upstream by running it on noise and counting.

    Args:
        name: name in tables.
        upstream: takes a list of (num_samples,) waveforms at 16 kHz.
        seconds: length of the utterance for the MACs per second.
        superb: also run SUPERB's 32 utterances, 225 seconds in all.
    """
    counts = count_macs(upstream, [_noise(round(seconds * SAMPLE_RATE))])
    costs = [count_macs(upstream, [_noise(samples)])["Global"] for samples in SUPERB_SAMPLES] if superb else None
    return Profile(
        name=name,
        parameters=count_parameters(upstream),
        parameters_with_head=None,
        modules={module: count / seconds for module, count in disjoint_modules(counts).items()},
        macs=counts["Global"] / seconds,
        superb=superb_cost(costs) if costs else None,
    )


def superb_cost(costs: Sequence[int]) -> SuperbCost:
    """Return SUPERB's numbers from the MACs of its 32 utterances, in the order of SUPERB_SAMPLES."""
    rates = [cost * SAMPLE_RATE / samples for cost, samples in zip(costs, SUPERB_SAMPLES, strict=True)]
    return SuperbCost(total=sum(costs), least=min(rates), most=max(rates))


def count_macs(module: nn.Module, *inputs: object) -> dict[str, int]:
    """Run a module once, as evaluation would, and return the MACs by module name; "Global" is the total.

    torch's counter counts matrix products and convolutions, but not inside fused kernels. Attention, the Transformer
    fast path and recurrent layers are therefore run in their plain forms.
    """
    training = module.training
    counter = FlopCounterMode(display=False)
    try:
        module.eval()
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _plain_kernels(), counter:
            module(*inputs)
    finally:
        module.train(training)
    counts = {name: sum(ops.values()) // 2 for name, ops in counter.get_flop_counts().items()}
    return {"Global": 0, **counts}  # torch lists only modules that it counted


@contextmanager
def _plain_kernels() -> Iterator[None]:
    mha, mkldnn = torch.backends.mha, torch.backends.mkldnn
    fast, fused = mha.get_fastpath_enabled(), mkldnn.enabled
    mha.set_fastpath_enabled(False)
    mkldnn.enabled = False  # type: ignore[assignment]
    try:
        yield
    finally:
        mha.set_fastpath_enabled(fast)
        mkldnn.enabled = fused


def disjoint_modules(counts: Mapping[str, int]) -> dict[str, int]:
    """Split a total into the first level of modules that splits it, e.g. feature extractor and encoder.

    Args:
        counts: MACs by dotted module name, parents including their children, and "Global".

    Returns:
        MACs by module name below the root; "other" is the rest, such as the mel filters.
    """
    total = counts["Global"]
    names = [name for name in counts if "." not in name and name != "Global"]
    while True:
        children = [child for name in names for child in _children(counts, name)]
        if not children:
            break
        names = children
        if len(names) > 1:
            break
    found = {name.partition(".")[2] or name: counts[name] for name in names}
    rest = total - sum(found.values())
    return {**found, "other": rest} if rest and found else found or {"other": total}


def _children(counts: Mapping[str, int], parent: str) -> list[str]:
    prefix = f"{parent}."
    return [name for name in counts if name.startswith(prefix) and "." not in name[len(prefix) :] and counts[name]]


def _noise(num_samples: int) -> Tensor:
    """Return a waveform (num_samples,) at speech level; its values do not change the count."""
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(0))
