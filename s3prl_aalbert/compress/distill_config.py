"""The section ``distill`` of a runner YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DistillConfig:
    """Which of the teacher's hidden states are learned, from where, and how."""

    teacher: str | None = None
    """Upstream of S3PRL or of this plugin; the command line's ``--teacher`` goes before it."""
    teacher_ckpt: str | None = None
    """Its weights, as `-k` of S3PRL; null: those that its name stands for."""
    teacher_config: str | None = None
    """Its configuration, as `-g` of S3PRL."""
    student_layers: tuple[int, ...] = (-1,)
    """Layers of the student that learn; 0 is the input embedding, -1 the last layer."""
    teacher_layers: tuple[int, ...] = (-1,)
    """The teacher's hidden state that each of them learns."""
    average_top_k: int | None = None
    """Instead: the student's last layer learns the average of the teacher's last k layers (LightHuBERT: 8)."""
    loss: Literal["l1", "mse", "l1_cosine"] = "mse"
    """"l1", "mse" or "l1_cosine" (L1 - log sigmoid(cosine), as DistilHuBERT)."""
    layer_weights: tuple[float, ...] | None = None
    """By student layer; null: 1 for the last of them, 0.1 for the others (ARMHuBERT)."""
    masked_weight: float = 1.0
    """Of masked tokens, which learn what the teacher says of the clean speech."""
    unmasked_weight: float = 1.0
    """Of the other tokens."""
    unmasked_teacher: Literal["masked", "clean"] = "masked"
    """What the teacher hears for those: "masked", the speech with the same spans silenced (ARMHuBERT), or "clean", the
    whole speech as for masked tokens (LightHuBERT); the teacher then runs once a step instead of twice."""
    mask_student: bool = True
    """False: the student hears everything, and every token learns from the clean speech."""

    def problems(self) -> list[str]:
        """Return what makes these values unusable."""
        found = []
        if self.average_top_k is not None and self.average_top_k < 1:
            found.append(f"distill.average_top_k is {self.average_top_k}, expected at least 1")
        if self.average_top_k is not None and not self.student_layers == self.teacher_layers == (-1,):
            found.append(
                "distill.average_top_k goes before student_layers and teacher_layers: "
                "for these set average_top_k to null"
            )
        if len(self.student_layers) != len(self.teacher_layers) or not self.student_layers:
            found.append("distill.student_layers and teacher_layers must pair up, one or more of each")
        if self.layer_weights is not None and len(self.layer_weights) != len(self.pairs):
            found.append(f"distill.layer_weights has {len(self.layer_weights)} entries, expected {len(self.pairs)}")
        if min(self.masked_weight, self.unmasked_weight) < 0 or self.masked_weight + self.unmasked_weight == 0:
            found.append("distill.masked_weight and unmasked_weight must not be negative, nor both zero")
        if not self.mask_student and not self.masked_weight:
            found.append("distill.masked_weight is 0, which all tokens have with mask_student: false")
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
