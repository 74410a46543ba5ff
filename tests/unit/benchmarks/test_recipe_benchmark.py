"""The benchmark of the pre-training recipe: its commands are sound, and its table is what the values say."""

from __future__ import annotations

import argparse
from pathlib import Path

import recipe

from s3prl_aalbert.model.config import ModelConfig, from_dict
from s3prl_aalbert.pretrain.config import PretrainConfig, apply_overrides


def test_every_cell_is_a_sound_configuration(tmp_path: Path) -> None:
    args = argparse.Namespace(
        output=tmp_path, speech=[tmp_path], steps=60, rates=[1e-3], seeds=[0], batch_seconds=120, print=True
    )
    for cell in recipe.CELLS:
        command = recipe.command(args, recipe.Run(cell, 1e-3, 0))
        model = {section: dict(values) for section, values in recipe.RECIPE.items()}
        config: dict = {}
        apply_overrides(model, config, command[command.index("-o") + 1])
        from_dict(ModelConfig, model), from_dict(PretrainConfig, config)


COLUMNS = ("cell", "seed", "rate", "step", "seconds", "layer", "condition", "speaker", "error")


def rows(cell: str, step: int, seconds: float, errors: dict[int, float]) -> list[dict[str, str]]:
    """Values of two speakers, 1 % apart, by layer; a linear classifier errs the less, the more ABX does."""
    found = []
    for layer, error in errors.items():
        for condition, more in (("within", -0.02), ("across", 0.0), ("linear", 0.3 - 2 * error)):
            for speaker, other in (("a", 0.0), ("b", 0.01)):
                values = (cell, 0, 1e-3, step, seconds, layer, condition, speaker, error + more + other)
                found.append(dict(zip(COLUMNS, map(str, values), strict=True)))
    return found


def test_the_table_compares_at_equal_steps_and_at_equal_time() -> None:
    """The slow cell is better at the end; when the recipe is done, it is half-way between its last two states."""
    values = [
        *rows("input features", 0, 0, {0: 0.20}),
        *rows("recipe", 0, 0, {0: 0.19, 1: 0.18}),
        *rows("recipe", 100, 50, {0: 0.17, 1: 0.16}),
        *rows("slow", 0, 0, {0: 0.19, 1: 0.19}),
        *rows("slow", 50, 40, {0: 0.17, 1: 0.17}),
        *rows("slow", 100, 60, {0: 0.14, 1: 0.15}),
    ]
    lines = recipe.markdown(values, ["recipe", "slow"]).splitlines()
    assert "after 50 s" in lines[0]
    cells = {line.split("|")[1].strip(): [part.strip() for part in line.split("|")[2:-1]] for line in lines[4:]}
    # Linear errors are made up so that the other layer is the better one: 0.3 less the error of ABX.
    abx = ["50", "1", "14.5 ± 0.5", "16.5 ± 0.5", "-2.0 ± 0.0", "", ""]
    assert cells["recipe"] == [*abx, "0", "13.5 ± 0.5", "+2.0 ± 0.0", ""]
    abx = ["60", "0", "12.5 ± 0.5", "14.5 ± 0.5", "-5.0 ± 0.0", "-2.0 ± 0.0", "-0.5 ± 0.0"]
    assert cells["slow"] == [*abx, "1", "15.5 ± 0.5", "+4.0 ± 0.0", "+2.0 ± 0.0"]
    assert cells["input features"][3:] == ["20.5 ± 0.5", "", "", "", "", "10.5 ± 0.5", "", ""]


def test_unshared_layers_are_compared_with_the_same_objective() -> None:
    values = [
        *rows("recipe", 100, 50, {0: 0.17, 1: 0.16}),
        *rows("mel", 100, 50, {0: 0.18, 1: 0.15}),
        *rows("units, unshared", 100, 50, {0: 0.13, 1: 0.14}),
        *rows("mel, unshared", 100, 50, {0: 0.19, 1: 0.16}),
    ]
    lines = recipe.sharing(values, ["recipe", "mel", "units, unshared", "mel, unshared"]).splitlines()[2:]
    assert lines == ["| units | -3.0 ± 0.0 | +3.0 ± 0.0 |", "| mel | +1.0 ± 0.0 | -1.0 ± 0.0 |"]
