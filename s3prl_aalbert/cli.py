"""The ``aalbert`` command: finds the sub-command's module and runs it; nothing heavy is imported here."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from s3prl_aalbert import __version__
from s3prl_aalbert.errors import AalbertError, did_you_mean

# name -> one-line summary; the code of NAME is s3prl_aalbert/commands/NAME.py.
COMMANDS = {
    "demo": "the whole path in a few minutes: pre-train, three tasks, probing, report",
    "pretrain": "pre-train AALBERT or Mockingjay on folders of speech",
    "distill": "pre-train against the hidden states of a teacher, any upstream",
    "downstream": "S3PRL's run_downstream.py with this plugin registered",
    "probe": "probe every layer of an upstream in one run",
    "sweep": "run a grid of models, tasks, settings and seeds from one YAML file",
    "profile": "parameters, multiply-accumulates, speed and memory of models",
    "search": "find the best sub-network of a supernet under a budget",
    "extract": "cut a sub-network out of a supernet as a model of its own",
    "convert": "checkpoints of S3PRL, AlbertNew and pohanchi/AALBERT in, and S3PRL's format out",
    "report": "draw tables and figures from finished runs",
    "doctor": "check whether training would work on this machine",
    "link": "make the plugin known to an S3PRL checkout or installation",
}

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items())
    return (
        "usage: aalbert COMMAND [options]\n\n"
        "Audio ALBERT for S3PRL: lightweight speech representations.\n\n"
        f"commands:\n{rows}\n\n"
        "`aalbert COMMAND --help` shows the options and examples of one command; `aalbert --version` the version."
    )


def _load_command(name: str):  # type: ignore[no-untyped-def]
    if name not in COMMANDS:
        raise AalbertError(f'unknown command "{name}"{did_you_mean(name, COMMANDS)}; see `aalbert --help`')
    return importlib.import_module(f"s3prl_aalbert.commands.{name}")


def _run_command(name: str, argv: Sequence[str]) -> int:
    module = _load_command(name)
    if getattr(module, "PASS_THROUGH", False):  # the wrapped program parses its own options
        return module.main(list(argv)) or 0
    parser = argparse.ArgumentParser(
        prog=f"aalbert {name}",
        description=COMMANDS[name][0].upper() + COMMANDS[name][1:] + ".",
        epilog=getattr(module, "EXAMPLES", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return module.main(parser.parse_args(argv)) or 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``aalbert`` command and return its exit code (0 ok, 2 user error, 130 interrupted)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"aalbert {__version__}")
        return 0
    try:
        return _run_command(argv[0], argv[1:])
    except AalbertError as error:
        if os.environ.get("AALBERT_TRACEBACK"):
            raise
        print(f"aalbert {argv[0]}: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except BrokenPipeError:  # e.g. `aalbert --help | head`
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
