"""Exports for Hugging Face and the SUPERB leaderboard."""
