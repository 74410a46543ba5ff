"""``python -m s3prl_aalbert.pretrain`` (and torchrun) is ``aalbert pretrain``."""

import sys

from s3prl_aalbert.cli import main

raise SystemExit(main(["pretrain", *sys.argv[1:]]))
