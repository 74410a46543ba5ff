"""Any S3PRL upstream with its layers side by side: S3PRL's Featurizer would sum them before a task sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit.register import ALL_LAYERS_PREFIX


class AllLayers(nn.Module):
    """An upstream whose ``hidden_states`` is one tensor: all layers joined, (batch, tokens, sum of widths)."""

    def __init__(self, upstream: nn.Module):
        super().__init__()
        self.upstream = upstream

    def get_downsample_rates(self, key: str) -> int:
        """Return the samples per token of the inner upstream."""
        inner: Any = self.upstream
        rate = inner.get_downsample_rates("hidden_states")
        if isinstance(rate, (list, tuple)):
            if len(set(rate)) > 1:
                raise AalbertError(f"probing needs layers of one rate, found {rate}")
            return rate[0]
        return rate

    def layers(self, wavs: Sequence[Tensor]) -> list[Tensor]:
        """Return the hidden states of the inner upstream."""
        states = self.upstream(wavs).get("hidden_states")
        if states is None:
            raise AalbertError(f"{type(self.upstream).__module__}: has no hidden_states to probe")
        return list(states) if isinstance(states, (list, tuple)) else [states]

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, Any]:
        """Return ``hidden_states`` for a list of (num_samples,) waveforms."""
        return {"hidden_states": torch.cat(self.layers(wavs), dim=-1)}


def register_all_layers(name: str) -> str:
    """Add the wrapper of upstream ``name`` to S3PRL's hub and return the name it has there."""
    from s3prl import hub

    entry: Callable[..., nn.Module] = getattr(hub, name)

    def build(**options: Any) -> AllLayers:
        return AllLayers(entry(**options))

    setattr(hub, ALL_LAYERS_PREFIX + name, build)
    return ALL_LAYERS_PREFIX + name


def measure_layers(name: str, ckpt: str | None, model_config: str | None) -> list[int]:
    """Return the widths of the layers that an upstream (registered by ``register_all_layers``) gives."""
    from s3prl import hub

    from s3prl_aalbert.toolkit.building import check_numbers, upstream_misfits_told

    with upstream_misfits_told(name.removeprefix(ALL_LAYERS_PREFIX), ckpt):
        model = getattr(hub, name)(ckpt=ckpt, model_config=model_config, refresh=False).eval()
    check_numbers(name.removeprefix(ALL_LAYERS_PREFIX), model)
    with torch.no_grad():
        return [state.size(-1) for state in model.layers([torch.zeros(16000)])]
