"""Options from a typed function: values that may be absent, several, repeated, or one of which must be given."""

from __future__ import annotations

import pytest

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.parsing import Parser
from s3prl_aalbert.typed_options import add_options, call


def example(
    file: str | None = None,
    *,
    preset: str | None = None,
    rows: tuple[str, ...] | None = None,
    skip: tuple[str, ...] = ("a", "b"),
    only: list[int] | None = None,
) -> dict[str, object]:
    """Return what it was given.

    Args:
        file: a file
        preset: instead of a file
        rows: instead of both, none or more
        skip: names; default: a b
        only: a number, may be repeated
    """
    return locals()


def parsed(*argv: str) -> dict[str, object]:
    parser = Parser()
    add_options(parser, example, one_of=("file", "preset", "rows"), repeated=["only"])
    given = call(example, parser.parse_args(argv))
    return {name: value for name, value in given.items() if value is not None}


@pytest.mark.parametrize(
    ("argv", "given"),
    [
        (["x"], {"file": "x", "skip": ("a", "b")}),
        (["--rows", "--skip"], {"rows": [], "skip": []}),
        (["--rows", "r", "s"], {"rows": ["r", "s"], "skip": ("a", "b")}),
        (["--only", "1", "--preset", "p", "--only", "2"], {"preset": "p", "only": [1, 2], "skip": ("a", "b")}),
    ],
    ids=str,
)
def test_values(argv: list[str], given: dict[str, object]) -> None:
    assert parsed(*argv) == given


@pytest.mark.parametrize("argv", [[], ["x", "--preset", "p"], ["--rows", "--preset", "p"], ["x", "--only", "one"]])
def test_mistakes(argv: list[str]) -> None:
    with pytest.raises(AalbertError):
        parsed(*argv)
