"""Fuzzing: seeded mutations of good inputs, tried one by one against what reads them.

A case may end in one of two ways: the input is accepted, or ``AalbertError`` tells in a sentence what is wrong with it.
Anything else is a finding: another exception, a hang, or an unfinished file left behind.

    python tests/helpers/fuzzing.py --cases 12000 --seed 1  # a table by kind of input; exit code 1 with findings
    python tests/helpers/fuzzing.py --csv benchmarks/results/fuzzing.csv
    python tests/helpers/fuzzing.py --only checkpoints --cases 500
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
import faulthandler
import logging
import math
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3prl_aalbert.errors import AalbertError, environment_fault

LIMIT_SECONDS = 30
"""Processor time of one case; a busy machine alone is no finding."""
WAIT_SECONDS = 600
"""Wall clock of one case: waiting for ever (on a pipe, on a lock) takes no processor time."""
MEMORY_BYTES = 6 << 30
"""More address space than this, beyond what is mapped at the start, is a finding too: a bad header must not fill it."""

Case = Callable[[random.Random], None]

NASTY_WORDS = (
    "", "-1", "0", "nan", "inf", "-inf", "1e999", "1e-400", "9" * 30, "9" * 5000, "0x10", "1_000",
    "\u0661\u0662", "\u00b2", "\0", "\t", '"', '""', "'", "\u00e9\U0001f600", "\u2028", "true", "null", "~", "[]", "{}",
    "[1", "&a [*a]", "*a", "!!python/object/apply:os.system [id]", "2001-99-99", "!!int x", "!!bool x", "!!timestamp x",
    "=", ",,", "..", "/", "0:0:99999999999", "? x", "- - - -", "<<: 1", "%", "a" * 300, "../../etc/passwd", "~nobody/x",
)  # fmt: skip
NASTY_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 7, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.5, 1e-30, 1e308,
    math.nan, math.inf, -math.inf, "", "x", "1e-4", "nan", "null", "9" * 400, "\u00e9", "a\0b",
    [], {}, [1, 2], [0], [-1, 1], ["x"], [None], [[1]], {"a": 1}, {1: 2},
)  # fmt: skip


# ---------------------------------------------------------------------------------------------- mutations


def mutate_bytes(dice: random.Random, data: bytes, other: bytes = b"") -> bytes:
    """Return ``data`` with a few bytes flipped, cut, moved, repeated or foreign; headers are hit more often."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        size = len(changed)
        at = dice.randrange(min(size, 96) if dice.random() < 0.5 else size) if size else 0
        span = dice.choice((1, 2, 4, 16, 256))
        kind = dice.randrange(9)
        if kind == 0 and size:
            changed[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            changed[at : at + span] = dice.randbytes(len(changed[at : at + span]))
        elif kind == 2:
            del changed[at:]
        elif kind == 3:
            del changed[at : at + span]
        elif kind == 4:
            changed[at:at] = dice.randbytes(span)
        elif kind == 5:
            changed[at:at] = changed[at : at + span]
        elif kind == 6:
            changed[at : at + span] = bytes(len(changed[at : at + span]))
        elif kind == 7:
            changed[at : at + 4] = dice.choice((b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\x01\0\0\0", b"\xff\xff\xff\x7f"))
        elif other:
            start = dice.randrange(len(other))
            changed[at:] = other[start:]
    return bytes(changed)


def mutate_text(dice: random.Random, text: str) -> bytes:
    """Return a text with words replaced, removed, added or moved, or with its bytes mutated."""
    if dice.random() < 0.3:
        return mutate_bytes(dice, text.encode())
    lines = text.split("\n")
    for _ in range(dice.choice((1, 1, 2, 3))):
        row = dice.randrange(len(lines))
        separator = "\t" if "\t" in lines[row] else " "
        words = lines[row].split(separator)
        at = dice.randrange(len(words))
        kind = dice.randrange(7)
        if kind < 3:
            words[at] = dice.choice(NASTY_WORDS)
        elif kind == 3:
            del words[at]
        elif kind == 4:
            words.insert(at, dice.choice(NASTY_WORDS))
        elif kind == 5:
            lines.insert(row, lines[dice.randrange(len(lines))])
        else:
            words = words[::-1]
        lines[row if kind != 5 else row + 1] = separator.join(words)
    encoding = dice.choice(("utf-8",) * 8 + ("utf-16", "utf-8-sig", "latin-1"))
    return "\n".join(lines).encode(encoding, "replace")


def mutate_tree(dice: random.Random, tree: Any, extra: tuple[Any, ...] = ()) -> Any:
    """Return nested dictionaries and lists with a few values, keys or types exchanged."""
    changed = copy.deepcopy(tree)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        places = list(_places(changed))
        if not places:
            return dice.choice(NASTY_VALUES + extra)
        parent, key = dice.choice(places)
        kind = dice.randrange(10)
        if kind < 6:
            parent[key] = dice.choice(NASTY_VALUES + extra)
        elif kind == 6:
            del parent[key]
        elif kind == 7 and isinstance(parent, dict):
            parent[dice.choice(("", "x", 1, None, 2.5, f"{key}s", str(key)[:-1], "\u00e9"))] = parent.pop(key)
        elif kind == 8:
            parent[key] = dice.choice(([parent[key]], {"value": parent[key]}, str(parent[key])))
        elif isinstance(parent[key], (int, float)) and not isinstance(parent[key], bool):
            parent[key] = parent[key] * dice.choice((-1, 0, 2, 0.5, 3, 1.5))
    return changed


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


# ------------------------------------------------------------------------------------------------ trying


class Hang(BaseException):
    """Too slow."""


@dataclass
class Outcome:
    """What became of the cases of one kind."""

    tried: int = 0
    refused: int = 0
    findings: Counter[str] = field(default_factory=Counter)
    """By the place where it happened."""
    examples: dict[str, str] = field(default_factory=dict)
    slowest: float = 0.0


def attempt(case: Case, seed: str, folder: Path, outcome: Outcome) -> None:
    """Try one case and note what became of it."""
    outcome.tried += 1
    started = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, LIMIT_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAIT_SECONDS)
    try:
        case(random.Random(seed))
    except AalbertError as error:
        outcome.refused += 1
        if not str(error).strip() or "Traceback" in str(error):
            _note(outcome, "a message that says nothing", seed, repr(error))
    except Hang:
        _note(outcome, f"hang: {_place(sys.exc_info()[2])}", seed, traceback.format_exc())
    except (Exception, SystemExit) as error:
        if isinstance(error, OSError) and environment_fault(error):  # the command line tells these in a sentence, too
            outcome.refused += 1
            return
        _note(outcome, f"{type(error).__name__}: {_place(error.__traceback__)}", seed, traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    outcome.slowest = max(outcome.slowest, time.process_time() - started)
    for left in folder.rglob("*.tmp"):
        _note(outcome, f"half-written file {left.suffixes}", seed, str(left))
        left.unlink()


def _note(outcome: Outcome, what: str, seed: str, how: str) -> None:
    outcome.findings[what] += 1
    outcome.examples.setdefault(what, f"case {seed}\n{how}")


def _place(trace: Any) -> str:
    """Return the innermost line of the project's own code."""
    frames = [f for f in traceback.extract_tb(trace) if "s3prl_aalbert" in f.filename or "fuzz_targets" in f.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].name}" if frames else "elsewhere"


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Turn slowness into an exception, and keep logs and warnings of ten thousand cases to ourselves."""

    def stop(number: int, frame: Any) -> None:
        raise Hang

    before = {number: signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        for number, handler in before.items():
            signal.signal(number, handler)


def fuzz(targets: Mapping[str, tuple[Callable[[Path], Case], float]], cases: int, seed: int, folder: Path) -> dict:
    """Try so many cases, divided by the targets' weights, and return the outcome of each."""
    total = sum(weight for _, weight in targets.values())
    outcomes = {}
    with guarded():
        for name, (prepare, weight) in targets.items():
            own = folder / name.replace(" ", "_")
            own.mkdir()
            outcome = outcomes[name] = Outcome()
            case = prepare(own)
            for number in range(math.ceil(cases * weight / total)):
                attempt(case, f"{seed} {name} {number}", own, outcome)
    return outcomes


def report(outcomes: Mapping[str, Outcome]) -> str:
    """Return a table for docs/robustness.md, and below it one example of each finding."""
    lines = [
        "| input | tried | refused | read as valid | findings | slowest (s of processor time) |",
        "|---|---|---|---|---|---|",
    ]
    for name, o in outcomes.items():
        found = sum(o.findings.values())
        valid = o.tried - o.refused - found
        lines.append(f"| {name} | {o.tried:,} | {o.refused:,} | {valid:,} | {found} | {o.slowest:.1f} |")
    tried, refused = sum(o.tried for o in outcomes.values()), sum(o.refused for o in outcomes.values())
    found = sum(sum(o.findings.values()) for o in outcomes.values())
    lines.append(f"| all | {tried:,} | {refused:,} | {tried - refused - found:,} | {found} | |")
    for name, o in outcomes.items():
        for what, count in o.findings.most_common():
            lines += ["", f"--- {name}: {what} ({count} times)", o.examples[what]]
    return "\n".join(lines)


def write_csv(path: Path, outcomes: Mapping[str, Outcome], seed: int) -> None:
    """Write the counts of each kind of input."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["input", "seed", "tried", "refused", "findings", "slowest_cpu_s"])
        for name, o in outcomes.items():
            rows.writerow([name, seed, o.tried, o.refused, sum(o.findings.values()), f"{o.slowest:.1f}"])


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=12000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", metavar="KIND")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the counts there, too")
    args = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"
    from fuzz_targets import TARGETS

    chosen = {name: target for name, target in TARGETS.items() if not args.only or name in args.only}
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES,) * 2)
    faulthandler.dump_traceback_later(4 * 3600, exit=True)  # a hang inside a C library, which no signal handler can end
    with tempfile.TemporaryDirectory() as folder:
        outcomes = fuzz(chosen, args.cases, args.seed, Path(folder))
    if args.csv:
        write_csv(args.csv, outcomes, args.seed)
    print(report(outcomes))
    return int(any(o.findings for o in outcomes.values()))


if __name__ == "__main__":
    raise SystemExit(main())
