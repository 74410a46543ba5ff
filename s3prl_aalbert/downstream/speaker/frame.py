"""Frame-level speaker identification: a linear layer on every real token (paper section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from s3prl_aalbert.downstream.speaker.expert import SpeakerExpert, SpeakerRecords, frame_majority


class DownstreamExpert(SpeakerExpert):
    """One prediction per token; padding never counts, since the features are unpadded."""

    task = "aalbert_speaker_frame"

    def majority(self) -> dict[str, float]:
        """Return the rate of the speaker with the most training tokens, by split."""
        return frame_majority(self.data, self.upstream_rate)

    def forward(
        self,
        split: str,
        features: Sequence[Tensor],
        labels: Sequence[int],
        names: Sequence[str],
        records: SpeakerRecords,
        **_: object,
    ) -> Tensor:
        """Classify each token; see ``TaskExpert.forward``."""
        lengths = torch.tensor([len(feature) for feature in features])
        logits = self.model(torch.cat(list(features)))  # (tokens, speakers)
        target = torch.repeat_interleave(torch.tensor(list(labels)), lengths).to(logits.device)
        total = F.cross_entropy(logits, target, reduction="sum")
        records["loss_sum"].append(total.item())
        records["correct"].append(int((logits.argmax(-1) == target).sum()))
        records["count"].append(len(target))
        return total / max(1, len(target))  # audio that is too short for S3PRL's Featurizer has no token
