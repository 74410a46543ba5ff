"""Writes releases from other checkpoints: other programs' models, and smaller forms of our own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from s3prl_aalbert.checkpoint.interop.importing import Imported
from s3prl_aalbert.checkpoint.release import (
    CARD_FILE,
    HIDDEN_MEANS,
    MODEL_PREFIX,
    PROJECTIONS,
    Checkpoint,
    load_weights,
    save_release,
)
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.aalbert import AalbertModel, hidden_means, reinitialise
from s3prl_aalbert.model.config import model_differences, to_dict
from s3prl_aalbert.printable import markdown_cell
from s3prl_aalbert.speech.training_list import Heard, read_training_list, write_training_list

OF_TRAINING = {
    *("transformer.hidden_dropout_prob", "transformer.attention_probs_dropout_prob", "transformer.initializer_range"),
    *("audio.target", "audio.target_preemphasis", "audio.target_cmvn"),
}
"""Settings that change nothing in what trained weights compute."""
UNTRAINED_CARD = "# Untrained: random weights, the control of a comparison\n"


def write_imported(imported: Imported, path: Path, folder: Path) -> None:
    """Write another program's model, read from ``path``, as a release."""
    save_release(folder, imported.config, imported.state, _card(imported, path), imported.info)


def write_smaller(
    checkpoint: Checkpoint, folder: Path, dtype: Literal["float32", "float16", "bfloat16"] | None, head: bool
) -> tuple[int, str]:
    """Write a model as a release with weights of another type, or without its pre-training head.

    Args:
        checkpoint: a model of this project.
        folder: where the release is written.
        dtype: type of the weights; None keeps it.
        head: whether the pre-training head is kept.

    Returns:
        The size of the weights in bytes, and their type.

    Raises:
        AalbertError: a weight is too large for ``dtype``, or the card beside the model cannot be read.
    """
    # A distillation's training state also holds projections to the teacher, which are not released.
    state = {n: t for n, t in checkpoint.state.items() if not n.startswith(PROJECTIONS)}
    if not head:
        state = {n: t for n, t in state.items() if n.startswith(MODEL_PREFIX)}
    if dtype:  # the statistics of the corpus are few, and stay as exact as the features
        cast = {n for n, t in state.items() if t.is_floating_point() and ".acoustics." not in n}
        state = {n: t.to(getattr(torch, dtype)) if n in cast else t for n, t in state.items()}
    # The largest tensor is certainly one that was cast, so its type describes the release.
    kept = str(state[max(state, key=lambda name: state[name].numel())].dtype).removeprefix("torch.")
    too_large = [n for n, t in state.items() if not t.isfinite().all()]
    if too_large:
        raise AalbertError(
            f"{checkpoint.path}: {too_large[0]} has values that {kept} cannot hold; take bfloat16 or float32"
        )
    text = f"Weights kept as {kept}, {'with' if head else 'without'} the pre-training head.\n"
    save_release(folder, checkpoint.config, state, _own_card(checkpoint) + text, checkpoint.info)
    keep_training_list(checkpoint, folder)
    return sum(tensor.nbytes for tensor in state.values()), kept


def write_average(checkpoints: Sequence[Checkpoint], folder: Path) -> None:
    """Write the mean of several models' weights as a release: a "model soup" (Wortsman et al. 2022).

    Such a mean is of use where the models went on from the same weights. Heads and configuration are those of the
    first, since the others may predict other units. The mean is not centred: its hidden states have other means.

    Args:
        checkpoints: models of the same architecture and features; one that is there twice counts twice.
        folder: where the release is written.

    Raises:
        AalbertError: two models differ in a setting that their weights depend on.
    """
    checkpoints = [_uncentred(checkpoint) for checkpoint in checkpoints]
    first, *others = checkpoints
    for other in others:
        for name, (value, own) in model_differences(to_dict(other.config), to_dict(first.config)).items():
            if name not in OF_TRAINING:
                raise AalbertError(f"{other.path}: {name} is {value}, expected {own}, as in {first.path}")
    means = {
        f"{MODEL_PREFIX}{name}": torch.stack([checkpoint.model_state[name] for checkpoint in checkpoints]).mean(0)
        for name, tensor in first.model_state.items()
        if tensor.is_floating_point()
    }
    names = ", ".join(markdown_cell(checkpoint.path.parent.name) for checkpoint in checkpoints)
    text = f"Model weights are the mean of those of {names}; the pre-training head is that of the first.\n"
    save_release(folder, first.config, {**first.state, **means}, _own_card(first) + text, first.info)
    write_training_list(folder, *(read_training_list(checkpoint.path) for checkpoint in checkpoints))


def write_untrained(checkpoint: Checkpoint, folder: Path, seed: int) -> None:
    """Write a release of the same model with random weights, as the control of a comparison.

    Its list of training speech is empty, so that tasks know that nothing of their test was in its training. It is not
    centred: the hidden states of its weights have other means.

    Args:
        checkpoint: a model of this project; the statistics of its corpus are kept.
        folder: where the release is written.
        seed: draws the weights.
    """
    checkpoint = _uncentred(checkpoint)
    model = AalbertModel(checkpoint.config)
    load_weights(model, checkpoint.model_state, checkpoint.path)
    torch.manual_seed(seed)
    reinitialise(model)
    state = {f"{MODEL_PREFIX}{name}": tensor for name, tensor in model.state_dict().items()}
    save_release(folder, checkpoint.config, state, UNTRAINED_CARD, {"step": 0, "untrained": True})
    write_training_list(folder, Heard(set(), set()))


def write_centred(checkpoint: Checkpoint, wavs: Iterable[np.ndarray], folder: Path) -> None:
    """Write a model as a release whose hidden states are less their mean over some speech.

    Args:
        checkpoint: a model of this project; means that it has already are replaced.
        wavs: waveforms (num_samples,) at 16 kHz, of the training speech.
        folder: where the release is written.
    """
    plain = _uncentred(checkpoint)
    model = AalbertModel(plain.config).eval()
    load_weights(model, plain.model_state, plain.path)
    config = replace(plain.config, transformer=replace(plain.config.transformer, centred=True))
    state = {**plain.state, HIDDEN_MEANS: hidden_means(model, wavs)}
    text = "Its hidden states are less their mean over training speech.\n"
    save_release(folder, config, state, _own_card(checkpoint) + text, checkpoint.info)
    keep_training_list(checkpoint, folder)


def _uncentred(checkpoint: Checkpoint) -> Checkpoint:
    """Return a model without the means of its hidden states, if it has any."""
    config = replace(checkpoint.config, transformer=replace(checkpoint.config.transformer, centred=False))
    state = {name: tensor for name, tensor in checkpoint.state.items() if name != HIDDEN_MEANS}
    return replace(checkpoint, config=config, state=state)


def keep_training_list(checkpoint: Checkpoint, folder: Path) -> None:
    """Copy the list of the training speech, if there is one: with it tasks notice that they test on that speech."""
    write_training_list(folder, read_training_list(checkpoint.path))


def _own_card(checkpoint: Checkpoint) -> str:
    beside = checkpoint.path.parent / CARD_FILE
    try:
        return f"{beside.read_text(encoding='utf-8')}\n" if beside.is_file() else ""
    except ValueError as error:
        raise AalbertError(f"{beside}: is no model card ({error})") from error


def _card(imported: Imported, path: Path) -> str:
    transformer, audio = imported.config.transformer, imported.config.audio
    shared = "one shared set of weights" if transformer.share_layer else "unshared"
    delta = " with delta" if audio.delta else ""
    differences = "\n".join(f"- {difference}" for difference in imported.differences) or "- nothing known"
    step = imported.info.get("step")
    return f"""# Converted from {imported.program}

| | |
|---|---|
| file | {markdown_cell(path.name)} |
| layers | {transformer.num_hidden_layers}, {shared}, hidden size {transformer.hidden_size} |
| input | {audio.num_mel_bins} log-mel{delta}, {transformer.downsample_rate} frames to a token |
| training | {"unknown" if step is None else f"{step} steps"} |
| licence | that of the original |

The encoder's weights are unchanged. What {imported.program} computes differently from this project:

{differences}
"""
