"""The one exception that means "the user can mend this"; the command line prints it without a stack trace."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AalbertError(Exception):
    """A mistake in input, configuration or environment, told in one clear sentence.

    The message names the file or key, what was found and what was expected.
    """


def did_you_mean(found: str, choices: Iterable[str]) -> str:
    """Return ``' (did you mean "x"?)'`` for the nearest of ``choices``, or an empty string."""
    near = difflib.get_close_matches(found, list(choices), n=1, cutoff=0.5)
    return f' (did you mean "{near[0]}"?)' if near else ""
