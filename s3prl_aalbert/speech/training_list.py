"""The speech that a release was pre-trained on, as digests, and how much of a task's speech is among it.

``training_speech.json`` lies beside a release's weights. Only names are compared: utterances of LibriSpeech by their
name, others by speaker and file name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import NamedTuple

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.files import write_text
from s3prl_aalbert.speech.finding import AUDIO_SUFFIXES
from s3prl_aalbert.speech.speakers import LIBRISPEECH_STEM

TRAINING_LIST_FILE = "training_speech.json"
HEX_DIGITS = 10
"""Length of a digest: with 10,000 listed and 1,000 tested names, two agree by chance once in 100,000 tasks."""


class Overlap(NamedTuple):
    """The utterances and speakers of a task that a release was pre-trained on."""

    utterances: list[str]
    speakers: list[str]
    complete: bool
    """False: the list does not name all speech of the pre-training, so that there may be more."""


class Heard(NamedTuple):
    """Digests of the utterances and of the speakers that a model was pre-trained on."""

    utterances: set[str]
    speakers: set[str]
    complete: bool = True
    """False: the model learned from another one whose training speech is not known."""


def heard(speakers: Mapping[str, str]) -> Heard:
    """Return the digests of a corpus.

    Args:
        speakers: maps each utterance, a name or a path, to its speaker.
    """
    pairs = {_keys(name, speaker) for name, speaker in speakers.items()}
    return Heard({_digest(utterance) for utterance, _ in pairs}, {_digest(speaker) for _, speaker in pairs})


def write_training_list(folder: Path, *parts: Heard | None) -> None:
    """Write ``training_speech.json``: what any of several trainings heard; nothing if none is known.

    A model has heard what the models that it learned from did: those that gave it weights, units or hidden states.

    Args:
        folder: of the release.
        parts: what each training heard, None where it is not known.
    """
    known = [part for part in parts if part is not None]
    if not known:
        return
    complete = len(known) == len(parts) and all(part.complete for part in known)
    content = {
        "digest": f"sha256, first {HEX_DIGITS} hexadecimal digits",
        **({} if complete else {"complete": False}),
        "utterances": sorted(set().union(*(part.utterances for part in known))),
        "speakers": sorted(set().union(*(part.speakers for part in known))),
    }
    write_text(folder / TRAINING_LIST_FILE, json.dumps(content) + "\n")


def read_training_list(release: Path) -> Heard | None:
    """Return what a release was pre-trained on, or None if it has no list.

    Args:
        release: its folder, or a file in it.

    Raises:
        AalbertError: the list is damaged.
    """
    path = (release if release.is_dir() else release.parent) / TRAINING_LIST_FILE
    return _read(path) if path.is_file() else None


def overlap(release: Path, names: Iterable[str], speakers: Mapping[str, str]) -> Overlap | None:
    """Return which utterances and speakers of a task a release was pre-trained on; None if it has no list.

    Args:
        release: its folder, or a file in it.
        names: utterances of the task.
        speakers: maps each utterance to its speaker.

    Raises:
        AalbertError: the list is damaged.
    """
    listed = read_training_list(release)
    if listed is None:
        return None
    keys = {name: _keys(name, speakers[name]) for name in names}
    utterances = sorted(name for name, (utterance, _) in keys.items() if _digest(utterance) in listed.utterances)
    seen = {speakers[name] for name, (_, speaker) in keys.items() if _digest(speaker) in listed.speakers}
    return Overlap(utterances, sorted(seen), listed.complete)


def _keys(name: str, speaker: str) -> tuple[str, str]:
    """Return the keys of an utterance and of its speaker, which do not depend on the folder."""
    path = PurePath(name)
    stem = path.stem if path.suffix.lower() in AUDIO_SUFFIXES else path.name
    match = LIBRISPEECH_STEM.match(stem)
    if match:
        return f"librispeech {stem}", f"librispeech {match.group(1)}"
    return f"{speaker}/{stem}", f"speaker {speaker}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:HEX_DIGITS]


def _read(path: Path) -> Heard:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        listed = Heard(set(found["utterances"]), set(found["speakers"]), found.get("complete", True))
    except OSError as error:
        raise AalbertError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, LookupError, TypeError) as error:
        raise AalbertError(f"{path}: is damaged, expected JSON with the lists utterances and speakers") from error
    if not all(isinstance(each, str) and len(each) == HEX_DIGITS for each in listed.utterances | listed.speakers):
        raise AalbertError(f"{path}: is damaged, expected digests of {HEX_DIGITS} hexadecimal digits")
    if not isinstance(listed.complete, bool):
        raise AalbertError(f'{path}: is damaged, "complete" is {listed.complete!r}, expected true or false')
    return listed
