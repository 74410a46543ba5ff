"""S3PRL's training loop takes its step from a progress bar, so that a hidden one must count as well."""

import io

import pytest
from tqdm import tqdm

from s3prl_aalbert.toolkit.bars import CountingBar


@pytest.mark.parametrize("hidden", [False, True])
def test_a_bar_counts_whether_or_not_it_is_shown(hidden):
    bar = CountingBar(total=5, disable=hidden, file=io.StringIO())
    for steps in (1, 3):
        bar.update(steps)
    assert bar.n == 4 and bar.total == 5


def test_the_bars_of_others_do_not():
    """The day that this fails, the class can go."""
    bar = tqdm(total=5, disable=True)
    bar.update()
    assert bar.n == 0
