"""Processor time from Enter to the first training step of the demo's phoneme task, of several checkouts in turns.

    python benchmarks/start_time.py . ../another-checkout
    python -X importtime -m s3prl_aalbert downstream ...   # what of it is importing

One thread; what the machine does besides falls out of processor time, and out of the ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from subprocess import DEVNULL

# S3PRL clips gradients right before the optimiser's step, and nothing else here does.
UNTIL_STEP = """
import os, sys, time
from s3prl_aalbert.cli import main

class Finder:
    def find_spec(self, name, *_):
        if name == "tensorboardX":  # which S3PRL's runner imports, after torch
            import torch
            def stop(*args, **options):
                print(time.process_time(), flush=True)
                os._exit(0)
            torch.nn.utils.clip_grad_norm_ = stop

sys.meta_path.insert(0, Finder())
main(sys.argv[1:])
"""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="+", type=Path, help="of this repository; the first is compared with each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, help="CSV of the first checkout")
    return parser.parse_args(argv)


def seconds(checkout: Path, command: Sequence[str], folder: Path) -> float:
    """Return the processor time of one command up to its first step or its end."""
    variables = {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    command = [sys.executable, "-W", "ignore", "-c", UNTIL_STEP, *command]
    with subprocess.Popen(command, cwd=folder, env=os.environ | variables, stdout=DEVNULL, stderr=DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # so that nothing waits for it again
    return usage.ru_utime + usage.ru_stime


def commands(speech: Path) -> dict[str, list[str]]:
    """Return what is measured."""
    task = ["downstream", "-m", "train", "-u", "aalbert_tiny", "-d", "aalbert_phone", "-c", "aalbert_phone_demo"]
    audio = ["--device", "cpu", "-o", f"config.downstream_expert.datarc.audio={str(speech)!r}"]
    return {
        "to the first step": [*task, *audio],
        "a mistake in an option": [*task, *audio, "--no-such-option"],
        "help": ["downstream", "--help"],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    from s3prl_aalbert.downstream.result_tables import write_csv
    from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus

    args = parse(argv)
    times: dict[tuple[str, Path], list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured = commands(synthesise_corpus(folder / "speech", seed=0))
        for number in range(args.rounds):
            for index, checkout in enumerate(args.checkouts):
                for what, command in measured.items():
                    place = ["-n", f"{index}-{number}"] if what != "help" else []
                    found = seconds(checkout, [*command, *place], folder)
                    times.setdefault((what, checkout), []).append(found)
    rows = []
    for (what, checkout), found in times.items():
        base = times[what, args.checkouts[0]]
        ratios = [each / ours for each, ours in zip(found, base, strict=True)]
        print(
            f"{what}, {checkout}: {statistics.median(found):.2f} s ({min(found):.2f} to {max(found):.2f}), "
            f"{statistics.median(ratios):.2f} times the first ({min(ratios):.2f} to {max(ratios):.2f})"
        )
        if checkout == args.checkouts[0]:
            rows.append([what, *(f"{value:.3f}" for value in (statistics.median(found), min(found), max(found)))])
    if args.output:
        write_csv(args.output, [["what", "median", "min", "max"], *rows])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
