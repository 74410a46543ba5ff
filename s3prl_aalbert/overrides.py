"""``-o``: one rule for every command that takes assignments of values to dotted keys."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from s3prl_aalbert.yaml_config import ConfigError

# A quoted value, or the mark between two assignments.
_QUOTED_OR_MARK = re.compile(
    r"""(?<![^=\[({,:\s])(?:'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*")(?=\s*(?:[,\])}:]|$))|,,""", re.DOTALL
)


def assignments(text: str | None, sections: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (section, dotted key, value as text) of each ``SECTION.KEY=VALUE``; ``,,`` separates them.

    A ``,,`` within quotes belongs to the value. Blank assignments are skipped.

    >>> list(assignments("config.a.b='x,,y',,args.seed=3", ("args", "config")))
    [('config', 'a.b', "'x,,y'"), ('args', 'seed', '3')]

    Raises:
        ConfigError: a text is no assignment, has another section, or holds a second assignment after a single comma.
    """
    another = re.compile(rf",\s*({'|'.join(sections)})\.[\w.]+\s*=")
    for assignment in filter(None, map(str.strip, _split(text or ""))):
        place, equals, value = (part.strip() for part in assignment.partition("="))
        section, _, key = place.partition(".")
        if not equals or not value or section not in sections or not all(key.split(".")):
            raise ConfigError(
                f"-o: expected {' or '.join(f'{name}.KEY=VALUE' for name in sections)}, several joined by "
                f'",," (a value that holds ",," in quotes), found "{assignment}"'
            )
        if another.search(_QUOTED_OR_MARK.sub("", value)):
            raise ConfigError(f'-o: two assignments are joined by ",,", found one comma in "{assignment}"')
        yield section, key, value


def _split(text: str) -> Iterator[str]:
    """Split at each ``,,`` that is not within quotes."""
    start = 0
    for found in _QUOTED_OR_MARK.finditer(text):
        if found.group() == ",,":
            yield text[start : found.start()]
            start = found.end()
    yield text[start:]
