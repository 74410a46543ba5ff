"""The old name of ``repairs.imports.apply``, which other people's files and those of `aalbert link` import."""

from s3prl_aalbert.toolkit.repairs.imports import apply

__all__ = ["apply"]
