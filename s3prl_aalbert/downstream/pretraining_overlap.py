"""Detects that a task tests on speech of its upstream's pre-training, and refuses or marks it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from s3prl_aalbert.checkpoint.published import release_of_upstream
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.speech.names import first_names
from s3prl_aalbert.speech.training_list import overlap

logger = logging.getLogger(__name__)

CHOICES = ("refuse", "mark")
"""Possible values of ``datarc.pretraining_overlap``."""
UNKNOWN = "not known"


def overlap_problems(value: str) -> list[str]:
    """Return the problem of ``datarc.pretraining_overlap``, if there is one."""
    return [] if value in CHOICES else [f'datarc.pretraining_overlap is "{value}", expected {" or ".join(CHOICES)}']


def check_overlap(
    args: Mapping[str, object], names: Sequence[str], speakers: Mapping[str, str], choice: str
) -> str | dict[str, int] | None:
    """Return how much of the test the upstream was pre-trained on, for results.json; None without pre-training.

    Args:
        args: S3PRL's options, of which ``upstream`` and ``upstream_ckpt`` are read.
        names: utterances of the test.
        speakers: speaker of each utterance.
        choice: "refuse" an overlap, or "mark" it.

    Raises:
        AalbertError: there is an overlap, and ``choice`` is "refuse".
    """
    # Only releases of this project have a list of their training speech.
    name, ckpt = args.get("upstream"), args.get("upstream_ckpt")
    release = release_of_upstream(str(name) if name else None, str(ckpt) if ckpt else None)
    if release is None:
        return None
    found = overlap(release, names, speakers)
    if found is None:
        what = ckpt or release
        logger.info("%s has no list of its training speech: an overlap with the test cannot be detected", what)
        return UNKNOWN
    counts = {"utterances": len(found.utterances), "speakers": len(found.speakers)}
    if not any(counts.values()):
        if not found.complete:
            logger.info("%s learned from a model whose training speech is not known: an overlap is possible", release)
            return UNKNOWN
        return counts
    # A test on speech of the pre-training measures less than it seems, so that the user must accept it explicitly.
    what = f"{len(found.utterances)} of {len(names)} test utterances and {len(found.speakers)} of its speakers"
    if choice == "refuse":
        raise AalbertError(
            f"{release}: was pre-trained on {what}, e.g. {first_names(found.utterances or found.speakers)}; "
            "test on other speech, or set datarc.pretraining_overlap to mark"
        )
    logger.warning("%s: was pre-trained on %s; results.json records it", release, what)
    return counts
