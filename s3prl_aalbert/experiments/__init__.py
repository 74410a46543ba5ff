"""Grids of experiments, and their results as rows that can be run again."""
