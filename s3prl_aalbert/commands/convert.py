"""``aalbert convert``: checkpoints of other programs in; releases, S3PRL's format, Hugging Face and graphs out."""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from s3prl_aalbert.commands import run_command
from s3prl_aalbert.errors import AalbertError, check_new_folder
from s3prl_aalbert.printable import printable_lines
from s3prl_aalbert.seeds import checked_seed
from s3prl_aalbert.typed_options import add_options, argument_texts

EXAMPLES = """\
examples:
  aalbert convert states-1000000.ckpt my_release --trust           # S3PRL's audio_albert, mockingjay or tera
  aalbert convert mockingjayALBERT-500000.ckpt my_release --trust  # the paper's own code (AlbertNew)
  aalbert convert epoch=9.ckpt my_release --trust                  # pohanchi/AALBERT
  aalbert convert result/pretrain/my_aalbert small --dtype float16 --no-head    # a third of the size
  aalbert convert my_release states-500000.ckpt --to s3prl         # then: -u audio_albert_local -k FILE in S3PRL
  aalbert convert my_release my_upload --to huggingface --licence cc-by-4.0     # upload the folder as it is
  aalbert convert my_release my_graph --to onnx                    # or --to torch: graphs to serve the model from
  aalbert convert my_release control --untrained 0                 # the same model with random weights
  aalbert convert SUPERNET small --arch arch.yaml                  # a sub-network; then: -u aalbert_local -k small
  aalbert convert aalbert mean --average result/pretrain/longer    # the mean of two models' weights
  aalbert convert mean centred --centre data/LibriSpeech/train-clean-5          # hidden states less their mean

The program that wrote a file is recognised from the file's content. docs/formats.md lists what each format can
represent, docs/serving.md what the folders of --to huggingface, torch and onnx contain.
"""
Target = Literal["release", "s3prl", "huggingface", "torch", "onnx"]
Dtype = Literal["float32", "float16", "bfloat16"]


def convert(
    ckpt: str,
    out: Path,
    *,
    to: Target = "release",
    arch: Path | None = None,
    average: list[str] | None = None,
    centre: list[str] | None = None,
    dtype: Dtype | None = None,
    no_head: bool = False,
    untrained: int | None = None,
    licence: str | None = None,
    trust: bool = False,
    accept_differences: bool = False,
) -> None:
    """Write a model in another format, or a part of it.

    Args:
        ckpt: a release, a pre-training folder or state, the name of a packaged model, or another program's file
        out: a new folder; with --to s3prl a new file
        to: the format to write: a release of this project (the default), S3PRL's checkpoint, a folder for the Hugging
            Face Hub (transformers and S3PRL), or a graph for torch or ONNX
        arch: sizes of a sub-network to cut out first, as `aalbert search` writes them
        average: with --to release: more models; the weights of all, CKPT's included, are averaged, and the pre-training
            head is that of CKPT. They should have gone on from the same weights; one that is named twice counts twice
        centre: with --to release: folders of the training speech. Hidden states are given less their mean over 500 of
            its utterances (transformer.centred), those of the new model with --average, --arch or --untrained
        dtype: with --to release: number format of the weights
        no_head: with --to release: drop the pre-training head
        untrained: with --to release: draw new random weights from this seed, as the control of a comparison; the
            statistics of the corpus stay
        licence: licence of the weights for the card of --to huggingface, torch or onnx, as the Hub spells it
        trust: read another program's pickled objects, which can run any program: only for files from someone you trust
        accept_differences: with --to s3prl: write the file although S3PRL will compute other features

    Raises:
        AalbertError: an unusable checkpoint, options that do not go together, or ``out`` exists already.
    """
    smaller = bool(dtype or no_head)
    _check_options(to, smaller, arch, average, centre, untrained is not None, bool(licence), trust, accept_differences)
    if untrained is not None:
        checked_seed(untrained, option="--untrained")
    out = out.expanduser()
    if to == "s3prl" and out.exists():
        raise AalbertError(f"{out}: exists already; name a new file")
    check_new_folder(out)
    from s3prl_aalbert.submission import conversion

    steps: list[Callable[[str, Path], str]] = []
    if arch is not None:
        steps.append(lambda source, made: conversion.to_sub_network(source, arch, made))
    elif average is not None:
        steps.append(lambda source, made: conversion.to_average([source, *average], made))
    elif untrained is not None:
        steps.append(lambda source, made: conversion.to_untrained(source, made, untrained))
    if centre is not None:
        steps.append(lambda source, made: conversion.to_centred(source, centre, made))
    if smaller:
        steps.append(lambda source, made: conversion.to_smaller(source, made, dtype, no_head))
    elif to == "s3prl":
        steps.append(lambda source, made: conversion.to_s3prl(source, made, accept_differences))
    elif to != "release":
        steps.append(lambda source, made: conversion.to_program(source, made, to, licence))
    elif not steps:
        steps.append(lambda source, made: conversion.to_release(source, made, trust))
    with tempfile.TemporaryDirectory() as place:
        source = ckpt
        for number, step in enumerate(steps):
            made = out if number + 1 == len(steps) else Path(place, str(number))
            print(printable_lines(step(source, made)))
            source = str(made)
    if to == "release" and not smaller and (arch or average or centre or untrained is not None):
        print(printable_lines(conversion.wrote_release(out)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    flags = {"to": ("--to", "--format"), "licence": ("--licence", "--license")}
    metavars = {
        "ckpt": "CKPT",
        "out": "OUT",
        "arch": "YAML",
        "average": "CKPT",
        "centre": "DIR",
        "licence": "ID",
        "untrained": "SEED",
    }
    add_options(parser, convert, flags, metavars)
    # OUT may also be given as -o; the default of the one must not hide the value of the other.
    out = next(action for action in parser._actions if action.dest == "out")
    out.nargs, out.type, out.default, out.required = "?", None, argparse.SUPPRESS, False
    parser.add_argument("-o", "--output", dest="out", metavar="PATH", help="the same as OUT")


def main(args: argparse.Namespace) -> int:
    """Convert and return 0."""
    for exporter in ("onnxscript", "onnx_ir"):  # they log every node
        logging.getLogger(exporter).setLevel(logging.WARNING)
    if args.out is None:
        raise AalbertError(f"name where to write: OUT, {argument_texts(convert)['out']}")
    args.out = Path(args.out)
    return run_command(convert, args)


def _check_options(
    to: Target,
    smaller: bool,
    arch: Path | None,
    average: list[str] | None,
    centre: list[str] | None,
    untrained: bool,
    licence: bool,
    trust: bool,
    accepted: bool,
) -> None:
    """Raise AalbertError where an option would go unused."""
    if average and (to != "release" or arch):
        raise AalbertError("--average writes a release of whole models: it goes neither with --arch nor another --to")
    if untrained and (smaller or to != "release" or arch or average or trust):
        raise AalbertError("--untrained goes with --centre alone: it writes a release of the same model")
    if centre and (to != "release" or trust):
        raise AalbertError("--centre writes a release from a model of this project; --to converts it afterwards")
    if smaller and to != "release":
        raise AalbertError(f"--dtype and --no-head are for a release; what --to {to} writes has neither")
    if accepted and to != "s3prl":
        raise AalbertError("--accept-differences goes with --to s3prl")
    if licence and to in ("release", "s3prl"):
        raise AalbertError("--licence goes with --to huggingface, torch or onnx")
    if trust and (to != "release" or smaller or arch or average):
        raise AalbertError("--trust is for checkpoints of other programs; those of this project need none")
