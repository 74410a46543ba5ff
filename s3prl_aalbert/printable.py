"""Names and texts from files, made fit for a terminal, a page, a figure and a table.

A file's name may hold anything but a slash and a zero byte: escape sequences, line breaks, bytes that are no UTF-8
(which Python keeps as lone surrogates), letters that reverse the order of those around them.
"""

from __future__ import annotations

import html
import logging
import re
from pathlib import PurePath
from typing import Any

LONGEST_MESSAGE = 4000
LONGEST_IN_FIGURE = 90
JOINERS = "\u200c\u200d"
"""Without width, and part of the spelling of Persian, of Indic scripts and of emoji."""


def printable(text: object, longest: int | None = None) -> str:
    r"""Return text of one line in which every character shows, others as Python escapes them, such as ``\x1b``.

    Args:
        text: anything; its ``str`` is taken.
        longest: characters to keep; the middle of a longer text is left out.
    """
    shown = str(text)
    if longest is not None and len(shown) > longest:
        shown = f"{shown[: longest - longest // 3]} ... {shown[-(longest // 3) :]}"
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() or c in JOINERS else c.encode("unicode_escape").decode() for c in shown)


def printable_lines(text: object) -> str:
    """Return text whose line breaks and tabs are meant, every other character as ``printable`` has it."""
    return "".join(part if part in "\n\t" else printable(part) for part in re.split(r"([\n\t])", str(text)))


def html_text(text: object) -> str:
    """Return text as the content or a quoted attribute of HTML."""
    return html.escape(printable_lines(text))


def figure_text(text: object) -> str:
    """Return text as matplotlib draws it literally: dollars begin no formula, an underscore hides no legend entry."""
    shown = "\n".join(printable(line, LONGEST_IN_FIGURE) for line in str(text).split("\n")).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def markdown_cell(text: object) -> str:
    """Return text as a cell of a Markdown table."""
    return printable(text).replace("|", r"\|").replace("<", "&lt;")


def csv_cell(value: object) -> Any:
    """Return a cell that no spreadsheet takes for a formula; numbers stay as they are."""
    if not isinstance(value, (str, PurePath)):
        return value
    shown = printable(value)
    formula = len(shown) > 1 and shown[0] in "=+-@" and not re.fullmatch(r"[-+][\d.]+(e[-+]?\d+)?", shown)
    return f"'{shown}" if formula else shown


class PrintableRecord(logging.LogRecord):
    """A log record whose message shows every character; line breaks in its arguments are none of the message's."""

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
