"""An optimiser for S3PRL's runner that gives a fine-tuned upstream its own learning rate (S3PRL pull request 525)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import shown


def get_aalbert_adamw(
    model_params: Sequence[nn.Module],
    total_steps: int,
    lr: float = 1e-3,
    upstream_lr: float | None = None,
    weight_decay: float = 0.01,
    **unknown: object,
) -> torch.optim.Optimizer:
    """Build AdamW over the modules that S3PRL trains: [upstream (only with -f),] featurizer, downstream.

    Args:
        model_params: the modules, in that order.
        total_steps: unused; S3PRL passes it to every optimiser.
        lr: learning rate of featurizer and downstream.
        upstream_lr: learning rate of the upstream; None is ``lr``.
        weight_decay: weight decay of every parameter.

    Raises:
        AalbertError: a key is unknown, a value is not a number, or ``upstream_lr`` has no use.
    """
    if unknown:
        raise AalbertError(
            f"optimizer AalbertAdamW: unknown {', '.join(unknown)}; it has lr, upstream_lr, weight_decay"
        )
    # YAML reads 1e-4 as text, on which torch would fail with a stack trace.
    numbers = {"lr": lr, "weight_decay": weight_decay, **({} if upstream_lr is None else {"upstream_lr": upstream_lr})}
    for name, value in numbers.items():
        if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise AalbertError(f"optimizer.{name} is {shown(value)}, expected a number from 0 (with a point: 1.0e-4)")
    *upstream, featurizer, downstream = model_params
    if upstream_lr is not None and not upstream:
        raise AalbertError("optimizer.upstream_lr is set but the upstream is not trained; add -f or remove the key")
    groups = [{"params": list(module.parameters()), "lr": lr} for module in (featurizer, downstream)]
    # The upstream is a group of its own, since a scheduler scales the rate of each group.
    own_lr = lr if upstream_lr is None else upstream_lr
    groups += [{"params": list(module.parameters()), "lr": own_lr} for module in upstream]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, weight_decay=weight_decay)
