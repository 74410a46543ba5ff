"""Constants of a module that 16-bit weights do not take along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class PreciseBuffers(nn.Module):
    """A module whose own buffers keep 32 bits at least: ``half()`` would round windows and filters for good."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Convert as any module does, and take rounded buffers from the ones before."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in self._buffers.items():
            old = before[name]
            if buffer is not None and old is not None and buffer.is_floating_point() and buffer.element_size() < 4:
                self._buffers[name] = old.to(buffer.device, torch.float32)
        return self
