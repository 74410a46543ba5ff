"""Replaces the package ``sox``, which S3PRL imports but does not use."""


class Transformer:
    """An empty class of the name that S3PRL imports."""
