"""The featurizer of ``aalbert probe``, which joins the layers of any upstream where S3PRL's own sums them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3prl_aalbert import toolkit
from s3prl_aalbert.errors import AalbertError

toolkit.activate()

from s3prl.upstream.interfaces import Featurizer  # noqa: E402


class JoinedLayers(Featurizer):
    """S3PRL's featurizer with all layers joined: (tokens, sum of widths) for each waveform."""

    weights: nn.Parameter

    def __init__(self, upstream: nn.Module, feature_selection: str = "hidden_states", **options: object):
        self.layer_dims: list[int] = []
        with contextlib.redirect_stderr(io.StringIO()):  # it announces a weighted sum
            super().__init__(upstream, feature_selection, **options)
        if self.layer_dims:
            del self.weights
        else:
            self.layer_dims = [self.output_dim]
        rates = self.downsample_rate if isinstance(self.downsample_rate, (list, tuple)) else [self.downsample_rate]
        if len(set(rates)) > 1:
            raise AalbertError(f"probing needs layers of one rate, found {list(rates)}")
        self.downsample_rate: int = rates[0]

    def _weighted_sum(self, feature: Sequence[Tensor]) -> Tensor:
        self.layer_dims = [layer.size(-1) for layer in feature]
        if self.normalize:
            feature = [F.layer_norm(layer, layer.shape[-1:]) for layer in feature]
        return torch.cat(list(feature), dim=-1)


def record_layers(config: dict[str, object], featurizer: object) -> None:
    """Set ``modelrc.layer_dims`` of the task to the widths of the joined layers, unless it is configured."""
    widths = getattr(featurizer, "layer_dims", None)
    section = config.get("downstream_expert")
    if widths is None or not isinstance(section, dict):
        return
    if section.get("modelrc") is None:
        section["modelrc"] = {}
    if isinstance(section["modelrc"], dict) and section["modelrc"].get("layer_dims") is None:
        section["modelrc"]["layer_dims"] = widths
