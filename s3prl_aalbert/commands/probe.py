"""``aalbert probe``: all layers x classifiers x tasks in one run of S3PRL's runner."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_aalbert.errors import AalbertError, did_you_mean
from s3prl_aalbert.printable import printable_lines

if TYPE_CHECKING:
    from s3prl_aalbert.downstream.results import ProbeResult

EXAMPLES = """\
examples:
  aalbert probe -u aalbert_local -k CKPT --task phone,speaker -c aalbert_probe_timit -n probe
  aalbert probe -u fbank --task phone -c aalbert_probe_timit -n probe_fbank
  aalbert probe -n probe -a      # go on after an interruption
"""

TASKS = ("phone", "speaker")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("-u", "--upstream", help="any upstream of S3PRL or of this plugin; with -a that of the run that goes on")
    add("-k", "--upstream_ckpt", metavar="CKPT", help="its checkpoint, where it takes one")
    add("-g", "--upstream_model_config", metavar="YAML", help="its configuration, where it takes one")
    add("--task", help="phone, speaker (frame-level), or both with a comma (default)")
    add("-c", "--config", metavar="YAML", help="a path or a packaged name; default: aalbert_probe")
    add("-n", "--expname", metavar="NAME", help="save at result/downstream/NAME")
    add("-p", "--expdir", metavar="DIR", help="save at DIR")
    add("-a", "--auto_resume", action="store_true", help="resume if the experiment has a checkpoint")
    add("-o", "--override", metavar="TEXT", help="as in `aalbert downstream`")
    add("--seed", type=int, help="default: 1337")
    add("--device", help="cuda or cpu; default: cuda if there is one")


def main(args: argparse.Namespace) -> int:
    """Probe and print the table."""
    from s3prl_aalbert.downstream.results import read_probes

    print(printable_lines(format_probes(read_probes(run_probes(args)))))
    return 0


def run_probes(args: argparse.Namespace) -> Path:
    """Probe and return the experiment folder, which holds probes.csv."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not (args.expname or args.expdir):
        raise AalbertError("name the experiment with -n NAME (saved at result/downstream/NAME) or -p DIR")
    expdir = Path(args.expdir) if args.expdir else Path("result/downstream") / args.expname

    from s3prl_aalbert import toolkit

    toolkit.activate()
    from s3prl_aalbert.toolkit.all_layers import measure_layers, register_all_layers
    from s3prl_aalbert.toolkit.checks import check_upstream
    from s3prl_aalbert.toolkit.experiments import find_past_experiment
    from s3prl_aalbert.toolkit.launch import run

    past = find_past_experiment({"expdir": str(expdir), "auto_resume": args.auto_resume})
    if past is None and not args.upstream:
        raise AalbertError("-u is missing: expected the upstream to probe, e.g. -u aalbert_local")
    tasks, name = _tasks(args.task, past), None
    overrides = [args.override] if args.override else []
    if args.upstream:
        check_upstream(args.upstream, args.upstream_ckpt, args.upstream_model_config)
        name = register_all_layers(args.upstream)
    if past is None:
        widths = measure_layers(str(name), args.upstream_ckpt, args.upstream_model_config)
        overrides = [*_own_overrides(tasks, widths), *overrides]
    run(_argv(args, name, _config(args.config, past), expdir, overrides))
    return expdir


def _tasks(typed: str | None, past: Path | None) -> list[str]:
    """Return the tasks to probe: those typed, those of the run that goes on, or all."""
    from s3prl_aalbert.toolkit.resume import load_experiment

    tasks = [task.strip() for task in (typed or "").split(",") if task.strip()]
    for task in tasks:
        if task not in TASKS:
            raise AalbertError(f"--task {task}: unknown{did_you_mean(task, TASKS)}; expected {' or '.join(TASKS)}")
    if past is None:
        return tasks or list(TASKS)
    try:
        recorded = list(load_experiment(past)["Config"]["downstream_expert"]["modelrc"]["tasks"])
    except (LookupError, TypeError) as error:
        raise AalbertError(f"{past}: is no probing run; choose another -n") from error
    if tasks and sorted(tasks) != sorted(recorded):
        raise AalbertError(f"--task {typed}: {past} probes {','.join(recorded)}; leave it out, or choose another -n")
    return recorded


def _config(typed: str | None, past: Path | None) -> Path | None:
    """Return the configuration; None where a run goes on with its own."""
    from s3prl_aalbert.config import find_config

    return None if past and not typed else find_config(typed or "aalbert_probe", "downstream_configs")


def _own_overrides(tasks: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        f"config.downstream_expert.modelrc.tasks={list(tasks)}",
        f"config.downstream_expert.modelrc.layer_dims={list(widths)}",
    ]


def _argv(
    args: argparse.Namespace, name: str | None, config: Path | None, expdir: Path, overrides: Sequence[str]
) -> list[str]:
    argv = ["-m", "train", "-d", "aalbert_probe", "-p", str(expdir)]
    options = {"-u": name, "-k": args.upstream_ckpt, "-g": args.upstream_model_config, "-c": config}
    for flag, value in {**options, "--device": args.device, "--seed": args.seed}.items():
        argv += [flag, str(value)] if value is not None else []
    argv += ["-a"] if args.auto_resume else []
    return [*argv, *(["-o", ",,".join(overrides)] if overrides else [])]


def format_probes(probes: Sequence[ProbeResult]) -> str:
    """Return probes as a table for the terminal: test accuracy by layer and classifier, a block a task."""
    lines = []
    for task in dict.fromkeys(probe.task for probe in probes):
        own = [probe for probe in probes if probe.task == task]
        classifiers = list(dict.fromkeys(probe.classifier for probe in own))
        lines += ["", f"{task}: test accuracy (%) by hidden state; 0 is the first, of our models the input embedding"]
        lines.append("layer  " + "  ".join(f"{name:>8}" for name in classifiers))
        for layer in dict.fromkeys(probe.layer for probe in own):
            found = {probe.classifier: probe.test_acc for probe in own if probe.layer == layer}
            cells = [found.get(name) for name in classifiers]
            values = [" " * 8 if value is None else f"{100 * value:8.2f}" for value in cells]
            lines.append(f"{layer:>5}  " + "  ".join(values))
    return "\n".join(lines)
