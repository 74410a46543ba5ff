"""``aalbert demo``: pre-train, three tasks, probing and the report, each step the command a user would type."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from s3prl_aalbert.errors import EXIT_INTERRUPTED, EXIT_STOPPED
from s3prl_aalbert.typed_options import add_options, call

EXAMPLES = """\
examples:
  aalbert demo                              # embedded synthetic voices, no download
  aalbert demo --speech my_speech           # your own: SPEAKER/*.wav, phone labels as *.phn beside some of it or none
  aalbert demo --steps 2000 -o result/demo2
"""


def demo(
    *,
    speech: list[Path] | None = None,
    output: Path | None = None,
    steps: int | None = None,
    max_speakers: int = 20,
    seed: int = 1337,
) -> int:
    """Run the whole path on synthetic or real speech and return the exit code; a second call resumes it.

    Args:
        speech: run on real speech below these folders
        output: folder of everything that is written; default: result/demo, with --speech result/demo_speech
        steps: pre-training steps; default: 600 in at most 2.7 minutes, with --speech 1500 in at most 6
        max_speakers: speakers in the speaker tasks on real speech
        seed: for everything random

    Raises:
        AalbertError: unusable speech, a step that failed, or a folder with another demo.
    """
    from s3prl_aalbert.pretrain.signals import Stopped, StopSignal

    folder = output or Path("result/demo_speech" if speech else "result/demo")
    with StopSignal() as stop:  # before torch is imported, which takes seconds
        try:
            from s3prl_aalbert.experiments.demo import DemoOptions, run_demo

            options = DemoOptions(tuple(speech or ()), steps, max_speakers, seed)
            run_demo(options, folder.expanduser().absolute(), stop)
            return 0
        except KeyboardInterrupt as signal:
            print("\nstopped; what is done is kept, and the same command goes on from here", file=sys.stderr)
            return EXIT_STOPPED if isinstance(signal, Stopped) else EXIT_INTERRUPTED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_options(parser, demo, {"output": ("-o", "--output")}, {"speech": "DIR", "output": "DIR"})


def main(args: argparse.Namespace) -> int:
    """Run the demo and return the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    return call(demo, args)
