"""Describes runs: their task, their setting, and the configuration keys in which similar runs differ."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from s3prl_aalbert.downstream.pretraining_overlap import UNKNOWN
from s3prl_aalbert.downstream.results import RunnerOptions, flatten
from s3prl_aalbert.report.models import FEATURES, NO_PARAMETERS
from s3prl_aalbert.report.runs import DownstreamRun, ProbeRun, Run

TASK_TITLES = {
    "aalbert_phone": "phonemes",
    "aalbert_speaker_utterance": "speaker, utterance level",
    "aalbert_speaker_frame": "speaker, frame level",
}
REPEAT_WORDS = ("seed", "fold")
"""Keys with these endings distinguish repetitions of one experiment."""
INCIDENTAL_KEYS = frozenset({"num_workers", "train_fraction", "cache", "cache_hours", "eval_batch_size"})
"""Keys that do not distinguish experiments; train_fraction is shown separately."""
TRAINING_KEYS = frozenset({"train_batch_size", "batch_size", "max_seconds", "max_timestep"})
"""Keys of datarc about the training, not about the data."""
TRAINING_SECTIONS = ("optimizer", "scheduler", "specaug")
"""Sections of S3PRL's configuration that distinguish trainings."""
RUNNER_KEYS = ("total_steps", "gradient_accumulate_steps", "gradient_clipping", "precision", "fp16")
"""Keys of S3PRL's runner that distinguish trainings."""
TOTAL_STEPS = "runner.total_steps"
PROBE_SELECTION_KEYS = frozenset({"tasks", "classifiers", "layer_dims", "first_layer", "only"})
"""Keys that choose probes or follow from the model, and do not distinguish experiments."""
PROBED_SELECTIONS = {
    "hidden_states": "",
    "layer_states": "without layer 0",
    "last_hidden_state": "last layer",
    "no_cmvn": "without CMVN",
}
"""Features that a probing run selects -> its representation in words; all hidden states are the usual one."""
PROBED_TASKS = ("phone", "speaker")
"""Sections of a probing run's datarc; a run of one task may also contain the other's."""
MAX_SHOWN_KEYS = 3

Settings = dict[str, object]
"""Values of a configuration by dotted key."""
T = TypeVar("T", bound=Hashable)
Item = TypeVar("Item")


class Repeat(NamedTuple):
    """Identifies one repetition of an experiment."""

    seed: str
    split: str
    """Fold or seed of the split; empty if there is one split."""


def describe_setting(args: RunnerOptions) -> str:
    """Describe the use of the representation in the paper's terms: weighted sum, last layer, fine-tuned."""
    selection = args.upstream_feature_selection or "hidden_states"
    layer = args.upstream_layer_selection
    if args.upstream == FEATURES:
        used = "without CMVN" if selection == "no_cmvn" else "with CMVN"
    elif args.upstream in NO_PARAMETERS:
        used = "as they are"
    elif selection == "last_hidden_state":
        used = "last layer"
    elif layer is not None:
        # layer_states are the hidden states without the input embedding, which is layer 0.
        used = f"layer {layer + 1 if selection == 'layer_states' and layer >= 0 else layer}"
    else:
        names = {"hidden_states": "weighted sum with layer 0", "layer_states": "weighted sum"}
        used = names.get(selection, selection)
        used += " of normalised layers" if args.upstream_feature_normalize else ""
    return f"fine-tuned, {used}" if args.upstream_trainable else used


def describe_probed(args: RunnerOptions) -> str:
    """Describe the probed representation where it is not that of all hidden states as they are; "" where it is."""
    selection = args.upstream_feature_selection or "hidden_states"
    single = args.upstream_layer_selection is not None
    words = [
        "fine-tuned" if args.upstream_trainable else "",
        "single layers" if single else PROBED_SELECTIONS.get(selection, selection),
        "normalised" if args.upstream_feature_normalize and not single else "",
    ]
    return ", ".join(filter(None, words))


def describe_overlap(runs: Sequence[DownstreamRun]) -> str:
    """Describe the largest overlap of test speech and pre-training over some runs; "" for none."""
    found = [run.data.pretraining_overlap for run in runs]
    counts = [(one.get("utterances", 0), one.get("speakers", 0)) for one in found if isinstance(one, dict)]
    utterances, speakers = max(counts, default=(0, 0))
    if utterances or speakers:
        return f"{utterances} utterances, {speakers} speakers"
    return UNKNOWN if UNKNOWN in found else ""


# ------------------------------------------------------------------------- which runs are one experiment


def repeat_of(run: Run) -> Repeat:
    """Return the seed and the split of a run, which distinguish the runs of one experiment."""
    splits = sorted((key, value) for key, value in flatten(run.results.config).items() if _is_repeat_key(key))
    return Repeat(str(run.results.seed), ", ".join(f"{key.removeprefix('datarc.')}={value}" for key, value in splits))


def data_settings(run: DownstreamRun) -> Settings:
    """Return the keys of datarc that define the data and labels of a run."""
    return {key: value for key, value in _experiment_settings(run).items() if _is_data_key(key)}


def training_settings(run: DownstreamRun) -> Settings:
    """Return all other configuration keys that distinguish experiments, with the optimiser's and the runner's."""
    own = {key: value for key, value in _experiment_settings(run).items() if not _is_data_key(key)}
    return {**own, **_recipe(run)}


def task_key(run: DownstreamRun) -> tuple[Hashable, ...]:
    """Return the key of a task with its data and labels."""
    return (run.results.task, freeze(data_settings(run)))


def probe_key(run: ProbeRun, task: str) -> tuple[Hashable, ...]:
    """Return the key of a probed task with its data and classifiers."""
    return (task, freeze(_probe_settings(run, task)))


def selection_key(run: ProbeRun) -> tuple[Hashable, ...]:
    """Return the options that select what a run probes; different ones may probe the same layer."""
    args = run.results.args
    selected = (args.upstream_feature_selection or "hidden_states", args.upstream_layer_selection)
    return (*selected, bool(args.upstream_feature_normalize), bool(args.upstream_trainable))


def probed(run: ProbeRun) -> frozenset[tuple[str, int, str]]:
    """Return the task, layer and classifier of each probe of a run, since several runs may share the probes."""
    return frozenset((probe.task, probe.layer, probe.classifier) for probe in run.probes)


def freeze(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Return settings in a form that can be compared and used as a key."""
    return tuple(sorted((key, str(value)) for key, value in settings.items()))


def _recipe(run: Run) -> Settings:
    runner = {f"runner.{key}" for key in RUNNER_KEYS}
    flat = flatten(run.results.training)
    return {key: value for key, value in flat.items() if key.split(".")[0] in TRAINING_SECTIONS or key in runner}


def _experiment_settings(run: Run) -> Settings:
    flat = flatten(run.results.config)
    return {key: value for key, value in flat.items() if _leaf(key) not in INCIDENTAL_KEYS and not _is_repeat_key(key)}


def _probe_settings(run: ProbeRun, task: str) -> Settings:
    others = tuple(f"datarc.{name}." for name in PROBED_TASKS if name != task)
    own = {
        key: value
        for key, value in _experiment_settings(run).items()
        if not key.startswith(others) and _leaf(key) not in PROBE_SELECTION_KEYS
    }
    return {**own, **_recipe(run)}


def _leaf(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def _is_repeat_key(key: str) -> bool:
    return _leaf(key).lower().rsplit("_", 1)[-1] in REPEAT_WORDS


def _is_data_key(key: str) -> bool:
    return key.startswith("datarc.") and _leaf(key) not in TRAINING_KEYS


# ------------------------------------------------------------------------------------------------ titles


def title_tasks(runs: Sequence[DownstreamRun]) -> dict[tuple[Hashable, ...], str]:
    """Name each task; if its data differ between runs, the name contains the number of classes or these keys.

    Returns:
        The title of each ``task_key``.
    """
    titles: dict[tuple[Hashable, ...], str] = {}
    for task, members in grouped(runs, lambda run: run.results.task).items():
        same = {task_key(run): run for run in members}
        title = TASK_TITLES.get(task, task)
        for key, text in zip(same, _task_variants(list(same.values())), strict=True):
            titles[key] = f"{title} ({text})" if text else title
    return titles


def _task_variants(runs: Sequence[DownstreamRun]) -> list[str]:
    classes = [run.data.classes for run in runs]
    if len(runs) > 1 and None not in classes and len(set(classes)) == len(classes):
        return [f"{count} classes" for count in classes]
    return differences([data_settings(run) for run in runs])


def title_probes(runs: Sequence[ProbeRun]) -> dict[tuple[Hashable, ...], str]:
    """Name each probed task; if its data or classifiers differ between runs, the name contains these keys."""
    variants: dict[str, dict[tuple[Hashable, ...], Settings]] = {}
    for run in runs:
        for task in unique(probe.task for probe in run.probes):
            variants.setdefault(task, {})[probe_key(run, task)] = _probe_settings(run, task)
    titles: dict[tuple[Hashable, ...], str] = {}
    for task, settings in variants.items():
        for key, text in zip(settings, differences(list(settings.values())), strict=True):
            titles[key] = f"{task} ({text})" if text else task
    return titles


def differences(variants: Sequence[Settings]) -> list[str]:
    """Describe briefly how each variant differs from the others; "" for the only one.

    The descriptions are unique: a number is added where the keys do not distinguish two variants.
    """
    keys = sorted({key for variant in variants for key in variant})
    differing = [key for key in keys if len({str(variant.get(key)) for variant in variants}) > 1]
    texts = [", ".join(_setting(key, variant) for key in differing[:MAX_SHOWN_KEYS]) for variant in variants]
    return numbered(texts)


def _setting(key: str, variant: Settings) -> str:
    value = str(variant.get(key, "default"))
    short = value.rstrip("/").rsplit("/", 1)[-1] if "/" in value else value
    return f"{_leaf(key)}={short}"


def numbered(texts: list[str]) -> list[str]:
    """Add a number to each text that occurs several times."""
    return [
        f"{text} #{texts[: place + 1].count(text)}" if texts.count(text) > 1 else text
        for place, text in enumerate(texts)
    ]


def unique(values: Iterable[T]) -> list[T]:
    """Return the values in order of appearance, each once."""
    return list(dict.fromkeys(values))


def grouped(values: Iterable[Item], key: Callable[[Item], T]) -> dict[T, list[Item]]:
    """Return the values by their key, in order of appearance."""
    groups: dict[T, list[Item]] = {}
    for value in values:
        groups.setdefault(key(value), []).append(value)
    return groups
