"""``aalbert export``: the earlier name of ``aalbert convert --to huggingface``, ``--to torch`` and ``--to onnx``."""

from __future__ import annotations

import argparse

from s3prl_aalbert.commands import convert

EXAMPLES = """\
examples:
  aalbert export CKPT my_upload --licence cc-by-4.0    # the same: aalbert convert CKPT my_upload --to huggingface ...
  aalbert export CKPT my_graph --format onnx           # the same: aalbert convert CKPT my_graph --to onnx
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: those of `aalbert convert`, --to huggingface being the default."""
    convert.add_arguments(parser)
    parser.set_defaults(to="huggingface")


main = convert.main
