"""The speech of the demo: synthetic voices, or a user's folders laid out the same way by links.

Both end as SPEAKER/UTTERANCE.* below one folder a purpose, phone labels as TIMIT-style UTTERANCE.phn beside the audio.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s3prl_aalbert.downstream.alignments import phn_beside
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.pretrain.corpus import find_audio, speaker_of
from s3prl_aalbert.synthesis import synthesise_corpus

MIN_UTTERANCES = 10
"""Fewest utterances of a speaker in the speaker tasks: 8:1:1 needs as many."""
DIALECT_STEMS = ("sa1", "sa2")
"""TIMIT's two sentences that every speaker reads: in train and test they would measure memory."""


@dataclass(frozen=True)
class DemoSpeech:
    """Folders of speech by purpose."""

    pretraining: tuple[Path, ...]
    phones: Path
    speakers: Path
    description: str


def prepare_synthetic(folder: Path, seed: int) -> DemoSpeech:
    """Synthesise the embedded corpus below ``folder``."""
    corpus = synthesise_corpus(folder / "synthetic", seed=seed)
    return DemoSpeech((corpus,), corpus, corpus, "synthetic corpus (8 source-filter voices, 30 utterances each)")


def prepare_real(folders: Sequence[Path], target: Path, max_speakers: int) -> DemoSpeech:
    """Sort real speech into pre-training, phone and speaker folders (links to the original files).

    Files with phone labels (UTTERANCE.phn) make the phone task and are kept out of pre-training if there is other
    speech; the ``max_speakers`` speakers with most utterances among the rest make the speaker tasks.

    Raises:
        AalbertError: no audio, no phone labels, or too few utterances per speaker.
    """
    files = [Path(path) for path in find_audio([str(folder) for folder in folders]).paths]
    labels = {path: label for path in files if (label := phn_beside(path))}
    labelled = list(labels)
    if not labelled:
        where = ", ".join(map(str, folders))
        raise AalbertError(
            f"{where}: no phone labels (UTTERANCE.phn beside the audio, as TIMIT has); the demo needs some"
        )
    others = sorted(set(files) - set(labelled)) or labelled
    speakers = _largest_speakers(others, max_speakers)
    chosen = [path for path in labelled if path.stem.lower() not in DIALECT_STEMS]
    phones, speaker_files = target / "phones", [path for paths in speakers.values() for path in paths]
    _link([*chosen, *(labels[path] for path in chosen)], phones)
    _link(speaker_files, target / "speakers")
    _link(others, target / "pretraining")
    description = (
        f"pre-training {len(others)} files; phones {len(chosen)} labelled files of {len(set(map(speaker_of, chosen)))} "
        f"speakers; speaker tasks {len(speaker_files)} files of {len(speakers)} speakers"
    )
    return DemoSpeech((target / "pretraining",), phones, target / "speakers", description)


def _largest_speakers(files: Sequence[Path], max_speakers: int) -> dict[str, list[Path]]:
    by_speaker: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        by_speaker[speaker_of(path)].append(path)
    enough = {name: paths for name, paths in by_speaker.items() if len(paths) >= MIN_UTTERANCES}
    if len(enough) < 2:
        raise AalbertError(
            f"the speaker tasks need two speakers with {MIN_UTTERANCES} utterances each; "
            f"found {len(enough)} (a speaker is the folder of a file, or LibriSpeech's number)"
        )
    largest = sorted(enough, key=lambda name: (-len(enough[name]), name))[:max_speakers]
    return {name: enough[name] for name in largest}


def _link(files: Sequence[Path], target: Path) -> None:
    """Link files as target/SPEAKER/SPEAKER_NAME, and remove the links of an earlier demo to others.

    Utterances of one name in several folders are numbered; what belongs to one (audio, labels) keeps one name.
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
