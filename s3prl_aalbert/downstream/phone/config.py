"""Settings of the phoneme task's data."""

from __future__ import annotations

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
    """Folder or file of the labels; null: beside the audio."""
    alignment_format: Literal["auto", "phn", "textgrid", "tsv", "converted"] = "auto"
    """Of the labels; "auto" goes by the files' names."""
    tier: str = "phones"
    """Which tier of a TextGrid."""
    phone_set: Literal["as_found", "61", "48", "39"] = "as_found"
    """The labels as they are, or TIMIT's 61 folded to so many."""
    fold_stress: bool = False
    """Drop the digits of stress: AH0 and AH1 are AH."""
    silence: Literal["keep", "ignore"] = "keep"
    """Whether silence is a class, or its frames are neither trained on nor scored."""
    split: Literal["speaker", "lists", "folders"] = "speaker"
    """Folds of whole speakers, the lists below, or ``test_audio`` as the test."""
    split_seed: int = 0
    """Deals the speakers into folds, and draws dev."""
    fold: int = 0
    """The fold that is tested; the next one is dev."""
    num_folds: int = 4
    """Folds of ``split: speaker``."""
    train_list: str | None = None
    """Names of the training utterances, one a line."""
    dev_list: str | None = None
    """Of dev; null: ``dev_fraction`` of the training list."""
    test_list: str | None = None
    """Of the test."""
    dev_fraction: float = 0.05
    """Share of the training utterances that become dev, where nothing else says which."""
    exclude: list[str] | None = None
    """Utterances that take no part, by name or by what follows the folder in it, e.g. [sa1, sa2]."""
    train_fraction: float = 1.0
    """Share of the training utterances that is used (paper Figure 3)."""
    token_label: Literal["each", "centre", "majority"] = "each"
    """A label for each 10 ms frame of a token, or one in all: that of its centre, or the most frequent one."""
    train_batch_size: int = 48
    """Utterances of a training batch."""
    eval_batch_size: int = 16
    """Utterances of an evaluation batch."""
    num_workers: int = 0
    """Processes that load them; 0: the training process."""
    test_audio: str | list[str] | None = None
    """Folders of the test, with ``split: folders``."""
    expected_classes: int | None = None
    """How many phones there should be; others are an error. null: any number."""
    pretraining_overlap: str = "refuse"
    """"refuse" a test on speakers or utterances that the upstream was pre-trained on, or "mark" its results."""

    def problems(self) -> list[str]:
        """Return what makes these values unusable."""
        found = []
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
