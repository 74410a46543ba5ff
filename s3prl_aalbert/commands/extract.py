"""``aalbert extract``: a sub-network as a release of its own."""

from __future__ import annotations

import argparse
import logging
import re
from pathlib import Path

from s3prl_aalbert.errors import check_new_folder

EXAMPLES = """\
examples:
  aalbert extract SUPERNET --arch arch.yaml -o small       # then: -u aalbert_local -k small
  aalbert downstream -m train -u aalbert_local -k SUPERNET -g arch.yaml -d aalbert_phone -n NAME   # without extracting
arch.yaml:
  hidden_size: 192
  num_hidden_layers: 3
  num_attention_heads: [3, 2, 3]      # or one number for all layers
  intermediate_size: 512
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("ckpt", metavar="CKPT", help="release, folder or state of the supernet; any model will do")
    add("--arch", required=True, metavar="YAML", help="sizes of the sub-network, as `aalbert search` writes them")
    add("-o", "--output", required=True, metavar="DIR", help="folder of the new release")


def main(args: argparse.Namespace) -> int:
    """Extract and return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from s3prl_aalbert.architecture import load_architecture
    from s3prl_aalbert.checkpoint import CARD_FILE, PROJECTIONS, load_checkpoint, save_release
    from s3prl_aalbert.model import AalbertModel, count_parameters
    from s3prl_aalbert.supernet.extraction import extract, extracted_config

    output = Path(args.output).expanduser()
    check_new_folder(output)
    checkpoint, arch = load_checkpoint(args.ckpt), load_architecture(Path(args.arch).expanduser())
    config = extracted_config(checkpoint.config, arch)
    names = [name for name in checkpoint.state if not name.startswith(PROJECTIONS)]
    state = extract({name: checkpoint.state[name] for name in names}, checkpoint.config, arch)
    numbers = [count_parameters(AalbertModel(c)) for c in (config, checkpoint.config)]
    info = {**checkpoint.info, "extracted_from": str(checkpoint.path), "supernet": None}
    save_release(output, config, state, _front_matter(checkpoint.path.parent / CARD_FILE) + _card(args, numbers), info)
    logging.getLogger(__name__).info("wrote %s: %s of %s parameters", output, *(f"{n:,}" for n in numbers))
    return 0


def _front_matter(card: Path) -> str:
    """Return the fields of the whole model's card for the Hugging Face hub, its licence among them."""
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    found = re.match(r"---\n.*?\n---\n", text, flags=re.DOTALL)
    return f"{found.group()}\n" if found else ""


def _card(args: argparse.Namespace, numbers: list[int]) -> str:
    own, whole = (f"{number:,}" for number in numbers)
    return f"""# Sub-network of {Path(args.ckpt).name}

{own} of {whole} parameters (encoder and input block), cut out with `aalbert extract`; its outputs are exactly those of
the supernet run with these sizes.

Use it with S3PRL: `aalbert downstream -m train -u aalbert_local -k THIS_FOLDER -d aalbert_phone -n NAME`.
"""
