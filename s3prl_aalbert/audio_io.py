"""Reading audio, under the name that other programs import: ``from s3prl_aalbert.audio_io import read_audio``."""

from s3prl_aalbert.speech.finding import AUDIO_SUFFIXES
from s3prl_aalbert.speech.reading import AudioError, read_audio

__all__ = ["AUDIO_SUFFIXES", "AudioError", "read_audio"]
