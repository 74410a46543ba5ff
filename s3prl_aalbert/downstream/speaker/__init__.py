"""Utterance- and frame-level speaker identification (paper section 4.2)."""
