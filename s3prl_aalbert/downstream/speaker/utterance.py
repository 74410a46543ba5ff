"""Utterance-level speaker identification: mean over real tokens, then a linear layer (paper section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from s3prl_aalbert.downstream.speaker.expert import SpeakerExpert, SpeakerRecords


class DownstreamExpert(SpeakerExpert):
    """One prediction per utterance."""

    task = "aalbert_speaker_utterance"

    def forward(
        self,
        split: str,
        features: Sequence[Tensor],
        labels: Sequence[int],
        names: Sequence[str],
        records: SpeakerRecords,
        **_: object,
    ) -> Tensor:
        """Classify each utterance; see ``TaskExpert.forward``."""
        # Audio that is too short for one token of S3PRL's Featurizer has no mean, so its input is zeros.
        pooled = torch.stack([f.mean(0) if len(f) else f.new_zeros(f.size(-1)) for f in features])  # (batch, dim)
        target = torch.tensor(list(labels), device=pooled.device)
        logits = self.model(pooled)  # (batch, speakers)
        loss = F.cross_entropy(logits, target)
        records["loss_sum"].append(loss.item() * len(target))
        records["correct"].append(int((logits.argmax(-1) == target).sum()))
        records["count"].append(len(target))
        return loss
