"""Grids of experiments: what they measured, as rows that can be run again."""
