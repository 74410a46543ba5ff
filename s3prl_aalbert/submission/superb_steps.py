"""``python -m s3prl_aalbert.submission.superb_steps CONFIG`` prints the number of training steps of a task."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping

from s3prl_aalbert.errors import EXIT_USER_ERROR, AalbertError
from s3prl_aalbert.model.config import find_config, read_yaml, shown
from s3prl_aalbert.printable import LONGEST_MESSAGE, printable


def count_steps(config: Mapping[str, object], share: float = 1.0) -> int:
    """Return the first step after a share of the training with both a dev score and a saved state.

    Args:
        config: a task's configuration with the section ``runner``.
        share: share of the steps, in (0, 1]; the result is rounded up to a step where S3PRL evaluates and saves.

    Raises:
        AalbertError: the configuration has no such steps.
    """
    section = config.get("runner")
    runner = section if isinstance(section, Mapping) else {}
    total, every, save = (_positive(runner, name) for name in ("total_steps", "eval_step", "save_step"))
    if share == 1:
        return total
    whole = math.lcm(every, save)
    return min(total, math.ceil(share * total / whole) * whole)


def _positive(runner: Mapping[str, object], name: str) -> int:
    value = runner.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise AalbertError(f"runner.{name} is {shown(value)}, expected a whole number of at least 1")
    return value


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise AalbertError(f"--share (SCREEN) is {shown(text)}, expected a share of the steps, above 0 and at most 1")
    return share


def main() -> int:
    """Print the number of steps."""
    parser = argparse.ArgumentParser(prog="superb_steps", description=__doc__)
    parser.add_argument("config", metavar="CONFIG", help="a path or a packaged name, e.g. superb_ks")
    parser.add_argument("-o", "--override", metavar="TEXT", help="as for `aalbert downstream`")
    parser.add_argument("--share", metavar="SHARE", default="1", help="share of the steps; default: all")
    args = parser.parse_args()
    try:
        config = read_yaml(find_config(args.config, "downstream_configs")) or {}
        if args.override:
            from s3prl_aalbert.toolkit.overrides import overridden, parse_override  # takes seconds: it imports torch

            config = overridden(config, parse_override(args.override))
        print(count_steps(config, _share(args.share)))
    except (AalbertError, OSError) as error:
        print(f"superb_steps: {printable(error, LONGEST_MESSAGE)}", file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
