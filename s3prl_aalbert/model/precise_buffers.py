"""Constants of a module that keep their precision when its weights become 16-bit."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class PreciseBuffers(nn.Module):
    """A module whose own buffers keep at least 32 bits: ``half()`` would round windows and filters irreversibly."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PreciseBuffers:
        """Convert as any module does, but compute rounded buffers from the previous, exact ones."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in self._buffers.items():
            old = before[name]
            if buffer is not None and old is not None and buffer.is_floating_point() and buffer.element_size() < 4:
                self._buffers[name] = old.to(buffer.device, torch.float32)
        return self
