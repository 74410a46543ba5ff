"""Audio SNIPS for S3PRL's task ``ctc`` (SUPERB's slot filling)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit.repairs.missing_modules.ctc_batches import Tokenizer, TranscribedFiles, read_transcripts

logger = logging.getLogger(__name__)


class SnipsDataset(TranscribedFiles):
    """The utterances of some splits, of the speakers chosen for the first of them.

    Args:
        split: folders of ``path``, e.g. ["valid"].
        tokenizer: S3PRL's encoder; with slots it reads all.iob.snips.txt, else all-trans.txt.
        bucket_size: see TranscribedFiles.
        path: the corpus' root.
        ascending: see TranscribedFiles.
        others: has ``SPLIT_speakers``, the names with which file names begin.

    Raises:
        AalbertError: a split has no audio of these speakers, or no speakers are named for it.
    """

    def __init__(
        self,
        split: Sequence[str],
        tokenizer: Tokenizer,
        bucket_size: int,
        path: str,
        ascending: bool = False,
        **others: Any,
    ) -> None:
        if f"{split[0]}_speakers" not in others:
            raise AalbertError(f"downstream_expert.corpus.{split[0]}_speakers is missing: the speakers of {split[0]}")
        speakers = tuple(others[f"{split[0]}_speakers"])
        name = "all.iob.snips.txt" if "-slot" in tokenizer.token_type else "all-trans.txt"
        transcripts = read_transcripts(Path(path) / name)
        files = [file for part in split for file in _files(Path(path) / part, speakers, transcripts)]
        super().__init__([(file, tokenizer.encode(transcripts[file.stem])) for file in files], bucket_size, ascending)


def _files(folder: Path, speakers: tuple[str, ...], transcripts: dict[str, str]) -> list[Path]:
    found = [file for file in folder.rglob("*.wav") if file.name.startswith(speakers)]
    files = [file for file in found if file.stem in transcripts]
    if len(files) < len(found):
        logger.warning("%s: %d files have no transcript and are skipped", folder, len(found) - len(files))
    if not files:
        raise AalbertError(f"{folder}: no transcribed .wav files of the speakers {', '.join(speakers)}")
    return files
