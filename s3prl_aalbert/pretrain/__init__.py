"""Masked-prediction pre-training: corpus, batches, optimiser, loop."""
