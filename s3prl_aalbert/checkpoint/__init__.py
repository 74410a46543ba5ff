"""Releases, training states, packaged weights, and other programs' files."""
