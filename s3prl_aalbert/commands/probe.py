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
    """Probe and return the experiment folder, which holds probes.csv.

    Raises:
        AalbertError: a mistake in the options, the configuration or the data.
        SystemExit: with EXIT_STOPPED where a signal ended the training, which has saved.
    """
    from s3prl_aalbert.toolkit.experiments import find_past_experiment, place_of
    from s3prl_aalbert.toolkit.launch import run

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not (args.expname or args.expdir):
        raise AalbertError("name the experiment with -n NAME (saved at result/downstream/NAME) or -p DIR")
    expdir = place_of(vars(args))
    past = find_past_experiment({"expdir": str(expdir), "auto_resume": args.auto_resume})
    tasks = _checked_tasks(args.task)
    if past and tasks:
        _compare(tasks, past)
    chosen = f"config.downstream_expert.modelrc.tasks={tasks}" if tasks and not past else None
    code = run(_argv(args, expdir, [text for text in (chosen, args.override) if text]))
    if code:
        raise SystemExit(code)
    return expdir


def _checked_tasks(typed: str | None) -> list[str]:
    tasks = [task.strip() for task in (typed or "").split(",") if task.strip()]
    for task in tasks:
        if task not in TASKS:
            raise AalbertError(f"--task {task}: unknown{did_you_mean(task, TASKS)}; expected {' or '.join(TASKS)}")
    return tasks


def _compare(tasks: Sequence[str], past: Path) -> None:
    """Raise AalbertError where a run that goes on probes other tasks than those typed."""
    from s3prl_aalbert.toolkit.resume import load_experiment

    try:
        recorded = load_experiment(past)["Config"]["downstream_expert"]["modelrc"].get("tasks") or list(TASKS)
    except (LookupError, TypeError, AttributeError) as error:
        raise AalbertError(f"{past}: is no probing run; choose another -n") from error
    if sorted(tasks) != sorted(recorded):
        raise AalbertError(
            f"--task {','.join(tasks)}: {past} probes {','.join(recorded)}; leave it out, or choose another -n"
        )


def _argv(args: argparse.Namespace, expdir: Path, overrides: Sequence[str]) -> list[str]:
    argv = ["-m", "train", "-d", "aalbert_probe", "-p", str(expdir)]
    options = {"-u": args.upstream, "-k": args.upstream_ckpt, "-g": args.upstream_model_config, "-c": args.config}
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
