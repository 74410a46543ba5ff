"""Sub-networks of one trained model: drawing, searching and extracting them (LightHuBERT, arXiv 2203.15610)."""
