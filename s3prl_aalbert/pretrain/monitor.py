"""What a run shows: progress bar, TensorBoard scalars, a picture of the reconstruction."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

from s3prl_aalbert.model.objective import Picture

logger = logging.getLogger(__name__)


class Monitor:
    """Progress bar and TensorBoard of the leading process; silent on the others.

    Args:
        folder: where TensorBoard events go; None writes nothing.
        total_steps: length of the run.
        first_step: steps already done.
        enabled: false on every rank but 0.
    """

    def __init__(self, folder: Path | None, total_steps: int, first_step: int, enabled: bool):
        self._bar = tqdm(
            total=total_steps,
            initial=first_step,
            desc="pre-training",
            unit="step",
            dynamic_ncols=True,
            disable=not enabled or "TQDM_DISABLE" in os.environ,  # as --quiet sets it
        )
        self._writer = None
        if enabled and folder is not None:
            self._writer = _open_writer(folder, first_step)
        self._last_log = (time.monotonic(), first_step)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._writer is not None:
            self._writer.close()

    def step(self, smoothed_loss: float, lr: float) -> None:
        """Advance by one step and show the smoothed loss and the learning rate."""
        self._bar.set_postfix_str(f"loss {smoothed_loss:.4f}, lr {lr:.2e}", refresh=False)
        self._bar.update()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Write values to TensorBoard under ``pretrain/``."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"pretrain/{name}", value, step)

    def speed(self, step: int) -> float:
        """Return the steps a second since the last call."""
        now = time.monotonic()
        then, last = self._last_log
        self._last_log = (now, step)
        return (step - last) / max(now - then, 1e-9)

    def message(self, text: str) -> None:
        """Print a line without breaking the progress bar."""
        if not self._bar.disable:
            self._bar.write(text)

    def picture(self, step: int, reconstruction: Picture) -> None:
        """Write a picture of the first utterance: input, masked input, target, reconstruction."""
        if self._writer is not None:
            self._writer.add_figure("pretrain/reconstruction", draw_reconstruction(reconstruction), step)


def _open_writer(folder: Path, first_step: int):  # type: ignore[no-untyped-def]
    from tensorboard.summary.writer import event_file_writer
    from torch.utils.tensorboard import SummaryWriter

    original = event_file_writer.RecordWriter

    def open_records(*args: object) -> object:
        records = original(*args)
        pass_over_unwritten(records)
        return records

    event_file_writer.RecordWriter = open_records
    try:
        return SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)
    finally:
        event_file_writer.RecordWriter = original


def pass_over_unwritten(events: object, methods: tuple[str, ...] = ("write", "flush", "close")) -> None:
    """Let a writer of TensorBoard events pass over what cannot be written, with one warning.

    Both tensorboard and tensorboardX write in a thread. The error of a full disk would end it with a stack trace, and
    with tensorboardX the training would then wait for it for ever. What cannot be done without, a checkpoint, tells by
    itself.
    """
    warned = False

    def guarded(method: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object) -> object:
            nonlocal warned
            try:
                return method(*args)
            except OSError as error:
                if not warned:
                    logger.warning("TensorBoard events cannot be written: %s", error.strerror)
                warned = True
                return None

        return call

    for name in methods:
        setattr(events, name, guarded(getattr(events, name)))


def draw_reconstruction(reconstruction: Picture, inches: tuple[float, float] = (9, 9)):  # type: ignore[no-untyped-def]
    """Draw a batch's first utterance as four spectrograms over time and return the matplotlib figure.

    Args:
        reconstruction: the stages of the batch.
        inches: width and height of the figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    length = int(reconstruction.lengths[0])
    stack, bins = reconstruction.target.shape[2:]
    dim = reconstruction.tokens.size(2) // stack

    def frames(tokens: torch.Tensor, width: int) -> torch.Tensor:
        return tokens[0, :length].detach().float().cpu().reshape(length * stack, width).T

    panels = {
        "input (log-mel and delta)": frames(reconstruction.tokens, dim),
        "masked input": frames(reconstruction.masked_tokens, dim),
        "target": frames(reconstruction.target, bins),
        "reconstruction": frames(reconstruction.predicted, bins),
    }
    figure = Figure(figsize=inches, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(4, 1, sharex=True)
    for axes, (title, values) in zip(grid, panels.items(), strict=True):
        image = axes.imshow(
            values, origin="lower", aspect="auto", vmin=-2.5, vmax=2.5, cmap="magma", interpolation="none"
        )
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_ylabel("dimension" if "input" in title else "frequency bin")
    bar = figure.colorbar(image, ax=list(grid), location="bottom", shrink=0.8, aspect=40, pad=0.01)
    bar.set_label("normalised value (standard deviations)")
    axes.set_xlabel("frame")
    return figure
