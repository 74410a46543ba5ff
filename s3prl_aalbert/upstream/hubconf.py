"""The upstream entries, for S3PRL's hub and for torch.hub."""

from __future__ import annotations

from typing import Any

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.upstream.expert import FeaturesExpert, UpstreamExpert

__all__ = [
    "aalbert_3l",
    "aalbert_6l",
    "aalbert_12l",
    "aalbert_features",
    "aalbert_local",
    "aalbert_mockingjay_3l",
    "aalbert_mockingjay_6l",
    "aalbert_mockingjay_12l",
]


def aalbert_local(ckpt: str | None = None, model_config: str | None = None, **kwargs: Any) -> UpstreamExpert:
    """Load AALBERT or Mockingjay from a checkpoint of this project.

    Args:
        ckpt: release folder or file, pre-training folder, or training state.
    """
    if not ckpt:
        raise AalbertError("aalbert_local needs a checkpoint (-k CKPT); for an untrained model use e.g. aalbert_6l")
    return UpstreamExpert(ckpt=ckpt, model_config=model_config)


def aalbert_features(ckpt: str | None = None, model_config: str | None = None, **kwargs: Any) -> FeaturesExpert:
    """Give the model's input acoustic features as an upstream; ``-s no_cmvn`` selects those without CMVN."""
    if ckpt:
        raise AalbertError(f"aalbert_features has no weights, but a checkpoint was given (-k {ckpt}); leave it out")
    return FeaturesExpert(model_config=model_config)


def _preset(name: str, ckpt: str | None, model_config: str | None) -> UpstreamExpert:
    if ckpt:
        upstream = f"aalbert_{name.removeprefix('aalbert_')}"
        raise AalbertError(f"{upstream} takes no checkpoint, but one was given (-k {ckpt}); use -u aalbert_local")
    return UpstreamExpert(model_config=model_config or name)


def aalbert_3l(ckpt: str | None = None, model_config: str | None = None, **kwargs: Any) -> UpstreamExpert:
    """Build an untrained AALBERT-3L (7.46M parameters)."""
    return _preset("aalbert_3l", ckpt, model_config)


def aalbert_6l(ckpt: str | None = None, model_config: str | None = None, **kwargs: Any) -> UpstreamExpert:
    """Build an untrained AALBERT-6L (7.46M parameters)."""
    return _preset("aalbert_6l", ckpt, model_config)


def aalbert_12l(ckpt: str | None = None, model_config: str | None = None, **kwargs: Any) -> UpstreamExpert:
    """Build an untrained AALBERT-12L (7.46M parameters)."""
    return _preset("aalbert_12l", ckpt, model_config)


def aalbert_mockingjay_3l(ckpt: str | None = None, model_config: str | None = None, **kwargs: Any) -> UpstreamExpert:
    """Build an untrained Mockingjay-3L (21.6M parameters)."""
    return _preset("mockingjay_3l", ckpt, model_config)


def aalbert_mockingjay_6l(ckpt: str | None = None, model_config: str | None = None, **kwargs: Any) -> UpstreamExpert:
    """Build an untrained Mockingjay-6L (42.9M parameters)."""
    return _preset("mockingjay_6l", ckpt, model_config)


def aalbert_mockingjay_12l(ckpt: str | None = None, model_config: str | None = None, **kwargs: Any) -> UpstreamExpert:
    """Build an untrained Mockingjay-12L (85.4M parameters)."""
    return _preset("mockingjay_12l", ckpt, model_config)
