"""``aalbert export``: a model as the folder of S3PRL's Hugging Face hub, or as a graph to serve it from."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from s3prl_aalbert.errors import check_new_folder
from s3prl_aalbert.printable import printable

EXAMPLES = """\
examples:
  aalbert export CKPT my_upload --licence cc-by-4.0    # for S3PRL's --hub huggingface; upload the folder as it is
  aalbert export CKPT my_program --format torch        # model.pt2: runs under torch alone
  aalbert export CKPT my_graph --format onnx           # model.onnx: runs under onnxruntime

docs/serving.md says what the folders hold and how to use them.
"""

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "ckpt",
        metavar="CKPT",
        help="release, pre-training folder or state; of a supernet, `aalbert extract` a sub-network first",
    )
    add("folder", type=Path, metavar="DIR", help="a new folder, or an empty one")
    add("--format", choices=("huggingface", "torch", "onnx"), default="huggingface", help="default: %(default)s")
    add("--licence", "--license", metavar="ID", help="of the weights, for the model card, as the Hub spells it")


def main(args: argparse.Namespace) -> int:
    """Write the folder and return 0."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    for exporter in ("onnxscript", "onnx_ir"):  # they tell of every node
        logging.getLogger(exporter).setLevel(logging.WARNING)
    folder = args.folder.expanduser()
    check_new_folder(folder)
    from s3prl_aalbert.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(args.ckpt)
    if args.licence is None:
        logger.warning("no --licence given: the card keeps what the model's own card says, or states none")
    if args.format == "huggingface":
        from s3prl_aalbert.submission.huggingface_folder import write_folder

        write_folder(checkpoint, folder, args.licence)
    else:
        from s3prl_aalbert.submission.serving import write_serving_folder

        write_serving_folder(checkpoint, folder, args.format, args.licence)
    print(printable(f"wrote {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}"))
    return 0
