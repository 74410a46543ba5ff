"""Replaces ``catalyst.data.sampler``: divides the draws of a sampler among the processes of a distributed run."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import DistributedSampler, Sampler


class DistributedSamplerWrapper(DistributedSampler):
    """Draws with ``sampler`` once per epoch; each process gets its share of the draws."""

    def __init__(self, sampler: Sampler, **options: object) -> None:
        super().__init__(list(range(len(sampler))), **options)  # type: ignore[arg-type]
        self.sampler = sampler

    def __iter__(self) -> Iterator[object]:
        draws = list(self.sampler)
        return (draws[position] for position in super().__iter__())
