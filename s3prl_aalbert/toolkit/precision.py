"""``runner.precision: bf16`` for S3PRL's runner: the upstream multiplies in half the precision, as in pre-training."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from s3prl_aalbert.device import native_bf16
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import shown

logger = logging.getLogger(__name__)


def chosen_precision(config: Mapping[str, Mapping[str, object]], device_type: str) -> str:
    """Return ``runner.precision`` of the configuration, "fp32" (the default) or "bf16".

    "auto" is bf16 where the device multiplies it natively.

    Raises:
        AalbertError: the value is none of these.
    """
    precision = config["runner"].get("precision", "fp32")
    if precision == "auto":
        precision = "bf16" if native_bf16(device_type) else "fp32"
        logger.info("runner.precision: auto chose %s", precision)
    if precision not in ("fp32", "bf16"):
        raise AalbertError(f"runner.precision is {shown(precision)}, expected fp32, bf16 or auto")
    return str(precision)


def autocast(model: nn.Module, device_type: str) -> None:
    """Run ``model`` in bfloat16 where torch considers that safe, and return its results in float32.

    S3PRL's own ``runner.fp16`` works only on GPUs. Weights, hidden states, classifier and optimizer stay in float32.
    """
    compute, postprocess = model.forward, getattr(model, "hook_postprocess", None)

    def forward(*args: object, **options: object) -> object:
        with torch.autocast(device_type, torch.bfloat16):
            found = compute(*args, **options)
        return _in_float32(found)

    def postprocess_hooked(hidden: object) -> object:
        return _in_float32(postprocess(hidden) if callable(postprocess) else hidden)

    model.forward = forward
    if hasattr(model, "hook_postprocess"):  # S3PRL's UpstreamBase adds the results of its hooks to those of forward
        model.hook_postprocess = postprocess_hooked  # type: ignore[assignment]


def _in_float32(found: object) -> object:
    if isinstance(found, dict):
        return {name: _in_float32(value) for name, value in found.items()}
    if isinstance(found, (list, tuple)):
        return [_in_float32(value) for value in found]
    return found.float() if isinstance(found, Tensor) and found.dtype == torch.bfloat16 else found
