"""What a run trains: the model with its spectrogram head, or with a teacher's projections."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from s3prl_aalbert.checkpoint.release import HIDDEN_MEANS, MODEL_PREFIX, load_checkpoint, load_weights
from s3prl_aalbert.checkpoint.training_state import latest_state
from s3prl_aalbert.compress.distillation import MaskedDistillation, Teacher, check_layers
from s3prl_aalbert.compress.space import extreme
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.pretrain.config import PretrainConfig

logger = logging.getLogger(__name__)

UNIT_HEAD = "unit_head."
"""Before the names of its weights."""


def build_objective(
    model_config: ModelConfig, config: PretrainConfig, teacher: Teacher | None
) -> MaskedPrediction | MaskedDistillation:
    """Return what is trained: the model with its head, or with a teacher's projections.

    Raises:
        AalbertError: a supernet or a teacher that does not fit the model.
    """
    problems = config.supernet.fit_problems(model_config.transformer) if config.supernet else []
    if problems:
        raise AalbertError("; ".join(problems))
    if config.distill is None:
        return MaskedPrediction(model_config)
    if teacher is None:
        raise AalbertError("this configuration has a section distill: use `aalbert distill --teacher ...`")
    if config.supernet:
        smallest = extreme(config.supernet, model_config.transformer, min)
        layers = [student for student, _ in config.distill.pairs]
        check_layers("student", layers, smallest.num_hidden_layers + 1, "smallest sub-network of supernet")
    return MaskedDistillation(model_config, config.distill, teacher)


class Initial(NamedTuple):
    """What is left to decide of the checkpoint that a run begins with, once its units are known."""

    path: Path
    codebook: str | None
    """Digest of the codebook whose units its unit head has learnt; None if it is not known."""
    new_head: dict[str, Tensor]
    """The weights of a new unit head, if that of the checkpoint was taken."""


def initialise_from(objective: MaskedPrediction | MaskedDistillation, path: Path) -> Initial:
    """Load the model and, where both sides have them alike, its heads or its projections to the teacher.

    Releases hold no projections: of the folder of a run its latest state is taken, which does. The means of hidden
    states are not loaded, since training changes them.

    Raises:
        CheckpointError: nothing usable there, or another model.
    """
    checkpoint = load_checkpoint((latest_state(path) if path.is_dir() else None) or path)
    own = {name: value.clone() for name, value in objective.state_dict().items()}
    state = {name: tensor.float() for name, tensor in checkpoint.state.items() if _fits(name, tensor, own)}
    state.pop(HIDDEN_MEANS, None)
    anew = {name: value for name, value in own.items() if _may_be_new(name) and name not in state}
    load_weights(objective, {**state, **anew}, checkpoint.path)
    begun = sorted({name.split(".")[0] for name in anew if name != HIDDEN_MEANS})
    logger.info("initialised from %s%s", checkpoint.path, f"; new: {', '.join(begun)}" if begun else "")
    new_head = {name: value for name, value in own.items() if name.startswith(UNIT_HEAD) and name in state}
    return Initial(checkpoint.path, checkpoint.info.get("codebook"), new_head)


def renew_unit_head(objective: nn.Module, initial: Initial, codebook: str) -> None:
    """Replace a unit head that has learnt other units than those of a codebook, given by its digest."""
    if initial.new_head and initial.codebook != codebook:
        objective.load_state_dict({**objective.state_dict(), **initial.new_head})
        logger.info("the unit head is new: that of %s is of other units", initial.path)


def _may_be_new(name: str) -> bool:
    return name == HIDDEN_MEANS or not name.startswith(MODEL_PREFIX)


def _fits(name: str, tensor: Tensor, own: Mapping[str, Tensor]) -> bool:
    """Whether to load a weight; those of the model always, so that a difference is an error."""
    return name.startswith(MODEL_PREFIX) or (name in own and tensor.shape == own[name].shape)
