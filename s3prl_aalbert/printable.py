"""Makes names and texts from files safe to show in a terminal, a page, a figure or a table.

A file's name may hold anything but a slash and a zero byte: escape sequences, line breaks, bytes that are no UTF-8
(which Python keeps as lone surrogates), letters that reverse the order of those around them.
"""

from __future__ import annotations

import html
import logging
import re
from pathlib import PurePath

LONGEST_MESSAGE = 4000
LONGEST_IN_FIGURE = 90
JOINERS = "\u200c\u200d"
"""Characters without width that Persian, Indic scripts and emoji need."""


def printable(text: object, longest: int | None = None) -> str:
    r"""Return text as one line; characters that do not show are escaped as Python does it, such as ``\x1b``.

    Args:
        text: anything; its ``str`` is taken.
        longest: number of characters to keep; a longer text loses its middle.
    """
    shown = str(text)
    if longest is not None and len(shown) > longest:
        shown = f"{shown[: longest - longest // 3]} ... {shown[-(longest // 3) :]}"
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() or c in JOINERS else c.encode("unicode_escape").decode() for c in shown)


def printable_lines(text: object) -> str:
    """Return text with its line breaks and tabs; every other character as in ``printable``."""
    return "".join(part if part in "\n\t" else printable(part) for part in re.split(r"([\n\t])", str(text)))


def html_text(text: object) -> str:
    """Return text as the content or a quoted attribute of HTML."""
    return html.escape(printable_lines(text))


def figure_text(text: object) -> str:
    """Return text that matplotlib draws literally: a dollar begins no formula, an underscore hides no legend entry."""
    shown = "\n".join(printable(line, LONGEST_IN_FIGURE) for line in str(text).split("\n")).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def markdown_cell(text: object) -> str:
    """Return text as a cell of a Markdown table."""
    return printable(text).replace("|", r"\|").replace("<", "&lt;")


def csv_cell(value: object) -> object:
    """Return a cell that no spreadsheet reads as a formula; numbers stay unchanged."""
    if not isinstance(value, (str, PurePath)):
        return value
    shown = printable(value)
    formula = len(shown) > 1 and shown[0] in "=+-@" and not re.fullmatch(r"[-+][\d.]+(e[-+]?\d+)?", shown)
    return f"'{shown}" if formula else shown


class PrintableRecord(logging.LogRecord):
    """A log record whose message shows every character and stays one line, whatever its arguments hold."""

    def getMessage(self) -> str:
        """Return the message."""
        text = str(self.msg)
        if isinstance(self.args, tuple) and self.args:
            text %= tuple(_shown(value) for value in self.args)
        elif self.args:
            text %= self.args
        return printable_lines(text)


def _shown(value: object) -> object:
    return printable(value) if isinstance(value, (str, PurePath, BaseException)) else value
