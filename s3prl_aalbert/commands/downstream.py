"""``aalbert downstream``: S3PRL's ``run_downstream.py`` with the plugin's names registered."""

from __future__ import annotations

from collections.abc import Sequence

from s3prl_aalbert.toolkit.parser import add_arguments

__all__ = ["EXAMPLES", "PASS_THROUGH", "add_arguments", "main"]

PASS_THROUGH = True  # S3PRL parses its own options

EXAMPLES = """examples:
  aalbert downstream -m train -n phone -u aalbert_local -k MODEL -d aalbert_phone
  aalbert downstream -m train -n phone -u aalbert_local -k MODEL -d aalbert_phone -a
  aalbert downstream -m evaluate -e result/downstream/phone/dev-best.ckpt
  aalbert downstream -m train -n fbank -u fbank -d aalbert_phone -o config.optimizer.lr=1e-3
"""


def main(argv: Sequence[str]) -> int:
    """Run S3PRL's runner with ``argv`` and return the exit code."""
    from s3prl_aalbert.toolkit.launch import run

    return run(argv)
