"""Repairs of S3PRL 0.4.18 without changes to its files; each states its reason, its symptom and when it can go."""
