"""The model of the paper: configuration, acoustics, masking, encoder, objectives."""
