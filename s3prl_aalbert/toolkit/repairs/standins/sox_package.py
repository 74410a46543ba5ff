"""Stands in for the package ``sox``, which S3PRL imports and does not use."""


class Transformer:
    """An empty name."""
