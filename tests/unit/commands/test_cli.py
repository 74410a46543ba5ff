"""The command line as people expect it: quick help, quiet and verbose, completion, exit codes."""

from __future__ import annotations

import argparse
import errno
import inspect
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest
import requests

from s3prl_aalbert import cli, errors
from s3prl_aalbert.cli import COMMANDS, command_parser
from s3prl_aalbert.typed_options import argument_texts

HEAVY = {"torch", "numpy", "torchaudio", "s3prl", "soundfile", "matplotlib", "scipy", "sklearn", "yaml"}


def run(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {key: value for key, value in os.environ.items() if key not in ("AALBERT_TRACEBACK", "TQDM_DISABLE")}
    command = [sys.executable, *argv]
    return subprocess.run(
        command, capture_output=True, text=True, env=own | environment, timeout=120, check=False
    )  # fmt: skip


def test_the_help_of_every_command_imports_nothing_heavy() -> None:
    code = (
        "import contextlib, io, sys, s3prl_aalbert.cli as cli\n"
        "for name in cli.COMMANDS:\n"
        "    shown = io.StringIO()\n"
        "    try:\n"
        "        with contextlib.redirect_stdout(shown): cli.main([name, '--help'])\n"
        "    except SystemExit as end: assert end.code == 0, name\n"
        "    assert 'examples:' in shown.getvalue() and '--quiet' in shown.getvalue(), name\n"
        f"    heavy = sorted({HEAVY!r} & set(sys.modules))\n"
        "    assert not heavy, (name, heavy)\n"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


def examples() -> list[list[str]]:
    """Return the command lines of all examples, without their comments."""
    found = []
    for name in COMMANDS:
        text = cli._load_command(name).EXAMPLES.replace("\\\n", " ")
        lines = [part for line in text.splitlines() for part in line.split("&&")]
        words = [shlex.split(line, comments=True) for line in lines if line.strip().startswith("aalbert ")]
        assert words, f"{name} has no example"
        found += words
    return found


@pytest.mark.parametrize("words", examples(), ids=" ".join)
def test_every_example_parses(words: list[str]) -> None:
    _, name, *argv = words
    command_parser(name, cli._load_command(name)).parse_args([word for word in argv if word != "..."])


def test_downstream_has_s3prls_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held against the parser that S3PRL 0.4.18 builds itself."""
    from s3prl_aalbert.toolkit import activate

    activate()
    from s3prl import run_downstream

    class Found(Exception):
        """Carries the parser out of the function that builds it."""

    def surrender(parser: argparse.ArgumentParser, *_: object) -> None:
        raise Found(parser)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", surrender)
    with pytest.raises(Found) as found:
        run_downstream.get_downstream_args()
    monkeypatch.undo()
    ours, theirs = command_parser("downstream", cli._load_command("downstream")), found.value.args[0]
    options = {s: a for a in theirs._actions for s in a.option_strings}
    own = {s: a for a in ours._actions for s in a.option_strings}
    assert own.keys() - options.keys() == {"--quiet"} and options.keys() <= own.keys()
    for name, action in options.items():
        same = own[name]
        assert (same.dest, same.nargs, same.type, list(same.choices or [])) == (
            action.dest, action.nargs, action.type, list(action.choices or []),
        )  # fmt: skip
        assert same.default == action.default or name in ("--device", "--push_to_hf_hub"), name


@pytest.mark.parametrize(
    ("argv", "suggested"),
    [
        (["pretrian", "-n", "x"], "pretrain"),
        (["pretrain", "--speach", "x"], "--speech"),
        (["pretrain", "-n", "x", "--sed=3"], "--seed"),
        (["downstream", "-m", "train", "--upstraem", "fbank"], "--upstream"),
        (["downstream", "-m", "trian"], "train"),
        (["features", "in", "out", "--layr", "3"], "--layer"),
        (["features", "in", "out", "--format", "numpy"], "npy"),
        (["list", "model"], "models"),
        (["convert", "a", "b", "--to", "hugginface"], "huggingface"),
    ],
    ids=" ".join,
)
def test_the_nearest_command_option_or_choice_is_named(
    argv: list[str], suggested: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AALBERT_TRACEBACK", raising=False)
    assert cli.main(argv) == 2
    shown = capsys.readouterr()
    assert f'did you mean "{suggested}"' in shown.err and shown.err.count("\n") == 1 and not shown.out


def test_every_option_of_every_command_has_a_help() -> None:
    parsers = {name: command_parser(name, cli._load_command(name)) for name in COMMANDS}
    silent = [
        f"{name} {'/'.join(action.option_strings) or action.dest}"
        for name, parser in parsers.items()
        for action in parser._actions
        if not action.help
    ]
    assert silent == []


ALIASES = {"distill": "pretrain", "extract": "convert", "export": "convert"}
NAMES = {"list": "list_names", "downstream": None}  # S3PRL declares the options of downstream


@pytest.mark.parametrize("name", [name for name in COMMANDS if NAMES.get(name, name)])
def test_every_option_is_an_argument_of_the_commands_function(name: str) -> None:
    module = cli._load_command(ALIASES.get(name, name))
    function = getattr(module, NAMES.get(name) or ALIASES.get(name, name))
    arguments = inspect.signature(function).parameters
    options = {a.dest for a in command_parser(name, cli._load_command(name))._actions}
    assert options - {"help", "quiet", "verbose"} == set(arguments) == set(argument_texts(function))
    assert all(parameter.annotation is not parameter.empty for parameter in arguments.values())
    assert function.__doc__.partition("\n")[0].endswith(".")


def test_commands_are_grouped_and_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(cli.GROUPS) == ["start", "experiments", "compression", "interchange"]
    assert sum(map(len, cli.GROUPS.values())) == len(COMMANDS)
    cli.main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"\n{title}:\n" in shown for title in cli.GROUPS)


@pytest.mark.parametrize(
    "options",
    [
        "--help",
        "-m trian",
        "-m train -n x -u fbnak -d example",
        "-m train -n x -u fbank -d exmaple",
        "-m train -n x -u aalbert_local -k gone -d example",
        "-m train -n x -u fbank -d example --device gpu",
        "-m train -n x -u fbank -d example -o config.optimizer.name=TorchOptm",
        "-m train -n x -u fbank -d example -o config.runner.total_steps=ten",
        "-m train -n x -u fbank -d example -o args.sede=3",
        "-m evaluate -e gone",
        "-m train -n x -a",
    ],
)
def test_the_help_and_a_mistake_in_an_option_import_neither_torch_nor_s3prl(options: str, tmp_path: Path) -> None:
    """Which would take seconds, before a word is said."""
    code = (
        "import sys; from s3prl_aalbert.cli import main\n"
        "try: code = main(['downstream', *sys.argv[1:]])\n"
        "except SystemExit as end: code = end.code\n"
        "assert code == (0 if '--help' in sys.argv else 2), code\n"
        "assert not {'torch', 's3prl'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *options.split()], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------- quiet and verbose


class Chatty:
    """A command that says something at each level and draws a progress bar, as a script."""

    CODE = (
        "import logging, sys, s3prl_aalbert.cli as cli\n"
        "class Chatty:\n"
        "    EXAMPLES = 'examples:'\n"
        "    PASS_THROUGH = {through}\n"
        "    def add_arguments(self, parser): pass\n"
        "    def main(self, args):\n"
        "        logging.basicConfig(level=logging.INFO, format='%(message)s')\n"
        "        logger = logging.getLogger('s3prl_aalbert.chatty')\n"
        "        logger.debug('detail'), logger.info('note'), logger.warning('warned')\n"
        "        from tqdm import tqdm\n"
        "        list(tqdm(range(3), desc='progress'))\n"
        "        print('result', args if isinstance(args, list) else '')\n"
        "        from s3prl_aalbert.errors import AalbertError\n"
        "        raise AalbertError('mistaken')\n"
        "cli._load_command = lambda name: Chatty()\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_quiet_leaves_results_warnings_and_errors(after: bool, through: bool) -> None:
    argv = ["pretrain", "--quiet"] if after else ["--quiet", "pretrain"]
    done = run("-c", Chatty.CODE.format(through=through), *argv)
    assert done.returncode == 2
    assert done.stdout.split() == ["result", *(["[]"] if through else [])]
    assert done.stderr == "warned\naalbert pretrain: mistaken\n"


@pytest.mark.parametrize("after", [False, True])
def test_verbose_adds_details_origin_and_the_trace(after: bool) -> None:
    argv = ["pretrain", "--verbose"] if after else ["--verbose", "pretrain"]
    done = run("-c", Chatty.CODE.format(through=False), *argv)
    assert re.search(r"^\d{4}-\d\d-\d\d .* DEBUG s3prl_aalbert.chatty: detail$", done.stderr, flags=re.MULTILINE)
    assert "INFO s3prl_aalbert.chatty: note" in done.stderr and "progress: 100%" in done.stderr
    assert "Traceback" in done.stderr and "AalbertError: mistaken" in done.stderr


def test_without_either_notes_and_progress_are_shown() -> None:
    done = run("-c", Chatty.CODE.format(through=False), "pretrain")
    assert done.stderr.startswith("note\nwarned\n") and "progress: 100%" in done.stderr
    assert "detail" not in done.stderr and "Traceback" not in done.stderr


def test_quiet_and_verbose_together_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--quiet", "doctor", "--verbose"]) == 2
    assert "contradict" in capsys.readouterr().err
    assert logging.root.manager.disable == 0


# ---------------------------------------------------------------------------------------------- completion


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["aalbert", "pretr"], "pretrain"),
        (["aalbert", "pretrain", "--spee"], "--speech"),
        (["aalbert", "downstream", "-m", ""], "train evaluate inference"),
        (["aalbert", "--qu"], "--quiet"),
        (["aalbert", "report", "my r"], "my runs"),
        (["aalbert", "extract", "--arch", "sm"], "small.yaml"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bash_completes(typed: list[str], offered: str, tmp_path: Path) -> None:
    (tmp_path / "my runs").mkdir()
    (tmp_path / "small.yaml").touch()
    script = run("-m", "s3prl_aalbert", "--print-completion", "bash")
    assert script.returncode == 0, script.stderr
    (tmp_path / "complete.sh").write_text(script.stdout)
    words = " ".join(map(shlex.quote, typed))
    code = f"source ./complete.sh; COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; _shtab_aalbert 2>/dev/null"
    done = subprocess.run(
        ["bash", "-c", code + '; echo "${COMPREPLY[*]}"'], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == offered


def test_zsh_is_offered_and_another_shell_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--print-completion", "zsh"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("#compdef aalbert") and all(f"{name}:" in shown for name in COMMANDS)
    assert cli.main(["--print-completion", "tcsh"]) == 2
    assert capsys.readouterr().err == "aalbert --print-completion: found tcsh, expected one of bash, zsh\n"


# ---------------------------------------------------------------------------------------------- exit codes


def test_the_exit_codes_are_those_of_the_documentation(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (repository / "docs/cli.md").read_text(encoding="utf-8")
    documented = set(map(int, re.findall(r"^\| (\d+) \|", page, flags=re.MULTILINE)))
    assert documented == {0, 1, errors.EXIT_USER_ERROR, errors.EXIT_STOPPED, errors.EXIT_INTERRUPTED}
    cli.main(["--help"])
    told = capsys.readouterr().out.split("exit codes:")[1].split("`aalbert")[0]
    assert set(map(int, re.findall(r"\d+", told))) == documented


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (errno.ENOSPC, "the disk is full (No space left on device)"),
        (errno.EACCES, "Permission denied"),
        (errno.EROFS, "Read-only file system"),
        (errno.EFBIG, "the file would be larger than the limit on file sizes allows (File too large)"),
    ],
)
def test_what_the_disk_does_is_told_in_a_sentence(code: int, told: str, monkeypatch, capsys) -> None:
    class Failing:
        EXAMPLES = ""

        def add_arguments(self, parser) -> None: ...

        def main(self, args):
            raise OSError(code, os.strerror(code), "some where/file")

    monkeypatch.delenv("AALBERT_TRACEBACK", raising=False)
    monkeypatch.setattr(cli, "_load_command", lambda name: Failing())
    assert cli.main(["report"]) == 2
    assert capsys.readouterr().err == f"aalbert report: some where/file: {told}\n"


SPOKEN = (["--help"], ["--version"], [], ["list", "configs"], ["report", "--help"], ["--print-completion", "bash"])


@pytest.mark.parametrize("unbuffered", ["1", ""])
@pytest.mark.parametrize("argv", SPOKEN, ids=" ".join)
def test_a_reader_may_leave_early(argv: list[str], unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        command = [sys.executable, "-m", "s3prl_aalbert", *argv]
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
@pytest.mark.parametrize("argv", [[], ["--version"], ["list", "configs"]], ids=" ".join)
def test_output_to_a_full_disk_is_told_in_a_sentence(argv: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "s3prl_aalbert", *argv]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    name = " ".join(["aalbert", *argv[:1]])
    assert done.returncode == 2
    assert done.stderr == f"{name}: the disk is full (No space left on device)\n"


@pytest.mark.parametrize("flag", ["--speech", "-p"])
def test_a_user_who_does_not_exist_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    monkeypatch.delenv("AALBERT_TRACEBACK", raising=False)
    options = {"--speech": str(tmp_path), "-p": str(tmp_path / "x"), flag: "~nobody-of-that-name/x"}
    assert cli.main(["pretrain", "-g", "debug", *(word for pair in options.items() for word in pair)]) == 2
    assert capsys.readouterr().err.strip().endswith("a path begins with ~ and the name of no user of this machine")


def test_other_errors_of_the_system_are_bugs() -> None:
    assert errors.environment_fault(RuntimeError("other")) is None
    assert errors.environment_fault(OSError(errno.EBADF, "bad file descriptor")) is None
    assert errors.environment_fault(OSError("no number")) is None


def test_a_download_that_fails_is_one_sentence() -> None:
    for error in (requests.ConnectionError("no route"), urllib.error.URLError("no route")):
        assert re.fullmatch(r"a download failed: .*no route.*", errors.environment_fault(error) or "")
