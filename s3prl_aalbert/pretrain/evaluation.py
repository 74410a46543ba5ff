"""What the dev split says of a model in training: its loss, a picture, and how well it predicts units."""

from __future__ import annotations

import itertools
import math

import torch
from lightning_fabric import Fabric
from torch import nn

from s3prl_aalbert.model.objective import Objective, Picture
from s3prl_aalbert.model.sub_network import Architecture
from s3prl_aalbert.pretrain.batches import dev_loader
from s3prl_aalbert.pretrain.dataset import SpeechDataset
from s3prl_aalbert.pretrain.launch import sum_of_processes

UNIT_BATCH, UNIT_BATCHES = 8, 16
"""Dev utterances on which the accuracy of units is measured: so many at a time, so many times."""


class Evaluation:
    """The dev split, and the objective that is measured on it.

    Args:
        dataset: the dev split.
        objective: what is trained.
        module: the same as Fabric has wrapped it.
        fabric: processes, device and precision.
        batch_size: utterances at a time, for the loss.
    """

    def __init__(
        self, dataset: SpeechDataset, objective: Objective, module: nn.Module, fabric: Fabric, batch_size: int
    ):
        self.dataset, self.objective, self.module = dataset, objective, module
        self.fabric, self.batch_size = fabric, batch_size

    @torch.no_grad()
    def dev_loss(self, arch: Architecture | None = None) -> float:
        """Return the loss of the whole model or of a sub-network, over all processes; NaN without a dev split."""
        fabric = self.fabric
        if not len(self.dataset):
            return math.nan
        self.module.eval()
        total, weight = 0.0, 0.0
        for batch in dev_loader(self.dataset, self.batch_size, 0, fabric.global_rank, fabric.world_size):
            loss = self.module(batch.to(fabric.device).speech, arch)
            total, weight = total + loss.total.item(), weight + loss.weight.item()
        self.module.train()
        return sum_of_processes(fabric, total) / sum_of_processes(fabric, weight)

    @torch.no_grad()
    def picture(self) -> Picture | None:
        """Return the reconstruction of the longest dev utterance; None where nothing is rebuilt."""
        batch = next(iter(dev_loader(self.dataset, 1))).to(self.fabric.device)
        self.module.eval()
        with self.fabric.autocast():
            picture = self.objective.picture(batch.speech)
        self.module.train()
        return picture

    @torch.no_grad()
    def units(self) -> dict[str, float]:
        """Return the accuracy of hidden and of seen units, the number of units in use, and their perplexity."""
        self.module.eval()
        found = []
        for batch in itertools.islice(dev_loader(self.dataset, UNIT_BATCH), UNIT_BATCHES):
            with self.fabric.autocast():
                counts = self.objective.count_units(batch.to(self.fabric.device).speech)
            assert counts is not None
            found.append([values.double().cpu() for values in counts])
        self.module.train()
        masked, unmasked, units = (torch.stack(values).sum(0) for values in zip(*found, strict=True))
        shares = units / units.sum()
        return {
            "unit_accuracy_masked": (masked[0] / masked[1].clamp_min(1)).item(),
            "unit_accuracy_unmasked": (unmasked[0] / unmasked[1].clamp_min(1)).item(),
            "units_in_use": (units > 0).sum().item(),
            "unit_perplexity": torch.special.entr(shares).sum().exp().item(),
        }
