"""Prepares the speech of the demo: synthetic voices, or links to a user's speech in the same layout.

Each purpose has one folder with SPEAKER/UTTERANCE.*, and phone labels are TIMIT-style UTTERANCE.phn beside the audio.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s3prl_aalbert.downstream.alignments import phn_beside
from s3prl_aalbert.downstream.audio_dataset import find_audio
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.speech.speakers import speaker_of
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus

MIN_UTTERANCES = 10
"""Smallest number of utterances of a speaker in the speaker tasks, which the split 8:1:1 needs."""
DIALECT_STEMS = ("sa1", "sa2")
"""TIMIT's two sentences that every speaker reads: in both train and test they would reward memory."""
NO_PHONES = "no utterance has phone labels (UTTERANCE.phn beside the audio, as in TIMIT)"
NO_SPEAKERS = f"fewer than two speakers have {MIN_UTTERANCES} utterances (by a file's folder, or LibriSpeech's number)"


@dataclass(frozen=True)
class DemoSpeech:
    """Folders of speech by purpose."""

    pretraining: tuple[Path, ...]
    phones: Path | None
    """None if no utterance has phone labels."""
    speakers: Path | None
    """None if fewer than two speakers have enough utterances."""
    description: str


def prepare_synthetic(folder: Path, seed: int) -> DemoSpeech:
    """Synthesise the demo's corpus below ``folder``."""
    corpus = synthesise_corpus(folder / "synthetic", seed=seed)
    return DemoSpeech((corpus,), corpus, corpus, "synthetic corpus (8 source-filter voices, 30 utterances each)")


def prepare_real(folders: Sequence[Path], target: Path, max_speakers: int) -> DemoSpeech:
    """Sort real speech into pre-training, phone and speaker folders (links to the original files).

    Files with phone labels (UTTERANCE.phn) are for the phone task, and not for pre-training if there is other speech.
    Among the rest, the ``max_speakers`` speakers with the most utterances are for the speaker tasks. A task without
    speech is skipped, and the description gives the reason.

    Raises:
        AalbertError: there is no audio, or no speech for any task.
    """
    files = find_audio([str(folder) for folder in folders])
    labels = {path: label for path in files if (label := phn_beside(path))}
    # Labelled speech is for the phone task, and should not be pre-trained on if there is other speech.
    others = sorted(set(files) - set(labels)) or files
    speakers = _largest_speakers(others, max_speakers)
    chosen = [path for path in labels if path.stem.lower() not in DIALECT_STEMS]
    if not chosen and not speakers:
        where = ", ".join(map(str, folders))
        raise AalbertError(f"{where}: has speech for no task of the demo: {NO_PHONES}; {NO_SPEAKERS}")
    speaker_files = [path for paths in speakers.values() for path in paths]
    # The description is shown and recorded, so that a reader knows on what the numbers of the demo are.
    of_phones = f"{len(chosen)} labelled files of {len(set(map(speaker_of, chosen)))} speakers"
    of_speakers = f"{len(speaker_files)} files of {len(speakers)} speakers"
    parts = [
        f"pre-training {len(others)} files",
        f"phones {of_phones}" if chosen else f"phone task skipped: {NO_PHONES}",
        f"speaker tasks {of_speakers}" if speakers else f"speaker tasks skipped: {NO_SPEAKERS}",
    ]
    return DemoSpeech(
        (_linked(others, target / "pretraining"),),
        _linked([*chosen, *(labels[path] for path in chosen)], target / "phones") if chosen else None,
        _linked(speaker_files, target / "speakers") if speakers else None,
        "; ".join(parts),
    )


def _largest_speakers(files: Sequence[Path], max_speakers: int) -> dict[str, list[Path]]:
    by_speaker: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        by_speaker[speaker_of(path)].append(path)
    enough = {name: paths for name, paths in by_speaker.items() if len(paths) >= MIN_UTTERANCES}
    if len(enough) < 2:
        return {}
    largest = sorted(enough, key=lambda name: (-len(enough[name]), name))[:max_speakers]
    return {name: enough[name] for name in largest}


def _linked(files: Sequence[Path], target: Path) -> Path:
    """Link files as target/SPEAKER/SPEAKER_NAME, remove links of an earlier demo, and return ``target``.

    Utterances with the same name in several folders are numbered; audio and labels of one utterance share a name.
    """
    names: dict[Path, Path] = {}  # utterance, without suffix -> its link, without suffix
    taken: set[Path] = set()
    links = {}
    for path in files:
        utterance = path.with_suffix("")
        if utterance not in names:
            name = f"{speaker_of(path)}/{speaker_of(path)}_{utterance.name}"
            numbered = (target / f"{name}_{number}" for number in itertools.count(2))
            free = (link for link in itertools.chain([target / name], numbered) if link not in taken)
            names[utterance] = next(free)
            taken.add(names[utterance])
        links[names[utterance].with_name(names[utterance].name + path.suffix)] = path.absolute()
    for old in target.rglob("*"):
        if old.is_symlink() and links.get(old) != old.readlink():
            old.unlink()
    for link, path in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(path)
    return target
