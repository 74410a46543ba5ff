"""Records what a task could not use: once in the log, counted in results.json, and in full in left_out.tsv."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from s3prl_aalbert.files import write_text
from s3prl_aalbert.printable import printable
from s3prl_aalbert.speech.names import first_names

logger = logging.getLogger(__name__)

SKIPPED_FILE = "left_out.tsv"
REASONS = {
    "no_labels": "utterances without labels",
    "no_audio": "utterances with labels but no audio",
    "no_speaker": "utterances without a speaker",
    "not_read": "files of a format that is not read, or of the same recording in another format",
    "silent": "utterances silent from beginning to end",
    "undecodable": "utterances whose audio cannot be decoded",
    "labels_unreadable": "utterances whose label file cannot be read",
    "labels_past_end": "utterances with labels past the end of the audio",
    "listed_but_unusable": "utterances of a split list without usable audio and labels",
    "in_no_list": "utterances that no split list names",
    "excluded": "utterances excluded by datarc.exclude",
    "too_few_utterances": "speakers with too few utterances for 8:1:1",
    "not_in_training": "speakers without a training utterance",
}
ASKED_FOR = frozenset({"excluded", "in_no_list"})
"""Reasons that the user chose, which need no warning."""
UNMATCHED = frozenset({"no_audio", "listed_but_unusable"})
"""Reasons with names of lists or tables, whose detail hints at the names of the audio."""
MAX_RECORDED = 100


class Skipped:
    """Names by reason, in the order in which they were found."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, str]] = {}

    def add(self, reason: str, names: Mapping[str, str] | Iterable[str]) -> None:
        """Add utterances or speakers, with a detail of each if known; ``reason`` is a key of REASONS."""
        details = dict(names) if isinstance(names, Mapping) else dict.fromkeys(names, "")
        assert reason in REASONS, reason
        if details:
            self.found.setdefault(reason, {}).update(details)

    def log(self, task: str) -> None:
        """Log for each reason how many were skipped, with the first few names."""
        for reason, details in self.found.items():
            level = logging.INFO if reason in ASKED_FOR else logging.WARNING
            what = _count(reason, len(details))
            logger.log(level, "%s task: skipped %s: %s%s", task, what, first_names(details), _hint(reason, details))

    def facts(self) -> dict[str, dict[str, object]]:
        """Return count and first names by reason, for results.json."""
        return {
            reason: {"count": len(details), "names": sorted(details)[:MAX_RECORDED]}
            for reason, details in self.found.items()
        }

    def save(self, folder: Path) -> None:
        """Write all names with their reasons and details to left_out.tsv, if there are any."""
        rows = [(name, reason, detail) for reason, d in self.found.items() for name, detail in sorted(d.items())]
        if rows:
            lines = ["\t".join(map(printable, row)) for row in (("name", "reason", "detail"), *rows)]
            write_text(folder / SKIPPED_FILE, "\n".join(lines) + "\n")

    def summary(self) -> str:
        """Describe all counts, for example in an error because nothing is left."""
        return "; ".join(_count(reason, len(d)) + _hint(reason, d) for reason, d in self.found.items())


def _hint(reason: str, details: Mapping[str, str]) -> str:
    """Return a hint at how listed names differ from the names of the audio."""
    hints = [hint for hint in details.values() if hint] if reason in UNMATCHED else []
    return f" ({hints[0]})" if hints else ""


def _count(reason: str, count: int) -> str:
    what, rest = REASONS[reason].split(" ", 1)
    return f"{count} {what.removesuffix('s') if count == 1 else what} {rest}"
