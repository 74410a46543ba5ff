"""The benchmark of widths and depths: its commands are sound, and its table is what the values say."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import sizes

from s3prl_aalbert.model.config import ModelConfig, find_config, from_dict, read_yaml
from s3prl_aalbert.pretrain.config import PretrainConfig, apply_overrides


@pytest.mark.parametrize("cell", sizes.CELLS, ids=str)
def test_every_cell_is_a_sound_configuration(cell: sizes.Cell, tmp_path: Path) -> None:
    args = argparse.Namespace(output=tmp_path, speech=[tmp_path], hours=0.1)
    command = sizes.command(args, cell, 1e-3)
    model, config = (
        dict(read_yaml(find_config(command[command.index(flag) + 1], "upstream_configs"))) for flag in ("-g", "-c")
    )
    apply_overrides(model, config, command[command.index("-o") + 1])
    transformer = from_dict(ModelConfig, model).transformer
    assert (transformer.hidden_size, transformer.num_hidden_layers) == cell[:2]
    assert transformer.share_layer == cell.shared and transformer.positions == "convolutional"
    assert from_dict(PretrainConfig, config).runner.max_hours == 0.1


def test_shared_and_unshared_have_the_same_search_of_rates() -> None:
    for cell in sizes.CELLS:
        assert len(sizes.rates_of(cell, sizes.RATES)) == (3 if cell[:2] in sizes.TWINS else 1)
        assert cell.shared or cell[:2] in sizes.TWINS


def test_the_layer_is_the_best_one_at_the_end_and_differences_are_paired() -> None:
    def rows(model: str, step: int, layers: dict[int, tuple[int, int]]) -> list[dict[str, str]]:
        return [
            dict(zip(sizes.COLUMNS, map(str, (model, 1e-3, step, step, layer, "linear", name, right, 10)), strict=True))
            for layer, counts in layers.items()
            for name, right in zip("ab", counts, strict=True)
        ]

    cell = sizes.Cell(256, 3)
    values = [
        *rows(sizes.FEATURES, 0, {0: (4, 6)}),
        *rows(str(cell), 0, {1: (3, 3), 2: (9, 9)}),
        *rows(str(cell), 20, {1: (6, 8), 2: (5, 5)}),
    ]
    lines = sizes.markdown(values, [cell]).splitlines()
    assert lines[-1].split("|")[2:-1] == [" 0.001 ", " 20 ", " 1 ", " 70.0 ± 10.0 ", " +40.0 ± 10.0 ", " +20.0 ± 0.0 "]
