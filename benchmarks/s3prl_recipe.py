"""Pre-train S3PRL's built-in audio_albert with its own code and recipe, on the training part of a manifest of ours.

    python benchmarks/s3prl_recipe.py --manifest result/pretrain/NAME/manifest.tsv --steps N -o result/peer

The same again goes on from the last checkpoint. S3PRL's runner and recipe are untouched but for the number of steps,
the batch and the precision, which its recipe has in fp16, for GPUs alone. Prints the minutes that training took, to
compare with what ours took on the same machine; OMP_NUM_THREADS sets the threads of either.
"""

from __future__ import annotations

import argparse
import csv
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from s3prl_aalbert.pretrain.manifest import read_rows

S3PRL_MODEL = {
    "transformer": {
        "input_dim": -1,
        "hidden_size": 768,
        "num_hidden_layers": 3,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "layer_norm_eps": 1.0e-12,
        "share_layer": True,
        "pre_layer_norm": False,
    },
    "task": {
        "loss": "L1",
        "sequence_length": 1500,
        "position_encoding_size": 768,
        "mask_proportion": 0.15,
        "mask_consecutive_min": 7,
        "mask_consecutive_max": 7,
        "mask_allow_overlap": True,
        "mask_bucket_ratio": 1.5,
        "mask_frequency": 0.0,
        "noise_proportion": 0.0,
    },
    "audio": {
        "target_level": -25,
        "win_ms": 25,
        "hop_ms": 10,
        "n_freq": 201,
        "n_mels": 80,
        "n_mfcc": 13,
        "input": {"feat_type": "mel", "channel": 0, "log": True, "delta": 0, "cmvn": True},
        "target": {"feat_type": "mel", "channel": 1, "log": True, "delta": 0, "cmvn": True},
    },
}
"""S3PRL's own pretrain/audio_albert/config_model.yaml, which its wheel lacks."""

CHILD = """
import runpy, sys
from s3prl_aalbert.toolkit import compat
compat.apply()
sys.path.insert(0, ".")
import numpy as np
import utility.audio
utility.audio.plot_spectrogram_to_numpy = lambda spectrogram: np.zeros((3, 1, 1), np.uint8)
runpy.run_path("run_pretrain.py", run_name="__main__")
"""
"""Pictures for TensorBoard are left out: S3PRL draws them with what numpy 2 no longer has."""


def runner_config(steps: int, batch_size: int, save_step: int, table: Path) -> dict[str, Any]:
    """Return S3PRL's pretrain/audio_albert/config_runner.yaml with other steps, batch and data."""
    return {
        "runner": {
            "n_epochs": -1,
            "total_steps": steps,
            "gradient_clipping": 5.0,
            "gradient_accumulate_steps": 1,
            "log_step": min(50, steps - 1),
            "save_step": min(save_step, steps - 1),
            "max_keep": 2,
            "fp16": False,
        },
        "optimizer": {"name": "AdamW_with_schedule", "lr": 2e-4, "warmup_proportion": 0.07},
        "pretrain_expert": {
            "datarc": {
                "num_workers": 0,
                "train_batch_size": batch_size,
                "max_timestep": 0,
                "libri_root": "/",
                "file_path": str(table.parent),
                "sets": [table.stem],
            }
        },
    }


def write_table(manifest: Path, table: Path) -> int:
    """Write S3PRL's table (file_path, length) of the manifest's training part, and return its number of rows."""
    columns = ("path", "samples", "split")
    rows = [row for row in read_rows(manifest, columns, required=columns) if row["split"] == "train"]
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file_path", "length"])
        writer.writerows([row["path"], row["samples"]] for row in rows)
    return len(rows)


def save_weights(state: Path, output: Path) -> None:
    """Write audio_albert.ckpt for `-u audio_albert_local`: the state without its optimizer."""
    import torch
    from s3prl import optimizers

    sys.modules["optimizers"] = optimizers  # its name for S3PRL's own runner
    content = torch.load(state, weights_only=False)
    kept = {name: content[name] for name in ("Transformer", "SpecHead", "Upstream_Config", "Config", "Step")}
    torch.save(kept, output / "audio_albert.ckpt")
    logging.info("%s: step %d", output / "audio_albert.ckpt", kept["Step"] + 1)


def main() -> None:
    """Train or go on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--manifest", type=Path, required=True, help="manifest.tsv of our pre-training")
    add("--steps", type=int, required=True)
    add("--batch-size", type=int, default=32, help="S3PRL's own is %(default)s")
    add("--save-step", type=int, default=50)
    add("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    import s3prl

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    output = args.output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    logging.info("%d utterances", write_table(args.manifest, output / "train.csv"))
    (output / "model.yaml").write_text(yaml.safe_dump(S3PRL_MODEL))
    config = runner_config(args.steps, args.batch_size, args.save_step, output / "train.csv")
    (output / "runner.yaml").write_text(yaml.safe_dump(config))
    options = ["-u", "audio_albert", "-g", str(output / "model.yaml"), "-c", str(output / "runner.yaml")]
    options += ["-n", output.name, "-p", str(output / "run"), "-a", "--device", "cpu"]
    started = time.monotonic()
    # With its bars off S3PRL would count no steps, and never end. Its checkpoints hold its optimizer as an object.
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    environment["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    command = [sys.executable, "-c", CHILD, *options]
    subprocess.run(command, cwd=Path(s3prl.__file__).parent, env=environment, check=True)
    save_weights(max((output / "run").glob("states-*.ckpt"), key=lambda path: path.stat().st_mtime), output)
    logging.info("%.1f minutes, of which S3PRL takes a few seconds to start", (time.monotonic() - started) / 60)


if __name__ == "__main__":
    main()
