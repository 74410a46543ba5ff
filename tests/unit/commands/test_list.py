"""``aalbert list``: everything that can be named, each with a line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from s3prl_aalbert.cli import main
from s3prl_aalbert.toolkit.register import DOWNSTREAMS
from s3prl_aalbert.upstream import hubconf


def listed(*argv: str, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    """Return the printed lines by section and name."""
    assert main(["list", *argv]) == 0
    found: dict[str, dict[str, str]] = {}
    for block in capsys.readouterr().out.strip().split("\n\n"):
        title, *rows = block.splitlines()
        found[title] = {row.split(maxsplit=1)[0]: row.strip().partition("  ")[2].strip() for row in rows}
        assert len(found[title]) == len(rows)
    return found


def test_models(capsys: pytest.CaptureFixture[str]) -> None:
    (models,) = listed("models", capsys=capsys).values()
    assert set(models) == set(hubconf.__all__) and all(models.values())


def test_the_models_of_s3prl(capsys: pytest.CaptureFixture[str]) -> None:
    own, theirs = listed("models", "--all", capsys=capsys).values()
    assert {"fbank", "hubert_base", "audio_albert"} <= set(theirs) and not set(own) & set(theirs)


def test_configs(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for title, rows in listed("configs", capsys=capsys).items():
        files = {path.stem for path in (repository / title.split()[0]).glob("*.yaml")}
        assert set(rows) == files and all(rows.values()), "a packaged YAML begins with a comment that says what it is"
        assert all(len(text) < 300 and "  " not in text for text in rows.values())


def test_the_line_of_a_config_is_its_own_and_true(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for title, rows in listed("configs", capsys=capsys).items():
        assert len(set(rows.values())) == len(rows), "no two are described alike"
        for name, text in rows.items():
            batch = re.search(r"batch (\d+)", text)
            if batch and title.startswith("downstream_configs"):
                config = yaml.safe_load((repository / "downstream_configs" / f"{name}.yaml").read_text())
                assert config["downstream_expert"]["datarc"]["train_batch_size"] == int(batch[1]), name


def test_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    own, theirs = listed("tasks", capsys=capsys).values()
    assert set(own) == set(DOWNSTREAMS) and all(own.values())
    assert {"asr", "speech_commands", "voxceleb1"} <= set(theirs)


def test_neither_configs_nor_tasks_import_s3prl() -> None:
    code = "import sys; from s3prl_aalbert.cli import main; main(['list', 'configs']); main(['list', 'tasks'])"
    done = subprocess.run([sys.executable, "-c", f"{code}; assert 's3prl' not in sys.modules"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
