"""``aalbert distill``: ``aalbert pretrain --teacher``, with the configuration of a distillation by default."""

from __future__ import annotations

import argparse
from dataclasses import replace

from s3prl_aalbert.commands import pretrain
from s3prl_aalbert.experiments.pretraining import run
from s3prl_aalbert.pretrain.request import DISTILL_CONFIG
from s3prl_aalbert.typed_options import given

EXAMPLES = """\
examples:
  aalbert distill --teacher hubert_base -g aalbert_small -c distill_default --speech DIR -n student
  aalbert distill --teacher aalbert_local --teacher_ckpt CKPT -g aalbert_small --speech DIR -n student
  aalbert distill --teacher aalbert_local --teacher_ckpt CKPT -g supernet_small -c distill_supernet --init STAGE1 \\
      --speech DIR -n supernet                          # stage 2: sub-networks, from the whole model of stage 1
  torchrun --nproc_per_node 4 -m s3prl_aalbert distill ...
"""


add_arguments = pretrain.add_arguments


def main(args: argparse.Namespace) -> int:
    """Distill and return the exit code."""
    request = pretrain.as_request(**given(pretrain.pretrain, args))
    return run(replace(request, default_config=DISTILL_CONFIG))
