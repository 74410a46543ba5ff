"""The states that a task's checkpoint holds beside S3PRL's own: position in the data, random generators, upstream."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch

from s3prl_aalbert.errors import AalbertError

POSITION: Final = "Position"
"""Key of a checkpoint for the position in an epoch and the states of the random generators."""
SCALER: Final = "Scaler"
"""Key of a checkpoint for the loss scale of ``runner.fp16``, which S3PRL does not save."""
WEIGHTS: Final = "UpstreamWeights"
"""Key of a checkpoint for the digest of a frozen upstream's weights, which S3PRL does not save."""


def checked_position(position: object) -> bool:
    """Return whether a value of a checkpoint is a valid position in an epoch."""
    counts = [position.get(name) for name in ("batches", "length")] if isinstance(position, dict) else [None]
    states = [position.get(name) for name in ("start", "now")] if isinstance(position, dict) else [None]
    return all(isinstance(count, int) and count >= 0 for count in counts) and all(isinstance(s, dict) for s in states)


def random_states() -> dict[str, Any]:
    """Return the states of all random generators as plain values."""
    version, numbers, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": on_gpus,
    }


def set_random_states(states: Mapping[str, Any], path: str) -> None:
    """Restore the states of the random generators; with several processes each keeps its own.

    Raises:
        AalbertError: the checkpoint at ``path`` has no such states.
    """
    if torch.distributed.is_initialized():
        return
    try:
        version, numbers, gauss = states["python"]
        random.setstate((version, tuple(numbers), gauss))
        kind, keys, *rest = states["numpy"]
        np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
        torch.set_rng_state(states["torch"])
        if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(states["cuda"])
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError, OverflowError) as error:
        raise AalbertError(f"{path}: is damaged: {POSITION} holds no states of random generators ({error})") from error
