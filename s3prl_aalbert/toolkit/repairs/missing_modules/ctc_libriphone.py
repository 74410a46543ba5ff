"""LibriSpeech with phonemes from a pronunciation lexicon, for S3PRL's task ``ctc`` (SUPERB's PR)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.speech.text import read_lines
from s3prl_aalbert.toolkit.repairs.missing_modules.ctc_batches import Tokenizer, TranscribedFiles, read_transcripts


class LibriPhoneDataset(TranscribedFiles):
    """The utterances of some splits.

    Args:
        split: folders of ``path``, e.g. ["dev-clean"].
        tokenizer: S3PRL's word encoder over the phonemes.
        bucket_size: see TranscribedFiles.
        path: LibriSpeech's root.
        lexicon: files with lines "WORD PHONEME ..."; the first pronunciation of a word counts.
        ascending: see TranscribedFiles.

    Raises:
        AalbertError: a split has no audio, an utterance no transcript, or a word no pronunciation; or a phoneme is not
            in the vocabulary.
    """

    def __init__(
        self,
        split: Sequence[str],
        tokenizer: Tokenizer,
        bucket_size: int,
        path: str,
        lexicon: Sequence[str],
        ascending: bool = False,
        **_others: object,
    ) -> None:
        words = _read_lexicon(lexicon, tokenizer)
        examples = [
            (file, tokenizer.encode(" ".join(_pronounce(text, words, file))))
            for name in split
            for file, text in _utterances(Path(path) / name)
        ]
        super().__init__(examples, bucket_size, ascending)


def _read_lexicon(files: Sequence[str], tokenizer: Tokenizer) -> dict[str, list[str]]:
    words: dict[str, list[str]] = {}
    for name in files:
        for number, line in enumerate(read_lines(Path(name)), start=1):
            if not line.strip():
                continue
            word, *phonemes = line.split()
            unknown = [phoneme for phoneme in phonemes if tokenizer.vocab_to_idx(phoneme) == tokenizer.unk_idx]
            if unknown:
                raise AalbertError(f"{name}:{number}: the phoneme {unknown[0]} of {word} is not in the vocabulary")
            words.setdefault(word, phonemes)
    return words


def _utterances(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield each .flac below ``folder`` with its line of the chapter's transcripts."""
    files = list(folder.rglob("*.flac"))
    if not files:
        raise AalbertError(f"{folder}: no .flac files, expected a split of LibriSpeech")
    transcripts: dict[Path, dict[str, str]] = {}
    for file in files:
        source = file.parent / f"{file.stem.rpartition('-')[0]}.trans.txt"
        if source not in transcripts:
            transcripts[source] = read_transcripts(source)
        if file.stem not in transcripts[source]:
            raise AalbertError(f"{source}: has no transcript of {file.name}")
        yield file, transcripts[source][file.stem]


def _pronounce(text: str, words: dict[str, list[str]], file: Path) -> list[str]:
    missing = [word for word in text.split() if word not in words]
    if missing:
        raise AalbertError(f"{file}: the lexicon has no pronunciation of {missing[0]}")
    return [phoneme for word in text.split() for phoneme in words[word]]
