"""The benchmark of compression: its commands are sound, and its tables are what the values say."""

from __future__ import annotations

import argparse
from pathlib import Path

import compression
import pytest

from s3prl_aalbert.downstream.result_tables import write_csv
from s3prl_aalbert.model.config import ModelConfig, find_config, from_dict, read_yaml
from s3prl_aalbert.pretrain.config import PretrainConfig, apply_overrides


@pytest.mark.parametrize("name", compression.TRAININGS)
def test_every_training_is_a_sound_configuration(name: str, tmp_path: Path) -> None:
    args = argparse.Namespace(output=tmp_path, speech=[tmp_path])
    command = compression.training_command(args, name, 1)
    config = dict(read_yaml(find_config(command[command.index("-c") + 1], "upstream_configs")))
    compression.write_models(tmp_path)
    model = dict(read_yaml(find_config(command[command.index("-g") + 1], "upstream_configs")))
    apply_overrides(model, config, command[command.index("-o") + 1])
    from_dict(ModelConfig, model), from_dict(PretrainConfig, config)
    assert ("--teacher" in command) == (not name.startswith("alone"))


def test_every_model_of_the_tables_is_tested(tmp_path: Path) -> None:
    args = argparse.Namespace(output=tmp_path, seeds=[1])
    tested = {name for name, _, _ in compression.subjects(args)}
    assert tested == {name for table in compression.TABLES.values() for name in table}


def test_differences_are_paired_by_seed_and_speaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model has its own best layer; a model without seeds stands beside every seed."""

    def write(model: str, seed: int, layers: dict[str, tuple[float, float]]) -> None:
        rows = [
            (model, seed, test, layer, speaker, value)
            for test in compression.TESTS
            for layer, values in layers.items()
            for speaker, value in zip("ab", values, strict=True)
        ]
        write_csv(tmp_path / "tests" / model / f"seed{seed}.csv", [compression.COLUMNS, *rows])

    write("features", 0, {"0": (0.5, 0.7)})
    write("student", 1, {"0": (0.1, 0.1), "1": (0.6, 0.7)})
    write("student", 2, {"0": (0.9, 0.1), "1": (0.7, 0.8)})
    monkeypatch.setattr(compression, "TABLES", {"(a)": {"features": "input features", "student": "student"}})
    monkeypatch.setattr(compression, "cost", lambda output, name, seed: ("1", "2"))
    lines = compression.markdown(tmp_path, [1, 2]).splitlines()
    assert lines[4] == "| input features | 1 | 2 | " + " | ".join(["60.0 ± 10.0 (0) | "] * 3) + " |"
    # The means of seeds (65, 75) and of speakers (65, 75) have an error of 5 each; so have their differences.
    assert lines[5].split("|")[4:6] == [" 70.0 ± 7.1 (1) ", " +10.0 ± 7.1 "]
