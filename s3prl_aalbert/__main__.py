"""``python -m s3prl_aalbert`` is the ``aalbert`` command."""

from s3prl_aalbert.cli import main

raise SystemExit(main())
