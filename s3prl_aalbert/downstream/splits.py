"""Train, dev and test: disjoint, deterministic by seed, saved beside the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from s3prl_aalbert.checkpoint import write_text
from s3prl_aalbert.errors import AalbertError

SPLITS = ("train", "dev", "test")


def split_within_speakers(speakers: Mapping[str, str], seed: int) -> tuple[dict[str, str], list[str]]:
    """Divide each speaker's utterances 8:1:1 (paper section 4.2).

    Args:
        speakers: speaker by utterance.
        seed: decides which utterance goes where.

    Returns:
        split by utterance, and the speakers left out because they have too few utterances for one in each split.
    """
    by_speaker: dict[str, list[str]] = {}
    for utterance in sorted(speakers):
        by_speaker.setdefault(speakers[utterance], []).append(utterance)
    split, left_out = {}, []
    for number, speaker in enumerate(sorted(by_speaker)):
        names = by_speaker[speaker]
        held = max(1, round(0.1 * len(names)))
        if len(names) < 2 * held + 1:
            left_out.append(speaker)
            continue
        order = np.random.default_rng([seed, number]).permutation(len(names))
        for position, index in enumerate(order):
            split[names[index]] = "test" if position < held else "dev" if position < 2 * held else "train"
    return split, left_out


def split_by_speaker(speakers: Mapping[str, str], seed: int, fold: int, num_folds: int) -> dict[str, str]:
    """Give whole speakers to train, dev and test, for cross-validation.

    Speakers are shuffled by seed and dealt into ``num_folds`` parts; part ``fold`` is the test, the next one the dev.

    Raises:
        AalbertError: fewer speakers than folds, or fewer than 3 folds.
    """
    names = sorted(set(speakers.values()))
    if not 0 <= fold < num_folds or num_folds < 3:
        raise AalbertError(f"split: fold {fold} of {num_folds}; expected at least 3 folds, counted from 0")
    if len(names) < num_folds:
        raise AalbertError(f"split: {len(names)} speakers are too few for {num_folds} speaker-disjoint folds")
    order = np.random.default_rng(seed).permutation(len(names))
    part = {names[index]: position % num_folds for position, index in enumerate(order)}
    roles = {fold: "test", (fold + 1) % num_folds: "dev"}
    return {utterance: roles.get(part[speaker], "train") for utterance, speaker in speakers.items()}


def hold_out(utterances: Sequence[str], fraction: float, seed: int) -> tuple[list[str], list[str]]:
    """Divide utterances into (kept, held out): dev drawn from train and removed from it."""
    names = sorted(utterances)
    order = np.random.default_rng(seed).permutation(len(names))
    count = max(1, round(fraction * len(names)))
    held = {names[index] for index in order[:count]}
    return [name for name in names if name not in held], sorted(held)


def nested_subset(utterances: Sequence[str], fraction: float, seed: int) -> list[str]:
    """Return a share of the utterances; a smaller share is contained in every larger one of the same seed."""
    names = sorted(utterances)
    count = max(1, round(fraction * len(names)))
    order = np.random.default_rng(seed).permutation(len(names))
    return sorted(names[index] for index in order[:count])


def read_list(path: Path) -> list[str]:
    """Read utterance names, one a line (CPC's split files, S3PRL's lists)."""
    try:
        names = [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise AalbertError(f"{path}: cannot be read ({error.strerror})") from error
    if not names:
        raise AalbertError(f"{path}: lists no utterances")
    return names


def check_split(split: Mapping[str, str], where: str) -> None:
    """Raise AalbertError unless every split has an utterance."""
    counts = {name: sum(value == name for value in split.values()) for name in SPLITS}
    empty = [name for name, count in counts.items() if not count]
    if empty:
        raise AalbertError(f"{where}: the {' and '.join(empty)} split is empty ({counts})")


def save_split(path: Path, split: Mapping[str, str], speakers: Mapping[str, str]) -> None:
    """Write utterance, speaker and split as a TSV beside the run."""
    rows = ["utterance\tspeaker\tsplit"]
    rows += [f"{name}\t{speakers.get(name, '')}\t{split[name]}" for name in sorted(split)]
    text = "\n".join(rows) + "\n"
    write_text(path, text)
