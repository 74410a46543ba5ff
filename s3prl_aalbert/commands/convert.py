"""``aalbert convert``: checkpoints of other programs in, and S3PRL's own format out."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.printable import markdown_cell, printable

if TYPE_CHECKING:
    from s3prl_aalbert.interop.importing import Imported

EXAMPLES = """\
examples:
  aalbert convert states-1000000.ckpt -o my_release --trust      # S3PRL's audio_albert, mockingjay or tera
  aalbert convert mockingjayALBERT-500000.ckpt -o my_release --trust    # the paper's own code (AlbertNew)
  aalbert convert epoch=9.ckpt -o my_release --trust             # pohanchi/AALBERT
  aalbert convert my_release -o states-500000.ckpt --to s3prl    # then: run_downstream.py -u audio_albert_local -k ...
  aalbert convert result/pretrain/my_aalbert -o small --dtype float16 --no-head    # to hand on: a third of the size

The program of a checkpoint is told by what it holds. docs/formats.md says what each can and cannot represent.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "checkpoint", type=Path, metavar="CKPT", help="the file (or, with --to s3prl, the release) to convert"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="PATH", help="a new folder; with --to s3prl a new file"
    )
    parser.add_argument("--to", choices=("release", "s3prl"), default="release", help="the format to write")
    parser.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), help="of a checkpoint of ours: how its weights are kept"
    )
    parser.add_argument(
        "--no-head", action="store_true", help="of a checkpoint of ours: leave the pre-training head out"
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="read pickled objects, which can run any program: only for files from someone you trust",
    )
    parser.add_argument(
        "--accept-differences",
        action="store_true",
        help="with --to s3prl: write the file although S3PRL will compute other features than this project",
    )


def main(args: argparse.Namespace) -> int:
    """Convert, print what differs, and return 0."""
    from s3prl_aalbert.checkpoint import CheckpointError

    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    if args.output.exists():
        raise CheckpointError(f"{args.output}: exists already; name a new one with -o")
    if args.to == "s3prl" and (args.dtype or args.no_head):
        raise CheckpointError("--dtype and --no-head are for a release; S3PRL's format has neither")
    if args.accept_differences and args.to != "s3prl":
        raise CheckpointError("--accept-differences goes with --to s3prl")
    if args.trust and (args.to == "s3prl" or args.dtype or args.no_head):
        raise CheckpointError("--trust is for checkpoints of other programs; those of this project need none")
    if args.to == "s3prl":
        _to_s3prl(args.checkpoint, args.output, args.accept_differences)
    elif args.dtype or args.no_head:
        _make_smaller(args.checkpoint, args.output, args.dtype, args.no_head)
    else:
        _to_release(args.checkpoint, args.output, args.trust)
    return 0


def _to_release(path: Path, folder: Path, trust: bool) -> None:
    from s3prl_aalbert.checkpoint import save_release
    from s3prl_aalbert.interop.importing import import_checkpoint

    imported = import_checkpoint(path, trust)
    save_release(folder, imported.config, imported.state, _card(imported, path), imported.info)
    transformer = imported.config.transformer
    kind = "one shared set of weights" if transformer.share_layer else "unshared"
    print(printable(f"{path}: {imported.program}, {transformer.num_hidden_layers} layers, {kind}"))
    print(printable(f"wrote the release {folder}; use it with -u aalbert_local -k {folder}"))
    _print_differences(imported.differences, imported.program)


def _make_smaller(path: Path, folder: Path, dtype: str | None, no_head: bool) -> None:
    import torch

    from s3prl_aalbert.checkpoint import (
        CARD_FILE,
        MODEL_PREFIX,
        PROJECTIONS,
        load_checkpoint,
        save_release,
        write_text,
    )
    from s3prl_aalbert.speech.training_list import TRAINING_LIST_FILE

    checkpoint = load_checkpoint(path)
    # Not the projections to a teacher, which a training state of a distillation has.
    state = {n: t for n, t in checkpoint.state.items() if not n.startswith(PROJECTIONS)}
    if no_head:
        state = {n: t for n, t in state.items() if n.startswith(MODEL_PREFIX)}
    if dtype:  # a corpus's statistics are few, and as exact as the features
        cast = {n for n, t in state.items() if t.is_floating_point() and ".acoustics." not in n}
        state = {n: t.to(getattr(torch, dtype)) if n in cast else t for n, t in state.items()}
    dtype = str(state[max(state, key=lambda name: state[name].numel())].dtype).removeprefix("torch.")
    overflown = [n for n, t in state.items() if not t.isfinite().all()]
    if overflown:
        raise AalbertError(f"{path}: {overflown[0]} has values that {dtype} cannot hold; take bfloat16 or float32")
    beside = checkpoint.path.parent / CARD_FILE
    try:
        card = f"{beside.read_text(encoding='utf-8')}\n" if beside.is_file() else ""
    except ValueError as error:
        raise AalbertError(f"{beside}: is no model card ({error})") from error
    kept = f"Weights kept as {dtype}, {'without' if no_head else 'with'} the pre-training head.\n"
    save_release(folder, checkpoint.config, state, card + kept, checkpoint.info)
    trained_on = checkpoint.path.parent / TRAINING_LIST_FILE
    if trained_on.is_file():
        write_text(folder / TRAINING_LIST_FILE, trained_on.read_text(encoding="utf-8"))
    print(printable(f"wrote the release {folder}, {sum(t.nbytes for t in state.values()) / 1e6:.2f} MB of {dtype}"))


def _to_s3prl(path: Path, output: Path, accepted: bool) -> None:
    import torch

    from s3prl_aalbert.checkpoint import CheckpointError, load_checkpoint, write_atomically
    from s3prl_aalbert.interop.exporting import export_s3prl

    exported = export_s3prl(load_checkpoint(path))
    if exported.differences and not accepted:
        raise CheckpointError(
            f"{path}: S3PRL would compute other features than this model was trained on: "
            + "; ".join(exported.differences)
            + ". Pass --accept-differences to write the file all the same"
        )
    write_atomically(output, lambda temporary: torch.save(exported.content, temporary))
    print(printable(f"wrote {output}; S3PRL reads it with -u audio_albert_local -k {output}"))
    _print_differences(exported.differences, "S3PRL")


def _print_differences(differences: list[str], program: str) -> None:
    if differences:
        print(f"the encoder is the same; what {program} does otherwise than this project:")
        print("\n".join(f"  - {difference}" for difference in differences))


def _card(imported: Imported, path: Path) -> str:
    transformer, audio = imported.config.transformer, imported.config.audio
    shared = "one shared set of weights" if transformer.share_layer else "unshared"
    delta = " with delta" if audio.delta else ""
    differences = "\n".join(f"- {difference}" for difference in imported.differences) or "- nothing known"
    step = imported.info.get("step")
    return f"""# Converted from {imported.program}

| | |
|---|---|
| file | {markdown_cell(path.name)} |
| layers | {transformer.num_hidden_layers}, {shared}, hidden size {transformer.hidden_size} |
| input | {audio.num_mel_bins} log-mel{delta}, {transformer.downsample_rate} frames to a token |
| training | {"unknown" if step is None else f"{step} steps"} |
| licence | that of the original |

The encoder's weights are unchanged. What {imported.program} does otherwise than this project:

{differences}
"""
