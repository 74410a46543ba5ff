"""``aalbert probe``: all layers x classifiers x tasks in one run of S3PRL's runner."""

from __future__ import annotations

import argparse
from pathlib import Path

from s3prl_aalbert.printable import printable_lines
from s3prl_aalbert.typed_options import add_options, call

EXAMPLES = """\
examples:
  aalbert probe -u aalbert_local -k CKPT --task phone,speaker -c aalbert_probe_timit -n probe
  aalbert probe -u fbank --task phone -c aalbert_probe_timit -n probe_fbank
  aalbert probe -n probe -a      # go on after an interruption
"""


def probe(
    *,
    upstream: str | None = None,
    upstream_ckpt: str | None = None,
    upstream_model_config: str | None = None,
    task: str | None = None,
    config: str | None = None,
    expname: str | None = None,
    expdir: str | None = None,
    auto_resume: bool = False,
    override: str | None = None,
    seed: int | None = None,
    device: str | None = None,
) -> Path:
    """Train a probe on every hidden state of an upstream and return the experiment folder, which holds probes.csv.

    Args:
        upstream: any upstream of S3PRL or of this plugin; with -a that of the resumed run
        upstream_ckpt: its checkpoint, if it takes one
        upstream_model_config: its configuration, if it takes one
        task: phone, speaker (frame-level), or both with a comma (default)
        config: a path or a packaged name; default: aalbert_probe
        expname: save at result/downstream/NAME
        expdir: save at DIR
        auto_resume: resume if the experiment has a checkpoint
        override: as in `aalbert downstream`
        seed: default: 1337
        device: cuda or cpu; default: cuda if there is one

    Raises:
        AalbertError: a mistake in the options, the configuration or the data.
        SystemExit: with EXIT_STOPPED where a signal ended the training, which has saved.
    """
    options = locals()
    from s3prl_aalbert.toolkit.probe_runs import ProbeOptions, run_probes

    return run_probes(ProbeOptions(**options))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    metavars = {"upstream_ckpt": "CKPT", "upstream_model_config": "YAML", "config": "YAML", "expname": "NAME"}
    add_options(parser, probe, metavars=metavars | {"expdir": "DIR", "override": "TEXT"})


def main(args: argparse.Namespace) -> int:
    """Probe, print the table and return 0."""
    from s3prl_aalbert.downstream.probe.table import format_probes
    from s3prl_aalbert.downstream.result_tables import read_probes

    print(printable_lines(format_probes(read_probes(call(probe, args)))))
    return 0
