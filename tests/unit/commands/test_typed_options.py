"""Options from a typed function: values that may be absent, several, repeated, or one of which must be given."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

import pytest

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.parsing import Parser
from s3prl_aalbert.typed_options import add_options, argument_texts, call


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


def plain(
    first: Path,
    *,
    many: list[int] | None = None,
    kind: Literal["a", "b"] = "a",
    yes: bool = False,
    rate: float,
    note: str | None = None,
) -> dict:
    """Do something.

    Args:
        first: the first,
            in two lines; 5 % of it
        many: numbers
        kind: which
        yes: a switch
        rate: a share
        note: a text

    Returns:
        What it was given.
    """
    return {"first": first, "many": many, "kind": kind, "yes": yes, "rate": rate, "note": note}


def test_options_come_from_the_signature_and_their_help_from_the_docstring() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, plain, {"note": ("-n", "--note")}, {"first": "FILE"})
    given = parser.parse_args(["x", "--many", "1", "2", "--rate", "0.5", "-n", "hello", "--yes", "--kind", "b"])
    expected = {"first": Path("x"), "many": [1, 2], "kind": "b", "yes": True, "rate": 0.5, "note": "hello"}
    assert call(plain, given) == expected
    defaults = {"first": Path("x"), "many": None, "kind": "a", "yes": False, "rate": 1.0, "note": None}
    assert call(plain, parser.parse_args(["x", "--rate", "1"])) == defaults
    assert "the first, in two lines; 5 % of it" in " ".join(parser.format_help().split())
    assert argument_texts(plain)["note"] == "a text"
    with pytest.raises(SystemExit):
        parser.parse_args(["x"])  # rate is required
