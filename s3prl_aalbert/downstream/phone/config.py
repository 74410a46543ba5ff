"""Settings of the phoneme task's data."""

from __future__ import annotations

from dataclasses import dataclass

from s3prl_aalbert.downstream.alignments import outputs_per_token
from s3prl_aalbert.downstream.audio_dataset import loading_problems
from s3prl_aalbert.downstream.pretraining_overlap import overlap_problems


@dataclass(frozen=True)
class PhoneDataConfig:
    """``downstream_expert.datarc`` of the phoneme task; see downstream_configs/aalbert_phone.yaml."""

    audio: str | list[str]
    alignments: str | None = None
    alignment_format: str = "auto"
    tier: str = "phones"
    phone_set: str = "as_found"
    fold_stress: bool = False
    silence: str = "keep"
    split: str = "speaker"
    split_seed: int = 0
    fold: int = 0
    num_folds: int = 4
    train_list: str | None = None
    dev_list: str | None = None
    test_list: str | None = None
    dev_fraction: float = 0.05
    exclude: list[str] | None = None
    train_fraction: float = 1.0
    token_label: str = "each"
    train_batch_size: int = 48
    eval_batch_size: int = 16
    num_workers: int = 0
    test_audio: str | list[str] | None = None
    expected_classes: int | None = None
    pretraining_overlap: str = "refuse"

    def problems(self) -> list[str]:
        """Return what makes these values unusable."""
        choices = {
            "alignment_format": ("auto", "phn", "textgrid", "tsv", "converted"),
            "phone_set": ("as_found", "61", "48", "39"),
            "silence": ("keep", "ignore"),
            "split": ("speaker", "lists", "folders"),
            "token_label": ("each", "centre", "majority"),
        }
        found = [
            f'datarc.{key} is "{getattr(self, key)}", expected one of {", ".join(values)}'
            for key, values in choices.items()
            if getattr(self, key) not in values
        ]
        if not 0 < self.train_fraction <= 1:
            found.append(f"datarc.train_fraction is {self.train_fraction}, expected within (0, 1]")
        if self.split == "lists" and not (self.train_list and self.test_list):
            found.append("datarc.split is lists: datarc.train_list and datarc.test_list are needed")
        if (self.split == "folders") != bool(self.test_audio):
            found.append(f"datarc.split is {self.split}: datarc.test_audio goes with folders")
        if not 0 < self.dev_fraction < 1:
            found.append(f"datarc.dev_fraction is {self.dev_fraction}, expected within (0, 1)")
        if self.alignment_format in ("tsv", "converted") and not self.alignments:
            found.append(f"datarc.alignment_format is {self.alignment_format}: datarc.alignments is needed")
        if self.fold_stress and self.phone_set != "as_found":
            found.append(f"datarc.fold_stress is for phone_set as_found, not TIMIT's {self.phone_set}")
        if self.split_seed < 0:
            found.append(f"datarc.split_seed is {self.split_seed}, expected at least 0")
        return found + overlap_problems(self.pretraining_overlap) + loading_problems(self)

    def outputs(self, rate: int) -> int:
        """Return the labels that a token of ``rate`` samples has: one for each 10 ms frame, or one in all."""
        return outputs_per_token(rate) if self.token_label == "each" else 1
