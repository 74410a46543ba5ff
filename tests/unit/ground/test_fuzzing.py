"""A small round of the fuzzing, and the fuzzing itself: what it has to find, it finds."""

from __future__ import annotations

import csv
import random
import time
from pathlib import Path

import fuzzing
import pytest
from fuzz_targets import TARGETS
from fuzzing import Case, Outcome

from s3prl_aalbert.errors import AalbertError


def test_three_hundred_bad_inputs(tmp_path: Path) -> None:
    """The large round is tests/slow/test_large_fuzzing.py."""
    outcomes = fuzzing.fuzz(TARGETS, 300, 2, tmp_path)
    assert not any(o.findings for o in outcomes.values()), fuzzing.report(outcomes)
    assert sum(o.tried for o in outcomes.values()) >= 300
    assert all(o.refused for o in outcomes.values() if o.tried >= 10), "what is never refused was never spoilt"


def tried(folder: Path, case: Case) -> Outcome:
    return fuzzing.fuzz({"only": (lambda _: case, 1.0)}, 3, 0, folder)["only"]


def test_a_refusal_is_no_finding(tmp_path: Path) -> None:
    def refuse(dice: random.Random) -> None:
        raise AalbertError("a.wav: is empty")

    outcome = tried(tmp_path, refuse)
    assert (outcome.tried, outcome.refused, sum(outcome.findings.values())) == (3, 3, 0)


def key_error(folder: Path) -> None:
    raise KeyError("x")


def empty_message(folder: Path) -> None:
    raise AalbertError("")


def stack_trace(folder: Path) -> None:
    raise AalbertError("bad\nTraceback (most recent call last):")


def sleep(folder: Path) -> None:
    time.sleep(60)


def spin(folder: Path) -> None:
    while True:
        pass


def left_over(folder: Path) -> None:
    (folder / ".states-1.ckpt.x.tmp").write_bytes(b"half")


@pytest.mark.parametrize("spoil", [key_error, empty_message, stack_trace, sleep, spin, left_over])
def test_what_must_not_happen_is_found(tmp_path: Path, spoil, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "LIMIT_SECONDS", 0.05)
    monkeypatch.setattr(fuzzing, "WAIT_SECONDS", 30 if spoil is spin else 0.2)
    outcome = tried(tmp_path, lambda dice: spoil(tmp_path / "only"))
    assert sum(outcome.findings.values()) == 3, outcome
    assert all("case 0 only 0" in example for example in outcome.examples.values()), "the case can be repeated"


def test_a_case_is_the_same_again(tmp_path: Path) -> None:
    seen: list[float] = []
    for name in "ab":
        (tmp_path / name).mkdir()
        tried(tmp_path / name, lambda dice: seen.append(dice.random()))
    assert seen[:3] == seen[3:] and len(set(seen)) == 3


def test_the_counts_are_written(tmp_path: Path) -> None:
    outcome = Outcome(tried=9, refused=4, slowest=0.25)
    outcome.findings["KeyError: a.py:1"] = 2
    outcome.examples["KeyError: a.py:1"] = "case 7"
    fuzzing.write_csv(tmp_path / "counts.csv", {"audio files": outcome}, 7)
    rows = list(csv.DictReader((tmp_path / "counts.csv").open()))
    assert rows == [
        {"input": "audio files", "seed": "7", "tried": "9", "refused": "4", "findings": "2", "slowest_cpu_s": "0.2"}
    ]
    assert "| audio files | 9 | 4 | 3 | 2 |" in fuzzing.report({"audio files": outcome})
