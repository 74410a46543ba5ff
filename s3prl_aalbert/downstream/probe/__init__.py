"""Probing: every layer, three classifiers, phones and speakers, in one run (paper section 4.3)."""
