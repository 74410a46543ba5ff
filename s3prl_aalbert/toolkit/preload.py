"""Imports what all runs of a sweep need, in the server process from which they are forked."""

from s3prl_aalbert.toolkit.runner import s3prl_runner  # noqa: F401, I001 (must be first: it makes S3PRL importable)

import s3prl.run_downstream  # noqa: F401
