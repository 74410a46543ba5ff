"""What a message must name: the file, key, option, value or suggestion, in whatever sentence."""

from __future__ import annotations

import re


def naming(*parts: object) -> str:
    """A pattern for ``pytest.raises(match=...)``: the message names every part, as whole words and in any order.

    >>> bool(re.search(naming("lr", 3), "found 3, which lr cannot be")), bool(re.search(naming("lr"), "no lrs here"))
    (True, False)
    """
    return "(?s)" + "".join(rf"(?=.*{_whole(str(part))})" for part in parts)


def mentions(message: str, *parts: object) -> bool:
    """Whether one line of a message, of a log or of standard error names every part."""
    pattern = re.compile(naming(*parts))
    return any(pattern.match(line) for line in message.splitlines())


def _whole(part: str) -> str:
    before = r"(?<!\w)" if part[:1].isalnum() else ""
    after = r"(?!\w)" if part[-1:].isalnum() else ""
    return f"{before}{re.escape(part)}{after}"
