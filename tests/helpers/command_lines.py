"""Command lines of ``aalbert``, one after the other in a process of their own; and those that a page of the docs names.

One process for all of them, since S3PRL takes seconds to import.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus

REPOSITORY = Path(__file__).resolve().parents[2]
SHORTER = {"runner.total_steps": 2, "runner.eval_step": 2, "runner.save_step": 2, "runner.log_step": 2}

Outcome = tuple[int | str, str]
"""Exit code, or the exception that ended it; what was told on stderr."""


def run(
    commands: Sequence[Sequence[str]],
    folder: Path,
    largest_files: Sequence[int] | None = None,
    variables: Mapping[str, str] | None = None,
    preexec: Callable[[], None] | None = None,
) -> list[Outcome]:
    """Run command lines in a folder and return their outcomes.

    Args:
        commands: each without the leading ``aalbert``.
        folder: where they are run.
        largest_files: for each, the largest file in bytes that it may write, 0 for no limit.
        variables: of the environment, beside this process's own.
        preexec: called in the new process before anything else.
    """
    environment = {key: value for key, value in os.environ.items() if key != "AALBERT_TRACEBACK"}
    environment |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", **(variables or {})}
    if largest_files:
        environment["PYTHONDONTWRITEBYTECODE"] = "1"  # half a file of bytecode would stay
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__],
        input=json.dumps([commands, largest_files]), cwd=folder, capture_output=True, text=True, timeout=3000,
        check=False, env=environment, preexec_fn=preexec,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr[-3000:]  # of a thread
    return [(code, told) for code, told in json.loads(done.stdout.splitlines()[-1])]


def succeed(commands: Sequence[Sequence[str]], folder: Path) -> None:
    """Run command lines that all have to end with code 0."""
    bad = [f"{argv} {code}: {told[-3000:]}" for argv, (code, told) in zip(commands, run(commands, folder), strict=True)
           if code != 0]  # fmt: skip
    assert not bad, "\n\n".join(bad)


def main() -> None:
    """Be the process: read the command lines from stdin, write the outcomes to stdout."""
    commands, largest_files = json.load(sys.stdin)
    from s3prl_aalbert.cli import main as aalbert

    if largest_files:  # all imports before the limit: they may write caches of their own
        import matplotlib.pyplot  # noqa: F401

        from s3prl_aalbert import toolkit

        toolkit.activate()
        from s3prl import run_downstream  # noqa: F401
    outcomes: list[Outcome] = []
    for argv, largest in zip(commands, largest_files or [0] * len(commands), strict=True):
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest or resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        told = io.StringIO()
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            try:
                code: int | str = aalbert(argv)
            except SystemExit as end:
                code = end.code  # type: ignore[assignment]
            except BaseException as error:
                code = repr(error)
        outcomes.append((code, told.getvalue()))
    print(json.dumps(outcomes))


# ----------------------------------------------------------------------------------------------------- pages


def blocks(page: str, language: str) -> list[str]:
    """Return the code of a page in one language."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands_of(page: str) -> list[list[str]]:
    """Return the commands of a page's bash blocks in their order."""
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def shorter(**values: int) -> str:
    """Return what -o takes to end a run after two steps, or after other numbers."""
    return ",,".join(f"config.{key}={values.get(key.split('.')[-1], value)}" for key, value in SHORTER.items())


def lay_out_speech(place: Path) -> None:
    """Lay synthetic speech out as the pages' data/timit and data/LibriSpeech/test-other."""
    timit = synthesise_corpus(place / "data" / "timit", 4, 10, (0.5, 0.7), seed=3)
    for number, speaker in enumerate(sorted({path.parent for path in timit.rglob("*.wav")}), 100):
        for index, path in enumerate(sorted(speaker.glob("*.wav"))):
            target = place / "data" / "LibriSpeech" / "test-other" / f"{number}" / "1" / f"{number}-1-{index:04}.wav"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


if __name__ == "__main__":
    main()
