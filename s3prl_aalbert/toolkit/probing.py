"""The featurizer of probing, which joins the layers of any upstream where S3PRL's own sums them."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3prl_aalbert import toolkit
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit.parts import Features

toolkit.activate()

from s3prl.upstream.interfaces import Featurizer  # noqa: E402


class JoinedLayers(Featurizer):
    """S3PRL's featurizer with the selected layers joined: (tokens, sum of widths) for each waveform."""

    weights: nn.Parameter
    first_layer: int | None = None
    """Number of the first of these layers among the hidden states."""

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

    def _select_feature(self, features: Mapping[str, Features]) -> Features:
        if self.first_layer is None:  # a feature cache returns only some of the features later
            self.first_layer = first_layer(features, self.feature_selection, self.layer_selection)
        return super()._select_feature(features)

    def _weighted_sum(self, feature: Sequence[Tensor]) -> Tensor:
        self.layer_dims = [layer.size(-1) for layer in feature]
        if self.normalize:
            feature = [F.layer_norm(layer, layer.shape[-1:]) for layer in feature]
        return torch.cat(list(feature), dim=-1)


def first_layer(features: Mapping[str, Features], selection: str, layer: int | None) -> int:
    """Return the number of the first selected layer among the hidden states, of which 0 is the input embedding.

    Args:
        features: what the upstream returned.
        selection: S3PRL's ``-s``.
        layer: S3PRL's ``-l``; None selects all layers.
    """
    if selection == "last_hidden_state":
        return max(0, len(features.get("hidden_states", ())) - 1)
    if single := re.fullmatch(r"hidden_state_(\d+)", selection):  # of S3PRL's own upstreams
        return int(single[1])
    start = 1 if selection == "layer_states" else 0
    if layer is None:
        return start
    return start + (layer if layer >= 0 else len(features[selection]) + layer)


def record_layers(config: dict[str, object], featurizer: object, resumed: bool) -> None:
    """Set ``modelrc.layer_dims`` and ``modelrc.first_layer`` of the task by the joined layers, unless configured.

    Args:
        config: configuration of the run.
        featurizer: featurizer of the run.
        resumed: whether ``config`` is that of an earlier run. Without ``first_layer`` that run counted from 0 whatever
            the selection, and its checkpoint names its probes so.
    """
    section = config.get("downstream_expert")
    if not isinstance(featurizer, JoinedLayers) or not isinstance(section, dict):
        return
    if section.get("modelrc") is None:
        section["modelrc"] = {}
    modelrc = section["modelrc"]
    if isinstance(modelrc, dict):
        found = {"layer_dims": featurizer.layer_dims, "first_layer": 0 if resumed else featurizer.first_layer}
        modelrc |= {key: value for key, value in found.items() if modelrc.get(key) is None}
