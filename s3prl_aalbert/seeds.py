"""The check of seeds, which every command makes in the same way."""

from __future__ import annotations

from s3prl_aalbert.errors import AalbertError

TORCH_LARGEST = (1 << 63) - 1
NUMPY_LARGEST = (1 << 32) - 1


def checked_seed(seed: object, largest: int = TORCH_LARGEST, option: str = "--seed") -> int:
    """Return a seed that torch and numpy take.

    Args:
        seed: a number, or its text.
        largest: the largest seed that its generators take.
        option: what the user typed it as.

    Raises:
        AalbertError: it is another text, negative or too large.
    """
    if not str(seed).isdecimal() or int(str(seed)) > largest:
        raise AalbertError(f"{option} {seed}: expected a whole number from 0 to {largest}")
    return int(str(seed))
