"""``-o``: one rule of what an assignment is, for pre-training, tasks and probing."""

from __future__ import annotations

from typing import Any

import pytest

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.overrides import assignments
from s3prl_aalbert.pretrain.config import apply_overrides
from s3prl_aalbert.toolkit.overrides import parse_override


@pytest.mark.parametrize(
    "value",
    [
        "'/data/a,,b=c'",
        '"/data/it\'s,,one"',
        "['/data/a,,b', \"c,,d\"]",
        "{'a,,b': 'c,,d'}",
        r"'it\'s,,one'",
        r'"say \"a,,b\""',
        "'it''s,,one'",
        "/data/it's",
        "/data/lang=en",
        "''",
    ],
)
def test_a_quoted_value_is_kept_whole(value: str) -> None:
    text = f"config.a.b={value},,config.c= {value} ,, config.d=1"
    assert list(assignments(text, ("config",))) == [
        ("config", "a.b", value),
        ("config", "c", value),
        ("config", "d", "1"),
    ]


@pytest.mark.parametrize("text", [None, "", " ,, "])
def test_blanks_assign_nothing(text: str | None) -> None:
    assert list(assignments(text, ("config",))) == []


def both(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what pre-training and tasks make of a text."""
    of_pretraining: dict[str, Any] = {}
    apply_overrides({}, of_pretraining, text)
    return of_pretraining, parse_override(text).config


@pytest.mark.parametrize(
    ("value", "expected"),
    [("'/data/a,,b'", "/data/a,,b"), ("['a,,b', \"c\"]", ["a,,b", "c"]), ("3", 3), ("0.5", 0.5), ("a=b", "a=b")],
)
def test_every_command_reads_the_same_value(value: str, expected: Any) -> None:
    pretraining, tasks = both(f"config.a={value},,config.b=1")
    assert pretraining == tasks == {"a": expected, "b": 1}


@pytest.mark.parametrize(
    "bad", ["a=1", "config", "config=1", "config.a", "config.a=", "config..a=1", "config.a=b,,c=d"]
)
def test_what_is_no_assignment_is_refused_alike(bad: str) -> None:
    for command in (lambda: apply_overrides({}, {}, bad), lambda: parse_override(bad)):
        with pytest.raises(AalbertError, match=r"^-o: expected .*, found "):
            command()


@pytest.mark.parametrize("bad", ["config.a=1, config.b=2", "config.a='x', config.b=2"])
def test_one_comma_between_assignments_is_refused_alike(bad: str) -> None:
    for command in (lambda: apply_overrides({}, {}, bad), lambda: parse_override(bad)):
        with pytest.raises(AalbertError, match="found one comma"):
            command()


def test_a_quoted_value_may_look_like_an_assignment() -> None:
    assert both("config.a='x, config.b=2'") == ({"a": "x, config.b=2"},) * 2
