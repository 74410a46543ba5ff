"""Checks the prediction files of S3PRL's SUPERB tasks: their form, their values, and that no name is repeated.

Every check takes the file (or folder) and returns the names with a prediction, in order.
"""

from __future__ import annotations

import math
import re
import xml.sax
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import ModuleType
from xml.sax.handler import ContentHandler
from xml.sax.xmlreader import AttributesImpl, Locator

from s3prl_aalbert.errors import AalbertError, did_you_mean
from s3prl_aalbert.printable import printable

Check = Callable[[Path], list[str]]

KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "_unknown_", "_silence_")
EMOTIONS = ("neu", "hap", "ang", "sad")
MIXED_SPEAKERS = 2
MOST_FRAMES = 10_000_000
"""Largest number of frames: a day of speech in steps of 10 ms."""


def transcripts(path: Path) -> list[str]:
    """Check lines "NAME HYPOTHESIS"; a hypothesis may be empty."""
    return [name for _, name, _ in _named_lines(path)]


def labels(choices: Collection[str]) -> Check:
    """Return a check of lines "NAME LABEL" with one label of ``choices``."""

    def check(path: Path) -> list[str]:
        names = []
        for where, name, label in _named_lines(path):
            if label not in choices:
                raise AalbertError(
                    f'{where}: the label of {name} is "{label}"{did_you_mean(label, choices)}, '
                    f"expected one of {', '.join(sorted(choices))}"
                )
            names.append(name)
        return names

    return check


def speakers(path: Path) -> list[str]:
    """Check lines "NAME SPEAKER" with a speaker of VoxCeleb1, id10001 to id11251."""
    names = []
    for where, name, speaker in _named_lines(path):
        if not (re.fullmatch("id[0-9]{5}", speaker) and "id10001" <= speaker <= "id11251"):
            raise AalbertError(f'{where}: the speaker of {name} is "{speaker}", expected id10001 to id11251')
        names.append(name)
    return names


def intents(path: Path) -> list[str]:
    """Check lines "NAME,ACTION,OBJECT,LOCATION"."""
    names: dict[str, None] = {}
    for where, line in _lines(path):
        fields = line.split(",")
        if len(fields) != 4 or not all(fields):
            raise AalbertError(f'{where}: found "{line}", expected "NAME,ACTION,OBJECT,LOCATION"')
        names[_new(where, fields[0], names)] = None
    return list(names)


def scores(path: Path) -> list[str]:
    """Check lines "NAME_NAME SCORE" with finite scores."""
    names = []
    for where, pair, score in _named_lines(path):
        _finite(where, f"the score of {pair}", score)
        if "_" not in pair:
            raise AalbertError(f'{where}: the trial is "{pair}", expected two utterances joined by "_"')
        names.append(pair)
    return names


def metrics(path: Path) -> list[str]:
    """Check lines "METRIC VALUE" with finite values."""
    names = []
    for where, name, value in _named_lines(path):
        _finite(where, name, value)
        names.append(name)
    return names


def translations(path: Path) -> list[str]:
    """Check a table of utt_id, hyp and ref, separated by tabs, with a header."""
    header = "utt_id\thyp\tref"
    names: dict[str, None] = {}
    for number, (where, line) in enumerate(_lines(path)):
        if number == 0:
            if line != header:
                raise AalbertError(f"{where}: found {line!r}, expected the header {header!r}")
            continue
        fields = line.split("\t")
        if len(fields) != 3:
            raise AalbertError(f"{where}: found {len(fields)} columns, expected 3: utt_id, hyp, ref")
        names[_new(where, fields[0], names)] = None
    if not names:
        raise AalbertError(f"{path}: holds a header and no translation")
    return list(names)


def detections(path: Path) -> list[str]:
    """Check the detected terms: each query occurs once, and all have one finite score for the same recordings."""
    handler = _Detections(path)
    try:
        xml.sax.parse(str(path), handler)
    except xml.sax.SAXParseException as error:
        raise AalbertError(f"{path}:{error.getLineNumber()}: is not valid XML ({error.getMessage()})") from error
    except (ValueError, LookupError) as error:  # a wrong encoding
        raise AalbertError(f"{path}:1: is not valid XML ({error})") from error
    first, expected = next(iter(handler.recordings.items()), ("", {}))
    for query, found in handler.recordings.items():
        if found.keys() != expected.keys():
            raise AalbertError(
                f"{path}: the query {query} has scores for {len(found)} recordings, "
                f"{first} for {len(expected)}; expected the same ones"
            )
    if not expected:
        raise AalbertError(f"{path}: holds no detected terms")
    return list(handler.recordings)


class _Detections(ContentHandler):
    """Collects the recordings of each query and checks each element."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.recordings: dict[str, dict[str, None]] = {}

    def setDocumentLocator(self, locator: Locator) -> None:
        self.locator = locator

    def startElement(self, name: str, attrs: AttributesImpl) -> None:
        where = f"{self.path}:{self.locator.getLineNumber()}"
        if name == "detected_termlist":
            self.query = _new(where, self._attribute(where, attrs, "termid"), self.recordings)
            self.recordings[self.query] = {}
        elif name == "term":
            if not self.recordings:
                raise AalbertError(f"{where}: a term outside a detected_termlist")
            found = self.recordings[self.query]
            found[_new(where, self._attribute(where, attrs, "file"), found)] = None
            _finite(where, "the score", self._attribute(where, attrs, "score"))
            decision = self._attribute(where, attrs, "decision")
            if decision not in ("YES", "NO"):
                raise AalbertError(f'{where}: the decision is "{decision}", expected YES or NO')
        elif name != "stdlist":
            raise AalbertError(f"{where}: found <{name}>, expected stdlist, detected_termlist or term")

    @staticmethod
    def _attribute(where: str, attrs: AttributesImpl, name: str) -> str:
        if name not in attrs:
            raise AalbertError(f"{where}: the attribute {name} is missing")
        return str(attrs[name])


def diarisations(folder: Path) -> list[str]:
    """Check a folder of RECORDING.h5, each with the probabilities ``T_hat`` (frames, 2)."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in files:
        if path.suffix != ".h5" or printable(path.name) != path.name:
            raise AalbertError(f"{path}: expected nothing but RECORDING.h5 files in this folder")
        _check_probabilities(path)
    if not files:
        raise AalbertError(f"{folder}: holds no predictions")
    return [path.stem for path in files]


def _check_probabilities(path: Path) -> None:
    try:
        import h5py
    except ImportError as error:
        raise AalbertError("checking --sd needs h5py: pip install h5py") from error
    try:
        with h5py.File(path, "r") as file:
            # A link may lead to another file, which would not be submitted.
            found = file["T_hat"] if file.get("T_hat", getlink=True).__class__ is h5py.HardLink else None
            problem = _no_probabilities(found, h5py)
            if problem is None and found is not None and not ((found[()] >= 0) & (found[()] <= 1)).all():
                problem = "has values outside 0 to 1, expected probabilities"
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # h5py raises these on damaged bytes
        raise AalbertError(f"{path}: is not a readable HDF5 file ({error})") from error
    if problem:
        raise AalbertError(f"{path}: T_hat {problem}")


def _no_probabilities(found: object, h5py: ModuleType) -> str | None:
    """Describe why an HDF5 object is not a table of numbers (frames, 2) in the file itself; None if it is."""
    expected = f"expected (frames, {MIXED_SPEAKERS})"
    if found is None:
        return f"is nothing, {expected}"
    if not isinstance(found, h5py.Dataset):
        return f"is a {type(found).__name__.lower()}, {expected}"
    if found.shape is None or len(found.shape) != 2 or found.shape[1] != MIXED_SPEAKERS or not found.shape[0]:
        return f"is {found.shape}, {expected}"
    if found.dtype.kind not in "fiu":
        return f"is of type {found.dtype}, expected numbers"
    if found.shape[0] > MOST_FRAMES:
        return f"is {found.shape}, expected at most {MOST_FRAMES} frames"
    if found.is_virtual or found.external:
        return "is stored in another file, expected it in this one"
    return None


def frame_shift(path: Path) -> list[str]:
    """Check a file with one positive number of samples; it names no utterances."""
    text = path.read_bytes().decode("utf-8", "backslashreplace").strip()
    if not re.fullmatch("[1-9][0-9]{0,5}", text):
        raise AalbertError(f'{path}:1: found "{printable(text, 40)}", expected a number of samples')
    return []


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield ("FILE:LINE", line) and refuse empty lines, an empty file and bytes that are not UTF-8."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        raise AalbertError(f"{path}:{number}: is not UTF-8 text") from error
    if not text:
        raise AalbertError(f"{path}: is empty")
    if not text.endswith("\n"):
        raise AalbertError(f"{path}:{text.count(chr(10)) + 1}: the last line is cut off; evaluate again")
    for number, line in enumerate(text[:-1].split("\n"), start=1):
        if not line.strip():
            raise AalbertError(f"{path}:{number}: an empty line")
        yield f"{path}:{number}", line


def _named_lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield ("FILE:LINE", name, rest) of lines "NAME REST" and refuse a repeated name."""
    seen: set[str] = set()
    for where, line in _lines(path):
        name, space, rest = line.partition(" ")
        if not name or not space:
            raise AalbertError(f'{where}: found "{line}", expected an utterance, a space and its prediction')
        seen.add(_new(where, name, seen))
        yield where, name, rest


def _new(where: str, name: str, seen: Collection[str]) -> str:
    if name in seen:
        raise AalbertError(f"{where}: {name} occurs for the second time")
    return name


def _finite(where: str, what: str, text: str) -> None:
    if not (re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", text) and math.isfinite(float(text))):
        raise AalbertError(f'{where}: {what} is "{text}", expected a finite number')
