"""``aalbert demo``: pre-train, three tasks, probing and the report, each step the command a user would type."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3prl_aalbert.errors import EXIT_INTERRUPTED, EXIT_STOPPED, AalbertError
from s3prl_aalbert.printable import printable

if TYPE_CHECKING:
    from s3prl_aalbert.experiments.demo_speech import DemoSpeech
    from s3prl_aalbert.experiments.demo_steps import Step

EXAMPLES = """\
examples:
  aalbert demo                              # embedded synthetic voices, no download
  aalbert demo --speech my_speech           # your own: SPEAKER/*.wav, phone labels as *.phn beside some of it or none
  aalbert demo --steps 2000 -o result/demo2
"""

MAX_TOGETHER = 2
"""Steps at a time: each holds its own copy of torch and s3prl in memory (about 1 GB)."""
RECORD = "demo.json"
CACHE = "cache"
"""What the models made of each utterance; goes when all steps are done."""
PRETRAINED, UNTRAINED = "pretrained", "untrained"
"""Folders of the demo's own model and of the same one with random weights."""
STEPS, MAX_HOURS = 600, 0.045
"""Pre-training ends at whichever comes first; --steps has no such limit of time."""
STEPS_OF_SPEECH, MAX_HOURS_OF_SPEECH = 1500, 0.1
"""The same of real speech."""
SYNTHETIC_NOTE = "synthetic voices: this shows that everything works, not how good the representations are"
NAMES = {
    "features": "input features",
    UNTRAINED: "the same model untrained",
    PRETRAINED: "the model pre-trained here",
    "aalbert": "the packaged aalbert_units",
}
"""What the tasks compare, and how the terminal calls it."""
TASKS = {
    "aalbert_phone": "phones",
    "aalbert_speaker_utterance": "speaker of an utterance",
    "aalbert_speaker_frame": "speaker of a frame",
}


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
    add("--steps", type=int, help="pre-training steps (600 in at most 2.7 minutes; with --speech 1500 in at most 6)")
    add("--max-speakers", type=int, default=20, help="speakers in the speaker tasks on real speech (20)")
    add("--seed", type=int, default=1337, help="of everything that is drawn; default: %(default)s")


def main(args: argparse.Namespace) -> int:
    """Run the demo and return the exit code."""
    from s3prl_aalbert.pretrain.signals import Stopped, StopSignal

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with StopSignal() as stop:
        try:
            return _run(args, stop)
        except KeyboardInterrupt as signal:
            print("\nstopped; what is done is kept, and the same command goes on from here", file=sys.stderr)
            return EXIT_STOPPED if isinstance(signal, Stopped) else EXIT_INTERRUPTED


def _run(args: argparse.Namespace, stop: Any) -> int:
    from s3prl_aalbert.checkpoint.interop.releases import write_untrained
    from s3prl_aalbert.checkpoint.release import CARD_FILE, load_checkpoint
    from s3prl_aalbert.experiments.demo_speech import prepare_real, prepare_synthetic
    from s3prl_aalbert.experiments.demo_steps import StepRunner
    from s3prl_aalbert.files import write_text

    default = "result/demo_speech" if args.speech else "result/demo"
    output = Path(args.output or default).expanduser().absolute()
    _check_same_demo(args, output)
    started = time.monotonic()
    print(printable(f"AALBERT demo; everything goes to {output}, what each step prints to {output / 'logs'}"))
    if args.speech:
        speech = prepare_real([Path(d) for d in args.speech], output / "speech", args.max_speakers)
    else:
        print(f"  ({SYNTHETIC_NOTE})")
        speech = prepare_synthetic(output / "speech", args.seed)
    print(printable(f"  speech: {speech.description}"), flush=True)
    write_text(output / RECORD, json.dumps(_choices(args), indent=1))
    pretrain, *others = plan(args, speech, output)
    runner = StepRunner(output, len(others) + 2, stop)
    runner.run([pretrain])
    if not (output / UNTRAINED / CARD_FILE).is_file():  # which is written last
        write_untrained(load_checkpoint(output / PRETRAINED), output / UNTRAINED, args.seed)
    runner.run(others, min(MAX_TOGETHER, os.cpu_count() or 1))
    shutil.rmtree(output / CACHE, ignore_errors=True)
    return _finish(output, speech, started, runner.title("report"))


def _choices(args: argparse.Namespace) -> dict[str, Any]:
    """Return what decides a demo's results."""
    speech = [str(Path(folder).expanduser().resolve()) for folder in args.speech or ()]
    return {"speech": speech, "steps": args.steps, "max_speakers": args.max_speakers, "seed": args.seed}


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


def plan(args: argparse.Namespace, speech: DemoSpeech, output: Path) -> list[Step]:
    """List the demo's commands; a task without speech is left out, the untrained model is in the phone task alone."""
    result = [_pretraining(args, speech, output)]
    folders = {
        "aalbert_phone": speech.phones,
        "aalbert_speaker_utterance": speech.speakers,
        "aalbert_speaker_frame": speech.speakers,
    }
    for task, folder in folders.items():
        models = [model for model in NAMES if model != UNTRAINED or task == "aalbert_phone"]
        result += [_task(args, task, model, folder, output) for model in models if folder]
    return [*result, _probing(args, speech, output)]


def _pretraining(args: argparse.Namespace, speech: DemoSpeech, output: Path) -> Step:
    from s3prl_aalbert.experiments.demo_steps import Step

    model = output / PRETRAINED
    steps, hours = (STEPS_OF_SPEECH, MAX_HOURS_OF_SPEECH) if args.speech else (STEPS, MAX_HOURS)
    limits = {"total_steps": args.steps or steps, "max_hours": "null" if args.steps else hours}
    override = ",,".join(f"config.runner.{key}={value}" for key, value in limits.items())
    argv = ("pretrain", "-g", "demo", "-c", "pretrain_demo", "-p", str(model), "-a", "--seed", str(args.seed))
    return Step(
        "pre-train a small AALBERT",
        (*argv, "-o", override, "--speech", *map(str, speech.pretraining)),
        model / "model.safetensors",
    )


def _upstream(model: str, task: str, output: Path) -> tuple[str, ...]:
    """Return the options of one of the models that the tasks compare."""
    if model == "features":
        # CMVN takes from the features what tells speakers apart: their baseline takes the features without it.
        return ("-u", "aalbert_features", *(("-s", "no_cmvn") if "speaker" in task else ()))
    return ("-u", model) if model == "aalbert" else ("-u", "aalbert_local", "-k", str(output / model))


def _task(args: argparse.Namespace, task: str, model: str, folder: Path, output: Path) -> Step:
    from s3prl_aalbert.experiments.demo_steps import Step

    expdir = output / "tasks" / f"{task}-{model}"
    return Step(
        f"{TASKS[task]}: {NAMES[model]}",
        (
            *("downstream", "-m", "train", *_upstream(model, task, output), "-d", task, "-c", f"{task}_demo"),
            *("-p", str(expdir), "-a", "--seed", str(args.seed)),
            *("-o", f"config.downstream_expert.datarc.audio={str(folder)!r}{_cache(args, output)}"),
        ),
        expdir / "results.json",
    )


def _cache(args: argparse.Namespace, output: Path) -> str:
    """Let a model hear each of the synthetic utterances once; what it made of one's own speech may fill a disk."""
    return "" if args.speech else f",,config.runner.feature_cache={str(output / CACHE)!r}"


def _probing(args: argparse.Namespace, speech: DemoSpeech, output: Path) -> Step:
    from s3prl_aalbert.experiments.demo_steps import Step

    probed = {name: folder for name, folder in (("phone", speech.phones), ("speaker", speech.speakers)) if folder}
    datarc = "config.downstream_expert.datarc"
    audio = ",,".join(f"{datarc}.{name}.audio={str(folder)!r}" for name, folder in probed.items())
    expdir = output / "probe"
    argv = (
        *("probe", "-u", "aalbert", "--task", ",".join(probed), "-c", "aalbert_probe_demo"),
        *("-p", str(expdir), "-a", "--seed", str(args.seed), "-o", f"{audio}{_cache(args, output)}"),
    )
    return Step(f"probe every layer of {NAMES['aalbert']}", argv, expdir / "probes.csv")


def verdict(output: Path) -> str:
    """Compare what the phone task gave: in sentences, whichever way it went; nothing without a phone task."""
    accuracy = {}
    for model in NAMES:
        results = output / "tasks" / f"aalbert_phone-{model}" / "results.json"
        if results.is_file():
            accuracy[model] = json.loads(results.read_text(encoding="utf-8"))["best"]["test"]["acc"]
    if len(accuracy) < len(NAMES):
        return ""
    figures = ", ".join(f"{NAMES[model]} {100 * value:.1f} %" for model, value in accuracy.items())
    sentences = [f"Phones, accuracy on the test voices: {figures}"]
    for model in (PRETRAINED, "aalbert"):
        others = (UNTRAINED, "features") if model == PRETRAINED else ("features",)
        parts = [
            f"{'above' if accuracy[model] > accuracy[other] else 'not above'} {NAMES[other]} "
            f"({100 * (accuracy[model] - accuracy[other]):+.1f} points)"
            for other in others
        ]
        sentences.append(f"{NAMES[model][0].upper()}{NAMES[model][1:]} is {' and '.join(parts)}")
    if accuracy[PRETRAINED] <= accuracy["features"]:
        sentences.append("Minutes of pre-training on minutes of speech are too little to beat the input features")
    return ". ".join(sentences) + "."


def _finish(output: Path, speech: DemoSpeech, started: float, title: str) -> int:
    from s3prl_aalbert.checkpoint.published import packaged_folder
    from s3prl_aalbert.report.tsne import TsneRequest
    from s3prl_aalbert.report.write import summarise_runs, write_report

    print(f"{title} ...", flush=True)
    runs = [output / PRETRAINED, output / "tasks", output / "probe"]
    summary = summarise_runs(runs)
    tsne = None
    if speech.speakers:
        speakers = min(TsneRequest.speakers, sum(path.is_dir() for path in speech.speakers.iterdir()))
        tsne = TsneRequest(checkpoint=packaged_folder("aalbert"), speech=(speech.speakers,), speakers=speakers)
    compared = verdict(output)
    note = f"Speech: {speech.description}. {compared}"
    page = write_report(runs, output / "report", "AALBERT demo", note, tsne, summary)
    print(f"\n{summary.table()}\n\n{compared}\n\nOpen {page} in a browser.")
    print(_next_steps(output, speech, (time.monotonic() - started) / 60))
    return 0


def _next_steps(output: Path, speech: DemoSpeech, minutes: float) -> str:
    folder = speech.phones or speech.speakers
    return f"""\
What each step printed: {output / "logs"}. This run took {minutes:.1f} minutes.

Try next:
  aalbert features -u aalbert {folder} features    # the packaged model's features of these files
  aalbert demo --speech DIR                        # the same on speech of your own
  aalbert list models                              # what else there is; README.md and docs/ go on from here"""
