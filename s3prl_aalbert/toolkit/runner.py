"""S3PRL's runner with the additions of this package; ``run_downstream.main()`` uses it in place of its own.

S3PRL's code does the training. The additions are clear errors, whole checkpoints, exact resumption,
``runner.precision`` and ``runner.feature_cache``, and for probing a featurizer that keeps the layers apart.
"""

from __future__ import annotations

import argparse
import glob
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from s3prl_aalbert import toolkit

toolkit.activate()

from s3prl.downstream import runner as s3prl_runner  # noqa: E402

from s3prl_aalbert.pretrain.signals import StopSignal  # noqa: E402
from s3prl_aalbert.toolkit import building, continuation  # noqa: E402
from s3prl_aalbert.toolkit.bars import CountingBar  # noqa: E402
from s3prl_aalbert.toolkit.experiments import glob_in_folder  # noqa: E402
from s3prl_aalbert.toolkit.feature_cache import cache_features  # noqa: E402
from s3prl_aalbert.toolkit.feature_selection import checked_featurizer  # noqa: E402
from s3prl_aalbert.toolkit.parts import Entry, Featurizer, States, Task, Upstream  # noqa: E402
from s3prl_aalbert.toolkit.precision import autocast, chosen_precision  # noqa: E402
from s3prl_aalbert.toolkit.probing import JoinedLayers, record_layers  # noqa: E402
from s3prl_aalbert.toolkit.replace import Changed, replaced  # noqa: E402
from s3prl_aalbert.toolkit.writing import Writers  # noqa: E402

logger = logging.getLogger(__name__)

PROBING = "aalbert_probe"
Part = TypeVar("Part", Optimizer, LRScheduler)


class Runner(s3prl_runner.Runner):
    """One run.

    Args:
        args: options by S3PRL's names.
        config: the task's configuration.
        stop: records whether a signal asked the run to stop.
        load: reads the checkpoint from which the run starts.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        config: dict[str, object],
        stop: StopSignal,
        load: Callable[..., States] = torch.load,
    ) -> None:
        self.stop = stop
        self.training: continuation.Training | None = None
        self.upstream_weights: str | None = None
        with replaced(s3prl_runner, torch=Changed(torch, load=load)):
            super().__init__(args, config)

    # ------------------------------------------------------------------------------------- what it builds

    def _load_weight(self, model: object, name: str) -> None:
        with building.misfits_reported(f"{self.args.init_ckpt}: its {name} does not fit this run"):
            super()._load_weight(model, name)

    def _get_upstream(self) -> Entry[Upstream]:
        name, device_type = self.args.upstream, torch.device(self.args.device).type
        precision = chosen_precision(self.config, device_type)
        with building.upstream_misfits_reported(name, self.args.upstream_ckpt):
            entry = super()._get_upstream()
        building.check_numbers(name, entry.model)
        self.upstream_weights = building.checked_weights(self, entry)
        if precision == "bf16":
            autocast(entry.model, device_type)
            logger.info("runner.precision: the upstream computes in bf16")
        return entry

    def _get_featurizer(self) -> Entry[Featurizer]:
        kind = JoinedLayers if self.args.downstream == PROBING else s3prl_runner.Featurizer
        with replaced(s3prl_runner, Featurizer=kind):
            entry = checked_featurizer(self, super()._get_featurizer)
        cache_features(self)
        return entry

    def _get_downstream(self) -> Entry[Task]:
        record_layers(self.config, self.featurizer.model, resumed=bool(self.args.past_exp))
        return building.checked_task(self, super()._get_downstream)

    def _get_optimizer(self, model_params: Sequence[nn.Module]) -> Optimizer:
        return self._kept(continuation.restored_optimizer(self, super()._get_optimizer, model_params), "optimizer")

    def _get_scheduler(self, optimizer: Optimizer) -> LRScheduler:
        return self._kept(continuation.restored_scheduler(self, super()._get_scheduler(optimizer)), "scheduler")

    def _kept(self, part: Part, name: str) -> Part:
        if self.training is not None:
            self.training.built[name] = part
        return part

    # ------------------------------------------------------------------------------------------ what it runs

    @property
    def stepped(self) -> bool:
        """Whether a training has taken a step."""
        return self.training is not None and self.training.stepped

    def train(self) -> None:
        """Train; if a signal arrives, save the state and raise ``Stopped``."""
        done, total = int(self.init_ckpt.get("Step", 0)), int(self.config["runner"]["total_steps"])
        if done >= total:
            advice = "-o config.runner.total_steps=N goes on to step N"
            logger.warning("nothing to train: %s is at step %d of %d; %s", self.args.init_ckpt, done, total, advice)
        training = self.training = continuation.Training(self, self.upstream_weights)

        class Bar(CountingBar):
            def __init__(self, *args: Any, **options: Any):
                super().__init__(*args, **options)
                if options.get("desc") == "overall":
                    training.bar = self

        amp = Changed(torch.cuda.amp, GradScaler=training.new_scaler)
        parts = {
            "torch": Changed(torch, save=training.save, cuda=Changed(torch.cuda, amp=amp)),
            "os": Changed(s3prl_runner.os, remove=training.files.remove),
            "glob": Changed(glob, glob=glob_in_folder),
            "tqdm": Bar,
        }
        with _written(), replaced(s3prl_runner, **parts):
            super().train()

    def evaluate(self, split: str | None = None, logger: object = None, global_step: int = 0) -> list[str]:
        """Evaluate a split; the default is the split in the options."""
        if self.training is None:
            with _written():
                return super().evaluate(split, logger, global_step)
        with replaced(self.training, evaluating=True):
            return super().evaluate(split, logger, global_step)


@contextmanager
def _written() -> Iterator[None]:
    """Close the TensorBoard writers that S3PRL opens."""
    writers = Writers()
    with writers, replaced(s3prl_runner, SummaryWriter=writers.open):
        yield
