"""Frame-wise phoneme classification (paper section 4.1)."""
