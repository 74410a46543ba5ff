"""What a run trains: the model with its spectrogram head, or with a teacher's projections."""

from __future__ import annotations

import logging

from s3prl_aalbert.checkpoint import Checkpoint, load_weights
from s3prl_aalbert.config import ModelConfig
from s3prl_aalbert.distill.objective import MaskedDistillation, Teacher
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.objective import MaskedReconstruction
from s3prl_aalbert.pretrain.config import PretrainConfig

logger = logging.getLogger(__name__)


def build_objective(
    model_config: ModelConfig, config: PretrainConfig, teacher: Teacher | None
) -> MaskedReconstruction | MaskedDistillation:
    """Return what is trained: the model with its head, or with a teacher's projections.

    Raises:
        AalbertError: a supernet or a teacher that does not fit the model.
    """
    problems = config.supernet.fit_problems(model_config.transformer) if config.supernet else []
    if problems:
        raise AalbertError("; ".join(problems))
    if config.distill is None:
        return MaskedReconstruction(model_config)
    if teacher is None:
        raise AalbertError("this configuration has a section distill: use `aalbert distill --teacher ...`")
    return MaskedDistillation(model_config, config.distill, teacher)


def initialise_from(objective: MaskedReconstruction | MaskedDistillation, checkpoint: Checkpoint) -> None:
    """Load the model, and its head where both sides have one."""
    state = {name: tensor.float() for name, tensor in checkpoint.state.items()}
    own = objective.state_dict()
    anew = {name: value for name, value in own.items() if not name.startswith("model.") and name not in state}
    load_weights(objective, {**anew, **{name: state[name] for name in state if name in own}}, checkpoint.path)
    begun = sorted({name.split(".")[0] for name in anew})
    logger.info("initialised from %s%s", checkpoint.path, f"; new: {', '.join(begun)}" if begun else "")
