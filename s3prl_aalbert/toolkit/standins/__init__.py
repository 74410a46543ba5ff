"""Modules that S3PRL's tasks import and that are not installed; see ``task_compat`` for each one's reason."""
