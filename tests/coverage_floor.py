"""Which files of the package do the tests reach too little? Run by ``make coverage``.

python tests/coverage_floor.py build/coverage.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

FLOOR = 80.0
SUPERB = "run by tests/slow/test_superb_tasks.py, with each of S3PRL's tasks"
REASONS = {
    "s3prl_aalbert/experiments/demo.py": "run whole by tests/slow/test_demo_command.py",
    "s3prl_aalbert/run_downstream.py": "its other branch is for spawned workers, run by a slow test",
    "s3prl_aalbert/submission/superb_lengths.py": SUPERB,
    "s3prl_aalbert/toolkit/repairs/missing_modules/catalyst_sampler.py": SUPERB,
    "s3prl_aalbert/toolkit/repairs/missing_modules/ctc_snips.py": SUPERB,
    "s3prl_aalbert/toolkit/repairs/tasks.py": SUPERB,
}
"""File: why it may stay below the floor."""


def below(covered: Mapping[str, float], reasons: Mapping[str, str]) -> list[str]:
    """Return a sentence for each file below the floor without a reason, and for each reason without need."""
    told = [
        f"{name}: {percent:.0f} % of its lines are reached, the floor is {FLOOR:.0f} %; add tests, or a reason here"
        for name, percent in sorted(covered.items())
        if percent < FLOOR and name not in reasons
    ]
    for name in sorted(reasons):
        if covered.get(name, 100.0) >= FLOOR:
            told.append(f"{name}: has a reason, and needs none")
    return told


def main() -> int:
    """Read coverage's JSON, print the files from the lowest on, and return 1 if one is too low."""
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    covered = {name: entry["summary"]["percent_covered"] for name, entry in report["files"].items()}
    for name, percent in sorted(covered.items(), key=lambda item: item[1])[:15]:
        print(f"{percent:5.1f} %  {name}  {REASONS.get(name, '')}".rstrip())
    print(f"{report['totals']['percent_covered']:5.1f} %  all {len(covered)} files")
    told = below(covered, REASONS)
    for line in told:
        print(line, file=sys.stderr)
    return int(bool(told))


if __name__ == "__main__":
    raise SystemExit(main())
