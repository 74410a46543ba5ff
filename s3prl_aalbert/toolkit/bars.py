"""Progress bars that count when they are not shown, for S3PRL's training loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from s3prl_aalbert.toolkit.replace import replaced


class CountingBar(tqdm):
    """A bar that counts when it is not shown, too."""

    def update(self, n: float | None = 1) -> bool | None:
        """Advance by ``n``."""
        if self.disable:
            self.n += n or 0
        return super().update(n)


@contextmanager
def counting_bars() -> Iterator[None]:
    """Let S3PRL's training end under ``--quiet`` or ``TQDM_DISABLE``: it takes its step from the progress bar."""
    from s3prl.downstream import runner

    with replaced(runner, "tqdm", CountingBar):
        yield
