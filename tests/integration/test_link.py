"""`aalbert link` on copies of the installed S3PRL, used through its stock commands."""

import os
import shutil
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
from naming import mentions, naming

from s3prl_aalbert.cli import main
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import find_config
from s3prl_aalbert.toolkit import link

REPOSITORY = Path(__file__).resolve().parents[2]
TASK_CONFIG = "runner: {}\ndownstream_expert: {}\n"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of the installed package, laid out as in S3PRL's repository."""
    installed = Path(find_spec("s3prl").origin).parent
    shutil.copytree(installed, tmp_path / "s3prl")  # Python's cache too, or each test compiles S3PRL
    (tmp_path / "task.yaml").write_text(TASK_CONFIG)
    monkeypatch.setattr(link, "find_config", lambda name, folder: tmp_path / "task.yaml")
    return tmp_path


def snapshot(folder: Path) -> dict[str, tuple[int, bytes | None]]:
    """Every file and folder by path, with its permissions and bytes; Python's cache apart."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


def test_undo_restores_every_byte_and_linking_twice_changes_nothing(checkout, capsys):
    (checkout / "s3prl/hub.py").chmod(0o640)
    before = snapshot(checkout)
    assert main(["link", str(checkout), "--dry-run"]) == 0
    assert snapshot(checkout) == before
    assert f"change {checkout / 's3prl/hub.py'}" in capsys.readouterr().out
    assert main(["link", str(checkout)]) == 0
    linked = snapshot(checkout)
    assert set(linked) - set(before) >= {"s3prl/downstream/aalbert_phone/config.yaml"}
    changed = {"s3prl/__init__.py", "s3prl/hub.py", "s3prl/optimizers.py"}
    assert {name for name in before if linked[name] != before[name]} == changed
    assert main(["link", str(checkout / "s3prl")]) == 0
    assert "linked already" in capsys.readouterr().out
    assert snapshot(checkout) == linked
    assert main(["link", str(checkout), "--undo", "--dry-run"]) == 0
    assert snapshot(checkout) == linked
    for _ in range(2):
        assert main(["link", str(checkout), "--undo"]) == 0
        assert snapshot(checkout) == before
    assert "not linked" in capsys.readouterr().out


def test_a_newer_plugin_replaces_the_link_and_undo_still_finds_the_first_bytes(checkout):
    before = snapshot(checkout / "s3prl")
    link.link(checkout)
    (checkout / "task.yaml").write_text("runner: {total_steps: 1}\n")
    lines = link.link(checkout)
    assert len(lines) == len(link.DOWNSTREAMS)
    assert "total_steps" in (checkout / "s3prl/downstream/aalbert_phone/config.yaml").read_text()
    link.undo(checkout)
    assert snapshot(checkout / "s3prl") == before


@pytest.mark.parametrize("edited", ["hub.py", "downstream/aalbert_phone/config.yaml"])
def test_an_edited_file_is_never_overwritten(checkout, edited, capsys):
    link.link(checkout)
    with (checkout / "s3prl" / edited).open("a") as file:
        file.write("# mine\n")
    before = snapshot(checkout)
    for command in (["--undo"], []):
        assert main(["link", str(checkout), *command]) == 2
        assert mentions(capsys.readouterr().err, edited, "edited")
        assert snapshot(checkout) == before


def test_an_interrupted_link_is_undone(checkout, monkeypatch):
    before = snapshot(checkout)
    write = link._write

    def fail_at_hub(path, data):
        if path.name == "hub.py":
            raise OSError("disk full")
        write(path, data)

    monkeypatch.setattr(link, "_write", fail_at_hub)
    with pytest.raises(OSError, match="disk full"):
        link.link(checkout)
    monkeypatch.setattr(link, "_write", write)
    assert snapshot(checkout) != before
    link.undo(checkout)
    assert snapshot(checkout) == before


def test_a_record_from_another_installation_does_not_stand_in_the_way(checkout):
    """S3PRL reinstalled over a linked one: its files are as before linking, the record is left."""
    hub = (checkout / "s3prl/hub.py").read_bytes()
    link.link(checkout)
    (checkout / "s3prl/hub.py").write_bytes(hub)
    assert len(link.undo(checkout)) == len(link._BLOCKS) - 1 + len(link.DOWNSTREAMS)
    assert (checkout / "s3prl/hub.py").read_bytes() == hub


def test_a_folder_that_is_not_s3prl_is_a_clear_error(tmp_path, capsys):
    assert main(["link", str(tmp_path)]) == 2
    assert mentions(capsys.readouterr().err, tmp_path, "S3PRL", "expected")


def test_a_place_that_cannot_be_written_stays_as_it_was(checkout, monkeypatch):
    before = snapshot(checkout)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(AalbertError, match="writable"):
        link.link(checkout)
    assert snapshot(checkout) == before


def test_another_version_of_s3prl_is_warned_of(checkout, caplog):
    (checkout / "s3prl/version.txt").write_text("0.5.0\n")
    link.link(checkout, dry_run=True)
    assert mentions(caplog.text, "0.5.0", "0.4.18")


def test_a_task_folder_of_the_users_own_is_refused(checkout):
    own = checkout / "s3prl/downstream/aalbert_phone/config.yaml"
    own.parent.mkdir()
    own.write_text("mine: 1\n")
    with pytest.raises(AalbertError, match=naming(own)):
        link.link(checkout)


def run_python(checkout: Path, *arguments: str, plugin: bool = True) -> subprocess.CompletedProcess:
    """Run this Python inside PATH/s3prl, as S3PRL's documentation has it."""
    paths = [str(checkout), *([str(REPOSITORY)] if plugin else []), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        cwd=checkout / "s3prl",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_stock_run_downstream_knows_our_names_when_linked(checkout, monkeypatch):
    """Trains with `run_downstream.py` as it is, no option and no module of ours named."""
    example = find_config("example", "downstream_configs")
    monkeypatch.setattr(link, "find_config", lambda name, folder: example)
    link.link(checkout)
    # As in S3PRL's repository; its wheel lacks the configurations.
    shutil.copy(example, checkout / "s3prl/downstream/example/config.yaml")
    code = """
    import runpy, sys

    runpy.run_path("run_downstream.py", run_name="__main__")  # as `python run_downstream.py`

    import importlib.util
    import s3prl.hub
    import torch

    assert s3prl.__file__.startswith(sys.path[1]), s3prl.__file__
    assert torch.load("exp/states-2.ckpt")["Args"].upstream == "aalbert_6l"
    assert "aalbert_local" in s3prl.hub.options()
    spec = importlib.util.find_spec("s3prl.downstream.aalbert_phone.expert")
    assert type(spec.loader).__module__ == "s3prl_aalbert.toolkit.finders"
    from s3prl_aalbert import toolkit

    toolkit.activate()  # `aalbert downstream` works with a linked S3PRL too
    """
    options = "-m train -u aalbert_6l -g debug -d example -p exp --device cpu"
    override = "config.runner.total_steps=2,,config.runner.save_step=1,,config.optimizer.name=AalbertAdamW"
    done = run_python(checkout, "-c", textwrap.dedent(code), *options.split(), "-o", override)
    assert done.returncode == 0, done.stderr


def test_s3prl_stays_usable_when_the_plugin_is_gone(checkout):
    link.link(checkout)
    code = """
    import importlib.util, os, sys

    sys.path = [p for p in sys.path if not os.path.isdir(os.path.join(p, "s3prl_aalbert"))]
    sys.meta_path = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
    assert importlib.util.find_spec("s3prl_aalbert") is None, (sys.path, sys.meta_path)
    import s3prl

    print(s3prl.__version__)
    """
    done = run_python(checkout, "-c", textwrap.dedent(code), plugin=False)
    assert done.stdout.strip() == "0.4.18", done.stderr
