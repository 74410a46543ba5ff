"""Commands of this project that a benchmark runs, each once."""

from __future__ import annotations

import logging
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def run_once(done: Path, command: Sequence[str]) -> None:
    """Run ``aalbert COMMAND`` unless the file that it ends with is there; its output goes to log.txt beside it."""
    if done.exists():
        return
    logging.info("aalbert %s", shlex.join(command))
    done.parent.mkdir(parents=True, exist_ok=True)
    with (done.parent / "log.txt").open("a") as log:
        subprocess.run([sys.executable, "-m", "s3prl_aalbert", *command], stdout=log, stderr=log, check=True)
