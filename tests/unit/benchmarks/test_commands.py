"""benchmarks/commands.py: a command runs once, and a failed one names its log."""

from __future__ import annotations

from pathlib import Path

import commands
import pytest

from s3prl_aalbert.errors import AalbertError


def test_a_command_runs_until_its_file_is_there(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    for _ in range(2):
        commands.run_once(tmp_path / "done", ["--version"], log)
    assert log.read_text().count("aalbert") == 2
    (tmp_path / "done").touch()
    commands.run_once(tmp_path / "done", ["--version"], log)
    assert log.read_text().count("aalbert") == 2


def test_a_script_of_the_repository_logs_beside_its_file(tmp_path: Path) -> None:
    commands.run_once(tmp_path / "new" / "done", ["benchmarks/phone_errors.py", "--help"])
    assert "test-hyp.ark" in (tmp_path / "new" / "log.txt").read_text()


def test_a_failed_command_names_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with pytest.raises(AalbertError, match=r"no-such-command.* 2.*log\.txt"):
        commands.run_once(tmp_path / "other", ["no-such-command"], log)
    assert not (tmp_path / "other").exists()


def test_a_mistake_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def mistaken() -> int:
        raise AalbertError("file.csv: no such file")

    assert commands.exit_code(mistaken) == 2
    assert capsys.readouterr().err.endswith(": file.csv: no such file\n")
    assert [commands.exit_code(lambda: 3), commands.exit_code(lambda: None)] == [3, 0]
