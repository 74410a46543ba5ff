"""Replacements of modules that S3PRL's tasks import but that are not installed; ``repairs.tasks`` has the reasons."""
