"""Compression at a small scale: trainings by the project's own commands, then tests on speech that none of them heard.

    python benchmarks/compression.py --speech data/speechocean762 data/LibriSpeech/train-clean-5 --timit data/timit \\
        --speakers data/LibriSpeech/dev-clean data/LibriSpeech/test-clean -o result/compression

The teacher is the packaged model. The student has width 128, 3 shared layers, and the teacher's positions and
normalisation; the supernet of (f) has 12 layers and is up to 768 wide. Every frozen model is tested by the ABX error
across speakers of TIMIT, a linear classifier of its phones (four folds by speaker), and one of 80 speakers by token.
What is done is skipped, and what was interrupted goes on. Ends with results.csv, searches.csv and tables.md in the
output folder; `--print` shows the commands instead. Processes can share the work, each with some of `--seeds`; the
command with all of them then makes the tables.
"""

from __future__ import annotations

import argparse
import csv
import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import yaml
from commands import exit_code, run_once
from linear_probes import Setting, probe
from recipe import segments
from subjects import untrained_twin
from tables import crossed_mean_and_error, crossed_percent, markdown_head, markdown_line, read_table
from torch import nn
from unseen_speakers import Setting as SpeakerSetting
from unseen_speakers import classify, layers_of, load_excerpts

from s3prl_aalbert.checkpoint.release import load_checkpoint
from s3prl_aalbert.compress.extraction import extracted_config
from s3prl_aalbert.downstream.abx_scores import score as abx_scores
from s3prl_aalbert.downstream.paired import differences
from s3prl_aalbert.downstream.result_tables import write_csv
from s3prl_aalbert.downstream.states import HIDDEN_STATES
from s3prl_aalbert.files import write_text
from s3prl_aalbert.model.aalbert import count_parameters
from s3prl_aalbert.model.encoder import Encoder, InputEmbedding
from s3prl_aalbert.model.macs import encoder_macs
from s3prl_aalbert.model.sub_network import load_architecture
from s3prl_aalbert.upstream import hubconf
from s3prl_aalbert.upstream.expert import FeaturesExpert, UpstreamExpert

Settings = dict[str, object]
TEACHER = "aalbert_units"
SEEDS = (1,)
STEPS = 400
"""Of every training; of the supernet's stage 1, too."""
STAGE_2_STEPS = 200
BUDGET = 18e6
"""MACs per second of audio for the searches; the student has 31e6."""
EVALUATIONS = 48
METHODS = ("evolutionary", "random")
RUNNER: Settings = {
    "runner.log_step": 50,
    "runner.eval_step": 100000,  # the last step alone
    "runner.save_step": 200,
    "runner.max_keep": 1,
    "optimizer.lr": "2e-3",
    "optimizer.warmup_proportion": 0.05,
    "pretrain_expert.datarc.train_batch_size": 16,
    "pretrain_expert.datarc.max_batch_seconds": 30,
    "pretrain_expert.datarc.max_seconds": 24,
}
STUDENT: dict[str, dict[str, object]] = {
    "transformer": {
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 512,
        "attention_head_size": 64,  # of all of its sub-networks, too
        "positions": "convolutional",
    },
    "audio": {"cmvn": "corpus"},
    "task": {"mask_proportion": 0.45, "zero_proportion": 1, "random_proportion": 0, "mask_consecutive": 5},
}
ALONE: Settings = {"model.task.reconstruction_weight": 0, "model.task.unit_weight": 1, "model.task.num_units": 100}
"""Units of MFCC, as in the first stage of the packaged model."""
LIGHTHUBERT: Settings = {"distill.average_top_k": 2}
ARMHUBERT: Settings = {"distill.teacher_layers": "[1,2,3]"}
"""What the published targets are for a teacher of three layers in place of twelve."""
SPACE: Settings = {
    "supernet.hidden_size": "[64,96,128]",
    "supernet.num_attention_heads": "[1,2]",
    "supernet.intermediate_size": "[256,384,512]",
    "supernet.num_hidden_layers": "[2,3]",
}
SIZES = {
    "small": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 256},
    "middle": {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 384},
    "small_12l": {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "intermediate_size": 2048},
}
"""Sub-networks: two of SPACE, and the smallest of `distill_supernet_12l`."""
TWELVE_LAYERS: Settings = {
    **LIGHTHUBERT,
    "optimizer.lr": "5e-4",
    "model.audio.cmvn": "corpus",
    **{f"model.task.{key}": value for key, value in STUDENT["task"].items()},
}
"""Of the supernet with 12 layers: its own rate, and the input and masks of the student."""
TESTS = ("phones", "ABX", "speakers")
"""All in shares that are right: of ABX, one less the error across speakers."""
COLUMNS = ("model", "seed", "test", "layer", "speaker", "value")


@dataclass(frozen=True)
class Training:
    """One training run a seed."""

    config: str
    steps: int = STEPS
    settings: Settings = field(default_factory=dict)
    """Of the YAML of -c, and with the prefix "model." of -g."""
    init: str = ""
    """Training that it starts from."""
    model: str = "student"
    """The model's configuration: a YAML that `write_models` writes, or a packaged one."""


def sized(size: str) -> Training:
    """Return the distillation of a small student by itself, with the steps of both stages of a supernet."""
    settings: Settings = {f"model.transformer.{key}": value for key, value in SIZES[size].items()}
    return Training("distill_lighthubert", STEPS + STAGE_2_STEPS, LIGHTHUBERT | settings)


TRAININGS = {
    "alone": Training("pretrain_default", settings=ALONE),
    "alone_twice": Training("pretrain_default", 2 * STEPS, ALONE),
    "lighthubert": Training("distill_lighthubert", settings=LIGHTHUBERT),  # also the supernet's stage 1
    "armhubert": Training("distill_armhubert", settings=ARMHUBERT),
    "masked": Training("distill_armhubert", settings={**ARMHUBERT, "distill.unmasked_weight": 0}),
    "unmasked": Training("distill_armhubert", settings={**ARMHUBERT, "distill.masked_weight": 0}),
    "reuse": Training("distill_lighthubert", settings={**LIGHTHUBERT, "model.transformer.reuse_pattern": "[0,1,0]"}),
    "supernet": Training("distill_supernet", STAGE_2_STEPS, LIGHTHUBERT | SPACE, init="lighthubert"),
    "small_alone": sized("small"),
    "middle_alone": sized("middle"),
    "lighthubert_12l": Training("distill_lighthubert", settings=TWELVE_LAYERS, model="supernet_12l"),
    "supernet_12l": Training(
        "distill_supernet_12l", STAGE_2_STEPS, TWELVE_LAYERS, init="lighthubert_12l", model="supernet_12l"
    ),
}
CUTS = {
    "middle_stage_1": ("lighthubert", "middle"),
    "middle_stage_2": ("supernet", "middle"),
    "small_stage_1": ("lighthubert", "small"),
    "small_stage_2": ("supernet", "small"),
    "small_12l_stage_1": ("lighthubert_12l", "small_12l"),
    "small_12l_stage_2": ("supernet_12l", "small_12l"),
}
"""Models that are cut from others: training and size."""
UNTRAINED = {"untrained": "lighthubert", "untrained_12l": "lighthubert_12l"}
"""Random weights: the training whose encoder it is."""
TABLES = {
    "(a) Distilled, or pre-trained alone?": {
        "features": "input features",
        "untrained": "student untrained",
        "alone": f"student alone, units of MFCC, {STEPS} steps",
        "alone_twice": f"the same, {2 * STEPS} steps",
        "lighthubert": f"student distilled (LightHuBERT), {STEPS} steps",
        "teacher": f"teacher, `{TEACHER}`",
    },
    "(b) Which tokens learn?": {
        "lighthubert": "all, clean teacher, average of its last layers (LightHuBERT)",
        "armhubert": "both terms, layer by layer (ARMHuBERT)",
        "masked": "its masked tokens alone, clean teacher",
        "unmasked": "its unmasked tokens alone, masked teacher",
    },
    "(c) Does the supernet's second stage help?": {
        "lighthubert": f"whole, after stage 1 ({STEPS} steps)",
        "supernet": f"whole, after stage 2 ({STAGE_2_STEPS} more)",
        "middle_stage_1": "middle, cut after stage 1",
        "middle_stage_2": "middle, cut after stage 2",
        "middle_alone": f"middle, trained alone ({STEPS + STAGE_2_STEPS} steps)",
        "small_stage_1": "small, cut after stage 1",
        "small_stage_2": "small, cut after stage 2",
        "small_alone": f"small, trained alone ({STEPS + STAGE_2_STEPS} steps)",
    },
    "(d) Does evolution find more than chance?": {
        "supernet": "whole supernet",
        "search_evolutionary": "found by evolution",
        "search_random": "found by random search",
    },
    "(e) Attention reuse": {"lighthubert": "off", "reuse": "in the second of three layers"},
    "(f) A supernet of twelve layers, up to 768 wide": {
        "features": "input features",
        "untrained_12l": "whole, untrained",
        "lighthubert_12l": f"whole, after stage 1 ({STEPS} steps)",
        "supernet_12l": f"whole, after stage 2 ({STAGE_2_STEPS} more)",
        "small_12l_stage_1": "smallest, cut after stage 1",
        "small_12l_stage_2": "smallest, cut after stage 2",
    },
}
"""Models of every table, each with its name; differences are from its baselines."""
BASELINES = {
    "(a) Distilled, or pre-trained alone?": {"features": "features", "untrained": "untrained"},
    "(f) A supernet of twelve layers, up to 768 wide": {"features": "features", "untrained_12l": "untrained"},
}
"""Of a table, each with the word of its column; of the others it is the first model."""


# ------------------------------------------------------------------------------------------------ training


def folder_of(output: Path, name: str, seed: int) -> Path:
    """Return where a training is."""
    return output / "runs" / name / f"seed{seed}"


def training_command(args: argparse.Namespace, name: str, seed: int) -> list[str]:
    """Return the command of a training; given again it goes on."""
    training = TRAININGS[name]
    settings = {**RUNNER, "runner.total_steps": training.steps, **training.settings}
    settings["pretrain_expert.datarc.manifest"] = args.output.absolute() / "manifest.tsv"  # one decoded corpus for all
    keys = {key: key if key.startswith("model.") else f"config.{key}" for key in settings}
    override = ",,".join(f"{keys[key]}={value}" for key, value in settings.items())
    teacher = [] if name.startswith("alone") else ["--teacher", TEACHER]
    init = ["--init", str(folder_of(args.output, training.init, seed))] if training.init else []
    folders = ["--speech", *map(str, args.speech), "-p", str(folder_of(args.output, name, seed))]
    model = str(args.output / "student.yaml") if training.model == "student" else training.model
    options = ["-g", model, "-c", training.config, *teacher, *init, *folders]
    return ["pretrain", *options, "--seed", str(seed), "--device", "cpu", "-a", "-o", override]


def search_command(output: Path, method: str, seed: int) -> list[str]:
    """Return the command of a search."""
    budget = ["--macs-max", f"{BUDGET:g}", "--evaluations", str(EVALUATIONS), "--method", method]
    place = ["-o", str(output / "search" / method / f"seed{seed}"), "--seed", str(seed), "--device", "cpu"]
    return ["search", str(folder_of(output, "supernet", seed)), *budget, *place]


def commands(args: argparse.Namespace) -> Iterator[tuple[Path, list[str]]]:
    """Yield every command with the file that it ends with, in order."""
    for seed in args.seeds:
        for name in TRAININGS:
            yield folder_of(args.output, name, seed) / "model.safetensors", training_command(args, name, seed)
        for method in METHODS:
            done = args.output / "search" / method / f"seed{seed}" / "arch.yaml"
            yield done, search_command(args.output, method, seed)


def write_models(output: Path) -> None:
    """Write the YAML of the student and of the sub-networks."""
    for name, content in {"student": STUDENT, **SIZES}.items():
        write_text(output / f"{name}.yaml", yaml.safe_dump(content, sort_keys=False))


# ----------------------------------------------------------------------------------------------------- tests


def sub_network_of(output: Path, name: str, seed: int) -> tuple[str, Path] | None:
    """Return the training and the architecture of a model that is cut from another."""
    if name in CUTS:
        training, size = CUTS[name]
        return training, output / f"{size}.yaml"
    method = name.removeprefix("search_")
    return ("supernet", output / "search" / method / f"seed{seed}" / "arch.yaml") if method in METHODS else None


def subjects(args: argparse.Namespace) -> Iterator[tuple[str, int, Callable[[], nn.Module]]]:
    """Yield (name, seed, how to build it) of everything that is tested; those without a seed have 0."""
    yield "features", 0, FeaturesExpert
    yield "teacher", 0, getattr(hubconf, TEACHER)
    for seed in args.seeds:
        for name, training in UNTRAINED.items():
            whole = partial(UpstreamExpert, str(folder_of(args.output, training, seed)))
            yield name, seed, partial(untrained_twin, seed, whole)
        for name in dict.fromkeys(name for table in TABLES.values() for name in table):
            cut = sub_network_of(args.output, name, seed)
            if cut:
                yield name, seed, partial(UpstreamExpert, str(folder_of(args.output, cut[0], seed)), str(cut[1]))
            elif name in TRAININGS:
                yield name, seed, partial(UpstreamExpert, str(folder_of(args.output, name, seed)))


def test_all(args: argparse.Namespace) -> None:
    """Test what is not tested yet; one CSV a model."""
    excerpts = None
    for name, seed, build in subjects(args):
        path = args.output / "tests" / name / f"seed{seed}.csv"
        if path.exists():
            continue
        excerpts = excerpts or load_excerpts(args.speakers, SpeakerSetting(utterances=10))
        logging.info("testing %s, seed %d", name, seed)
        upstream = build().eval()
        rows: list[tuple[object, ...]] = []
        for layer, errors in abx_scores(upstream, "", HIDDEN_STATES, None, segments(args.timit)).layers.items():
            rows += [("ABX", layer, speaker, 1 - error) for speaker, error in errors.across().items()]
        for layer, _, scores in probe(upstream, args.timit, Setting(folds=4, classifiers=("linear",))):
            rows += [("phones", layer, speaker, score.correct / score.count) for speaker, score in scores.items()]
        selection = "no_cmvn" if name == "features" else HIDDEN_STATES
        for layer, level, inputs in layers_of(upstream, selection, excerpts):
            if level == "frame":
                found = classify(inputs, excerpts, 0).items()
                rows += [("speakers", layer, speaker, right / count) for speaker, (right, count) in found]
        write_csv(path, [COLUMNS, *((name, seed, *row[:-1], f"{row[-1]:.6f}") for row in rows)])


# ---------------------------------------------------------------------------------------------------- tables

Scores = dict[tuple[str, str], float]
"""By seed and speaker; a model without seeds has the same scores with each."""


def read_scores(output: Path, seeds: Sequence[int]) -> dict[tuple[str, str], dict[str, Scores]]:
    """Return the scores by (model, test) and layer."""
    found: dict[tuple[str, str], dict[str, Scores]] = {}
    for path in sorted((output / "tests").glob("*/seed*.csv")):
        for row in read_table(path):
            layer = found.setdefault((row["model"], row["test"]), {}).setdefault(row["layer"], {})
            for seed in seeds if row["seed"] == "0" else (row["seed"],):
                layer[str(seed), row["speaker"]] = float(row["value"])
    return found


def best_layer(layers: dict[str, Scores]) -> str:
    """Return the layer of the highest mean; all models have that advantage alike."""
    return max(layers, key=lambda layer: crossed_mean_and_error(layers[layer])[0])


def markdown(output: Path, seeds: Sequence[int]) -> str:
    """Return the tables: scores of each model's best layer, and paired differences from the baselines."""
    scores = read_scores(output, seeds)
    lines = []
    for title, models in TABLES.items():
        heads, baselines = ["", "parameters", "MMAC/s"], BASELINES.get(title, {next(iter(models)): "first"})
        for test in TESTS:
            heads += [f"{test} (layer)", *(f"less {word}" for word in baselines.values())]
        lines += [f"**{title}**", "", *markdown_head(heads)]
        for name, label in models.items():
            cells = [label, *cost(output, name, seeds[0])]
            for test in TESTS:
                own = scores[name, test]
                values = own[best_layer(own)]
                cells.append(f"{crossed_percent(values)} ({best_layer(own)})")
                for other in baselines:
                    reference = scores[other, test]
                    less = differences(values, reference[best_layer(reference)])
                    cells.append("" if name == other else crossed_percent(less, True))
            lines.append(markdown_line(cells))
        lines.append("")
    return "\n".join([*lines, *searches(output)])


def cost(output: Path, name: str, seed: int) -> tuple[str, str]:
    """Return parameters and million MACs per second of audio (at 10 s) of encoder and input block."""
    if name == "features":
        return "", ""
    cut = sub_network_of(output, name, seed)
    run = cut[0] if cut else UNTRAINED.get(name, name)
    path = folder_of(output, run, seed)
    config = getattr(hubconf, TEACHER)().model.config if name == "teacher" else load_checkpoint(path).config
    arch = load_architecture(cut[1]) if cut else None
    small = extracted_config(config, arch) if arch else config
    parts = InputEmbedding(small.input_dim, small.transformer), Encoder(small.transformer)
    return f"{sum(map(count_parameters, parts)):,}", f"{encoder_macs(config, 160000, arch) / 1e7:.1f}"


def searches(output: Path) -> list[str]:
    """Return the lowest dev loss of each search, after half of its evaluations and after all, and record it."""
    heads = ["seed", "method", "evaluated", "best of the first half", "best of all", "its MMAC/s", "sub-network"]
    rows = []
    for path in sorted((output / "search").glob("*/seed*/candidates.csv"), key=lambda p: (p.parts[-2], p.parts[-3])):
        with path.open(newline="", encoding="utf-8") as file:
            found = list(csv.reader(file))[1:]
        best = min(found, key=lambda row: float(row[0]))
        first = min(float(row[0]) for row in found[: len(found) // 2])
        sizes = f"{best[2]} wide; heads {best[3]}; inner {best[4]}"
        losses = f"{first:.4f}", f"{float(best[0]):.4f}", f"{float(best[1]) / 1e6:.1f}"
        rows.append([path.parts[-2].removeprefix("seed"), path.parts[-3], str(len(found)), *losses, sizes])
    write_csv(output / "searches.csv", [heads, *rows])
    return [*markdown_head(heads), *map(markdown_line, rows)]


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--speech", nargs="+", type=Path, required=True, help="folders to train on")
    add("--timit", type=Path, required=True, help="the TIMIT sample, for phones")
    add("--speakers", nargs="+", type=Path, required=True, help="LibriSpeech's dev-clean and test-clean")
    add("-o", "--output", type=Path, required=True)
    add("--seeds", nargs="+", type=int, default=SEEDS, help="some of the seeds, e.g. to share them among processes")
    add("--print", action="store_true", help="print the commands instead")
    args = parser.parse_args()
    if args.print:
        print("\n".join(shlex.join(["aalbert", *command]) for _, command in commands(args)))
        return
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    write_models(args.output)
    for done, command in commands(args):
        run_once(done, command, done.parent.with_suffix(".log"))
    test_all(args)
    if set(args.seeds) >= set(SEEDS):
        paths = sorted((args.output / "tests").glob("*/seed*.csv"))
        lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()[1:]]
        write_text(args.output / "results.csv", "\n".join([",".join(COLUMNS), *lines]) + "\n")
        write_text(args.output / "tables.md", markdown(args.output, args.seeds) + "\n")
        print((args.output / "tables.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
