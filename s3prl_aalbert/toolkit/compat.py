"""``apply`` under the name that files changed by `aalbert link` and other people's hold; see ``repairs.imports``."""

from s3prl_aalbert.toolkit.repairs.imports import apply

__all__ = ["apply"]
