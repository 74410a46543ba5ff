"""Smaller models: distillation, supernets, search, extraction."""
