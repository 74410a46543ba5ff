"""Writes the README.md of an exported folder: the model's own card, its figures, its licence and its use."""

from __future__ import annotations

import math
import re

import yaml
from huggingface_hub import ModelCard, ModelCardData

from s3prl_aalbert.checkpoint.content import is_safetensors
from s3prl_aalbert.checkpoint.release import CARD_FILE, MODEL_PREFIX, Checkpoint
from s3prl_aalbert.checkpoint.training_state import load_training_state
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import from_dict
from s3prl_aalbert.model.macs import module_macs
from s3prl_aalbert.pretrain.card import model_card
from s3prl_aalbert.pretrain.config import PretrainConfig
from s3prl_aalbert.printable import markdown_cell
from s3prl_aalbert.upstream.huggingface import LIBRARY, TASK

TAGS = ["s3prl", "audio", "speech"]
NOT_RECORDED = "not recorded in the checkpoint"
MACS_SECONDS = 15
"""Length of the utterance for the MACs, as in `aalbert profile`."""
# The last line of our own cards, which applies to the folder of the release and not to the exported one.
RELEASE_USAGE = re.compile(r"^Use it with S3PRL: .*THIS_FOLDER.*\n?", flags=re.MULTILINE)
FIGURES = "## Figures"
RELATIVE_LINK = re.compile(r"\[([^\]]+)\]\((?!\w+:|#)[^)]*\)")
"""Links to files beside the model's own card, which the exported folder does not have."""
LICENCE_ROW = re.compile(r"^\| licen[cs]e[^|]* \|.*\n", flags=re.MULTILINE)


def exported_card(checkpoint: Checkpoint, usage: str, licence: str | None = None) -> str:
    """Return the card of an exported folder, with the fields by which the Hugging Face Hub finds models.

    Args:
        checkpoint: the exported model.
        usage: the Markdown section on how to use the folder.
        licence: licence of the weights in the Hub's spelling, e.g. ``cc-by-4.0``; None keeps that of the model's card.

    Raises:
        AalbertError: the model's own card cannot be read.
    """
    try:
        data, text = _with_metadata(_own_card(checkpoint))
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:  # huggingface_hub's reader raises these
        reason = str(error).strip().splitlines()[0]
        raise AalbertError(f"{checkpoint.path.parent / CARD_FILE}: is not a readable model card ({reason})") from error
    data.license = licence or data.license
    data.library_name = data.library_name or LIBRARY
    data.pipeline_tag = data.pipeline_tag or TASK
    data.tags = data.tags or TAGS
    body = RELEASE_USAGE.sub("", text.partition(FIGURES)[0])  # new figures replace those of an earlier export
    body = RELATIVE_LINK.sub(r"\1", body)
    if licence:
        body = LICENCE_ROW.sub("", body)  # the given licence replaces it
    stated = None if LICENCE_ROW.search(body) else data.license or "not stated: ask the author"
    return f"---\n{data.to_yaml()}\n---\n\n{body.strip()}\n\n{_figures(checkpoint, stated)}\n{usage}"


def num_parameters(checkpoint: Checkpoint) -> int:
    """Return the parameters of encoder and input block; weights shared between layers count once."""
    return sum(tensor.numel() for name, tensor in checkpoint.state.items() if name.startswith(MODEL_PREFIX))


def _with_metadata(text: str) -> tuple[ModelCardData, str]:
    """Split a card into its front matter, which may be empty, and its text."""
    if not text.startswith("---"):
        return ModelCardData(), text
    card = ModelCard(text, ignore_metadata_errors=True)
    return ModelCardData(**card.data.to_dict()), card.text


def _own_card(checkpoint: Checkpoint) -> str:
    """Return the card of the release, or a card from the facts in a training state."""
    state = {} if is_safetensors(checkpoint.path) else load_training_state(checkpoint.path)
    if "pretrain_config" not in state:  # a release, or the model.pt of an exported folder
        beside = checkpoint.path.parent / CARD_FILE
        return beside.read_text(encoding="utf-8") if beside.is_file() else "# An AALBERT or Mockingjay model\n"
    best = state["best_dev"]
    info = {
        "step": state["step"],
        "seed": state["seed"],
        "dev_loss": best if math.isfinite(best) else None,
        "corpus": NOT_RECORDED,
    }
    pretraining = from_dict(PretrainConfig, state["pretrain_config"], str(checkpoint.path))
    return model_card(checkpoint.config, pretraining, info, num_parameters(checkpoint))


def _figures(checkpoint: Checkpoint, licence: str | None) -> str:
    """Return the section of figures; ``licence`` is None if the model's own card states it."""
    config, info = checkpoint.config, checkpoint.info
    macs = sum(module_macs(config, MACS_SECONDS * config.audio.sample_rate).values()) / MACS_SECONDS
    step, speech = info.get("step"), info.get("corpus")
    row = f"| licence of the weights | {licence} |\n" if licence else ""
    return f"""{FIGURES}

| | |
|---|---|
| parameters | {num_parameters(checkpoint):,} (encoder and input block) |
| multiply-accumulates | {macs / 1e9:.3g} G per second of audio, in an utterance of {MACS_SECONDS} s |
| training steps | {NOT_RECORDED if step is None else f"{step:,}"} |
| training data | {markdown_cell(speech or NOT_RECORDED)} |
{row}| licence of the code | Apache-2.0 |
"""
