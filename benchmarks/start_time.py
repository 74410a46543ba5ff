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
    return parser.parse_args(argv)


def seconds(checkout: Path, command: Sequence[str], folder: Path) -> float:
    """Return the processor time of one run up to its first step."""
    variables = {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", UNTIL_STEP, *command],
        cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout.splitlines()[-1])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus

    args = parse(argv)
    times: dict[Path, list[float]] = {checkout: [] for checkout in args.checkouts}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        speech = synthesise_corpus(folder / "speech", seed=0)
        command = ["downstream", "-m", "train", "-u", "aalbert_tiny", "-d", "aalbert_phone", "-c", "aalbert_phone_demo"]
        command += ["--device", "cpu", "-o", f"config.downstream_expert.datarc.audio={str(speech)!r}"]
        for number in range(args.rounds):
            for index, checkout in enumerate(args.checkouts):
                place = ["-n", f"{index}-{number}"]
                times[checkout].append(seconds(checkout, [*command, *place], folder))
    base = times[args.checkouts[0]]
    for checkout, found in times.items():
        ratios = [each / ours for each, ours in zip(found, base, strict=True)]
        print(
            f"{checkout}: {statistics.median(found):.2f} s ({min(found):.2f} to {max(found):.2f}), "
            f"{statistics.median(ratios):.2f} times the first ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
