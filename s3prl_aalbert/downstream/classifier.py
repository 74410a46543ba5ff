"""The paper's classifiers: linear, one and two hidden layers (sections 4.1 and 4.3)."""

from __future__ import annotations

from torch import nn

CLASSIFIERS = {"linear": 0, "1-hidden": 1, "2-hidden": 2}
"""Hidden layers by name."""


def build_classifier(input_dim: int, num_classes: int, hidden_layers: int, hidden_size: int = 768) -> nn.Sequential:
    """Build Linear (ReLU Linear)*: (..., input_dim) -> (..., num_classes)."""
    layers: list[nn.Module] = []
    for _ in range(hidden_layers):
        layers += [nn.Linear(input_dim, hidden_size), nn.ReLU()]
        input_dim = hidden_size
    return nn.Sequential(*layers, nn.Linear(input_dim, num_classes))
