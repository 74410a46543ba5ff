"""The ``aalbert`` command: finds the sub-command's module and runs it; nothing heavy is imported here."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from s3prl_aalbert import __version__
from s3prl_aalbert.errors import (
    EXIT_INTERRUPTED,
    EXIT_STOPPED,
    EXIT_USER_ERROR,
    AalbertError,
    did_you_mean,
    environment_fault,
)
from s3prl_aalbert.parsing import Parser
from s3prl_aalbert.printable import LONGEST_MESSAGE, PrintableRecord, printable

# group -> name -> one-line summary; the code of NAME is s3prl_aalbert/commands/NAME.py.
GROUPS = {
    "start": {
        "demo": "the whole path in a few minutes: pre-train, three tasks, probing, report",
        "features": "write the features that any upstream computes from audio files",
        "pretrain": "pre-train AALBERT or Mockingjay on folders of speech",
        "downstream": "S3PRL's run_downstream.py with this plugin registered",
        "probe": "probe every layer of an upstream in one run",
        "report": "draw tables and figures from finished runs",
        "list": "name the models, configurations and tasks that there are",
        "doctor": "check whether training would work on this machine",
    },
    "experiments": {
        "sweep": "run a grid of models, tasks, settings and seeds from one YAML file",
        "reproduce": "run rows of RESULTS.md again and compare: sweep --compare",
        "abx": "measure without training how well any upstream's hidden states separate phones",
        "profile": "parameters, multiply-accumulates, speed and memory of models",
        "submit": "check the predictions of SUPERB's tasks and zip them for the leaderboard",
    },
    "compression": {
        "distill": "pre-train against the hidden states of a teacher, any upstream",
        "search": "find the best sub-network of a supernet under a budget",
        "extract": "cut a sub-network out of a supernet: convert --arch",
    },
    "interchange": {
        "convert": "write a model in another format: release, S3PRL, Hugging Face, torch, ONNX",
        "export": "as convert, with --to huggingface as the default",
        "link": "make the plugin known to an S3PRL checkout or installation",
    },
}
COMMANDS = {name: summary for group in GROUPS.values() for name, summary in group.items()}
SHELLS = ("bash", "zsh")
VERBOSITY = {
    "--quiet": "no progress bars and no notes, only results, warnings and errors",
    "--verbose": "notes with time and origin, details, and the stack trace of an error",
}


def _usage() -> str:
    width = max(map(len, COMMANDS))
    groups = {
        title: "\n".join(f"  {name:<{width}}  {summary}" for name, summary in commands.items())
        for title, commands in GROUPS.items()
    }
    options = VERBOSITY | {"--version": "print the version", "--print-completion SHELL": "for " + " or ".join(SHELLS)}
    return (
        "usage: aalbert [--quiet | --verbose] COMMAND [options]\n\n"
        "Audio ALBERT for S3PRL: lightweight speech representations.\n\n"
        + "".join(f"{title}:\n{rows}\n\n" for title, rows in groups.items())
        + "options (the first two before or after COMMAND):\n"
        + "\n".join(f"  {name:<24}  {text}" for name, text in options.items())
        + f"\n\nexit codes: 0 done, 1 something failed, {EXIT_USER_ERROR} a mistake that the message explains,\n"
        f"            {EXIT_STOPPED} stopped by a signal after saving, {EXIT_INTERRUPTED} interrupted\n\n"
        "`aalbert COMMAND --help` shows the options and examples of one command."
    )


def _load_command(name: str) -> ModuleType:
    if name not in COMMANDS:
        raise AalbertError(f'unknown command "{name}"{did_you_mean(name, COMMANDS)}; see `aalbert --help`')
    return importlib.import_module(f"s3prl_aalbert.commands.{name}")


def command_parser(name: str, module: ModuleType) -> argparse.ArgumentParser:
    """Return the parser of one command, with its examples and the options that all have."""
    parser = Parser(
        prog=f"aalbert {name}",
        description=COMMANDS[name][0].upper() + COMMANDS[name][1:] + ".",
        epilog=getattr(module, "EXAMPLES", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    common = parser.add_argument_group("common options")
    for option, text in VERBOSITY.items():
        if option not in parser._option_string_actions:  # S3PRL has a --verbose of its own
            common.add_argument(option, action="store_true", help=text)
    return parser


def _parsed(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse options that stand between positional arguments too, where argparse can."""
    exclusive = [action for group in parser._mutually_exclusive_groups for action in group._group_actions]
    mixed = all(action.option_strings for action in exclusive)
    return parser.parse_intermixed_args(argv) if mixed else parser.parse_args(argv)


def _run_command(name: str, argv: Sequence[str], verbosity: set[str]) -> int:
    module = _load_command(name)
    if getattr(module, "PASS_THROUGH", False) and not {"-h", "--help"} & set(argv):
        # The wrapped program parses its own options.
        _set_verbosity(verbosity | (set(VERBOSITY) & set(argv)))
        return module.main([option for option in argv if option != "--quiet"]) or 0
    args = _parsed(command_parser(name, module), argv)
    _set_verbosity(verbosity | {option for option in VERBOSITY if getattr(args, option.strip("-"))})
    return module.main(args) or 0


def _print_anything() -> None:
    """Print any file name safely: as plain text, and without an encoding error."""
    logging.setLogRecordFactory(PrintableRecord)
    if isinstance(sys.stdout, io.TextIOWrapper):
        with contextlib.suppress(OSError):  # some streams have no position
            sys.stdout.reconfigure(errors="backslashreplace")  # as stderr is


def _set_verbosity(verbosity: set[str]) -> None:
    """Apply --quiet or --verbose to this process; progress bars also to those that it starts."""
    if len(verbosity) > 1:
        raise AalbertError("--quiet and --verbose contradict each other: give one of them")
    if "--quiet" in verbosity:
        logging.disable(logging.INFO)
        os.environ["TQDM_DISABLE"] = "1"  # read by tqdm itself, S3PRL's bars included
    if "--verbose" in verbosity:
        # Before the command configures logging itself: only the first call has an effect.
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("s3prl_aalbert").setLevel(logging.DEBUG)
        os.environ["AALBERT_TRACEBACK"] = "1"


def _leading_options(argv: list[str]) -> set[str]:
    """Take --quiet and --verbose from the front of ``argv``."""
    found = set()
    while argv and argv[0] in VERBOSITY:
        found.add(argv.pop(0))
    return found


def _print_completion(shells: Sequence[str]) -> int:
    from s3prl_aalbert.completion import completion_script

    if len(shells) != 1 or shells[0] not in SHELLS:
        found = " ".join(shells) or "nothing"
        raise AalbertError(f"found {found}, expected one of {', '.join(SHELLS)}")
    parsers = {name: command_parser(name, _load_command(name)) for name in COMMANDS}
    print(completion_script(parsers, COMMANDS, VERBOSITY, shells[0]))
    return 0


def _run(argv: Sequence[str], verbosity: set[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"aalbert {__version__}")
        return 0
    _print_anything()
    if argv[0] == "--print-completion":
        return _print_completion(argv[1:])
    return _run_command(argv[0], argv[1:], verbosity)


def _flush() -> None:
    """Write out what was printed, now and not when Python ends, where an error could not be told."""
    try:
        if sys.stdout is not None:  # it was closed before Python began
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python, which writes the rest at its end
        if not isinstance(error, BrokenPipeError):
            raise


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``aalbert`` command and return its exit code, see docs/cli.md."""
    argv = list(sys.argv[1:] if argv is None else argv)
    verbosity = _leading_options(argv)
    try:
        try:
            return _run(argv, verbosity)
        finally:
            _flush()
    except BrokenPipeError:  # e.g. `aalbert --help | head`
        return 0
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (AalbertError, OSError, RuntimeError) as error:
        fault = str(error) if isinstance(error, AalbertError) else environment_fault(error)
        if fault is None or os.environ.get("AALBERT_TRACEBACK"):
            raise
        name = printable(" ".join(["aalbert", *argv[:1]]), 80)
        print(f"{name}: {printable(fault, LONGEST_MESSAGE)}", file=sys.stderr)
        return EXIT_USER_ERROR


if __name__ == "__main__":
    raise SystemExit(main())
