"""Modules that S3PRL's tasks import and that are not installed; see ``repairs.tasks`` for each one's reason."""
