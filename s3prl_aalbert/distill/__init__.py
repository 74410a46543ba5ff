"""Learning from a teacher's hidden states, masked or not (ARMHuBERT, LightHuBERT)."""
