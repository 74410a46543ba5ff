"""Repairs of S3PRL 0.4.18, whose files stay as they are: each says its reason, its symptom and when it can go."""
