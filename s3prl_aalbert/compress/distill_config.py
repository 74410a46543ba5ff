"""The section ``distill`` of a runner YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DistillConfig:
    """Which hidden states of the teacher the student learns, from which layers, and how."""

    teacher: str | None = None
    """Upstream of S3PRL or of this plugin; ``--teacher`` on the command line overrides it."""
    teacher_ckpt: str | None = None
    """Checkpoint of the teacher, as `-k` of S3PRL; null: the weights that its name brings."""
    teacher_config: str | None = None
    """Configuration of the teacher, as `-g` of S3PRL."""
    student_layers: tuple[int, ...] = (-1,)
    """Layers of the student that are trained; 0 is the input embedding, -1 the last layer."""
    teacher_layers: tuple[int, ...] = (-1,)
    """The hidden state of the teacher that is the target of each of them."""
    average_top_k: int | None = None
    """Alternatively, the student's last layer learns the average of the teacher's last k layers (LightHuBERT: 8)."""
    loss: Literal["l1", "mse", "l1_cosine"] = "mse"
    """"l1", "mse" or "l1_cosine" (L1 - log sigmoid(cosine), as DistilHuBERT)."""
    layer_weights: tuple[float, ...] | None = None
    """Weight of each student layer; null: 1 for the last of them, 0.1 for the others (ARMHuBERT)."""
    masked_weight: float = 1.0
    """Weight of masked tokens, whose target is the teacher's hidden state of the clean speech."""
    unmasked_weight: float = 1.0
    """Weight of the other tokens."""
    unmasked_teacher: Literal["masked", "clean"] = "masked"
    """Input of the teacher for those tokens: "masked", speech with the same spans silenced (ARMHuBERT), or "clean", the
    whole speech as for masked tokens (LightHuBERT). With "clean" the teacher runs once per step instead of twice."""
    mask_student: bool = True
    """False: the student's input is not masked, and every token learns from the clean speech."""

    def problems(self) -> list[str]:
        """Return what makes these values unusable."""
        found = []
        if self.average_top_k is not None and self.average_top_k < 1:
            found.append(f"distill.average_top_k is {self.average_top_k}, expected at least 1")
        if self.average_top_k is not None and not self.student_layers == self.teacher_layers == (-1,):
            found.append(
                "distill.average_top_k overrides student_layers and teacher_layers: "
                "to use these, set average_top_k to null"
            )
        if len(self.student_layers) != len(self.teacher_layers) or not self.student_layers:
            found.append("distill.student_layers and teacher_layers must have the same number of entries, at least one")
        if self.layer_weights is not None and len(self.layer_weights) != len(self.pairs):
            found.append(f"distill.layer_weights has {len(self.layer_weights)} entries, expected {len(self.pairs)}")
        if min(self.masked_weight, self.unmasked_weight) < 0 or self.masked_weight + self.unmasked_weight == 0:
            found.append("distill.masked_weight and unmasked_weight must not be negative, nor both zero")
        if not self.mask_student and not self.masked_weight:
            found.append("distill.masked_weight is 0, and with mask_student: false it is the weight of all tokens")
        return found

    @property
    def pairs(self) -> list[tuple[int, int | None]]:
        """Return (student layer, teacher layer); teacher None is the average of the top k."""
        if self.average_top_k is not None:
            return [(-1, None)]
        return list(zip(self.student_layers, self.teacher_layers, strict=False))

    @property
    def weights(self) -> tuple[float, ...]:
        """Return the weight of each pair."""
        return self.layer_weights or (*(0.1,) * (len(self.pairs) - 1), 1.0)
