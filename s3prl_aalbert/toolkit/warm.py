"""Imported by the server that a sweep's runs are forked from: what they all import, once."""

from s3prl_aalbert.toolkit.runner import s3prl_runner  # noqa: F401, I001 (makes S3PRL importable: first)

import s3prl.run_downstream  # noqa: F401
