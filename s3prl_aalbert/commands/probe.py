"""``aalbert probe``: all layers x classifiers x tasks in one run of S3PRL's runner."""

from __future__ import annotations

import argparse
import csv
import logging
from collections.abc import Sequence
from pathlib import Path

from s3prl_aalbert.errors import AalbertError, did_you_mean

EXAMPLES = """\
examples:
  aalbert probe -u aalbert_local -k CKPT --task phone,speaker -c aalbert_probe_timit -n probe
  aalbert probe -u fbank --task phone -c aalbert_probe_timit -n probe_fbank
  aalbert probe -u aalbert_local -k CKPT -n probe -a      # go on after an interruption
"""

TASKS = ("phone", "speaker")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("-u", "--upstream", required=True, help="any upstream of S3PRL or of this plugin")
    add("-k", "--upstream_ckpt", metavar="CKPT")
    add("-g", "--upstream_model_config", metavar="YAML")
    add("--task", default="phone,speaker", help="phone, speaker (frame-level), or both with a comma (default)")
    add("-c", "--config", default="aalbert_probe", metavar="YAML", help="a path or a packaged name (aalbert_probe)")
    add("-n", "--expname", metavar="NAME", help="save at result/downstream/NAME")
    add("-p", "--expdir", metavar="DIR", help="save at DIR")
    add("-a", "--auto_resume", action="store_true", help="resume if the experiment has a checkpoint")
    add("-o", "--override", metavar="TEXT", help="as in `aalbert downstream`")
    add("--seed", type=int, default=1337)
    add("--device")


def main(args: argparse.Namespace) -> int:
    """Probe and print the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tasks = [task.strip() for task in args.task.split(",") if task.strip()]
    for task in tasks:
        if task not in TASKS:
            raise AalbertError(f"--task {task}: unknown{did_you_mean(task, TASKS)}; expected {' or '.join(TASKS)}")
    if not (args.expname or args.expdir):
        raise AalbertError("name the experiment with -n NAME (saved at result/downstream/NAME) or -p DIR")
    expdir = Path(args.expdir) if args.expdir else Path("result/downstream") / args.expname

    from s3prl_aalbert import toolkit
    from s3prl_aalbert.config import find_config

    config = find_config(args.config, "downstream_configs")
    toolkit.activate()
    from s3prl_aalbert.toolkit.all_layers import measure_layers, register_all_layers
    from s3prl_aalbert.toolkit.checks import check_upstream
    from s3prl_aalbert.toolkit.runner import run

    check_upstream(args.upstream, args.upstream_ckpt, args.upstream_model_config)
    name = register_all_layers(args.upstream)
    widths = measure_layers(name, args.upstream_ckpt, args.upstream_model_config)
    run(
        _argv(args, name, config, expdir, [*_own_overrides(tasks, widths), *([args.override] if args.override else [])])
    )
    print(format_probes(expdir / "probes.csv"))
    return 0


def _own_overrides(tasks: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        f"config.downstream_expert.modelrc.tasks={list(tasks)}",
        f"config.downstream_expert.modelrc.layer_dims={list(widths)}",
    ]


def _argv(args: argparse.Namespace, name: str, config: Path, expdir: Path, overrides: Sequence[str]) -> list[str]:
    argv = ["-m", "train", "-u", name, "-d", "aalbert_probe", "-c", str(config), "-p", str(expdir)]
    for flag, value in (("-k", args.upstream_ckpt), ("-g", args.upstream_model_config), ("--device", args.device)):
        argv += [flag, value] if value else []
    argv += ["-a"] if args.auto_resume else []
    return [*argv, "--seed", str(args.seed), "-o", ",,".join(overrides)]


def format_probes(path: Path) -> str:
    """Return probes.csv as a table for the terminal: test accuracy by layer and classifier, a block a task."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = []
    for task in dict.fromkeys(row["task"] for row in rows):
        classifiers = list(dict.fromkeys(row["classifier"] for row in rows if row["task"] == task))
        lines += ["", f"{task}: test accuracy (%) by layer; 0 is the input embedding"]
        lines.append("layer  " + "  ".join(f"{name:>8}" for name in classifiers))
        for layer in dict.fromkeys(row["layer"] for row in rows if row["task"] == task):
            cells = [r for r in rows if r["task"] == task and r["layer"] == layer]
            values = [f"{100 * float(r['test_acc']):8.2f}" if r["test_acc"] else " " * 8 for r in cells]
            lines.append(f"{layer:>5}  " + "  ".join(values))
    return "\n".join(lines)
