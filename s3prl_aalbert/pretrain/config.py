"""The pre-training YAML of ``-c``: sections runner, optimizer, pretrain_expert.datarc, as S3PRL names them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import yaml

from s3prl_aalbert.compress.distill_config import DistillConfig
from s3prl_aalbert.compress.space import SearchSpace
from s3prl_aalbert.model.config import INVALID_YAML, LARGEST_SIZE, ConfigError, shown
from s3prl_aalbert.overrides import assignments
from s3prl_aalbert.parcels import MOST_WORKERS

MFCC = "mfcc"

_LARGEST_RATE = 1e6
"""Of the optimiser's values: its steps are float32, which ends at 3e38."""


@dataclass(frozen=True)
class UnitsConfig:
    """What the discrete units of ``task.unit_weight`` are made of."""

    source: str = MFCC
    """"mfcc", or a checkpoint whose hidden states are clustered: a path or a packaged name."""
    layer: int | None = None
    """Which of its hidden states; 0 is the input embedding."""
    cmvn: Literal["utterance", "none"] = "utterance"
    """"utterance": its values get mean 0 and variance 1 in each utterance, so that units depend less on the speaker;
    "none": they stay. MFCC are computed from log-mel with CMVN in any case."""
    fit_hours: float = 2.0
    """Hours of training speech that k-means sees."""

    def problems(self) -> list[str]:
        """Return what makes these values unusable."""
        found = []
        if (self.source == MFCC) != (self.layer is None):
            found.append(f"units.layer is {shown(self.layer)} with units.source {self.source}: a checkpoint needs one")
        if not 0 < self.fit_hours < math.inf:
            found.append(f"units.fit_hours is {self.fit_hours}, expected more than 0 and finite")
        return found


@dataclass(frozen=True)
class RunnerConfig:
    """The loop."""

    total_steps: int = 100000
    """Optimiser steps of this run."""
    max_hours: float | None = None
    """The whole run, release included, ends within this time (without interruptions): the learning rate follows the
    larger of the shares of steps and of time; null: steps alone."""
    gradient_accumulate_steps: int = 1
    """Micro-batches per step."""
    gradient_clipping: float = 5.0
    """Largest gradient norm."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """"fp32", "bf16", "fp16"; "auto" is bf16 where the device multiplies it natively, else fp32."""
    log_step: int = 50
    """Steps between the scalars of TensorBoard."""
    eval_step: int = 1000
    """Steps between dev losses."""
    save_step: int = 1000
    """Steps between training states."""
    max_keep: int = 2
    """States kept beside the best one."""
    compile: bool = False
    """Run the encoder through torch.compile."""
    divergence_factor: float = 3.0
    """Stop when the smoothed loss exceeds its best by this factor; 0 never stops."""

    def problems(self) -> list[str]:
        """Return what makes these values unusable."""
        names = ("total_steps", "gradient_accumulate_steps", "log_step", "eval_step", "save_step", "max_keep")
        found = [f"runner.{n} is {getattr(self, n)}, expected at least 1" for n in names if getattr(self, n) < 1]
        if self.max_hours is not None and not 0 < self.max_hours < math.inf:
            found.append(f"runner.max_hours is {self.max_hours}, expected more than 0 and finite")
        if self.divergence_factor < 0:
            found.append(f"runner.divergence_factor is {self.divergence_factor}, expected at least 0")
        if self.gradient_clipping <= 0:
            found.append(f"runner.gradient_clipping is {self.gradient_clipping}, expected more than 0")
        return found


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser and its schedule: linear warm-up, then linear decay to zero at ``schedule_steps``."""

    name: Literal["AdamW", "Lamb"] = "AdamW"
    """"AdamW" or "Lamb" (with its trust ratio)."""
    lr: float = 2e-4
    """Learning rate at the end of the warm-up."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""
    eps: float = 1e-8
    """Added to the root of the second mean."""
    weight_decay: float = 0.01
    """Not applied to biases and LayerNorms."""
    warmup_proportion: float = 0.07
    """Of the schedule."""
    schedule_steps: int | None = None
    """Where the decay reaches zero; null: total_steps. Longer than the run stops it half-way, as the original did."""

    def problems(self) -> list[str]:
        """Return what makes these values unusable."""
        found = []
        if not 0 < self.lr <= _LARGEST_RATE:
            found.append(f"optimizer.lr is {self.lr}, expected more than 0 and at most {_LARGEST_RATE:g}")
        if not all(0 <= beta < 1 for beta in self.betas):
            found.append(f"optimizer.betas are {self.betas}, expected within [0, 1)")
        for name in ("eps", "weight_decay"):
            if not 0 <= getattr(self, name) <= _LARGEST_RATE:
                found.append(f"optimizer.{name} is {getattr(self, name)}, expected from 0 to {_LARGEST_RATE:g}")
        if self.schedule_steps is not None and self.schedule_steps < 1:
            found.append(f"optimizer.schedule_steps is {self.schedule_steps}, expected at least 1")
        if not 0 <= self.warmup_proportion < 1:
            found.append(f"optimizer.warmup_proportion is {self.warmup_proportion}, expected within [0, 1)")
        return found


@dataclass(frozen=True)
class DataConfig:
    """The corpus and its batches."""

    paths: tuple[str, ...] = ()
    """Folders of speech (or `--speech`); every audio file below them is used."""
    libri_root: str | None = None
    """Folder that holds LibriSpeech's sets, as in S3PRL."""
    sets: tuple[str, ...] = ()
    """Its sets to use, e.g. [train-clean-100, train-clean-360]."""
    manifest: str | None = None
    """With folders: where their manifest is kept (null: in the experiment folder). Without: a TSV that is the corpus
    itself, with a column path and, if known, samples, speaker and split (train, dev, or test, which is skipped)."""
    trust_manifest: bool = False
    """The manifest's files and lengths are taken as they are: nothing is searched, compared or decoded at the start."""
    prepare_workers: int | None = None
    """Processes that check the corpus at the first start; null: one per core."""
    train_batch_size: int = 32
    """Utterances per process and micro-batch."""
    max_batch_seconds: float | None = None
    """Also end a batch at this many seconds, padding included; null: no such limit."""
    max_seconds: float = 15.0
    """Longer utterances are cropped at random, anew each epoch."""
    min_seconds: float = 0.3
    """Shorter ones are skipped."""
    max_utterance_seconds: float | None = None
    """Longer ones are skipped instead of cropped; null: none is."""
    dev_fraction: float = 0.02
    """Share of the speakers held out for the dev loss."""
    noise_proportion: float = 0.0
    """Share of the training utterances whose input has noise mixed in; the target stays clean."""
    noise_snr_db: tuple[float, float] = (0.0, 15.0)
    """Their signal-to-noise ratio is drawn between these."""
    vocal_tract_perturbation: float = 0.0
    """The frequency axis of each training input is stretched by a factor between 1 minus and 1 plus this value, drawn
    at random, as a shorter or longer vocal tract does (0.1 to 0.2 are usual); targets stay."""
    num_workers: int = 0
    """Processes that read audio while training; 0: a thread of the training process."""
    cache_hours: float = 24.0
    """Up to this much speech is kept decoded beside the manifest, as 16-bit samples (115 MB an hour); 0: none."""

    def problems(self) -> list[str]:
        """Return what makes these values unusable."""
        found = []
        if not 1 <= self.train_batch_size <= LARGEST_SIZE:
            size = shown(self.train_batch_size)
            found.append(f"pretrain_expert.datarc.train_batch_size is {size}, expected 1 to {LARGEST_SIZE}")
        if not 0 < self.min_seconds < self.max_seconds < math.inf:
            found.append("pretrain_expert.datarc.min_seconds must be positive and below max_seconds, and that finite")
        if self.max_batch_seconds is not None and not 0 < self.max_batch_seconds < math.inf:
            found.append(
                f"pretrain_expert.datarc.max_batch_seconds is {self.max_batch_seconds}, expected more than 0 and finite"
            )
        if bool(self.libri_root) != bool(self.sets):
            found.append("pretrain_expert.datarc.libri_root and sets go together, found only one of them")
        longest = self.max_utterance_seconds
        if longest is not None and longest < self.min_seconds:
            found.append(f"pretrain_expert.datarc.max_utterance_seconds is {longest}, expected at least min_seconds")
        if not 0 <= self.cache_hours < math.inf:
            found.append(f"pretrain_expert.datarc.cache_hours is {self.cache_hours}, expected at least 0 and finite")
        if not 0 <= self.num_workers <= MOST_WORKERS:
            found.append(f"pretrain_expert.datarc.num_workers is {self.num_workers}, expected 0 to {MOST_WORKERS}")
        if self.prepare_workers is not None and self.prepare_workers < 1:
            found.append(f"pretrain_expert.datarc.prepare_workers is {self.prepare_workers}, expected at least 1")
        if self.trust_manifest and not self.manifest:
            found.append("pretrain_expert.datarc.trust_manifest needs a manifest")
        if not 0 <= self.vocal_tract_perturbation < 1:
            found.append(
                f"pretrain_expert.datarc.vocal_tract_perturbation is {self.vocal_tract_perturbation}, "
                "expected within [0, 1)"
            )
        if not 0 <= self.noise_proportion <= 1:
            found.append(f"pretrain_expert.datarc.noise_proportion is {self.noise_proportion}, expected within [0, 1]")
        if not -math.inf < self.noise_snr_db[0] <= self.noise_snr_db[1] < math.inf:
            low, high = self.noise_snr_db
            found.append(f"pretrain_expert.datarc.noise_snr_db is [{low}, {high}], expected [lowest, highest] in dB")
        if not 0 <= self.dev_fraction < 1:
            found.append(f"pretrain_expert.datarc.dev_fraction is {self.dev_fraction}, expected within [0, 1)")
        return found


@dataclass(frozen=True)
class PretrainExpertConfig:
    """S3PRL's level above datarc."""

    datarc: DataConfig = field(default_factory=DataConfig)


@dataclass(frozen=True)
class PretrainConfig:
    """The whole file."""

    runner: RunnerConfig = field(default_factory=RunnerConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    pretrain_expert: PretrainExpertConfig = field(default_factory=PretrainExpertConfig)
    units: UnitsConfig = field(default_factory=UnitsConfig)
    supernet: SearchSpace | None = None
    """Train sub-networks instead of the whole model alone."""
    distill: DistillConfig | None = None
    """Learn a teacher's hidden states instead of the spectrogram (`aalbert distill`)."""

    @property
    def datarc(self) -> DataConfig:
        """The data section."""
        return self.pretrain_expert.datarc


def section_of(config: dict[str, object], name: str) -> dict[str, object]:
    """Return a section of a configuration, added where it is missing or null.

    Raises:
        ConfigError: it is something else.
    """
    if config.get(name) is None:
        config[name] = {}
    section = config[name]
    if not isinstance(section, dict):
        raise ConfigError(f'"{name}" is {type(section).__name__}, expected a section of keys')
    return section


def apply_overrides(model: dict[str, object], config: dict[str, object], text: str | None) -> None:
    """Apply S3PRL's ``-o "config.optimizer.lr=1e-3,,model.transformer.hidden_size=256"`` in place.

    ``config.`` is the YAML of ``-c``, ``model.`` that of ``-g``; values are YAML. Unknown keys are found later, by
    validation of the whole.
    """
    for section, key, value in assignments(text, ("config", "model")):
        *path, last = key.split(".")
        target = model if section == "model" else config
        for name in path:
            target = section_of(target, name)
        try:
            target[last] = yaml.safe_load(value)
        except INVALID_YAML as error:
            raise ConfigError(f'-o {section}.{key}: "{value}" is not valid YAML') from error
