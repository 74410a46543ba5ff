"""Commands of this project that a benchmark runs, each once."""

from __future__ import annotations

import logging
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from s3prl_aalbert.errors import EXIT_USER_ERROR, AalbertError

REPOSITORY = Path(__file__).resolve().parents[1]


def exit_code(main: Callable[[], int | None]) -> int:
    """Return the exit code of a script; a mistake of its user is shown as one sentence."""
    try:
        return main() or 0
    except AalbertError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return EXIT_USER_ERROR


def run_once(done: Path, command: Sequence[str], log_file: Path | None = None) -> None:
    """Run a command unless the file that it ends with is there.

    Args:
        done: that file.
        command: ``COMMAND ...`` of ``aalbert``, or ``FOLDER/SCRIPT.py ...`` of this repository.
        log_file: gets the output; None is log.txt beside ``done``.

    Raises:
        AalbertError: the command failed.
    """
    if done.exists():
        return
    script = command[0].endswith(".py")
    program = [str(REPOSITORY / command[0])] if script else ["-m", "s3prl_aalbert", command[0]]
    typed = shlex.join(["python" if script else "aalbert", *command])
    logging.info("%s", typed)
    log_file = log_file or done.parent / "log.txt"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("a") as log:
        ended = subprocess.run([sys.executable, *program, *command[1:]], stdout=log, stderr=log, check=False)
    if ended.returncode:
        raise AalbertError(f"{typed}: ended with code {ended.returncode}, see {log_file}")
