"""Reads every text file of a corpus: labels, lists, speakers."""

from __future__ import annotations

import codecs
import re
import unicodedata
from pathlib import Path

from s3prl_aalbert.errors import AalbertError

BYTE_ORDER_MARK = "\ufeff"
END_OF_FILE = "\x1a"
"""End mark of old DOS editors, which some copies of TIMIT still have."""
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.ASCII | re.IGNORECASE)
_WHOLE = re.compile(r"[-+]?\d{1,18}", re.ASCII)


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file without blanks around them; see ``read_text``."""
    return [line.strip(" ") for line in read_text(path).split("\n")]  # str.splitlines also splits within names


def read_text(path: Path) -> str:
    """Return the text of a file without byte order marks, with a line feed between lines.

    Accents are composed (Unicode NFC), so that a name or phone is the same in every file.

    Raises:
        AalbertError: the file cannot be read, or is not text in UTF-8 or UTF-16.
    """
    if path.is_char_device() or path.is_block_device():
        raise AalbertError(f"{path}: is not a file")  # /dev/zero never ends
    try:
        raw = path.read_bytes()  # once: it may be a pipe
        text = raw.decode(_encoding(raw))
    except OSError as error:
        raise AalbertError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise AalbertError(f"{path}: is not text in UTF-8 or UTF-16") from error
    # Files that were joined have byte order marks in their middle.
    text = text.replace(BYTE_ORDER_MARK, "").replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", text).rstrip(f"{END_OF_FILE}\0\n")


def encoding_of(path: Path) -> str:
    """Return the encoding of a text file: UTF-16 if it begins with that mark, else UTF-8 with or without a mark.

    Spreadsheets write both.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return _encoding(file.read(2))


def _encoding(start: bytes) -> str:
    return "utf-16" if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def number(text: str) -> float:
    """Parse a decimal number of a file.

    Raises:
        ValueError: not a number. Unlike Python's float, this refuses ``1_0``, ``nan`` and digits of other scripts.
    """
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError(f'"{text}" is not a number')
    return float(text)


def whole_number(text: str) -> int:
    """Parse an integer; raises ValueError as ``number`` does."""
    if not _WHOLE.fullmatch(text.strip()):
        raise ValueError(f'"{text}" is not a whole number')
    return int(text)
