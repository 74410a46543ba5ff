"""Pre-trainings, the demo, grids of experiments, and their results as rows that can be run again."""
