"""``aalbert search``: the best sub-network of a supernet under a budget."""

from __future__ import annotations

import argparse
import logging
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from s3prl_aalbert.commands import run_command
from s3prl_aalbert.errors import AalbertError, check_new_folder
from s3prl_aalbert.typed_options import add_options

if TYPE_CHECKING:
    from tqdm import tqdm

    from s3prl_aalbert.compress.search import Candidate
    from s3prl_aalbert.model.sub_network import Architecture
    from s3prl_aalbert.pretrain.runner import Pretrainer

EXAMPLES = """\
examples:
  aalbert search result/pretrain/supernet --macs-max 0.5e9 -o result/search     # per second of audio
  aalbert search result/pretrain/supernet --params-max 1e6 --method random -o result/search
  aalbert convert result/pretrain/supernet small --arch result/search/arch.yaml
"""
BUDGETS = ("macs_max", "params_max", "latency_max")
logger = logging.getLogger(__name__)


def search(
    run: Path,
    *,
    output: Path,
    macs_max: float | None = None,
    params_max: float | None = None,
    latency_max: float | None = None,
    method: Literal["evolutionary", "random"] = "evolutionary",
    evaluations: int = 100,
    speech: list[str] | None = None,
    seed: int = 1337,
    device: str | None = None,
) -> None:
    """Find the sub-network with the lowest loss on the dev split within one budget, and write the table of all.

    Args:
        run: folder of a supernet's run (`aalbert pretrain` or `distill` with a section supernet)
        output: a new folder for pareto.csv, pareto.png, candidates.csv and arch.yaml
        macs_max: multiply-accumulates per second of audio (at 10 s)
        params_max: parameters of encoder and input block
        latency_max: milliseconds for 5 s of audio, measured here
        method: how candidates are chosen
        evaluations: sub-networks to evaluate on the run's dev split
        speech: evaluate on the dev speakers of these folders instead of the run's
        seed: for the random choices
        device: cuda or cpu; default: cuda if there is one

    Raises:
        AalbertError: no state of a supernet, no sub-network within the budget, or ``output`` holds something.
    """
    from tqdm import tqdm

    from s3prl_aalbert.compress.cost import COSTS
    from s3prl_aalbert.compress.search import Problem, evolutionary_search, random_search
    from s3prl_aalbert.compress.space import count_architectures

    budgets = {"macs": macs_max, "params": params_max, "latency": latency_max}
    chosen = [(kind, limit) for kind, limit in budgets.items() if limit is not None]
    if len(chosen) != 1:
        raise AalbertError("give one budget: --macs-max, --params-max or --latency-max")
    ((kind, budget),) = chosen
    if evaluations < 1:
        raise AalbertError(f"--evaluations is {evaluations}, expected at least 1")
    output = output.expanduser()
    check_new_folder(output)
    trainer = load_run(run.expanduser(), speech, device)
    space, config = trainer.config.supernet, trainer.model_config
    assert space is not None
    cost, unit = COSTS[kind]
    logger.info("%d sub-networks, at most %g %s", count_architectures(space, config.transformer), budget, unit)
    with tqdm(total=evaluations, desc="search", unit="arch", dynamic_ncols=True) as progress:
        problem = Problem(space, config.transformer, partial(cost, config), budget, _shown_loss(trainer, progress))
        searched = evolutionary_search if method == "evolutionary" else random_search
        found = searched(problem, evaluations, random.Random(seed))
    _write(output, found, unit)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    metavars = {"run": "RUN", "macs_max": "N", "params_max": "N", "latency_max": "MS", "speech": "DIR", "output": "DIR"}
    add_options(parser, search, {"output": ("-o", "--output")}, metavars, one_of=BUDGETS)


def main(args: argparse.Namespace) -> int:
    """Search and return 0."""
    return run_command(search, args, "%(message)s")


def load_run(run: Path, speech: list[str] | None, device: str | None) -> Pretrainer:
    """Return the run, ready to evaluate its latest state; nothing is written to it."""
    from s3prl_aalbert.checkpoint.training_state import latest_state
    from s3prl_aalbert.experiments.pretraining import build
    from s3prl_aalbert.pretrain.request import Request

    state = latest_state(run) if run.is_dir() else run
    if state is None or not state.is_file():
        raise AalbertError(f"{run}: no training state (states-*.ckpt) of a supernet there")
    trainer = build(Request(past_exp=str(state), speech=speech, device=device, dry_run=True))
    if trainer.config.supernet is None:
        raise AalbertError(f"{state}: was trained without a section supernet: it has no sub-networks to search")
    if not trainer.corpus.split("dev"):
        raise AalbertError(f"{state}: its corpus has no dev split to evaluate on; give --speech")
    trainer.add_units()  # a dry run has arbitrary ones
    return trainer


def _shown_loss(trainer: Pretrainer, progress: tqdm) -> Callable[[Architecture], float]:
    """Return the function of a sub-network's dev loss, which shows in a bar how many there are and the best of them."""
    losses: list[float] = []

    def loss(arch: Architecture) -> float:
        losses.append(trainer.dev_loss(arch))
        progress.set_postfix_str(f"best dev loss {min(losses):.4f}")
        progress.update()
        return losses[-1]

    return loss


def _write(output: Path, found: list[Candidate], unit: str) -> None:
    from s3prl_aalbert.compress.search import pareto, table
    from s3prl_aalbert.files import write_atomically, write_text
    from s3prl_aalbert.model.sub_network import architecture_yaml
    from s3prl_aalbert.report.model_figures import draw_pareto

    front = pareto(found)
    for name, candidates in (("candidates.csv", found), ("pareto.csv", front)):
        write_text(output / name, table(candidates, unit))
    write_atomically(output / "pareto.png", lambda path: draw_pareto(found, front, unit).savefig(path, format="png"))
    best = front[-1]
    write_text(output / "arch.yaml", architecture_yaml(best.arch))
    print(f"best of {len(found)}: dev loss {best.loss:.4f}, {best.cost:g} {unit}\n{architecture_yaml(best.arch)}")
    print(f"wrote {output / 'arch.yaml'}, pareto.csv, pareto.png, candidates.csv")
