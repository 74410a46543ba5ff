"""``python -m s3prl_aalbert.submission.superb_lengths LIBRISPEECH`` writes the tables of lengths for S3PRL's ASR.

S3PRL's own preparation is not in its wheel, is interactive, and needs torchaudio before 2.9. The tables are
LIBRISPEECH/len_for_bucket/SPLIT.csv, with file and length in samples, the longest first.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import soundfile

from s3prl_aalbert.errors import EXIT_USER_ERROR, AalbertError, environment_fault
from s3prl_aalbert.files import write_atomically
from s3prl_aalbert.printable import LONGEST_MESSAGE, printable
from s3prl_aalbert.speech.reading import length_of

FOLDER = "len_for_bucket"
SPLITS = ("train-clean-100", "dev-clean", "test-clean")


def write_lengths(root: Path, split: str) -> Path:
    """Write the table of one split and return its path.

    Raises:
        AalbertError: the split has no .flac files, or one is damaged.
    """
    files = sorted(path for path in (root / split).rglob("*.flac") if not path.name.startswith("."))
    if not files:
        raise AalbertError(f"{root / split}: no .flac files, expected a split of LibriSpeech")
    rows = [(path.relative_to(root).as_posix(), _num_samples(path)) for path in files]
    rows.sort(key=lambda row: row[1], reverse=True)

    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("", "file_path", "length", "label"))
            writer.writerows((number, name, length, "") for number, (name, length) in enumerate(rows))

    table = root / FOLDER / f"{split}.csv"
    write_atomically(table, write)
    return table


def _num_samples(path: Path) -> int:
    try:
        return length_of(str(path))
    except soundfile.SoundFileError as error:
        raise AalbertError(f"{path}: cannot be decoded ({error})") from error


def main() -> int:
    """Write the missing tables."""
    parser = argparse.ArgumentParser(prog="superb_lengths", description=__doc__)
    parser.add_argument("root", type=Path, metavar="LIBRISPEECH")
    args = parser.parse_args()
    try:
        root = args.root.expanduser()
        for split in SPLITS:
            if not (root / FOLDER / f"{split}.csv").is_file():
                print(write_lengths(root, split))
    except (AalbertError, OSError, RuntimeError) as error:
        fault = str(error) if isinstance(error, AalbertError) else environment_fault(error)
        if fault is None:
            raise
        print(f"superb_lengths: {printable(fault, LONGEST_MESSAGE)}", file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
