"""The paper's classifiers: linear, one and two hidden layers (sections 4.1 and 4.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from s3prl_aalbert.errors import did_you_mean
from s3prl_aalbert.model.config import LARGEST_SIZE, shown

CLASSIFIERS = {"linear": 0, "1-hidden": 1, "2-hidden": 2}
"""Number of hidden layers of each classifier."""


@dataclass(frozen=True)
class ClassifierConfig:
    """``downstream_expert.modelrc``."""

    classifier: str = "2-hidden"
    """"linear", or with one or two hidden layers: "1-hidden", "2-hidden" (the paper's)."""
    hidden_size: int = 768
    """Width of the hidden layers."""
    batch_norm: bool = False
    """Standardise the classifier's input by running statistics, which the paper does not. A linear classifier stays
    linear, but learns in a tenth of the steps where the input varies little, as means over time do."""
    dropout: float = 0.0
    """Probability of zeroing each input and hidden unit of the classifier in training. The paper has none, but without
    it a classifier memorises a small number of labels."""

    def problems(self) -> list[str]:
        """Return what makes these values unusable."""
        found = []
        if self.classifier not in CLASSIFIERS:
            hint = did_you_mean(self.classifier, CLASSIFIERS)
            found.append(f'modelrc.classifier is "{self.classifier}"{hint}, expected one of {list(CLASSIFIERS)}')
        if not 1 <= self.hidden_size <= LARGEST_SIZE:
            found.append(f"modelrc.hidden_size is {shown(self.hidden_size)}, expected 1 to {LARGEST_SIZE}")
        if not 0 <= self.dropout < 1:
            found.append(f"modelrc.dropout is {shown(self.dropout)}, expected 0 to below 1")
        return found


class Standardise(nn.BatchNorm1d):
    """Batch normalisation without scale and shift; a batch of one uses the running statistics."""

    def __init__(self, dim: int):
        super().__init__(dim, affine=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (items, dim) with mean 0 and variance 1 in each dimension."""
        by_batch = self.training and len(inputs) > 1
        momentum = self.momentum or 0.0
        return F.batch_norm(inputs, self.running_mean, self.running_var, None, None, by_batch, momentum, self.eps)


def build_classifier(
    input_dim: int,
    num_classes: int,
    hidden_layers: int,
    hidden_size: int = 768,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Build Linear (ReLU Linear)*: (items, input_dim) -> (items, num_classes)."""
    drop = [nn.Dropout(dropout)] if dropout else []
    layers: list[nn.Module] = [Standardise(input_dim)] if batch_norm else []
    for _ in range(hidden_layers):
        layers += [*drop, nn.Linear(input_dim, hidden_size), nn.ReLU()]
        input_dim = hidden_size
    return nn.Sequential(*layers, *drop, nn.Linear(input_dim, num_classes))
