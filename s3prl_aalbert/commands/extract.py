"""``aalbert extract``: the earlier name of ``aalbert convert --arch``, which cuts out a sub-network."""

from __future__ import annotations

import argparse

from s3prl_aalbert.commands import convert
from s3prl_aalbert.errors import AalbertError

EXAMPLES = """\
examples:
  aalbert extract SUPERNET --arch arch.yaml -o small       # the same: aalbert convert SUPERNET small --arch arch.yaml
  aalbert downstream -m train -u aalbert_local -k SUPERNET -g arch.yaml -d aalbert_phone -n NAME   # without extracting
arch.yaml:
  hidden_size: 192
  num_hidden_layers: 3
  num_attention_heads: [3, 2, 3]      # or one number for all layers
  intermediate_size: 512
"""
add_arguments = convert.add_arguments


def main(args: argparse.Namespace) -> int:
    """Cut out and return 0."""
    if args.arch is None:
        raise AalbertError("name the sizes of the sub-network with --arch YAML")
    return convert.main(args)
