"""The base of the corpora of S3PRL's task ``ctc``: transcribed files in buckets, the longest text first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch.utils.data import Dataset

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.speech.text import read_lines

Example = tuple[Path, list[int]]
"""An audio file and its tokens."""


class Tokenizer(Protocol):
    """The text encoders of S3PRL's task, as far as the corpora use them."""

    token_type: str
    unk_idx: int

    def encode(self, s: str) -> list[int]:
        """Return the tokens of a text."""

    def vocab_to_idx(self, vocab: str) -> int:
        """Return the token of a character or word."""


def read_transcripts(path: Path) -> dict[str, str]:
    """Return the text of each utterance in a file of lines "UTTERANCE TEXT"; empty lines are skipped.

    Raises:
        AalbertError: a line has no text; the message names the line.
    """
    transcripts = {}
    for number, line in enumerate(read_lines(path), start=1):
        name, _, text = line.strip().partition(" ")
        if name and not text:
            raise AalbertError(f'{path}:{number}: found "{name}", expected an utterance, a space and its text')
        if name:
            transcripts[name] = text
    return transcripts


class TranscribedFiles(Dataset):
    """Item i is the example at i, or with ``bucket_size`` B > 1 the list of B examples from i on.

    Args:
        examples: files and tokens in any order.
        bucket_size: the training batch.
        ascending: whether the shortest text comes first.
    """

    def __init__(self, examples: Sequence[Example], bucket_size: int, ascending: bool = False) -> None:
        ordered = sorted(examples, key=lambda example: len(example[1]), reverse=not ascending)
        self.file_list = tuple(path for path, _ in ordered)
        self.text = tuple(tokens for _, tokens in ordered)
        self.bucket_size = bucket_size

    def __len__(self) -> int:
        return len(self.file_list)

    def __getitem__(self, index: int) -> Example | list[Example]:
        if self.bucket_size <= 1:
            return self.file_list[index], self.text[index]
        # The last bucket begins earlier, so that it is full.
        start = max(0, min(len(self) - self.bucket_size, index))
        stop = start + self.bucket_size
        return list(zip(self.file_list[start:stop], self.text[start:stop], strict=True))
