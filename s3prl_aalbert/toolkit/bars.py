"""Progress bars that count when they are not shown, for S3PRL's training loop."""

from __future__ import annotations

from tqdm import tqdm


class CountingBar(tqdm):
    """A bar that counts when it is not shown, too.

    S3PRL's training takes its step from the bar: under ``--quiet`` or ``TQDM_DISABLE`` it would never end.
    """

    def update(self, n: float | None = 1) -> bool | None:
        """Advance by ``n``."""
        if self.disable:
            self.n += n or 0
        return super().update(n)
