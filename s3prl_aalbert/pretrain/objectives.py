"""What a run trains: the model with its spectrogram head, or with a teacher's projections."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from s3prl_aalbert.checkpoint.release import MODEL_PREFIX, load_checkpoint, load_weights
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


def initialise_from(
    objective: MaskedPrediction | MaskedDistillation, path: Path, codebook: Callable[[], str]
) -> Callable[[], None]:
    """Load the model and, where both sides have them alike, its heads or its projections to the teacher.

    Releases hold no projections: of the folder of a run its latest state is taken, which does.

    Args:
        objective: what is trained.
        path: the checkpoint.
        codebook: returns the digest of the codebook whose units will be learnt, once it is known.

    Returns:
        A call for then: it draws the unit head anew, unless the checkpoint's head learnt the units of that codebook.

    Raises:
        CheckpointError: nothing usable there, or another model.
    """
    checkpoint = load_checkpoint((latest_state(path) if path.is_dir() else None) or path)
    own = {name: value.clone() for name, value in objective.state_dict().items()}
    state = {name: tensor.float() for name, tensor in checkpoint.state.items() if _fits(name, tensor, own)}
    anew = {name: value for name, value in own.items() if not name.startswith(MODEL_PREFIX) and name not in state}
    load_weights(objective, {**state, **anew}, checkpoint.path)
    begun = sorted({name.split(".")[0] for name in anew})
    logger.info("initialised from %s%s", checkpoint.path, f"; new: {', '.join(begun)}" if begun else "")
    fresh = {name: value for name, value in own.items() if name.startswith(UNIT_HEAD) and name in state}

    def renew_unit_head() -> None:
        if fresh and checkpoint.info.get("codebook", "unknown") != codebook():
            objective.load_state_dict({**objective.state_dict(), **fresh})
            logger.info("the unit head is new: that of %s is of other units", checkpoint.path)

    return renew_unit_head


def _fits(name: str, tensor: Tensor, own: Mapping[str, Tensor]) -> bool:
    """Whether to load a weight; those of the model always, so that a difference is an error."""
    return name.startswith(MODEL_PREFIX) or (name in own and tensor.shape == own[name].shape)
