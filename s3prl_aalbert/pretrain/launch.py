"""Where and how a run computes: device, processes, precision, signals."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from s3prl_aalbert.device import native_bf16
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.pretrain.config import PretrainConfig

logger = logging.getLogger(__name__)

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
PRECISIONS: dict[str, Precision] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""Fabric's names."""


@dataclass(frozen=True)
class RunOptions:
    """What the command line adds to the configuration."""

    expdir: Path
    seed: int = 1337
    device: str = "cpu"
    num_nodes: int = 1
    devices: int = 1
    strict: bool = False
    dry_run: bool = False
    resume_from: Path | None = None
    init: Path | None = None
    corpus: Path | None = None
    """Folder of the manifest, the audio cache and the units; None: ``expdir``."""


def launch(config: PretrainConfig, options: RunOptions) -> Fabric:
    """Start, or join, the processes of a run."""
    precision = choose_precision(config.runner.precision, options.device)
    several = options.devices * options.num_nodes > 1
    fabric = Fabric(
        accelerator=options.device,
        # Buffers are constants (window, filters, positions): broadcasting them would only make evaluation wait.
        # A step of a supernet, and of distillation that leaves out the last layers, has weights without gradients.
        strategy=DDPStrategy(broadcast_buffers=False, find_unused_parameters=bool(config.supernet or config.distill))
        if several
        else "auto",
        devices=options.devices,
        num_nodes=options.num_nodes,
        precision=precision,
    )
    fabric.launch()
    return fabric


def sum_of_processes(fabric: Fabric, value: float) -> float:
    """Return the sum of a number over all processes, each of which has to call this."""
    if fabric.world_size == 1:
        return value
    own = torch.tensor(value, dtype=torch.float64, device=fabric.device)
    reduced = fabric.all_reduce(own, reduce_op="sum")
    assert isinstance(reduced, torch.Tensor)
    return reduced.item()


def choose_precision(name: str, accelerator: str) -> Precision:
    """Return Fabric's name of a precision; "auto" is bf16 where the hardware multiplies it natively."""
    if name == "auto":
        name = "bf16" if native_bf16(accelerator) else "fp32"
        logger.info("runner.precision: auto chose %s", name)
    if name == "fp16" and accelerator == "cpu":
        raise AalbertError('runner.precision is "fp16", which torch trains on GPUs alone; on a CPU use bf16 or fp32')
    return PRECISIONS[name]
