"""torch.hub entry points: ``torch.hub.load(REPO, "aalbert_local", ckpt=..., source="local")``."""

dependencies = ["torch", "torchaudio", "numpy", "yaml", "safetensors"]

from s3prl_aalbert.upstream.hubconf import (  # noqa: E402
    aalbert,
    aalbert_3l,
    aalbert_6l,
    aalbert_12l,
    aalbert_every_frame_local,
    aalbert_features,
    aalbert_local,
    aalbert_mockingjay_3l,
    aalbert_mockingjay_6l,
    aalbert_mockingjay_12l,
    aalbert_tiny,
    aalbert_units,
    aalbert_url,
)

__all__ = [
    "aalbert",
    "aalbert_3l",
    "aalbert_6l",
    "aalbert_12l",
    "aalbert_every_frame_local",
    "aalbert_features",
    "aalbert_local",
    "aalbert_mockingjay_3l",
    "aalbert_mockingjay_6l",
    "aalbert_mockingjay_12l",
    "aalbert_tiny",
    "aalbert_units",
    "aalbert_url",
]
