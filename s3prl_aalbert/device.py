"""``--device``, which every command checks in the same way."""

from __future__ import annotations

import logging
import re

from s3prl_aalbert.errors import AalbertError

logger = logging.getLogger(__name__)


def checked_device(name: str | None, numbered: bool = False) -> str:
    """Return the device to compute on: the one named, or else the GPU where there is one.

    Args:
        name: as typed; None chooses a device and logs it.
        numbered: whether ``cuda:1`` is accepted too.

    Raises:
        AalbertError: the device is unknown, or this machine has no such GPU.
    """
    number = check_device_name(name, numbered)
    if name == "cpu":
        return name
    import torch  # which takes seconds

    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
        logger.info("--device: %s chosen", name)
    if name != "cpu" and not torch.cuda.is_available():
        raise AalbertError(f"--device {name}: this machine has no usable GPU; expected cpu")
    if number and int(number[1]) >= torch.cuda.device_count():
        raise AalbertError(f"--device {name}: this machine has {torch.cuda.device_count()} GPU(s), counted from 0")
    return name


def check_device_name(name: str | None, numbered: bool = False) -> re.Match[str] | None:
    """Check the name without importing torch, and return the match of a numbered device.

    Raises:
        AalbertError: the device is unknown.
    """
    number = re.fullmatch(r"cuda:(\d{1,3})", name) if numbered and name else None
    if name not in (None, "cuda", "cpu") and not number:
        hint = ", or cuda:N for one GPU of several" if numbered else " (one GPU of several: CUDA_VISIBLE_DEVICES)"
        raise AalbertError(f"--device {name}: expected cuda or cpu{hint}")
    return number


def native_bf16(device_type: str) -> bool:
    """Return whether a device multiplies bfloat16 itself; a CPU that emulates it is much slower than in fp32.

    Args:
        device_type: "cpu", "cuda" or another of torch's.
    """
    import torch

    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    mkldnn = device_type == "cpu" and torch.backends.mkldnn.is_available()
    return mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
