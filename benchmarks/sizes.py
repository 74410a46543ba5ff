"""Which width and depth for a release? Models trained for the same time, and the unshared twin of one.

    python scripts/align_phones.py data/LibriSpeech/dev-clean --every 6 -o phones.tsv
    python benchmarks/sizes.py --speech data/speechocean762 data/LibriSpeech/train-clean-5 \\
        --phones data/LibriSpeech/dev-clean --alignments phones.tsv -o result/sizes

All learn the units that `pretrain_tiny` names for `--hours`; the twin and its shared model are trained
with several learning rates, of which the dev loss chooses. States are kept on the way. Scored is a linear classifier of
phones of dev-clean (three utterances of each of 40 speakers, four folds by speaker), whose speakers no table tests, in
the best layer of the last state. What is done is skipped, and what was interrupted goes on.
Ends with results.csv, table.md and curves.png in the output folder; --print shows the commands instead.
"""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from commands import exit_code, run_once
from linear_probes import Setting, probe
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from subjects import untrained_twin
from tables import Row, markdown_head, markdown_line, read_table, shares
from torch import nn
from trainings import dev_loss, states

from s3prl_aalbert.downstream.paired import Values, differences, mean_and_error, percent
from s3prl_aalbert.downstream.result_tables import write_csv
from s3prl_aalbert.files import write_text
from s3prl_aalbert.upstream.expert import FeaturesExpert, UpstreamExpert

WIDTHS, DEPTHS = (256, 384, 512, 768), (3, 6, 12)
RATES = (5e-4, 1e-3, 2e-3)
STATES = 5
"""Kept and scored of every training, about."""
STEPS_PER_SECOND = 8.0
"""Of 256 wide, 3 layers, on one core in bf16, to space the states; of other sizes by their share of the operations."""
COLUMNS = ("model", "rate", "step", "seconds", "layer", "classifier", "speaker", "correct", "count")
FEATURES = "input features"


class Cell(NamedTuple):
    """One model."""

    width: int
    depth: int
    shared: bool = True

    def __str__(self) -> str:
        return f"{self.width} wide, {self.depth} layers" + ("" if self.shared else ", unshared")

    def folder(self, output: Path, rate: float) -> Path:
        """Return where its training with a learning rate is."""
        return output / "runs" / f"{self.width}x{self.depth}{'' if self.shared else '_unshared'}" / f"lr{rate:g}"


TWINS = ((512, 3),)
"""Of the size of the packaged model."""
CELLS = [Cell(width, depth) for width in WIDTHS for depth in DEPTHS] + [Cell(*size, False) for size in TWINS]


def rates_of(cell: Cell, rates: Sequence[float]) -> Sequence[float]:
    """Return the learning rates that a cell is trained with: all where it has a twin, else the middle one."""
    return rates if cell[:2] in TWINS else [rates[len(rates) // 2]]


def command(args: argparse.Namespace, cell: Cell, rate: float) -> list[str]:
    """Return the command of a training; given again it goes on."""
    steps = args.hours * 3600 * STEPS_PER_SECOND * (256 * 256 * 3) / (cell.width**2 * cell.depth)
    settings: dict[str, object] = {
        "model.transformer.hidden_size": cell.width,
        "model.transformer.num_hidden_layers": cell.depth,
        "model.transformer.num_attention_heads": cell.width // 64,
        "model.transformer.intermediate_size": 4 * cell.width,
        "model.transformer.share_layer": str(cell.shared).lower(),
        "model.task.unit_neighbours": 0,  # as when it was measured
        "config.runner.total_steps": 1_000_000,
        "config.runner.max_hours": args.hours,
        "config.runner.eval_step": 1_000_000,  # the last step alone
        "config.runner.save_step": max(10, round(steps / STATES)),
        "config.runner.max_keep": 100,
        "config.optimizer.lr": rate,
        "config.pretrain_expert.datarc.manifest": args.output.absolute() / "manifest.tsv",
    }
    override = ",,".join(f"{key}={value}" for key, value in settings.items())
    options = ["-g", "aalbert_units", "-c", "pretrain_tiny", "-p", str(cell.folder(args.output, rate))]
    return [
        *("pretrain", *options, "--speech", *map(str, args.speech)),
        *("--seed", "1337", "--device", "cpu", "-a", "-o", override),
    ]


def best_rate(args: argparse.Namespace, cell: Cell) -> float:
    """Return the learning rate of the lowest dev loss."""
    rates = rates_of(cell, args.rates)
    return rates[0] if len(rates) == 1 else min(rates, key=lambda rate: dev_loss(cell.folder(args.output, rate)))


def score(args: argparse.Namespace) -> list[Row]:
    """Return the rows of results.csv, scoring what is not there yet: last states in all layers, others in the best."""
    path = args.output / "results.csv"
    rows = read_table(path)
    setting = Setting(4, classifiers=("linear",), alignments=str(args.alignments), utterances=3)

    def probed(name: str, rate: float, state: tuple[int, float], build: partial[nn.Module], setting: Setting) -> None:
        step, seconds = state
        if any((row["model"], row["step"]) == (name, str(step)) for row in rows):
            return
        logging.info("%s, step %d", name, step)
        for layer, classifier, by_speaker in probe(build().eval(), args.phones, setting):
            for speaker, (correct, count) in by_speaker.items():
                values = (name, f"{rate:g}", step, f"{seconds:.0f}", layer, classifier, speaker, correct, count)
                rows.append(dict(zip(COLUMNS, map(str, values), strict=True)))
        write_csv(path, [COLUMNS, *([row[column] for column in COLUMNS] for row in rows)])

    probed(FEATURES, 0, (0, 0), partial(FeaturesExpert), setting)
    for cell in args.cells:
        name, rate = str(cell), best_rate(args, cell)
        *earlier, last = states(cell.folder(args.output, rate))
        build = partial(UpstreamExpert, str(last.path))
        probed(name, rate, last[1:], build, setting)
        best = setting._replace(layers=(int(curve(rows, name).layer),))
        probed(name, rate, (0, 0), partial(untrained_twin, 0, build), best)
        for state in earlier[:: max(1, len(earlier) // STATES)]:
            probed(name, rate, state[1:], partial(UpstreamExpert, str(state.path)), best)
    return rows


class Curve(NamedTuple):
    """A model over its training, in the layer that is best at the end."""

    layer: str
    rate: str
    seconds: dict[int, float]
    at: dict[int, Values]
    """Step -> accuracy by speaker."""


def curve(rows: Sequence[Row], name: str) -> Curve:
    """Gather a model's values."""
    own = [row for row in rows if row["model"] == name]
    seconds = {int(row["step"]): float(row["seconds"]) for row in own}
    found = {step: shares(row for row in own if int(row["step"]) == step) for step in sorted(seconds)}
    last = found[max(found)]
    layer = max((key[2] for key in last), key=lambda each: mean_and_error(last[name, "linear", each])[0])
    at = {step: values[name, "linear", layer] for step, values in found.items()}
    return Curve(layer, own[-1]["rate"], seconds, at)


def markdown(rows: Sequence[Row], cells: Sequence[Cell]) -> str:
    """Return the table."""
    heads = ["model", "learning rate", "steps", "layer", "phones (%)", "less untrained", "less features"]
    lines = markdown_head(heads)
    features = curve(rows, FEATURES).at[0]
    lines.append(markdown_line([FEATURES, "", "", "", percent(features), "", ""]))
    for cell in cells:
        found = curve(rows, str(cell))
        last = max(found.at)
        values = found.at[last]
        less = [percent(differences(values, other), True) for other in (found.at[0], features)]
        lines.append(markdown_line([str(cell), found.rate, str(last), found.layer, percent(values), *less]))
    return "\n".join(lines) + "\n"


def picture(rows: Sequence[Row], cells: Sequence[Cell], path: Path) -> None:
    """Draw the accuracy over the minutes of training, one panel a depth."""
    depths = sorted({cell.depth for cell in cells})
    figure = Figure(figsize=(4 * len(depths), 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(depths), sharey=True, squeeze=False)[0]
    features = 100 * mean_and_error(curve(rows, FEATURES).at[0])[0]
    for axes, depth in zip(panels, depths, strict=True):
        axes.axhline(features, color="grey", linestyle="--", label=FEATURES)
        for cell in cells:
            if cell.depth == depth:
                found = curve(rows, str(cell))
                minutes = [found.seconds[step] / 60 for step in found.at]
                values = [100 * mean_and_error(each)[0] for each in found.at.values()]
                label = f"{cell.width} wide" + ("" if cell.shared else ", unshared")
                axes.plot(minutes, values, marker=".", label=label, linestyle="-" if cell.shared else ":")
        axes.set(title=f"{depth} layers", xlabel="minutes of one core")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    panels[0].set(ylabel="phones of dev-clean, linear (%)")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--speech", nargs="+", type=Path, required=True, help="folders to train on")
    add("--phones", type=Path, required=True, metavar="DIR", help="LibriSpeech's dev-clean")
    add("--alignments", type=Path, required=True, metavar="TSV", help="its phones, of scripts/align_phones.py")
    add("-o", "--output", type=Path, required=True)
    add("--hours", type=float, default=0.15, help="of each training; default: %(default)s")
    add("--rates", nargs="+", type=float, default=list(RATES), help="learning rates of the cells with a twin")
    add("--only", nargs="+", metavar="WIDTHxDEPTH[_unshared]", help="some of the cells")
    add("--print", action="store_true", help="print the commands instead")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    args.cells = [cell for cell in CELLS if not args.only or cell.folder(Path(), 1).parent.name in args.only]
    for cell in args.cells:
        for rate in rates_of(cell, args.rates):
            if args.print:
                print(shlex.join(["aalbert", *command(args, cell, rate)]))
            else:
                run_once(cell.folder(args.output, rate) / "model.safetensors", command(args, cell, rate))
    if not args.print:
        rows = score(args)
        table = markdown(rows, args.cells)
        write_text(args.output / "table.md", table)
        picture(rows, args.cells, args.output / "curves.png")
        print(table)


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
