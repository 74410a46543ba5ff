"""Computes hidden states of whole utterances with any upstream."""

from __future__ import annotations

from itertools import chain

import numpy as np
import torch
from torch import nn

from s3prl_aalbert.errors import AalbertError

HIDDEN_STATES = "hidden_states"


def hidden_states(upstream: nn.Module, wav: np.ndarray, selection: str = HIDDEN_STATES) -> list[np.ndarray]:
    """Return the layers (tokens, D) of one utterance, computed alone so that padding cannot influence them.

    Args:
        upstream: an upstream of S3PRL's form.
        wav: (num_samples,) float32 at 16 kHz.
        selection: the key of the upstream's outputs, as ``-s`` of S3PRL's runner.

    Raises:
        AalbertError: the upstream gives nothing under that key.
    """
    with torch.inference_mode():
        outputs = upstream([torch.from_numpy(wav).to(device_of(upstream))])
    if selection not in outputs:
        raise AalbertError(f"-s {selection}: the upstream gives {', '.join(sorted(outputs))}")
    found = outputs[selection]
    layers = found if isinstance(found, (list, tuple)) else [found]
    return [layer[0].float().cpu().numpy() for layer in layers]


def device_of(upstream: nn.Module) -> torch.device:
    """Return the device of an upstream; upstreams of features have only buffers, or not even those."""
    tensors = chain(upstream.parameters(), upstream.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def samples_per_token(upstream: nn.Module, selection: str = HIDDEN_STATES) -> int:
    """Return the samples per token at 16 kHz."""
    return int(upstream.get_downsample_rates(selection))  # type: ignore[operator]
