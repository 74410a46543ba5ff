"""The tables of compression.py from what its runs left; by itself: python benchmarks/compression_tables.py DIR."""

from __future__ import annotations

import csv
import io
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from s3prl_aalbert.checkpoint.release import load_checkpoint
from s3prl_aalbert.compress.extraction import extracted_config
from s3prl_aalbert.files import write_text
from s3prl_aalbert.model.aalbert import count_parameters
from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.model.encoder import Encoder, InputEmbedding
from s3prl_aalbert.model.macs import encoder_macs
from s3prl_aalbert.model.sub_network import Architecture, load_architecture

TABLES = {
    "Distilled or pre-trained alone": [
        ("features", "input features"),
        ("untrained", "student untrained"),
        ("alone", "student pre-trained alone, 800 steps, half of them on crops"),
        ("alone_twice", "student pre-trained alone, 1600 steps, 400 of them on crops"),
        ("both", "student distilled, 800 steps"),
        ("teacher", "teacher (256 wide, 6500 steps)"),
    ],
    "Which tokens learn": [
        ("masked", "masked ones alone, clean teacher"),
        ("unmasked", "unmasked ones alone, masked teacher"),
        ("both", "both (ARMHuBERT)"),
        ("clean", "both, clean teacher for all (LightHuBERT)"),
    ],
    "Supernet": [
        ("both", "whole, stage 1 (800 steps)"),
        ("supernet", "whole, stage 2 (400 more)"),
        ("middle_stage_1", "middle, cut from stage 1"),
        ("middle_stage_2", "middle, cut from stage 2"),
        ("middle_alone", "middle, trained alone (1200 steps)"),
        ("small_stage_1", "small, cut from stage 1"),
        ("small_stage_2", "small, cut from stage 2"),
        ("small_alone", "small, trained alone (1200 steps)"),
    ],
    "Found by search": [("search_evolutionary", "evolution"), ("search_random", "random")],
    "Attention reuse": [("both", "off"), ("reuse", "in the second of three layers")],
}
SIZED_BY = {"middle_stage_1": "middle", "middle_stage_2": "middle", "small_stage_1": "small", "small_stage_2": "small"}
RUN_OF = {"middle_stage_1": "both", "small_stage_1": "both"}


def write_tables(output: Path) -> None:
    """Write results.csv, searches.csv and tables.md."""
    write_text(output / "results.csv", _csv(_results(output)))
    searches = _searches(output)
    write_text(output / "searches.csv", _csv(searches))
    text = [_table(output, title, rows) for title, rows in TABLES.items()]
    text.append("## Search\n\n" + _markdown(searches))
    write_text(output / "tables.md", "\n".join(text))
    print((output / "tables.md").read_text())


def _results(output: Path) -> list[list[str]]:
    rows = [["model", "seed", "task", "layer", "dev accuracy", "test accuracy"]]
    for path in sorted((output / "probes").glob("*/seed*.json")):
        for task, layers in json.loads(path.read_text()).items():
            for layer, dev, test in layers:
                seed = path.stem.removeprefix("seed")
                rows.append([path.parent.name, seed, task, str(layer), f"{dev:.4f}", f"{test:.4f}"])
    return rows


def _table(output: Path, title: str, rows: Sequence[tuple[str, str]]) -> str:
    cells = [["", "parameters", "MMAC/s", "phones: last layer", "best by dev", "speakers: last layer", "best by dev"]]
    for name, label in rows:
        parameters, macs = cost(output, name)
        accuracies = [spread(accuracies_of(output, name, task, best)) for task in ("phone", "speaker")
                      for best in (False, True)]  # fmt: skip
        cells.append([label, parameters, macs, *accuracies])
    return f"## {title}\n\n{_markdown(cells)}"


def accuracies_of(output: Path, name: str, task: str, best: bool) -> list[float]:
    """Return the test accuracy (%) of every seed: of the last layer, or of the one that is best on dev."""
    if (name, task) == ("features", "speaker"):
        name = "features_without_cmvn"
    found = []
    for path in sorted((output / "probes" / name).glob("seed*.json")):
        layers = json.loads(path.read_text())[task]
        _, _, test = max(layers, key=lambda layer: layer[1]) if best else layers[-1]
        found.append(100 * test)
    return found


def spread(values: Sequence[float]) -> str:
    """Return "mean (smallest to largest)"."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.1f} to {max(values):.1f})"


def cost(output: Path, name: str) -> tuple[str, str]:
    """Return parameters and million MACs per second of audio (at 10 s) of encoder and input block."""
    run = RUN_OF.get(name, "supernet" if name in SIZED_BY else name)
    folder = output / "runs" / run / "seed1"
    if not (folder / "model.safetensors").exists():
        return "", ""
    config = load_checkpoint(folder).config
    arch = load_architecture(output / f"{SIZED_BY[name]}.yaml") if name in SIZED_BY else None
    return f"{_parameters(config, arch):,}", f"{encoder_macs(config, 160000, arch) / 1e7:.1f}"


def _parameters(config: ModelConfig, arch: Architecture | None) -> int:
    small = extracted_config(config, arch) if arch else config
    parts = InputEmbedding(small.input_dim, small.transformer), Encoder(small.transformer)
    return sum(map(count_parameters, parts))


def _searches(output: Path) -> list[list[str]]:
    """Return the lowest dev loss of each search, after half of its evaluations and after all."""
    rows = [["seed", "method", "evaluated", "best of the first half", "best of all", "its MMAC/s", "sub-network"]]
    for path in sorted((output / "search").glob("*/seed*/candidates.csv"), key=lambda p: (p.parts[-2], p.parts[-3])):
        with path.open(newline="", encoding="utf-8") as file:
            found = list(csv.reader(file))[1:]
        best = min(found, key=lambda row: float(row[0]))
        first = min(float(row[0]) for row in found[: len(found) // 2])
        sizes = f"{best[2]} wide; heads {best[3]}; inner {best[4]}"
        seed, method = path.parts[-2].removeprefix("seed"), path.parts[-3]
        rows.append([seed, method, str(len(found)), f"{first:.4f}", f"{float(best[0]):.4f}",
                     f"{float(best[1]) / 1e6:.1f}", sizes])  # fmt: skip
    return rows


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines) + "\n"


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


if __name__ == "__main__":
    write_tables(Path(sys.argv[1]))
