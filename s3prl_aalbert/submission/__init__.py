"""Conversions and exports: the folder for the Hugging Face Hub, serving graphs, and the SUPERB submission."""
