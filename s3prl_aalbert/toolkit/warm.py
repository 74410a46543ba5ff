"""Imported by the server that a sweep's runs are forked from: what they all import, once."""

from s3prl_aalbert import toolkit

toolkit.activate()

import s3prl.hub  # noqa: E402
import s3prl.run_downstream  # noqa: E402, F401
