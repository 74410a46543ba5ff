"""``aalbert search``: the best sub-network of a supernet under a budget."""

from __future__ import annotations

import argparse
import csv
import io
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3prl_aalbert.errors import AalbertError, check_new_folder

if TYPE_CHECKING:
    from s3prl_aalbert.compress.search import Candidate
    from s3prl_aalbert.model.config import ModelConfig
    from s3prl_aalbert.model.sub_network import Architecture

EXAMPLES = """\
examples:
  aalbert search result/pretrain/supernet --macs-max 0.5e9 -o result/search     # per second of audio
  aalbert search result/pretrain/supernet --params-max 1e6 --method random -o result/search
  aalbert convert result/pretrain/supernet small --arch result/search/arch.yaml
"""
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "run",
        metavar="RUN",
        help="folder of a supernet's run (`aalbert pretrain` or `distill` with a section supernet)",
    )
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument(
        "--macs-max", type=float, metavar="N", help="multiply-accumulates per second of audio (at 10 s)"
    )
    budget.add_argument("--params-max", type=float, metavar="N", help="parameters of encoder and input block")
    budget.add_argument("--latency-max", type=float, metavar="MS", help="milliseconds for 5 s of audio, measured here")
    add("--method", choices=("evolutionary", "random"), default="evolutionary", help="default: %(default)s")
    add("--evaluations", type=int, default=100, help="sub-networks to evaluate on the run's dev split (100)")
    add("--speech", nargs="+", metavar="DIR", help="evaluate on the dev speakers of these folders instead of the run's")
    add(
        "-o", "--output", required=True, metavar="DIR", help="gets pareto.csv, pareto.png, candidates.csv and arch.yaml"
    )
    add("--seed", type=int, default=1337, help="of the draws; default: %(default)s")
    add("--device", help="cuda or cpu; default: cuda if there is one")


def main(args: argparse.Namespace) -> int:
    """Search and return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from tqdm import tqdm

    from s3prl_aalbert.compress.search import Problem, evolutionary_search, random_search
    from s3prl_aalbert.compress.space import count_architectures

    if args.evaluations < 1:
        raise AalbertError(f"--evaluations is {args.evaluations}, expected at least 1")
    output = Path(args.output).expanduser()
    check_new_folder(output)
    trainer = _load_run(args)
    space, config = trainer.config.supernet, trainer.model_config
    cost, budget, unit = _cost(args, config)
    logger.info("%d sub-networks, at most %g %s", count_architectures(space, config.transformer), budget, unit)
    search = evolutionary_search if args.method == "evolutionary" else random_search
    with tqdm(total=args.evaluations, desc="search", unit="arch", dynamic_ncols=True) as progress:
        best = float("inf")

        def loss(arch: Architecture) -> float:
            nonlocal best
            value = trainer.dev_loss(arch)
            best = min(best, value)
            progress.set_postfix_str(f"best dev loss {best:.4f}")
            progress.update()
            return value

        found = search(
            Problem(space, config.transformer, cost, budget, loss), args.evaluations, random.Random(args.seed)
        )
    _write(output, found, unit)
    return 0


def _load_run(args: argparse.Namespace) -> Any:
    """Return the run, ready to evaluate its latest state; nothing is written to it."""
    from s3prl_aalbert.checkpoint.training_state import latest_state
    from s3prl_aalbert.commands.pretrain import build
    from s3prl_aalbert.pretrain.request import Request

    run = Path(args.run).expanduser()
    state = latest_state(run) if run.is_dir() else run
    if state is None or not state.is_file():
        raise AalbertError(f"{run}: no training state (states-*.ckpt) of a supernet there")
    trainer = build(Request(past_exp=str(state), speech=args.speech, device=args.device, dry_run=True))
    if trainer.config.supernet is None:
        raise AalbertError(f"{state}: was trained without a section supernet: it has no sub-networks to search")
    if not trainer.corpus.split("dev"):
        raise AalbertError(f"{state}: its corpus has no dev split to evaluate on; give --speech")
    return trainer


def _cost(args: argparse.Namespace, config: ModelConfig) -> tuple[Callable[[Architecture], float], float, str]:
    import time

    import torch

    from s3prl_aalbert.compress.extraction import extracted_config
    from s3prl_aalbert.model.aalbert import AalbertModel, count_parameters
    from s3prl_aalbert.model.encoder import Encoder, InputEmbedding
    from s3prl_aalbert.model.macs import encoder_macs

    rate = config.audio.sample_rate

    def macs(arch: Architecture) -> float:
        return encoder_macs(config, 10 * rate, arch) / 10

    def parameters(arch: Architecture) -> float:
        small = extracted_config(config, arch)
        with torch.device("meta"):  # counted without being made
            parts = InputEmbedding(small.input_dim, small.transformer), Encoder(small.transformer)
        return float(sum(map(count_parameters, parts)))

    def latency(arch: Architecture) -> float:
        model = AalbertModel(extracted_config(config, arch)).eval()
        wavs, lengths = torch.randn(1, 5 * rate), torch.tensor([5 * rate])
        times = []
        with torch.inference_mode():
            for _ in range(6):
                started = time.perf_counter()
                model(wavs, lengths)
                times.append(time.perf_counter() - started)
        return 1000 * sorted(times[1:])[2]

    if args.macs_max is not None:
        return macs, args.macs_max, "MACs per second (encoder, 10 s of audio)"
    if args.params_max is not None:
        return parameters, args.params_max, "parameters"
    return latency, args.latency_max, "ms for 5 s of audio"


def _write(output: Path, found: list[Candidate], unit: str) -> None:
    from s3prl_aalbert.compress.search import pareto
    from s3prl_aalbert.files import write_atomically, write_text
    from s3prl_aalbert.model.sub_network import architecture_yaml
    from s3prl_aalbert.report.model_figures import draw_pareto

    front = pareto(found)
    for name, candidates in (("candidates.csv", found), ("pareto.csv", front)):
        write_text(output / name, _table(candidates, unit))
    write_atomically(output / "pareto.png", lambda path: draw_pareto(found, front, unit).savefig(path, format="png"))
    best = front[-1]
    write_text(output / "arch.yaml", architecture_yaml(best.arch))
    print(f"best of {len(found)}: dev loss {best.loss:.4f}, {best.cost:g} {unit}\n{architecture_yaml(best.arch)}")
    print(f"wrote {output / 'arch.yaml'}, pareto.csv, pareto.png, candidates.csv")


def _table(candidates: list[Candidate], unit: str) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["dev_loss", unit, "hidden_size", "num_attention_heads", "intermediate_size"])
    for candidate in candidates:
        arch = candidate.arch
        sizes = (" ".join(map(str, values)) for values in (arch.num_attention_heads, arch.intermediate_size))
        table.writerow([f"{candidate.loss:.6f}", f"{candidate.cost:g}", arch.hidden_size, *sizes])
    return text.getvalue()
