"""What the share of selected tokens that stay visible does to the loss and to the layers (RESULTS.md).

    python benchmarks/masking.py --speech data/speechocean762 data/LibriSpeech --timit data/timit -o result/masking

Trains AALBERT-6L on crops of 2 s with each masking of MASKINGS, everything else equal, then measures on held-out
speakers the L1 loss of the same tokens hidden and shown, and fits linear probes of phones to every layer. What is done
is skipped, what was interrupted goes on. About 12 minutes a masking on one core with native bfloat16.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from commands import run_once
from four_folds import load_phones, probe_phones
from torch import Tensor

from s3prl_aalbert.audio_io import read_audio
from s3prl_aalbert.files import write_text
from s3prl_aalbert.model.masking import ZERO, MaskPlan, length_mask
from s3prl_aalbert.model.objective import Speech
from s3prl_aalbert.pretrain.manifest import read_manifest
from s3prl_aalbert.report.artefacts import load_objective
from s3prl_aalbert.upstream.expert import UpstreamExpert, pad_wavs

MASKINGS = {
    "paper": (0.15, 0.8, 0.1),
    "30_percent": (0.3, 0.5, 0.1),
    "60_percent": (0.6, 0.5, 0.1),
    "all": (1.0, 0.25, 0.05),
}
"""mask_proportion, zero_proportion, random_proportion; the rest of the selected tokens stays as it is."""
SETTINGS = {
    "config.pretrain_expert.datarc.train_batch_size": 16,
    "config.pretrain_expert.datarc.max_seconds": 2,
    "config.optimizer.lr": 4e-4,
    "config.optimizer.warmup_proportion": 0.05,
    "config.optimizer.schedule_steps": 3000,
    "config.runner.total_steps": 600,
    "config.runner.eval_step": 100,
    "config.runner.save_step": 200,
    "config.runner.max_keep": 1,
}
HIDDEN = 0.15
"""Share of tokens that the loss is measured on."""
UTTERANCES = 32
SECONDS = 2


def training_command(args: argparse.Namespace, name: str) -> list[str]:
    """Return the command that pre-trains with a masking; given again it goes on."""
    keys = ("mask_proportion", "zero_proportion", "random_proportion")
    settings = SETTINGS | {f"model.task.{key}": value for key, value in zip(keys, MASKINGS[name], strict=True)}
    settings["config.pretrain_expert.datarc.manifest"] = args.output / "manifest.tsv"
    override = ",,".join(f"{key}={value}" for key, value in settings.items())
    options = ["-g", "aalbert_6l", "-c", "pretrain_default", "--speech", *map(str, args.speech)]
    return ["pretrain", *options, "-p", str(args.output / name), "-a", "--device", "cpu", "-o", override]


@torch.no_grad()
def losses(folder: Path, wavs: Sequence[Tensor]) -> tuple[float, float]:
    """Return the L1 loss of the same tokens hidden, and shown."""
    objective, _ = load_objective(folder)
    padded, num_samples = pad_wavs(wavs)
    features = objective.model.acoustics(padded, num_samples)
    shape = features.tokens.shape[:2]
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < HIDDEN
    selected = drawn & length_mask(features.lengths, shape[1])
    shown = torch.arange(shape[1]).expand(shape)
    sources = (torch.where(selected, ZERO, shown), shown)
    hidden, visible = (
        objective(Speech(padded, num_samples, MaskPlan(selected, source))).mean.item() for source in sources
    )
    return hidden, visible


def held_out(manifest: Path) -> list[Tensor]:
    """Return the first seconds of utterances of held-out speakers."""
    paths = [row.path for row in read_manifest(manifest) if row.split == "dev"]
    chosen = paths[:: max(1, len(paths) // UTTERANCES)][:UTTERANCES]
    return [torch.from_numpy(read_audio(path, 16000))[: SECONDS * 16000] for path in chosen]


def main() -> None:
    """Train, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--speech", nargs="+", type=Path, required=True, help="folders to train on")
    add("--timit", type=Path, required=True, help="the TIMIT sample, for phones")
    add("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    args.output = args.output.absolute()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for name in MASKINGS:
        run_once(args.output / name / "model.safetensors", training_command(args, name))
    folds, wavs = load_phones(args.timit), held_out(args.output / "manifest.tsv")
    lines = [
        "| selected | hidden | shown | loss hidden | loss shown | phones by layer, input embedding first |",
        "|" + "---|" * 6,
    ]
    for name, (share, zero, random) in MASKINGS.items():
        hidden, visible = losses(args.output / name, wavs)
        probes = probe_phones(UpstreamExpert(str(args.output / name)).eval(), folds)
        layers = " ".join(f"{100 * probe.test:.1f}" for probe in probes)
        shares = " | ".join(f"{100 * each:.3g} %" for each in (share, share * zero, share * (1 - zero - random)))
        lines.append(f"| {shares} | {hidden:.3f} | {visible:.3f} | {layers} |")
        logging.info("%s", lines[-1])
    write_text(args.output / "table.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
