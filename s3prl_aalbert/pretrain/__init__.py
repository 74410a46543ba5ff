"""Masked-reconstruction pre-training: corpus, batches, optimiser, loop."""
