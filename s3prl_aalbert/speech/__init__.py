"""Reading speech and what describes it: audio files, folders, names of utterances and speakers, text."""
