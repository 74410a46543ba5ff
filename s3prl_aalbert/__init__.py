"""Audio ALBERT (AALBERT) for the S3PRL speech toolkit."""

__version__ = "0.1.0"
