"""Converts a checkpoint to another format, or extracts a part of it; each function returns a text for the user."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from s3prl_aalbert.checkpoint.content import CheckpointError
from s3prl_aalbert.checkpoint.interop.exporting import export_s3prl
from s3prl_aalbert.checkpoint.interop.importing import import_checkpoint
from s3prl_aalbert.checkpoint.interop.releases import (
    write_average,
    write_centred,
    write_imported,
    write_smaller,
    write_untrained,
)
from s3prl_aalbert.checkpoint.published import located
from s3prl_aalbert.checkpoint.release import load_checkpoint
from s3prl_aalbert.compress.extraction import write_sub_network
from s3prl_aalbert.files import write_atomically
from s3prl_aalbert.model.config import SAMPLE_RATE
from s3prl_aalbert.model.sub_network import load_architecture
from s3prl_aalbert.speech.finding import existing_folders, find_files
from s3prl_aalbert.speech.reading import read_audio
from s3prl_aalbert.submission.huggingface_folder import write_folder
from s3prl_aalbert.submission.serving import write_serving_folder

logger = logging.getLogger(__name__)

CENTRE_UTTERANCES, CENTRE_SECONDS = 500, 30
"""How many utterances give the means of a centred model, and how much of each at most."""


def to_release(ckpt: str, folder: Path, trust: bool) -> str:
    """Write a checkpoint of this or another program as a release.

    Args:
        ckpt: a checkpoint, or the name of a packaged model.
        folder: a new folder.
        trust: whether to read pickled objects, which can run any program.

    Raises:
        CheckpointError: the checkpoint is unusable.
    """
    path = located(ckpt)
    imported = import_checkpoint(path, trust)
    write_imported(imported, path, folder)
    transformer = imported.config.transformer
    kind = "one shared set of weights" if transformer.share_layer else "unshared"
    lines = [f"{path}: {imported.program}, {transformer.num_hidden_layers} layers, {kind}", wrote_release(folder)]
    return "\n".join([*lines, *_differences(imported.differences, imported.program)])


def to_sub_network(ckpt: str, arch: Path, folder: Path) -> str:
    """Extract a sub-network of a model and write it as a release.

    Args:
        ckpt: the model.
        arch: YAML file with the sizes.
        folder: a new or empty folder.

    Raises:
        CheckpointError: the sizes are not those of a sub-network.
    """
    own, whole = write_sub_network(load_checkpoint(ckpt), load_architecture(arch.expanduser()), folder)
    return f"extracted {own:,} of {whole:,} parameters"


def to_average(ckpts: Sequence[str], folder: Path) -> str:
    """Write the mean of several models' weights as a release.

    Raises:
        AalbertError: a checkpoint is unusable, or the models differ.
    """
    write_average([load_checkpoint(ckpt) for ckpt in ckpts], folder)
    return f"took the mean of the weights of {len(ckpts)} models"


def to_centred(ckpt: str, speech: Sequence[str], folder: Path) -> str:
    """Write a release whose hidden states are less their mean over some speech.

    Args:
        ckpt: the model.
        speech: folders, of which some utterances are drawn, the same ones each time.
        folder: a new or empty folder.

    Raises:
        AalbertError: the checkpoint or the speech is unusable.
    """
    checkpoint = load_checkpoint(ckpt)
    paths = sorted(file.path for file in find_files(existing_folders(speech), links_keep_their_name=True).files)
    chosen = random.Random(0).sample(paths, min(len(paths), CENTRE_UTTERANCES))
    shown = tqdm(chosen, desc="hidden states", unit="file")
    wavs = (read_audio(path, SAMPLE_RATE)[: CENTRE_SECONDS * SAMPLE_RATE] for path in shown)
    write_centred(checkpoint, wavs, folder)
    return f"its hidden states are less their mean over {len(chosen)} utterances"


def to_smaller(ckpt: str, folder: Path, dtype: Literal["float32", "float16", "bfloat16"] | None, no_head: bool) -> str:
    """Write a release in another number format, or without the pre-training head."""
    num_bytes, kept = write_smaller(load_checkpoint(ckpt), folder, dtype, not no_head)
    return f"wrote the release {folder}, {num_bytes / 1e6:.2f} MB of {kept}"


def to_untrained(ckpt: str, folder: Path, seed: int) -> str:
    """Write a release of the same model with new random weights."""
    write_untrained(load_checkpoint(ckpt), folder, seed)
    return f"drew new weights from seed {seed}: the model is untrained"


def to_program(ckpt: str, folder: Path, to: Literal["huggingface", "torch", "onnx"], licence: str | None) -> str:
    """Write the folder for the Hugging Face Hub, or a graph for torch or ONNX, each with a card.

    Raises:
        AalbertError: the checkpoint is unusable, or a package that ``to`` needs is missing.
    """
    checkpoint = load_checkpoint(ckpt)
    if licence is None:
        logger.warning("no --licence given: the card has the licence of the model's own card, or none")
    if to == "huggingface":
        write_folder(checkpoint, folder, licence)
    else:
        write_serving_folder(checkpoint, folder, to, licence)
    return f"wrote {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}"


def to_s3prl(ckpt: str, output: Path, accept_differences: bool) -> str:
    """Write S3PRL's own format of a checkpoint.

    Raises:
        CheckpointError: S3PRL would compute other features, and ``accept_differences`` is false.
    """
    exported = export_s3prl(load_checkpoint(ckpt))
    if exported.differences and not accept_differences:
        raise CheckpointError(
            f"{ckpt}: S3PRL would compute other features than this model was trained on: "
            + "; ".join(exported.differences)
            + ". Pass --accept-differences to write the file anyway"
        )
    write_atomically(output, lambda temporary: torch.save(exported.content, temporary))
    lines = [f"wrote {output}; S3PRL reads it with -u audio_albert_local -k {output}"]
    return "\n".join([*lines, *_differences(exported.differences, "S3PRL")])


def wrote_release(folder: Path) -> str:
    """Return the line that names a new release and its use."""
    return f"wrote the release {folder}; use it with -u aalbert_local -k {folder}"


def _differences(differences: list[str], program: str) -> list[str]:
    if not differences:
        return []
    heading = f"the encoder is the same; {program} differs from this project in:"
    return [heading, *(f"  - {difference}" for difference in differences)]
