"""The configuration of the phoneme task's data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from s3prl_aalbert.downstream.alignments import outputs_per_token
from s3prl_aalbert.downstream.audio_dataset import loading_problems
from s3prl_aalbert.downstream.pretraining_overlap import overlap_problems


@dataclass(frozen=True)
class PhoneDataConfig:
    """``downstream_expert.datarc`` of the phoneme task; see downstream_configs/aalbert_phone.yaml."""

    audio: str | list[str]
    """Folders of speech."""
    alignments: str | None = None
    """Folder or file of the labels; null: the labels lie beside the audio."""
    alignment_format: Literal["auto", "phn", "textgrid", "tsv", "converted"] = "auto"
    """Format of the labels; "auto" recognises it by the names of the files."""
    tier: str = "phones"
    """The tier of a TextGrid that holds the phones."""
    phone_set: Literal["as_found", "61", "48", "39"] = "as_found"
    """The phones as labelled, or TIMIT's set of 61, 48 or 39 phones."""
    fold_stress: bool = False
    """Remove the digits of stress: AH0 and AH1 become AH."""
    silence: Literal["keep", "ignore"] = "keep"
    """Whether silence is a class; without it, frames of silence are neither trained on nor scored."""
    split: Literal["speaker", "lists", "folders"] = "speaker"
    """How utterances are split: in folds of whole speakers, by the lists below, or with ``test_audio`` as the test."""
    split_seed: int = 0
    """Seed that deals speakers into folds and draws dev."""
    fold: int = 0
    """The fold that is the test; the next one is dev."""
    num_folds: int = 4
    """Number of folds with ``split: speaker``."""
    train_list: str | None = None
    """File with the names of the training utterances, one per line."""
    dev_list: str | None = None
    """File with the names of dev; null: ``dev_fraction`` of the training list."""
    test_list: str | None = None
    """File with the names of the test."""
    dev_fraction: float = 0.05
    """Share of the training utterances that becomes dev, unless a list or a fold names it."""
    exclude: list[str] | None = None
    """Names of utterances that are not used, with or without folder, e.g. [sa1, sa2]."""
    train_fraction: float = 1.0
    """Share of the training utterances that is used (paper Figure 3)."""
    token_label: Literal["each", "centre", "majority"] = "each"
    """Labels of a token: one for each of its 10 ms frames, or a single one, at its centre or the most frequent."""
    train_batch_size: int = 48
    """Utterances per training batch."""
    eval_batch_size: int = 16
    """Utterances per evaluation batch."""
    num_workers: int = 0
    """Number of processes that load audio; 0: the training process loads it."""
    test_audio: str | list[str] | None = None
    """Folders of the test speech with ``split: folders``."""
    expected_classes: int | None = None
    """Expected number of phones; another number is an error. null: any number."""
    pretraining_overlap: str = "refuse"
    """"refuse" a test on speakers or utterances that the upstream was pre-trained on, or "mark" its results."""

    @classmethod
    def from_older(cls, values: Mapping[str, object]) -> Mapping[str, object]:
        """Return the values with the name of a phone set as text, where YAML reads 39 as a number."""
        known = type(values.get("phone_set")) is int
        return {**values, "phone_set": str(values["phone_set"])} if known else values

    def problems(self) -> list[str]:
        """Return what makes these values unusable."""
        found = []
        if not 0 < self.train_fraction <= 1:
            found.append(f"datarc.train_fraction is {self.train_fraction}, expected within (0, 1]")
        if self.split == "lists" and not (self.train_list and self.test_list):
            found.append("datarc.split is lists, which needs datarc.train_list and datarc.test_list")
        if (self.split == "folders") != bool(self.test_audio):
            found.append(f"datarc.split is {self.split}: set datarc.test_audio with folders, and only then")
        if not 0 < self.dev_fraction < 1:
            found.append(f"datarc.dev_fraction is {self.dev_fraction}, expected within (0, 1)")
        if self.alignment_format in ("tsv", "converted") and not self.alignments:
            found.append(f"datarc.alignment_format is {self.alignment_format}, which needs datarc.alignments")
        if self.fold_stress and self.phone_set != "as_found":
            found.append(f"datarc.fold_stress is for phone_set as_found, not TIMIT's {self.phone_set}")
        if self.split_seed < 0:
            found.append(f"datarc.split_seed is {self.split_seed}, expected at least 0")
        found += overlap_problems(self.pretraining_overlap)
        return found + loading_problems(self.train_batch_size, self.eval_batch_size, self.num_workers)

    def outputs(self, rate: int) -> int:
        """Return the number of labels of a token of ``rate`` samples: one for each 10 ms frame, or a single one."""
        return outputs_per_token(rate) if self.token_label == "each" else 1
