"""A configuration of the wrong kind is recognised wherever one is asked for, and told from a misspelt one."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3prl_aalbert.cli import main
from s3prl_aalbert.config_kinds import MEANINGS, kind_of, read_config
from s3prl_aalbert.experiments.grid import load_sweep
from s3prl_aalbert.model.config import load_model_config
from s3prl_aalbert.model.sub_network import load_architecture
from s3prl_aalbert.yaml_config import CONFIG_FOLDERS, ConfigError, find_config, packaged_configs, read_yaml

EXAMPLES = {
    "task": "aalbert_phone", "pretraining": "pretrain_default", "sweep": "sweep_small", "model": "aalbert_6l",
}  # fmt: skip


def test_every_packaged_configuration_is_of_the_kind_that_its_name_says() -> None:
    for folder in CONFIG_FOLDERS:
        for path in packaged_configs(folder).glob("*.yaml"):
            first = path.stem.split("_")[0]
            expected = {"sweep": "sweep", "pretrain": "pretraining", "distill": "pretraining"}.get(first)
            expected = expected or ("model" if folder == "upstream_configs" else "task")
            assert kind_of(read_yaml(path)) == expected, path


@pytest.fixture
def arch(tmp_path: Path) -> Path:
    path = tmp_path / "arch.yaml"
    path.write_text("hidden_size: 16\nnum_hidden_layers: 2\nnum_attention_heads: 2\nintermediate_size: 20\n")
    return path


@pytest.mark.parametrize("kind", EXAMPLES)
def test_each_reader_names_what_it_was_given_and_what_it_expects(kind: str, arch: Path) -> None:
    path = find_config(EXAMPLES[kind], "upstream_configs")
    readers = {
        "model": lambda: load_model_config(str(path)),
        "sub-network": lambda: load_architecture(path),
        "sweep": lambda: load_sweep(path),
        "task": lambda: read_config(path, "task"),
        "pretraining": lambda: read_config(path, "pretraining"),
    }
    for expected, read in readers.items():
        if expected == kind:
            read()
            continue
        with pytest.raises(ConfigError) as told:
            read()
        assert MEANINGS[kind] in str(told.value) and str(told.value).endswith(MEANINGS[expected])  # type: ignore[index]
    with pytest.raises(ConfigError, match="sub-network's"):
        load_model_config(str(arch))


@pytest.mark.parametrize(
    ("argv", "given", "expected"),
    [
        (["pretrain", "-n", "x", "--speech", ".", "-c", "aalbert_phone"], "task", "pretraining"),
        (["pretrain", "-n", "x", "--speech", ".", "-c", "aalbert_6l"], "model", "pretraining"),
        (["pretrain", "-n", "x", "--speech", ".", "-g", "pretrain_default"], "pretraining", "model"),
        (["distill", "-n", "x", "--speech", ".", "--teacher", "aalbert", "-c", "aalbert_3l"], "model", "pretraining"),
        (["downstream", "-m", "train", "-u", "aalbert", "-d", "aalbert_phone", "-n", "x", "-c", "pretrain_debug"],
         "pretraining", "task"),
        (["profile", "-g", "aalbert_phone"], "task", "model"),
        (["sweep", "aalbert_phone"], "task", "sweep"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)  # fmt: skip
def test_on_the_command_line(
    argv: list[str], given: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AALBERT_TRACEBACK", raising=False)
    assert main(argv) == 2
    shown = capsys.readouterr().err.strip().splitlines()[-1]
    assert MEANINGS[given] in shown and shown.endswith(MEANINGS[expected])  # type: ignore[index]


def test_a_file_without_telling_keys_is_left_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text("runner: {}\n")
    assert read_config(tmp_path / "odd.yaml", "model") == {"runner": {}}
    with pytest.raises(ConfigError, match="unknown key"):
        load_model_config(str(tmp_path / "odd.yaml"))
