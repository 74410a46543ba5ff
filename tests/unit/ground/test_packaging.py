"""The package as a user gets it: a wheel with its configurations, a quick command, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import s3prl_aalbert
from s3prl_aalbert import cli
from s3prl_aalbert.cli import COMMANDS
from s3prl_aalbert.errors import AalbertError


def run(*argv: str, cwd: Path | None = None, pythonpath: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key != "AALBERT_TRACEBACK"}
    if pythonpath is not None:
        environment["PYTHONPATH"] = str(pythonpath)
    return subprocess.run(
        [sys.executable, *argv], capture_output=True, text=True, cwd=cwd, env=environment, timeout=120, check=False
    )


# ------------------------------------------------------------------------------------------------ command


def test_the_command_imports_nothing_heavy() -> None:
    """`aalbert --help` must answer at once: torch alone takes seconds."""
    code = (
        "import sys, s3prl_aalbert.cli as cli\n"
        "assert cli.main(['--help']) == 0 and cli.main(['--version']) == 0 and cli.main(['nonsense']) == 2\n"
        "print(sorted({'torch', 'numpy', 'torchaudio', 's3prl', 'soundfile', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_misspelt_command_exits_with_2_and_a_suggestion() -> None:
    done = run("-m", "s3prl_aalbert", "pretrian")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        'aalbert pretrian: unknown command "pretrian" (did you mean "pretrain"?); see `aalbert --help`\n'
    )


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"]])
def test_the_help_names_every_command(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown and summary in shown for name, summary in COMMANDS.items())


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"aalbert {s3prl_aalbert.__version__}\n"


class _Command:
    """A stand-in for a module of s3prl_aalbert.commands."""

    EXAMPLES = "examples:\n  aalbert pretrain --number 3"

    def __init__(self, outcome: object):
        self.outcome = outcome

    def add_arguments(self, parser) -> None:
        parser.add_argument("--number", type=int)

    def main(self, args):
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.mark.parametrize(
    ("outcome", "code", "printed"),
    [
        (None, 0, ""),
        (3, 3, ""),
        (AalbertError("audio: no such folder"), 2, "aalbert pretrain: audio: no such folder\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
    ],
)
def test_exit_codes(outcome, code: int, printed: str, monkeypatch, capsys) -> None:
    monkeypatch.delenv("AALBERT_TRACEBACK", raising=False)
    monkeypatch.setattr(cli, "_load_command", lambda name: _Command(outcome))
    assert cli.main(["pretrain", "--number", "3"]) == code
    assert capsys.readouterr().err == printed


def test_our_own_bugs_keep_their_stack_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_load_command", lambda name: _Command(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["pretrain"])


def test_a_wrong_option_exits_with_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "_load_command", lambda name: _Command(None))
    assert cli.main(["pretrain", "--number", "three"]) == 2
    assert "invalid int value: 'three'" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------- wheel


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel without a network."""
    pytest.importorskip("hatchling", reason="building the wheel offline needs hatchling (pip install hatchling)")
    folder = tmp_path_factory.mktemp("wheel")
    done = run("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=repository)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_every_module_and_configuration(wheel: Path, repository: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("upstream_configs", "downstream_configs"):
        for path in (repository / folder).glob("*.yaml"):
            assert f"s3prl_aalbert/{folder}/{path.name}" in names
    modules = {path.relative_to(repository).as_posix() for path in (repository / "s3prl_aalbert").rglob("*.py")}
    assert modules <= names
    outside = {name for name in names if not name.startswith(("s3prl_aalbert/", "s3prl_aalbert-"))}
    assert not outside and not any("__pycache__" in name or "tests" in name for name in names)


def test_the_wheels_entry_point_and_licence(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    info = f"s3prl_aalbert-{s3prl_aalbert.__version__}.dist-info"
    assert "aalbert = s3prl_aalbert.cli:main" in archive.read(f"{info}/entry_points.txt").decode()
    assert "Apache License" in archive.read(f"{info}/licenses/LICENSE").decode()
    assert "License-Expression: Apache-2.0" in archive.read(f"{info}/METADATA").decode()


def test_the_unpacked_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import s3prl_aalbert.model.config as c\n"
        "print(c.__file__); print(c.find_config('aalbert_6l', 'upstream_configs'))\n"
        "print(c.load_model_config('aalbert_6l').transformer.num_hidden_layers)\n"
    )
    done = run("-c", code, cwd=tmp_path, pythonpath=tmp_path / "site")
    assert done.returncode == 0, done.stderr
    module, config, layers = done.stdout.splitlines()
    assert module.startswith(str(tmp_path)) and config.startswith(str(tmp_path)) and layers == "6"
