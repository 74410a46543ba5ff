"""Evidence for compression at small scale (RESULTS.md): trainings by the project's own commands, then linear probes.

    python benchmarks/compression.py --speech data/speechocean762 data/LibriSpeech --timit data/timit \\
        --teacher result/pretrain/aalbert_small -o result/compression

The student has width 128 and 3 shared layers. Pre-trained alone, it sees crops of 2 s for the first 400 steps, without
which its loss would not move (docs/pretraining.md). What is done is skipped and what was interrupted goes on, so that
the same command may be given again. Ends with results.csv, searches.csv and tables.md in the output folder; `--print`
shows the commands instead. Processes can share the work, each with some of `--seeds`; the command without them then
makes the tables.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from commands import run_once
from torch import nn

from s3prl_aalbert.files import write_text
from s3prl_aalbert.upstream.expert import FeaturesExpert, UpstreamExpert

SEEDS = (1, 2, 3)
STEPS = 800
"""Of every training; of the supernet's stage 1, too."""
STAGE_2_STEPS = 400
BUDGET = 18e6
"""MACs per second of audio for the searches; the student has 30e6."""
EVALUATIONS = 96
RUNNER = {
    "runner.log_step": 50,
    "runner.eval_step": 100000,  # the last step alone
    "runner.save_step": 200,
    "runner.max_keep": 1,
    "optimizer.lr": "2e-3",
    "pretrain_expert.datarc.train_batch_size": 8,
    "pretrain_expert.datarc.dev_fraction": 0.01,
}
TARGET = {"distill.average_top_k": 3}
SPACE = {
    "supernet.hidden_size": "[64,96,128]",
    "supernet.num_attention_heads": "[1,2]",
    "supernet.intermediate_size": "[256,384,512]",
    "supernet.num_hidden_layers": "[2,3]",
}
SIZES = {
    "small": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 256},
    "middle": {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 384},
}
"""Two sub-networks of SPACE."""
STUDENT = {
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 512,
    "attention_head_size": 64,  # of all of its sub-networks, too
    "share_layer": True,
    "downsample_rate": 3,
}
CROPS = {
    "pretrain_expert.datarc.train_batch_size": 64,
    "pretrain_expert.datarc.max_seconds": 2,
    "optimizer.schedule_steps": 1500,
}


@dataclass(frozen=True)
class Training:
    """One training run a seed."""

    command: str
    config: str
    steps: int
    settings: dict[str, Any]
    """Of the YAML of -c, and with the prefix "model." of -g."""
    init: str = ""
    """Training that it starts from."""


def distill(steps: int = STEPS, **settings: Any) -> Training:
    """Return a distillation with other settings of the section ``distill``."""
    return Training("distill", "distill_default", steps, {f"distill.{key}": value for key, value in settings.items()})


def sized(size: str) -> Training:
    """Return the distillation of a small student by itself, with the steps of both stages of a supernet."""
    settings = {f"model.transformer.{key}": value for key, value in SIZES[size].items()}
    return Training("distill", "distill_default", STEPS + STAGE_2_STEPS, settings)


TRAININGS = {
    "crops": Training("pretrain", "pretrain_default", STEPS // 2, CROPS),
    "alone": Training("pretrain", "pretrain_default", STEPS // 2, {}, init="crops"),
    "both": distill(),  # also the supernet's stage 1
    "masked": distill(unmasked_weight=0),
    "unmasked": distill(masked_weight=0),
    "reuse": Training("distill", "distill_default", STEPS, {"model.transformer.reuse_pattern": "[0,1,0]"}),
    "supernet": Training("distill", "distill_supernet", STAGE_2_STEPS, SPACE, init="both"),
    "small_alone": sized("small"),
    "middle_alone": sized("middle"),
    "clean": distill(unmasked_teacher="clean"),
    "alone_twice": Training("pretrain", "pretrain_default", STEPS + STEPS // 2, {}, init="crops"),
}
LATER = ("clean", "alone_twice")
"""After the others of all seeds."""
METHODS = ("evolutionary", "random")


def training_command(args: argparse.Namespace, name: str, seed: int) -> list[str]:
    """Return the command of a training; given again it goes on."""
    training = TRAININGS[name]
    settings = {**RUNNER, "runner.total_steps": training.steps, **training.settings}
    settings["pretrain_expert.datarc.manifest"] = args.output / "manifest.tsv"  # one decoded corpus for all
    teacher: list[str] = []
    if training.command == "distill":
        settings = {**settings, **TARGET}
        teacher = ["--teacher", "aalbert_local", "--teacher_ckpt", str(args.teacher)]
    keys = {key: key if key.startswith("model.") else f"config.{key}" for key in settings}
    override = ",,".join(f"{keys[key]}={value}" for key, value in settings.items())
    init = ["--init", str(folder_of(args, training.init, seed))] if training.init else []
    folders = ["--speech", *map(str, args.speech), "-p", str(folder_of(args, name, seed))]
    options = ["-g", str(write_student(args.output)), "-c", training.config, *teacher, *init, *folders]
    options += ["--seed", str(seed), "--device", "cpu"]
    return [training.command, *options, "-a", "-o", override]


def search_command(args: argparse.Namespace, method: str, seed: int) -> list[str]:
    """Return the command of a search."""
    budget = ["--macs-max", f"{BUDGET:g}", "--evaluations", str(EVALUATIONS), "--method", method]
    output = ["-o", str(args.output / "search" / method / f"seed{seed}"), "--seed", str(seed), "--device", "cpu"]
    return ["search", str(folder_of(args, "supernet", seed)), *budget, *output]


def folder_of(args: argparse.Namespace, name: str, seed: int) -> Path:
    """Return where a training is."""
    return Path(args.output) / "runs" / name / f"seed{seed}"


def commands(args: argparse.Namespace) -> Iterator[tuple[Path, list[str]]]:
    """Yield every command with the file that it ends with, in order."""
    order = [(name, seed) for seed in args.seeds for name in TRAININGS if name not in LATER]
    order += [(name, seed) for seed in args.seeds for name in LATER]
    for name, seed in order:
        yield folder_of(args, name, seed) / "model.safetensors", training_command(args, name, seed)
    for seed in args.seeds:
        for method in METHODS:
            command = search_command(args, method, seed)
            yield args.output / "search" / method / f"seed{seed}" / "arch.yaml", command


# ------------------------------------------------------------------------------------------------- probing


class WithoutCmvn(nn.Module):
    """The input features without CMVN, whose means can tell speakers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = FeaturesExpert()

    def forward(self, wavs: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        """Return them in place of the hidden states."""
        return {"hidden_states": self.features(wavs)["no_cmvn"]}


def subjects(args: argparse.Namespace) -> Iterator[tuple[str, int, Callable[[], nn.Module]]]:
    """Yield (name, seed, how to build it) of everything that is probed; those without a seed have 0."""
    yield "features", 0, FeaturesExpert
    yield "features_without_cmvn", 0, WithoutCmvn
    yield "teacher", 0, partial(UpstreamExpert, str(args.teacher))
    for seed in args.seeds:
        runs = {name: str(folder_of(args, name, seed)) for name in TRAININGS}
        yield "untrained", seed, partial(UpstreamExpert, model_config=str(write_student(args.output)))
        for name, run in runs.items():
            if name == "crops":  # knows no position beyond 2 s
                continue
            yield name, seed, partial(UpstreamExpert, run)
        for size in SIZES:
            arch = str(write_arch(args.output, size))
            for stage, name in ((1, "both"), (2, "supernet")):
                yield f"{size}_stage_{stage}", seed, partial(UpstreamExpert, runs[name], arch)
        for method in METHODS:
            arch = str(args.output / "search" / method / f"seed{seed}" / "arch.yaml")
            yield f"search_{method}", seed, partial(UpstreamExpert, runs["supernet"], arch)


def write_student(output: Path) -> Path:
    """Write the student's YAML."""
    return _write_yaml(output / "student.yaml", {"transformer": STUDENT})


def write_arch(output: Path, size: str) -> Path:
    """Write the YAML of a sub-network of SIZES."""
    return _write_yaml(output / f"{size}.yaml", SIZES[size])


def _write_yaml(path: Path, content: dict[str, Any]) -> Path:
    write_text(path, yaml.safe_dump(content, sort_keys=False))
    return path


def probe_all(args: argparse.Namespace) -> None:
    """Probe what is not probed yet; one JSON file each: task -> [[layer, dev, test], ...]."""
    from four_folds import load_data, probe_phones, probe_speakers

    data = None
    for name, seed, build in subjects(args):
        path = args.output / "probes" / name / f"seed{seed}.json"
        if path.exists():
            continue
        data = data or load_data(args.timit, args.speech[0] / "audio")
        logging.info("probing %s, seed %d", name, seed)
        torch.manual_seed(seed)  # of untrained weights
        upstream = build().eval()
        found = {"phone": probe_phones(upstream, data.phones), "speaker": probe_speakers(upstream, data.speakers)}
        write_text(path, json.dumps(found))


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--speech", nargs="+", type=Path, required=True, help="folders to train on, speechocean762 first")
    add("--timit", type=Path, required=True, help="the TIMIT sample, for phones")
    add("--teacher", type=Path, required=True, help="release of aalbert_small (RESULTS.md)")
    add("-o", "--output", type=Path, required=True)
    add("--seeds", nargs="+", type=int, default=SEEDS, help="some of the seeds, e.g. to share them among processes")
    add("--print", action="store_true", help="print the commands instead")
    args = parser.parse_args()
    if args.print:
        print("\n".join(shlex.join(["aalbert", *command]) for _, command in commands(args)))
        return
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for done, command in commands(args):
        run_once(done, command)
    probe_all(args)
    if set(args.seeds) < set(SEEDS):
        return
    from compression_tables import write_tables

    write_tables(args.output)


if __name__ == "__main__":
    main()
