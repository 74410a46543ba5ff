"""``aalbert demo``: pre-train, three tasks, probing and the report, each step the command a user would type."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.printable import printable, printable_lines

EXAMPLES = """\
examples:
  aalbert demo                              # embedded synthetic voices, no download
  aalbert demo --speech my_speech           # your own: SPEAKER/*.wav, phone labels as *.phn beside some of it or none
  aalbert demo --steps 2000 -o result/demo2
"""

MAX_TOGETHER = 2
"""Steps at a time: each holds its own copy of torch and s3prl in memory (about 1 GB)."""
RECORD = "demo.json"
SYNTHETIC_NOTE = "synthetic voices: this shows that everything works, not how good the representations are"


@dataclass(frozen=True)
class Step:
    """One command of the demo."""

    name: str
    argv: tuple[str, ...]
    """Arguments of `aalbert`."""
    live: bool = False
    """Show its progress bar instead of only logging."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--speech", nargs="+", metavar="DIR", help="run on real speech below these folders")
    add(
        "-o",
        "--output",
        metavar="DIR",
        help="where everything is written (result/demo, result/demo_speech with --speech)",
    )
    add("--steps", type=int, help="pre-training steps (600; 1500 with --speech)")
    add("--max-speakers", type=int, default=20, help="speakers in the speaker tasks on real speech (20)")
    add("--seed", type=int, default=1337, help="of everything that is drawn; default: %(default)s")


def main(args: argparse.Namespace) -> int:
    """Run the demo and return the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from s3prl_aalbert.checkpoint import write_text
    from s3prl_aalbert.demo_speech import prepare_real, prepare_synthetic

    default = "result/demo_speech" if args.speech else "result/demo"
    output = Path(args.output or default).expanduser().absolute()
    _check_same_demo(args, output)
    started = time.monotonic()
    print(printable(f"AALBERT demo, everything goes to {output}"))
    if args.speech:
        speech = prepare_real([Path(d) for d in args.speech], output / "speech", args.max_speakers)
    else:
        print(f"  ({SYNTHETIC_NOTE})")
        speech = prepare_synthetic(output / "speech", args.seed)
    print(printable(f"  speech: {speech.description}"))
    write_text(output / RECORD, json.dumps(_choices(args), indent=1))
    steps = plan(args, speech.pretraining, speech.phones, speech.speakers, output)
    pretrain, *others = steps
    run_step(pretrain, output, threads=None)
    run_together(others, output)
    return _finish(output, speech.speakers, speech.description, started)


def _choices(args: argparse.Namespace) -> dict[str, Any]:
    """Return what decides a demo's results."""
    speech = [str(Path(folder).expanduser().resolve()) for folder in args.speech or ()]
    return {"speech": speech, "steps": _steps(args), "max_speakers": args.max_speakers, "seed": args.seed}


def _steps(args: argparse.Namespace) -> int:
    return args.steps or (1500 if args.speech else 600)


def _check_same_demo(args: argparse.Namespace, output: Path) -> None:
    """Refuse to go on with a demo of other speech or settings: its finished steps would stay as they are.

    Raises:
        AalbertError: the folder holds one.
    """
    from s3prl_aalbert.yaml_config import shown

    record, choices = output / RECORD, _choices(args)
    try:
        earlier = dict(json.loads(record.read_text(encoding="utf-8"))) if record.is_file() else choices
    except (TypeError, ValueError):
        earlier = {}
    other = [name for name in {**choices, **earlier} if earlier.get(name) != choices.get(name)]
    if other:
        told = ", ".join(f"{name} {shown(earlier.get(name))} instead of {shown(choices.get(name))}" for name in other)
        raise AalbertError(f"{output}: holds a demo with {told}; give another folder with -o")


def plan(
    args: argparse.Namespace, pretraining: Sequence[Path], phones: Path | None, speakers: Path | None, output: Path
) -> list[Step]:
    """List the demo's commands; a task without speech (None) is left out."""
    model = output / "pretrain"
    pretrain = Step(
        "pre-train a small AALBERT",
        (
            *("pretrain", "-g", "demo", "-c", "pretrain_demo", "-p", str(model), "-a", "--seed", str(args.seed)),
            *("-o", f"config.runner.total_steps={_steps(args)}", "--speech", *map(str, pretraining)),
        ),
        live=True,
    )
    upstreams = {"aalbert": ("-u", "aalbert_local", "-k", str(model)), "features": ("-u", "aalbert_features")}
    tasks = {"aalbert_phone": phones, "aalbert_speaker_utterance": speakers, "aalbert_speaker_frame": speakers}
    result = [pretrain]
    for task, folder in tasks.items():
        for name, upstream in upstreams.items() if folder else ():
            # CMVN takes from the features what tells speakers apart: their baseline takes the features without it.
            select = ("-s", "no_cmvn") if name == "features" and "speaker" in task else ()
            result.append(
                Step(
                    f"{task} on {name}",
                    (
                        *("downstream", "-m", "train", *upstream, *select, "-d", task, "-c", f"{task}_demo"),
                        *("-p", str(output / "tasks" / f"{task}-{name}"), "-a", "--seed", str(args.seed)),
                        *("-o", f"config.downstream_expert.datarc.audio={str(folder)!r}"),
                    ),
                )
            )
    probed = {name: folder for name, folder in (("phone", phones), ("speaker", speakers)) if folder}
    datarc = "config.downstream_expert.datarc"
    audio = ",,".join(f"{datarc}.{name}.audio={str(folder)!r}" for name, folder in probed.items())
    probe = ("probe", *upstreams["aalbert"], "--task", ",".join(probed), "-c", "aalbert_probe_demo")
    probe += ("-p", str(output / "probe"), "-a", "--seed", str(args.seed), "-o", audio)
    return [*result, Step("probe every layer", probe)]


def run_together(steps: Sequence[Step], output: Path) -> None:
    """Run independent commands side by side.

    Raises:
        AalbertError: one failed; those that run already are waited for.
    """
    cores = os.cpu_count() or 1
    workers = min(MAX_TOGETHER, cores)
    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(run_step, step, output, max(1, cores // workers)) for step in steps]:
            future.result()


def run_step(step: Step, output: Path, threads: int | None) -> None:
    """Run one command, its output kept in a log file.

    Args:
        step: the command.
        output: the demo's folder.
        threads: how many threads it may compute with; None lets it use every core.

    Raises:
        AalbertError: it failed; the end of its log is part of the message.
    """
    log = output / "logs" / f"{step.name.replace(' ', '_')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"  {step.name} ...", flush=True)
    command = [sys.executable, "-m", "s3prl_aalbert", *step.argv]
    started = time.monotonic()
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    with log.open("w", encoding="utf-8") as file:
        file.write(shlex.join(["aalbert", *step.argv]) + "\n")
        file.flush()
        stderr = None if step.live else subprocess.STDOUT
        code = subprocess.run(command, stdout=file, stderr=stderr, env=environment, check=False).returncode
    if code:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])
        print(printable_lines(tail), file=sys.stderr)
        raise AalbertError(f'step "{step.name}" ended with code {code}; above is the end of {log}')
    print(f"  {step.name}: done in {time.monotonic() - started:.0f} s", flush=True)


def _finish(output: Path, speakers: Path | None, description: str, started: float) -> int:
    from s3prl_aalbert.report.tsne import TsneRequest
    from s3prl_aalbert.report.write import summarise_runs, write_report

    print("writing the report ...", flush=True)
    runs = [output / "pretrain", output / "tasks", output / "probe"]
    summary = summarise_runs(runs)
    tsne = TsneRequest(checkpoint=output / "pretrain", speech=(speakers,)) if speakers else None
    page = write_report(runs, output / "report", "AALBERT demo", f"Speech: {description}.", tsne, summary)
    print(f"\n{summary.table()}\n\nreport: {page}\ntotal: {(time.monotonic() - started) / 60:.1f} minutes")
    return 0
