"""S3PRL downstream experts of the paper's tasks."""
