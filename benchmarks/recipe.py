"""What does which part of the pre-training recipe do? One part changed at a time, and the grid of objectives.

    python benchmarks/recipe.py --speech data/speechocean762 data/LibriSpeech/train-clean-5 \\
        --timit data/timit -o result/recipe

Every cell is a small model (width 256, 3 layers), trained by the project's own command for the same steps: once for
each learning rate with the first seed, and with the rate of the lowest dev loss for the other seeds. States are
kept on the way, each with its seconds, so that cells are compared at equal steps and at equal time. Models are
scored on TIMIT, whose speakers no model met, beside their own untrained encoder: every state by ABX, the last one also
by a linear classifier of phones (four folds by speaker). The layer of a cell is the best of its last state, by the
error across speakers or of the classifier; all cells have that advantage alike. What is done is skipped,
what was interrupted goes on.
Ends with results.csv, table.md and cells.png in the output folder; --print shows the commands instead.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from commands import exit_code, run_once
from linear_probes import Setting, probe
from subjects import untrained_twin
from tables import crossed_mean_and_error, crossed_percent, markdown_head, markdown_line, read_table
from torch import nn
from trainings import dev_loss, states

from s3prl_aalbert.downstream.abx import Spoken, load_segments
from s3prl_aalbert.downstream.abx_scores import CONDITIONS
from s3prl_aalbert.downstream.abx_scores import score as abx_scores
from s3prl_aalbert.downstream.paired import differences
from s3prl_aalbert.downstream.phone.config import PhoneDataConfig
from s3prl_aalbert.downstream.states import HIDDEN_STATES
from s3prl_aalbert.files import write_text
from s3prl_aalbert.upstream.expert import FeaturesExpert, UpstreamExpert

SEEDS = (0, 1, 2)
RATES = (5e-4, 1e-3, 2e-3)
STATES = 3
"""Kept of every run, evenly spaced."""
RECIPE: dict[str, Any] = {
    "transformer": {
        "hidden_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
        "positions": "convolutional",
    },
    "audio": {"cmvn": "corpus", "target": "mel"},
    "task": {
        "reconstruction_weight": 0,
        "unit_weight": 1,
        "num_units": 100,
        "mask_proportion": 0.45,
        "zero_proportion": 1,
        "random_proportion": 0,
        "mask_consecutive": 5,
    },
}
WARP = "config.pretrain_expert.datarc.vocal_tract_perturbation"
RECONSTRUCTION = {"task.reconstruction_weight": 1, "task.unit_weight": 0}
BOTH = {"task.reconstruction_weight": 1}
SINUSOID, UNSHARED = {"transformer.positions": "sinusoid"}, {"transformer.share_layer": "false"}
CELLS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "positions: sinusoid": SINUSOID,
    "positions: rotary": {"transformer.positions": "rotary"},
    "span 1": {"task.mask_consecutive": 1},
    "span 3": {"task.mask_consecutive": 3},
    "span 10": {"task.mask_consecutive": 10},
    "overlapping spans": {"task.mask_layout": "overlap", "task.mask_proportion": 0.65},
    "span 1, unmasked too": {
        "task.mask_consecutive": 1, "task.mask_proportion": 0.9, "task.zero_proportion": 0.5,
    },
    "a unit a frame": {"task.units_per_token": 3},
    "cmvn: utterance": {"audio.cmvn": "utterance"},
    "perturbation": {WARP: 0.15},
    "mel": RECONSTRUCTION,
    "linear spectrogram": {**RECONSTRUCTION, "audio.target": "log"},
    "units and mel": BOTH,
    "mel, sinusoid": {**RECONSTRUCTION, **SINUSOID},
    "units and mel, sinusoid": {**BOTH, **SINUSOID},
    "units, unshared": UNSHARED,
    "mel, unshared": {**RECONSTRUCTION, **UNSHARED},
    "units and mel, unshared": {**BOTH, **UNSHARED},
    "units, sinusoid, unshared": {**SINUSOID, **UNSHARED},
    "mel, sinusoid, unshared": {**RECONSTRUCTION, **SINUSOID, **UNSHARED},
    "units and mel, sinusoid, unshared": {**BOTH, **SINUSOID, **UNSHARED},
    "second iteration": {"task.num_units": 200, "config.units.source": "recipe", "config.units.layer": 1},
    "second iteration, unshared": {
        **UNSHARED, "task.num_units": 200, "config.units.source": "units, unshared", "config.units.layer": 1,
    },
}  # fmt: skip
UNSHARED_SUFFIX = ", unshared"
SHARED = {"units, unshared": "recipe", "units, sinusoid, unshared": "positions: sinusoid"}
"""Cells with shared layers that have another name."""
LINEAR = "linear"
"""Errors of a linear classifier of phones, beside the conditions of ABX."""
COLUMNS = ("cell", "seed", "rate", "step", "seconds", "layer", "condition", "speaker", "error")


class Run(NamedTuple):
    """One training."""

    cell: str
    rate: float
    seed: int

    def folder(self, output: Path) -> Path:
        """Return where it is."""
        return (
            output
            / "runs"
            / self.cell.replace(": ", "_").replace(", ", "_").replace(" ", "_")
            / (f"lr{self.rate:g}_seed{self.seed}")
        )


def command(args: argparse.Namespace, run: Run) -> list[str]:
    """Return the command of a training; given again it goes on."""
    settings = {
        "config.runner.total_steps": args.steps,
        "config.runner.log_step": 50,
        "config.runner.eval_step": args.steps,
        "config.runner.save_step": max(1, args.steps // STATES),
        "config.runner.max_keep": STATES + 1,
        "config.runner.divergence_factor": 0,
        "config.optimizer.lr": run.rate,
        "config.optimizer.betas": "[0.9, 0.98]",
        "config.optimizer.warmup_proportion": 0.05,
        "config.pretrain_expert.datarc.manifest": args.output.absolute() / "manifest.tsv",
        "config.pretrain_expert.datarc.train_batch_size": 16,
        "config.pretrain_expert.datarc.max_batch_seconds": args.batch_seconds,
        "config.pretrain_expert.datarc.max_seconds": 24,
    }
    settings.update({k if k.startswith("config.") else f"model.{k}": v for k, v in CELLS[run.cell].items()})
    source = settings.get("config.units.source")
    if source in CELLS:
        settings["config.units.source"] = json.dumps(str(best(args, source, run.seed).folder(args.output).absolute()))
    override = ",,".join(f"{key}={value}" for key, value in settings.items())
    options = ["-g", str(args.output / "model.yaml"), "-c", "pretrain_default", "-p", str(run.folder(args.output))]
    options += ["--speech", *map(str, args.speech), "--seed", str(run.seed), "--device", "cpu", "-a"]
    return ["pretrain", *options, "-o", override]


def train(args: argparse.Namespace) -> None:
    """Run the search of every cell with the first seed, then the other seeds at its rate."""
    write_text(args.output / "model.yaml", yaml.safe_dump(RECIPE, sort_keys=False))
    for cell in args.cells:
        for rate in args.rates:
            _train(args, Run(cell, rate, args.seeds[0]))
        for seed in args.seeds[1:]:
            _train(args, best(args, cell, seed))


def _train(args: argparse.Namespace, run: Run) -> None:
    done = run.folder(args.output) / "model.safetensors"
    if args.print:
        print(shlex.join(["aalbert", *command(args, run)]))
    else:
        run_once(done, command(args, run))


def best(args: argparse.Namespace, cell: str, seed: int) -> Run:
    """Return a run of a cell at the rate whose dev loss is the lowest with the first seed."""
    if len(args.rates) == 1 or args.print:
        return Run(cell, args.rates[0], seed)
    return Run(
        cell, min(args.rates, key=lambda rate: dev_loss(Run(cell, rate, args.seeds[0]).folder(args.output))), seed
    )


# ------------------------------------------------------------------------------------------------- scoring


@cache
def segments(timit: Path) -> tuple[Spoken, ...]:
    """Return the labelled speech of TIMIT."""
    return tuple(load_segments(PhoneDataConfig(str(timit), phone_set="39", exclude=["sa1", "sa2"])))


def score(args: argparse.Namespace) -> list[dict[str, str]]:
    """Return the rows of results.csv, scoring what is not there yet."""
    path = args.output / "results.csv"
    rows = read_table(path)
    done = {(row["cell"], row["seed"], row["step"]) for row in rows}
    for cell, seed, step, seconds, rate, upstream in _subjects(args, done):
        found = list(_abx(upstream.eval(), args.timit))
        if step in (0, args.steps):
            found += _linear(upstream, args.timit)
        for layer, condition, speaker, error in found:
            values = (cell, seed, rate, step, f"{seconds:.0f}", layer, condition, speaker, f"{error:.6f}")
            rows.append(dict(zip(COLUMNS, map(str, values), strict=True)))
        _write(path, rows)
    return rows


def _abx(upstream: nn.Module, timit: Path) -> Iterator[tuple[int, str, str, float]]:
    """Yield layer, condition, speaker and ABX error."""
    for layer, errors in abx_scores(upstream, "", HIDDEN_STATES, None, segments(timit)).layers.items():
        for condition in CONDITIONS:
            for speaker, error in getattr(errors, condition)().items():
                yield layer, condition, speaker, error


def _linear(upstream: nn.Module, timit: Path) -> Iterator[tuple[int, str, str, float]]:
    """Yield layer, "linear", speaker and the share of frames that the classifier takes for another phone."""
    for layer, _, scores in probe(upstream, timit, Setting(folds=4, classifiers=("linear",))):
        for speaker, score in scores.items():
            yield layer, LINEAR, speaker, 1 - score.correct / score.count


def _subjects(args: argparse.Namespace, done: set[tuple[str, str, str]]) -> Iterator[tuple[Any, ...]]:
    """Yield (cell, seed, step, seconds, rate, upstream) of what is not scored yet."""
    if ("input features", "0", "0") not in done:
        yield "input features", 0, 0, 0.0, 0, FeaturesExpert()
    for cell in args.cells:
        for seed in args.seeds:
            run = best(args, cell, seed)
            kept = list(states(run.folder(args.output)))
            for path, step, seconds in kept:
                if (cell, str(seed), str(step)) not in done:
                    yield cell, seed, step, seconds, run.rate, UpstreamExpert(str(path))
            if (cell, str(seed), "0") not in done:
                yield cell, seed, 0, 0.0, run.rate, untrained_twin(seed, partial(UpstreamExpert, str(kept[-1].path)))


def _write(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    lines = [",".join(COLUMNS), *(",".join(f'"{row[c]}"' if c == "cell" else row[c] for c in COLUMNS) for row in rows)]
    write_text(path, "\n".join(lines) + "\n")


# -------------------------------------------------------------------------------------------------- report


class Curve(NamedTuple):
    """A cell over its training: by (seed, speaker), of its best layer."""

    layer: int
    at: dict[int, dict[str, dict[tuple[str, str], float]]]
    """Step -> condition -> values."""
    seconds: dict[int, float]
    """Of the fastest seed, since other work of the machine slows the others."""


def curve(rows: Sequence[Mapping[str, str]], cell: str, chosen_by: str = "across") -> Curve:
    """Gather a cell's values; the layer is that of the smallest error at the last step, by one condition."""
    own = [row for row in rows if row["cell"] == cell]
    last = max(int(row["step"]) for row in own)
    layers: dict[int, list[float]] = {}
    for row in own:
        if int(row["step"]) == last and row["condition"] == chosen_by:
            layers.setdefault(int(row["layer"]), []).append(float(row["error"]))
    layer = min(layers, key=lambda each: np.mean(layers[each]))
    at: dict[int, dict[str, dict[tuple[str, str], float]]] = {}
    seconds: dict[int, list[float]] = {}
    for row in own:
        if int(row["layer"]) == layer:
            step = int(row["step"])
            values = at.setdefault(step, {}).setdefault(row["condition"], {})
            values[row["seed"], row["speaker"]] = float(row["error"])
            seconds.setdefault(step, []).append(float(row["seconds"]))
    return Curve(layer, at, {step: min(each) for step, each in seconds.items()})


def equal_time(curves: Mapping[str, Curve]) -> float:
    """Return the seconds that the fastest cell took for all of its steps."""
    return min(max(each.seconds.values()) for each in curves.values())


def at_time(found: Curve, seconds: float) -> dict[tuple[str, str], float]:
    """Return a cell's errors across speakers after some seconds, on straight lines between its states."""
    steps = sorted(found.at)
    times = [found.seconds[step] for step in steps]
    return {
        key: float(np.interp(seconds, times, [found.at[step]["across"][key] for step in steps]))
        for key in found.at[steps[-1]]["across"]
    }


def markdown(rows: Sequence[Mapping[str, str]], cells: Sequence[str]) -> str:
    """Return the table: errors at equal steps and at equal time, less the untrained encoder, less the recipe."""
    curves = {cell: curve(rows, cell) for cell in cells}
    linear = {cell: curve(rows, cell, LINEAR) for cell in cells}
    limit = equal_time(curves)
    columns = [
        *("cell", "s", "ABX layer", "within", "across", "less untrained", "less recipe", "at equal time"),
        *("linear layer", "linear", "less untrained", "less recipe"),
    ]
    features = curve(rows, "input features").at[0]
    shown = [crossed_percent(features[condition]) for condition in (*CONDITIONS, LINEAR)]
    lines = [
        "Errors (%) on TIMIT, ABX and of a linear classifier of phones: mean ± its standard error over seeds and "
        f"speakers; equal time, less recipe: after {limit:.0f} s",
        "",
        *markdown_head(columns),
        markdown_line(["input features", "", "", shown[0], shown[1], "", "", "", "", shown[2], "", ""]),
    ]
    for cell, found in curves.items():
        last, recipe = max(found.at), curves.get("recipe")
        cells_of_row = [cell, f"{found.seconds[last]:.0f}", str(found.layer), crossed_percent(found.at[last]["within"])]
        cells_of_row += _beside(found, recipe, "across")
        then = differences(at_time(found, limit), at_time(recipe, limit)) if recipe and cell != "recipe" else None
        cells_of_row += [crossed_percent(then, True) if then else "", str(linear[cell].layer)]
        lines.append(markdown_line(cells_of_row + _beside(linear[cell], linear.get("recipe"), LINEAR)))
    return "\n".join(lines) + "\n"


def _beside(found: Curve, reference: Curve | None, condition: str) -> list[str]:
    """Return the last error, and what it is less the untrained encoder's and less the reference's."""
    values = found.at[max(found.at)][condition]
    others = [found.at.get(0), reference.at[max(reference.at)] if reference and reference is not found else None]
    return [
        crossed_percent(values),
        *(crossed_percent(differences(values, each[condition]), True) if each else "" for each in others),
    ]


def sharing(rows: Sequence[Mapping[str, str]], cells: Sequence[str]) -> str:
    """Return the table of what unshared layers change, for every objective of which both were run."""
    lines = markdown_head(["unshared less shared layers", "across", "linear"])
    for cell in cells:
        shared = SHARED.get(cell, cell.removesuffix(UNSHARED_SUFFIX))
        if shared != cell and shared in cells:
            changes = []
            for condition in ("across", LINEAR):
                one, other = (curve(rows, name, condition).at for name in (cell, shared))
                changes.append(
                    crossed_percent(differences(one[max(one)][condition], other[max(other)][condition]), True)
                )
            lines.append(markdown_line([cell.removesuffix(UNSHARED_SUFFIX), *changes]))
    return "\n".join(lines) + "\n"


def picture(rows: Sequence[Mapping[str, str]], cells: Sequence[str], path: Path) -> None:
    """Draw both errors of each cell, beside those of its untrained encoder and of the input features."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 1 + 0.25 * len(cells)), layout="constrained")
    FigureCanvasAgg(figure)
    titles = {"across": "ABX across speakers, error (%)", LINEAR: "phones, linear classifier, error (%)"}
    for axes, (condition, title) in zip(figure.subplots(1, 2, sharey=True), titles.items(), strict=True):
        features = 100 * crossed_mean_and_error(curve(rows, "input features").at[0][condition])[0]
        axes.axvline(features, color="grey", linestyle="--", label="input features")
        states_of = [curve(rows, cell, condition).at for cell in cells]
        styles = ((min, "untrained", "o", "C1", "white"), (max, "trained", "D", "C0", "C0"))
        for step, label, marker, colour, fill in styles:
            means, errors = np.transpose([crossed_mean_and_error(at[step(at)][condition]) for at in states_of]) * 100
            axes.errorbar(
                means, range(len(cells)), xerr=errors, fmt=marker, color=colour, markerfacecolor=fill, label=label
            )
        axes.set(title=title, yticks=range(len(cells)), yticklabels=cells)
        axes.grid(alpha=0.3)
    axes.invert_yaxis()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--speech", nargs="+", type=Path, required=True, help="folders to train on")
    add("--timit", type=Path, required=True, help="the TIMIT sample")
    add("-o", "--output", type=Path, required=True)
    add("--cells", nargs="+", choices=list(CELLS), default=list(CELLS), metavar="CELL", help="default: all")
    add("--seeds", nargs="+", type=int, default=list(SEEDS))
    add("--rates", nargs="+", type=float, default=list(RATES), help="learning rates of the search")
    add("--steps", type=int, default=600)
    add("--batch-seconds", type=float, default=30, help="speech of a step; default: %(default)s")
    add("--print", action="store_true", help="print the commands instead")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(args)
    if args.print:
        return
    rows = score(args)
    tables = markdown(rows, args.cells) + "\n" + sharing(rows, args.cells)
    write_text(args.output / "table.md", tables)
    picture(rows, args.cells, args.output / "cells.png")
    print(tables)


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
