"""Speed of attention reuse (`reuse_pattern`) against plain attention, in pairs that take turns in one run.

    python benchmarks/reuse.py -o benchmarks/results/reuse.csv

Every second layer takes the attention map of the layer before it. Plain layers run fused attention, which never forms a
map; a layer that lends its map must form it. Which of the two is faster depends on length and machine, so every case
stands beside the MACs that reuse saves by count (MACs of a backward pass are twice those of a forward pass, the share
saved is the same). "encoder" is input embedding and encoder; "upstream" is all of it, from one waveform. Run it on a
quiet machine; about 20 minutes.
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from commands import exit_code

from s3prl_aalbert.machine import processor
from s3prl_aalbert.model.aalbert import AalbertModel
from s3prl_aalbert.model.config import ModelConfig, load_model_config
from s3prl_aalbert.model.macs import encoder_macs, module_macs

WORKS = ("encoder forward", "encoder forward + backward", "upstream forward")
SHORTEST_SECONDS = 0.3
"""Passes are repeated until a measurement takes this long."""
COLUMNS = (
    "model",
    "stack",
    "seconds of audio",
    "tokens",
    "work",
    "plain GMAC",
    "reuse GMAC",
    "MACs saved %",
    "plain s",
    "reuse s",
    "plain real-time factor",
    "reuse real-time factor",
    "time saved %",
    "time saved % min",
    "time saved % max",
)


@dataclass(frozen=True)
class Case:
    """One comparison."""

    model: str
    stack: int
    seconds: float
    work: str

    def config(self, reuse: bool) -> ModelConfig:
        """Return the model, with every second layer reusing or none."""
        config = load_model_config(self.model)
        pattern = tuple(layer % 2 for layer in range(config.transformer.num_hidden_layers)) if reuse else None
        return replace(
            config, transformer=replace(config.transformer, downsample_rate=self.stack, reuse_pattern=pattern)
        )

    @property
    def num_samples(self) -> int:
        """Length of the utterance."""
        return round(self.seconds * self.config(False).audio.sample_rate)

    def macs(self, reuse: bool) -> float:
        """Return the MACs of the work, by count."""
        config = self.config(reuse)
        if self.work == "upstream forward":
            return float(sum(module_macs(config, self.num_samples).values()))
        return float(encoder_macs(config, self.num_samples)) * (3 if "backward" in self.work else 1)

    def map_gib(self) -> float:
        """Return the memory of the maps that are formed: one at a time, or all lent ones until the backward pass."""
        transformer = self.config(True).transformer
        tokens = self.config(True).num_tokens(self.num_samples)
        formed = transformer.num_hidden_layers // 2 + 2 if "backward" in self.work else 2
        return 4 * transformer.num_attention_heads * tokens**2 * formed / 2**30


def cases(args: argparse.Namespace) -> Iterator[Case]:
    """Yield the comparisons, short ones first."""
    for model in args.model:
        for stack in args.stack:
            for seconds in args.seconds:
                for work in WORKS:
                    yield Case(model, stack, seconds, work)


def build(case: Case, reuse: bool) -> Callable[[], None]:
    """Return a function that does the work once; plain and reusing models have the same weights."""
    torch.manual_seed(0)
    config = case.config(reuse)
    model = AalbertModel(config)
    lengths = torch.tensor([case.num_samples])
    wavs = 0.1 * torch.randn(1, case.num_samples)
    tokens = torch.randn(1, config.num_tokens(case.num_samples), config.input_dim)
    token_lengths = torch.tensor([tokens.size(1)])

    def forward() -> None:
        with torch.inference_mode():
            model.encode(tokens, token_lengths)

    def upstream() -> None:
        with torch.inference_mode():
            model(wavs, lengths)

    def both() -> None:
        model.encode(tokens, token_lengths)[-1].sum().backward()
        model.zero_grad(set_to_none=True)

    model.train("backward" in case.work)
    return {"encoder forward": forward, "upstream forward": upstream, "encoder forward + backward": both}[case.work]


def seconds_of(work: Callable[[], None]) -> float:
    """Return the mean time of a pass."""
    passes, start = 0, time.perf_counter()
    while passes == 0 or time.perf_counter() - start < SHORTEST_SECONDS:
        work()
        passes += 1
    return (time.perf_counter() - start) / passes


def measure(case: Case, rounds: int) -> list[str]:
    """Return the row of a comparison."""
    works = {reuse: build(case, reuse) for reuse in (False, True)}
    for work in works.values():
        work()  # memory is laid out, positions are computed
    pairs = [(seconds_of(works[False]), seconds_of(works[True])) for _ in range(rounds)]
    plain, reuse = (statistics.median(times) for times in zip(*pairs, strict=True))
    saved = [100 * (1 - with_reuse / without) for without, with_reuse in pairs]
    macs = case.macs(False), case.macs(True)
    return [
        *_names(case),
        *(f"{value / 1e9:.4g}" for value in macs),
        f"{100 * (1 - macs[1] / macs[0]):.1f}",
        f"{plain:.4f}",
        f"{reuse:.4f}",
        *(f"{value / case.seconds:.5f}" for value in (plain, reuse)),
        *(f"{value:.1f}" for value in (statistics.median(saved), min(saved), max(saved))),
    ]


def _names(case: Case) -> list[str]:
    tokens = case.config(False).num_tokens(case.num_samples)
    return [case.model, str(case.stack), f"{case.seconds:g}", str(tokens), case.work]


def machine() -> str:
    """Describe where this was measured."""
    return ", ".join((processor(), f"{torch.get_num_threads()} threads", f"torch {torch.__version__}",
                      platform.python_version(), "float32"))  # fmt: skip


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-g", "--model", nargs="+", default=["aalbert_6l", "demo"], help="models (%(default)s)")
    parser.add_argument("--seconds", nargs="+", type=float, default=[5, 15, 60], help="lengths (%(default)s)")
    parser.add_argument("--stack", nargs="+", type=int, default=[3, 1], help="frames a token (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of measurements (%(default)s)")
    parser.add_argument("--max-gib", type=float, default=12, help="leave out cases whose maps need more (%(default)s)")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/reuse.csv"))
    args = parser.parse_args()
    rows: list[list[str]] = [list(COLUMNS)]
    for case in cases(args):
        if case.map_gib() > args.max_gib:
            print(f"left out, its maps need {case.map_gib():.0f} GiB: {' '.join(_names(case))}", file=sys.stderr)
            continue
        rows.append(measure(case, args.rounds))
        print("  ".join(rows[-1]), flush=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with args.output.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([*rows, ["machine", machine()]])


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
