"""Runs the demo: pre-training, three tasks, probing and the report, each step a command that a user could type."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from s3prl_aalbert.checkpoint.interop.releases import write_untrained
from s3prl_aalbert.checkpoint.published import packaged_folder
from s3prl_aalbert.checkpoint.release import CARD_FILE, load_checkpoint
from s3prl_aalbert.downstream.result_tables import PROBES_FILE
from s3prl_aalbert.downstream.results import RESULTS_FILE, RunResults
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.experiments.demo_speech import DemoSpeech, prepare_real, prepare_synthetic
from s3prl_aalbert.experiments.demo_steps import Step, StepRunner
from s3prl_aalbert.files import write_text
from s3prl_aalbert.pretrain.signals import StopSignal
from s3prl_aalbert.printable import printable
from s3prl_aalbert.report.tsne import TsneRequest
from s3prl_aalbert.report.write import summarise_runs, write_report
from s3prl_aalbert.yaml_config import shown

MAX_TOGETHER = 2
"""Number of steps at a time; each has its own copy of torch and s3prl in memory (about 1 GB)."""
RECORD = "demo.json"
CACHE = "cache"
"""Folder of each model's features of the speech; removed when all steps are done."""
PRETRAINED, UNTRAINED = "pretrained", "untrained"
"""Folders of the demo's own model and of the same one with random weights."""
STEPS, MAX_HOURS = 600, 0.045
"""Limits of pre-training in steps and hours, of which the first counts; --steps has no limit of time."""
STEPS_OF_SPEECH, MAX_HOURS_OF_SPEECH = 1500, 0.1
"""The same for real speech."""
SYNTHETIC_NOTE = "synthetic voices: this shows that everything works, not how good the representations are"
NAMES = {
    "features": "input features",
    UNTRAINED: "the same model untrained",
    PRETRAINED: "the model pre-trained here",
    "aalbert": "the packaged aalbert_units",
}
"""The models that the tasks compare, with their names in the terminal."""
TASKS = {
    "aalbert_phone": "phones",
    "aalbert_speaker_utterance": "speaker of an utterance",
    "aalbert_speaker_frame": "speaker of a frame",
}


@dataclass(frozen=True)
class DemoOptions:
    """The options that determine a demo's results."""

    speech: tuple[Path, ...] = ()
    """Folders of real speech; empty for synthetic voices."""
    steps: int | None = None
    """Steps of pre-training; None: ``STEPS`` or ``STEPS_OF_SPEECH``, within the limit of time."""
    max_speakers: int = 20
    """Largest number of speakers in the speaker tasks on real speech."""
    seed: int = 1337


def run_demo(options: DemoOptions, output: Path, stop: StopSignal) -> None:
    """Run the unfinished steps, then print the table, its summary and the place of the report.

    Args:
        options: the options that determine the results.
        output: where everything is written.
        stop: records a signal that asks the demo to stop.

    Raises:
        AalbertError: the speech is unusable, a step failed, or the folder has a demo with other options.
        KeyboardInterrupt: Ctrl-C, or another signal (``Stopped``).
    """
    _check_same_demo(options, output)
    started = time.monotonic()
    print(printable(f"AALBERT demo; results go to {output}, and the output of each step to {output / 'logs'}"))
    if options.speech:
        speech = prepare_real(options.speech, output / "speech", options.max_speakers)
    else:
        print(f"  ({SYNTHETIC_NOTE})")
        speech = prepare_synthetic(output / "speech", options.seed)
    print(printable(f"  speech: {speech.description}"), flush=True)
    write_text(output / RECORD, json.dumps(_choices(options), indent=1))
    pretrain, *others = plan(options, speech, output)
    runner = StepRunner(output, len(others) + 2, stop)
    runner.run([pretrain])
    if not (output / UNTRAINED / CARD_FILE).is_file():  # the card is written last
        write_untrained(load_checkpoint(output / PRETRAINED), output / UNTRAINED, options.seed)
    runner.run(others, min(MAX_TOGETHER, os.cpu_count() or 1))
    shutil.rmtree(output / CACHE, ignore_errors=True)
    _finish(output, speech, started, runner.title("report"))


def _choices(options: DemoOptions) -> dict[str, Any]:
    """Return the options for the record, with absolute paths of folders."""
    return {**asdict(options), "speech": [str(folder.expanduser().resolve()) for folder in options.speech]}


def _check_same_demo(options: DemoOptions, output: Path) -> None:
    """Refuse to continue a demo of other speech or settings, whose finished steps would not change.

    Raises:
        AalbertError: the folder holds such a demo.
    """
    record, choices = output / RECORD, _choices(options)
    try:
        earlier = dict(json.loads(record.read_text(encoding="utf-8"))) if record.is_file() else choices
    except (TypeError, ValueError):
        earlier = {}
    other = [name for name in {**choices, **earlier} if earlier.get(name) != choices.get(name)]
    if other:
        differences = ", ".join(
            f"{name} {shown(earlier.get(name))} instead of {shown(choices.get(name))}" for name in other
        )
        raise AalbertError(f"{output}: holds a demo with {differences}; give another folder with -o")


def plan(options: DemoOptions, speech: DemoSpeech, output: Path) -> list[Step]:
    """List the demo's commands; tasks without speech are skipped, and the untrained model is only in the phone task."""
    result = [_pretraining(options, speech, output)]
    for task in TASKS:
        folder = speech.phones if task == "aalbert_phone" else speech.speakers
        models = [model for model in NAMES if model != UNTRAINED or task == "aalbert_phone"]
        result += [_task(options, task, model, folder, output) for model in models if folder]
    return [*result, _probing(options, speech, output)]


def _pretraining(options: DemoOptions, speech: DemoSpeech, output: Path) -> Step:
    model = output / PRETRAINED
    steps, hours = (STEPS_OF_SPEECH, MAX_HOURS_OF_SPEECH) if options.speech else (STEPS, MAX_HOURS)
    limits = {"total_steps": options.steps or steps, "max_hours": "null" if options.steps else hours}
    override = ",,".join(f"config.runner.{key}={value}" for key, value in limits.items())
    argv = ("pretrain", "-g", "demo", "-c", "pretrain_demo", "-p", str(model), "-a", "--seed", str(options.seed))
    return Step(
        "pre-train a small AALBERT",
        (*argv, "-o", override, "--speech", *map(str, speech.pretraining)),
        model / "model.safetensors",
    )


def _upstream(model: str, task: str, output: Path) -> tuple[str, ...]:
    """Return the options of a model in the tasks."""
    if model == "features":
        # CMVN removes most of the speaker from the features, so that the baseline uses features without it.
        return ("-u", "aalbert_features", *(("-s", "no_cmvn") if "speaker" in task else ()))
    return ("-u", model) if model == "aalbert" else ("-u", "aalbert_local", "-k", str(output / model))


def _task(options: DemoOptions, task: str, model: str, folder: Path, output: Path) -> Step:
    expdir = output / "tasks" / f"{task}-{model}"
    return Step(
        f"{TASKS[task]}: {NAMES[model]}",
        (
            *("downstream", "-m", "train", *_upstream(model, task, output), "-d", task, "-c", f"{task}_demo"),
            *("-p", str(expdir), "-a", "--seed", str(options.seed)),
            *("-o", f"config.downstream_expert.datarc.audio={str(folder)!r}{_cache(options, output)}"),
        ),
        expdir / RESULTS_FILE,
    )


def _cache(options: DemoOptions, output: Path) -> str:
    """Return the override that caches features of synthetic speech; those of real speech might fill the disk."""
    return "" if options.speech else f",,config.runner.feature_cache={str(output / CACHE)!r}"


def _probing(options: DemoOptions, speech: DemoSpeech, output: Path) -> Step:
    probed = {name: folder for name, folder in (("phone", speech.phones), ("speaker", speech.speakers)) if folder}
    datarc = "config.downstream_expert.datarc"
    audio = ",,".join(f"{datarc}.{name}.audio={str(folder)!r}" for name, folder in probed.items())
    expdir = output / "probe"
    argv = (
        *("probe", "-u", "aalbert", "--task", ",".join(probed), "-c", "aalbert_probe_demo"),
        *("-p", str(expdir), "-a", "--seed", str(options.seed), "-o", f"{audio}{_cache(options, output)}"),
    )
    return Step(f"probe every layer of {NAMES['aalbert']}", argv, expdir / PROBES_FILE)


def verdict(output: Path) -> str:
    """Describe the results of the phone task; "" without a phone task."""
    accuracy = {}
    for model in NAMES:
        folder = output / "tasks" / f"aalbert_phone-{model}"
        best = RunResults.read(folder).best if (folder / RESULTS_FILE).is_file() else None
        if best and best.test:
            accuracy[model] = best.test["acc"]
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


def _finish(output: Path, speech: DemoSpeech, started: float, title: str) -> None:
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


def _next_steps(output: Path, speech: DemoSpeech, minutes: float) -> str:
    folder = speech.phones or speech.speakers
    return f"""\
The output of each step is in {output / "logs"}. This run took {minutes:.1f} minutes.

Try next:
  aalbert features -u aalbert {folder} features    # the packaged model's features of these files
  aalbert demo --speech DIR                        # the same on your own speech
  aalbert list models                              # further models; see also README.md and docs/"""
