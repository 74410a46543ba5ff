"""Progress bars for S3PRL's training loop, which count even if they are not shown."""

from __future__ import annotations

from tqdm import tqdm


class CountingBar(tqdm):
    """A bar that counts even if it is not shown.

    S3PRL's training reads its step from the bar: with ``--quiet`` or ``TQDM_DISABLE`` it would never end.
    """

    def update(self, n: float | None = 1) -> bool | None:
        """Advance by ``n``."""
        if self.disable:
            self.n += n or 0
        return super().update(n)
