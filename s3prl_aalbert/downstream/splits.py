"""Splits utterances into train, dev and test: disjoint, determined by the seed, and saved beside the run."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.files import write_text
from s3prl_aalbert.speech.names import NameMatcher, plain
from s3prl_aalbert.speech.text import read_lines

logger = logging.getLogger(__name__)

SPLITS = ("train", "dev", "test")
SPLIT_FILE = "split.tsv"
"""The split of a run, in its folder."""


def split_within_speakers(speakers: Mapping[str, str], seed: int) -> tuple[dict[str, str], list[str]]:
    """Divide each speaker's utterances 8:1:1 (paper section 4.2).

    Args:
        speakers: speaker of each utterance.
        seed: determines which utterance goes where.

    Returns:
        The split of each utterance, and the speakers with too few utterances for one in each split.
    """
    by_speaker: dict[str, list[str]] = {}
    for utterance in sorted(speakers):
        by_speaker.setdefault(speakers[utterance], []).append(utterance)
    split, skipped = {}, []
    for number, speaker in enumerate(sorted(by_speaker)):
        names = by_speaker[speaker]
        held = max(1, round(0.1 * len(names)))
        if len(names) < 2 * held + 1:
            skipped.append(speaker)
            continue
        order = np.random.default_rng([seed, number]).permutation(len(names))
        for position, index in enumerate(order):
            split[names[index]] = "test" if position < held else "dev" if position < 2 * held else "train"
    return split, skipped


def split_by_speaker(speakers: Mapping[str, str], seed: int, fold: int, num_folds: int) -> dict[str, str]:
    """Assign whole speakers to train, dev and test, for cross-validation.

    Speakers are shuffled by seed and dealt into ``num_folds`` parts. Part ``fold`` is the test, the next one is dev.

    Raises:
        AalbertError: there are fewer speakers than folds, or fewer than 3 folds.
    """
    names = sorted(set(speakers.values()))
    if not 0 <= fold < num_folds or num_folds < 3:
        raise AalbertError(f"split: found fold {fold} of {num_folds}, expected at least 3 folds, counted from 0")
    if len(names) < num_folds:
        raise AalbertError(f"split: {len(names)} speakers are too few for {num_folds} speaker-disjoint folds")
    order = np.random.default_rng(seed).permutation(len(names))
    part = {names[index]: position % num_folds for position, index in enumerate(order)}
    roles = {fold: "test", (fold + 1) % num_folds: "dev"}
    return {utterance: roles.get(part[speaker], "train") for utterance, speaker in speakers.items()}


def hold_out(utterances: Sequence[str], fraction: float, seed: int) -> tuple[list[str], list[str]]:
    """Divide utterances into (kept, held out), as dev is drawn from train and removed from it."""
    names = sorted(utterances)
    order = np.random.default_rng(seed).permutation(len(names))
    count = max(1, round(fraction * len(names)))
    held = {names[index] for index in order[:count]}
    return [name for name in names if name not in held], sorted(held)


def nested_subset(utterances: Sequence[str], fraction: float, seed: int) -> list[str]:
    """Return a share of the utterances; every larger share of the same seed contains it."""
    return hold_out(utterances, fraction, seed)[1]


def read_list(path: Path) -> list[str]:
    """Read utterance names, one per line up to a tab, if there is one (CPC's split files, S3PRL's lists)."""
    cells = (line.split("\t")[0].strip() for line in read_lines(path))
    names = [name for name in cells if name]
    if not names:
        raise AalbertError(f"{path}: lists no utterances")
    return names


def match_names(listed: Sequence[str], known: Iterable[str]) -> tuple[list[str], list[str]]:
    """Find listed utterances among the known ones; see ``NameMatcher``.

    Returns:
        The known names in the order of the list, each once, and the listed names without a match.
    """
    found, missing = NameMatcher(known).find_all(listed)
    return list(dict.fromkeys(found.values())), missing


def split_by_lists(
    known: Iterable[str],
    train_list: str,
    test_list: str,
    dev_list: str | None,
    dev_fraction: float,
    seed: int,
) -> tuple[dict[str, str], dict[str, str]]:
    """Divide utterances by lists (such as CPC's train_split.txt and test_split.txt).

    Args:
        known: utterances with audio and labels.
        train_list: file with the names of training utterances.
        test_list: file with those of the test.
        dev_list: file with those of dev, which are removed from training; None draws ``dev_fraction`` of the training
            list.
        dev_fraction: share of the training list.
        seed: determines which utterances are drawn.

    Returns:
        The split of each utterance, and the listed utterances that are not known, each with a hint at known names.

    Raises:
        AalbertError: a list cannot be read, or utterances of the test are also in another list.
    """
    known = list(known)
    files = {"train": train_list, "test": test_list, **({"dev": dev_list} if dev_list else {})}
    listed = {part: read_list(Path(file).expanduser()) for part, file in files.items()}
    found = {part: match_names(names, known) for part, names in listed.items()}
    for part in ("train", "dev"):
        # Compare both the listed names and the matched ones: "u1" and "wav/u1.wav" may be the same utterance.
        both = sorted(set(listed.get(part, ())) & set(listed["test"]))
        both = both or sorted(set(found.get(part, ((),))[0]) & set(found["test"][0]))
        if both:
            raise AalbertError(f"{files[part]} and {test_list} share {len(both)} utterances, e.g. {both[0]}")
    # Dev and test override training below, so that an utterance in two lists is never trained on.
    train, test = found["train"][0], found["test"][0]
    dev = found["dev"][0] if dev_list else hold_out(train, dev_fraction, seed)[1]
    split = {**dict.fromkeys(train, "train"), **dict.fromkeys(dev, "dev"), **dict.fromkeys(test, "test")}
    missing = [name for _, names in found.values() for name in names]
    return split, dict.fromkeys(missing, NameMatcher(known).hint(missing))


def split_by_folder(known: Iterable[str], test: Collection[str], dev_fraction: float, seed: int) -> dict[str, str]:
    """Assign ``test`` to the test, draw ``dev_fraction`` of the others as dev, and the rest as training."""
    others = [name for name in known if name not in test]
    train, dev = hold_out(others, dev_fraction, seed)
    return {**dict.fromkeys(train, "train"), **dict.fromkeys(dev, "dev"), **dict.fromkeys(test, "test")}


def keep_fraction(split: Mapping[str, str], fraction: float, seed: int) -> dict[str, str]:
    """Keep a nested share of the training utterances, and all of dev and test (paper, Figure 3)."""
    if fraction == 1:
        return dict(split)
    train = [name for name, part in split.items() if part == "train"]
    kept = set(nested_subset(train, fraction, seed))
    logger.info("train_fraction %g: %d of %d training utterances", fraction, len(kept), len(train))
    return {name: part for name, part in split.items() if part != "train" or name in kept}


def exclude(names: Iterable[str], excluded: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Divide names into (kept, excluded) by datarc.exclude: whole names, or names without folder (sa1, also SA1)."""
    entries = {plain(entry).casefold(): entry for entry in excluded or ()}
    names = list(names)
    spelt = {name: plain(name).casefold() for name in names}
    hit = {name: entries.keys() & {spelt[name], spelt[name].split("/")[-1]} for name in names}
    unused = sorted(entries[entry] for entry in entries.keys() - set().union(*hit.values()))
    if unused:
        logger.warning("datarc.exclude has %s, which is not the name of any utterance", ", ".join(unused))
    return [name for name in names if not hit[name]], [name for name in names if hit[name]]


def check_split(split: Mapping[str, str], where: str, skipped: str = "") -> None:
    """Raise AalbertError unless every split has an utterance; ``skipped`` describes what was skipped."""
    counts = {name: sum(value == name for value in split.values()) for name in SPLITS}
    empty = [name for name, count in counts.items() if not count]
    if empty:
        verb = "split is" if len(empty) == 1 else "splits are"
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        reason = f"; skipped: {skipped}" if skipped else ""
        raise AalbertError(f"{where}: the {' and '.join(empty)} {verb} empty (utterances: {found}{reason})")


def save_split(folder: Path, split: Mapping[str, str], speakers: Mapping[str, str]) -> None:
    """Write utterance, speaker and split as a TSV file beside the run."""
    rows = ["utterance\tspeaker\tsplit"]
    rows += [f"{name}\t{speakers.get(name, '')}\t{split[name]}" for name in sorted(split)]
    write_text(folder / SPLIT_FILE, "\n".join(rows) + "\n")


def read_split(folder: Path) -> dict[str, str]:
    """Return the split that ``save_split`` wrote; empty where there is none."""
    path = folder / SPLIT_FILE
    if not path.is_file():
        return {}
    rows = [line.split("\t") for line in read_lines(path)[1:] if line]
    wrong = next((number for number, row in enumerate(rows, 2) if len(row) != 3 or row[2] not in SPLITS), None)
    if wrong:
        raise AalbertError(f"{path}: line {wrong} is damaged, expected utterance, speaker and {', '.join(SPLITS)}")
    return {name: part for name, _, part in rows}


def check_same_split(folder: Path, split: Mapping[str, str]) -> None:
    """Raise AalbertError if the run in ``folder``, which goes on, began with another split."""
    before = read_split(folder)
    moved = sorted(name for name in before.keys() | split.keys() if before.get(name) != split.get(name))
    if before and moved:
        was, now = (parts.get(moved[0], "unused") for parts in (before, split))
        raise AalbertError(
            f"{folder / SPLIT_FILE}: {len(moved)} utterances are not where they were when this run began, e.g. "
            f"{moved[0]}: {was} before, {now} now; restore the data and the options, or start a new run (-n)"
        )


def check_not_trained_on(folder: Path, tested: Iterable[str]) -> None:
    """Raise AalbertError if the run in ``folder`` was trained on utterances that its checkpoint is tested on."""
    before = read_split(folder)
    both = sorted(name for name in tested if before.get(name) == "train")
    if both:
        raise AalbertError(
            f"{folder / SPLIT_FILE}: the checkpoint was trained on {len(both)} of the utterances that would test it, "
            f"e.g. {both[0]}"
        )
