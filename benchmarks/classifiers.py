"""Two classifiers of frozen states: logistic regression at its optimum, and a small network stopped by dev.

Both answer with several outputs an input: one for each 10 ms frame of a 30 ms token, say. Legend: N inputs,
D dimensions, H outputs an input, K classes, F folds that are trained side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor

IGNORED = -100
HIDDEN = 256
DROPOUT = 0.5
RATE = 3e-3
WEIGHT_DECAY = 0.01
BATCH = 256
STEPS = 400
EVAL_STEP = 50
ITERATIONS = 200
GRADIENT = 3e-3
"""L-BFGS ends where no entry of the preconditioned gradient exceeds this times the root of C times the inputs;
a thirtieth of it moves the accuracy of a TIMIT speaker by a few tenths of a point at most."""


class Scaler(NamedTuple):
    """Mean and deviation of each dimension."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, inputs: Tensor) -> Scaler:
        """Measure (N, D)."""
        return cls(inputs.mean(0), inputs.std(0, unbiased=False) + 1e-6)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Standardise (N, D)."""
        return (inputs - self.mean) / self.scale


class Softmax:
    """Logistic regression on standardised inputs: C * summed cross-entropy + |W|^2 / 2, as scikit-learn has it."""

    def __init__(self, inputs: Tensor, targets: Tensor, classes: int, inverse_penalty: float):
        """Fit.

        Args:
            inputs: (N, D) float32.
            targets: (N, H), IGNORED where there is nothing to learn.
            classes: K.
            inverse_penalty: C.
        """
        self.scaler, self.classes, self.c = Scaler.of(inputs), classes, inverse_penalty
        self.heads = targets.shape[1]
        scaled = self.scaler(inputs)
        # At zero weights the curvature is about (C/K) X'X + 1: in its coordinates L-BFGS needs a few dozen steps.
        values, vectors = torch.linalg.eigh(scaled.T @ scaled)
        root = (1 + values.clamp_min(0) * self.c / classes).rsqrt()
        self.precondition = (vectors * root) @ vectors.T
        self.bias_scale = float((1 + len(scaled) * self.c / classes) ** -0.5)
        width = self.heads * classes
        start = np.zeros((scaled.shape[1] + 1) * width)
        turned, flat = scaled @ self.precondition, targets.reshape(-1)
        options = {"maxiter": ITERATIONS, "maxcor": 20, "gtol": GRADIENT * (self.c * len(scaled)) ** 0.5, "ftol": 0}
        found = minimize(self._value, start, (turned, flat), method="L-BFGS-B", jac=True, options=options)
        self.iterations = found.nit
        weight, self.bias = self._unpack(torch.from_numpy(found.x).float())
        self.weight = self.precondition @ weight

    def _unpack(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        matrix = vector.view(-1, self.heads * self.classes)
        return matrix[:-1], matrix[-1] * self.bias_scale

    def _value(self, point: np.ndarray, inputs: Tensor, targets: Tensor) -> tuple[float, np.ndarray]:
        """Return the objective and its gradient in the preconditioned coordinates."""
        weight, bias = self._unpack(torch.from_numpy(point).float())
        scores = (inputs @ weight + bias).view(-1, self.classes).log_softmax(-1)
        known = targets >= 0
        loss = -scores[known, targets[known]].double().sum() * self.c
        error = scores.exp()
        error[known, targets[known]] -= 1
        error[~known] = 0
        error = error.view(len(inputs), -1) * self.c
        plain = self.precondition @ weight
        slope = torch.cat([inputs.T @ error + self.precondition @ plain, error.sum(0, keepdim=True) * self.bias_scale])
        return float(loss + 0.5 * plain.double().square().sum()), slope.double().numpy().reshape(-1)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the classes (N, H) of inputs (N, D)."""
        return (self.scaler(inputs) @ self.weight + self.bias).view(len(inputs), self.heads, -1).argmax(-1)


class Fold(NamedTuple):
    """Rows of the inputs by their role."""

    train: Tensor
    dev: Tensor
    test: Tensor


def answers_of_networks(
    inputs: Tensor, targets: Tensor, folds: Sequence[Fold], classes: int, seed: int
) -> list[Tensor]:
    """Train a network of one hidden layer in every fold and return each fold's answers (its test rows, H).

    The answers are those of the step with the best dev accuracy, looked at every ``EVAL_STEP`` steps.

    Args:
        inputs: (N, D) float32.
        targets: (N, H).
        folds: F.
        classes: K.
        seed: of weights, batches and dropout.
    """
    generator = torch.Generator().manual_seed(seed)
    scalers = [Scaler.of(inputs[fold.train]) for fold in folds]
    mean, scale = (torch.stack(parts)[:, None] for parts in zip(*scalers, strict=True))  # (F, 1, D)
    parameters = _new_parameters(len(folds), inputs.shape[1], targets.shape[1] * classes, generator)
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, pct_start=0.1)
    best: list[tuple[float, Tensor]] = [(-1.0, torch.empty(0))] * len(folds)
    for step in range(1, STEPS + 1):
        rows = torch.stack([f.train[torch.randint(len(f.train), (BATCH,), generator=generator)] for f in folds])
        kept = (torch.rand(len(folds), BATCH, HIDDEN, generator=generator) >= DROPOUT) / (1 - DROPOUT)
        scores = _network((inputs[rows] - mean) / scale, parameters, kept)
        wanted = targets[rows].reshape(-1)
        loss = F.cross_entropy(scores.reshape(-1, classes), wanted, ignore_index=IGNORED, reduction="sum")
        optimizer.zero_grad()
        (loss / (BATCH * targets.shape[1])).backward()  # the folds share no weight: each has its own mean loss
        optimizer.step()
        schedule.step()
        if step % EVAL_STEP == 0:
            best = [
                _better(best[i], [p[i : i + 1] for p in parameters], scalers[i], inputs, targets, fold, classes)
                for i, fold in enumerate(folds)
            ]
    return [answers for _, answers in best]


def _new_parameters(folds: int, dim: int, width: int, generator: torch.Generator) -> list[Tensor]:
    """Draw weights as torch's Linear does."""
    shapes = [(dim, HIDDEN), (1, HIDDEN), (HIDDEN, width), (1, width)]
    bounds = [dim**-0.5, dim**-0.5, HIDDEN**-0.5, HIDDEN**-0.5]
    drawn = [torch.rand(folds, *shape, generator=generator) for shape in shapes]
    return [((2 * d - 1) * bound).requires_grad_() for d, bound in zip(drawn, bounds, strict=True)]


def _network(inputs: Tensor, parameters: Sequence[Tensor], kept: Tensor | None = None) -> Tensor:
    """Return the scores (F, N, H * K) of inputs (F, N, D)."""
    first, first_bias, second, second_bias = parameters
    hidden = torch.baddbmm(first_bias, inputs, first).relu()
    return torch.baddbmm(second_bias, hidden if kept is None else hidden * kept, second)


@torch.no_grad()
def _better(
    best: tuple[float, Tensor],
    parameters: Sequence[Tensor],
    scaler: Scaler,
    inputs: Tensor,
    targets: Tensor,
    fold: Fold,
    classes: int,
) -> tuple[float, Tensor]:
    """Return (dev accuracy, answers of the test rows): the best so far, or the present one if better."""

    def answers(rows: Tensor) -> Tensor:
        scores = _network(scaler(inputs[rows])[None], parameters)
        return scores.view(len(rows), -1, classes).argmax(-1)

    wanted = targets[fold.dev]
    accuracy = float((answers(fold.dev) == wanted)[wanted >= 0].float().mean())
    return (accuracy, answers(fold.test)) if accuracy > best[0] else best
