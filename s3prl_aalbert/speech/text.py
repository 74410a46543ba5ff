"""One reader for every text file of a corpus: labels, lists, speakers."""

from __future__ import annotations

import codecs
import re
import unicodedata
from pathlib import Path

from s3prl_aalbert.errors import AalbertError

BYTE_ORDER_MARK = "\ufeff"
END_OF_FILE = "\x1a"
"""What DOS editors wrote at the end; TIMIT's files have it in some copies."""
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.ASCII | re.IGNORECASE)
_WHOLE = re.compile(r"[-+]?\d{1,18}", re.ASCII)


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, without blanks around them; see ``read_text``."""
    return [line.strip(" ") for line in read_text(path).split("\n")]  # str.splitlines also splits within names


def read_text(path: Path) -> str:
    """Return a text file without byte order marks and with line feeds alone between its lines.

    Accents are composed (Unicode NFC), so that a name or phone is one however its file was written.

    Raises:
        AalbertError: it cannot be read, or is not text in UTF-8 or UTF-16.
    """
    if path.is_char_device() or path.is_block_device():
        raise AalbertError(f"{path}: is no file")  # /dev/zero never ends
    try:
        raw = path.read_bytes()  # once: it may be a pipe
        text = raw.decode(_encoding(raw))
    except OSError as error:
        raise AalbertError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise AalbertError(f"{path}: is not text in UTF-8 or UTF-16") from error
    # Files joined from several have a byte order mark in their middle.
    text = text.replace(BYTE_ORDER_MARK, "").replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", text).rstrip(f"{END_OF_FILE}\0\n")


def encoding_of(path: Path) -> str:
    """Return how a file's text is written: UTF-16 by the mark that it begins with, else UTF-8 with or without one.

    Spreadsheets write either.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return _encoding(file.read(2))


def _encoding(start: bytes) -> str:
    return "utf-16" if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def number(text: str) -> float:
    """Return a decimal number as files write it.

    Raises:
        ValueError: it is none; unlike Python's float, ``1_0``, ``nan`` and digits of other scripts are none.
    """
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError(f'"{text}" is no number')
    return float(text)


def whole_number(text: str) -> int:
    """Return an integer; raises ValueError as ``number`` does."""
    if not _WHOLE.fullmatch(text.strip()):
        raise ValueError(f'"{text}" is no whole number')
    return int(text)
