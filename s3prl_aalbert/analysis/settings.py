"""Words for what a run did: its task, its setting, and the configuration keys that tell similar runs apart."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from s3prl_aalbert.analysis.models import FEATURES, NO_PARAMETERS
from s3prl_aalbert.analysis.runs import DownstreamRun, ProbeRun, flatten

TASK_TITLES = {
    "aalbert_phone": "phonemes",
    "aalbert_speaker_utterance": "speaker, utterance level",
    "aalbert_speaker_frame": "speaker, frame level",
}
REPLICATE_WORDS = ("seed", "fold")
"""Keys ending in these words make repetitions of one experiment, whose mean and spread is shown."""
INCIDENTAL_KEYS = frozenset({"num_workers", "train_fraction", "cache", "cache_hours", "eval_batch_size"})
"""Keys that do not make another experiment; train_fraction is shown on its own."""
TRAINING_KEYS = frozenset({"train_batch_size", "batch_size", "max_seconds", "max_timestep"})
"""Keys of datarc that say how to train, not which data."""
PROBE_SELECTION_KEYS = frozenset({"tasks", "classifiers", "layer_dims", "only"})
"""Keys that choose among probes or follow from the model; they do not make another experiment."""
PROBED_TASKS = ("phone", "speaker")
"""Sections of a probing run's datarc; a run of one task may hold the other's as well."""
MAX_SHOWN_KEYS = 3


def describe_setting(args: Mapping[str, Any]) -> str:
    """Return how the representation was used, in the paper's words: weighted sum, last layer, fine-tuned."""
    selection = args.get("upstream_feature_selection") or "hidden_states"
    layer = args.get("upstream_layer_selection")
    if args.get("upstream") == FEATURES:
        used = "without CMVN" if selection == "no_cmvn" else "with CMVN"
    elif args.get("upstream") in NO_PARAMETERS:
        used = "as they are"
    elif selection == "last_hidden_state":
        used = "last layer"
    elif layer is not None:
        # layer_states are the hidden states without the input embedding, which is layer 0.
        used = f"layer {layer + 1 if selection == 'layer_states' and layer >= 0 else layer}"
    else:
        names = {"hidden_states": "weighted sum with layer 0", "layer_states": "weighted sum"}
        used = names.get(selection, selection)
        used += " of normalised layers" if args.get("upstream_feature_normalize") else ""
    return f"fine-tuned, {used}" if args.get("upstream_trainable") else used


def _leaf(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def _last_word(key: str) -> str:
    return _leaf(key).lower().rsplit("_", 1)[-1]


def is_replicate_key(key: str) -> bool:
    """Say whether a dotted key tells repetitions of one experiment apart."""
    return _last_word(key) in REPLICATE_WORDS


def data_settings(run: DownstreamRun) -> dict[str, Any]:
    """Return the keys of datarc that say which data and labels a run is about."""
    return {key: value for key, value in _experiment_settings(run).items() if _is_data_key(key)}


def training_settings(run: DownstreamRun) -> dict[str, Any]:
    """Return all other configuration keys that make another experiment, the optimiser's and the runner's among them."""
    own = {key: value for key, value in _experiment_settings(run).items() if not _is_data_key(key)}
    return {**own, **run.training}


def _is_data_key(key: str) -> bool:
    return key.startswith("datarc.") and _leaf(key) not in TRAINING_KEYS


def _experiment_settings(run: DownstreamRun | ProbeRun) -> dict[str, Any]:
    flat = flatten(run.config)
    return {
        key: value for key, value in flat.items() if _leaf(key) not in INCIDENTAL_KEYS and not is_replicate_key(key)
    }


def replicate_settings(run: DownstreamRun | ProbeRun) -> tuple[Hashable, ...]:
    """Return the seed, fold, ... of a run: two runs of one experiment that agree in these are the same run."""
    return (*seed_settings(run), *fold_settings(run))


def seed_settings(run: DownstreamRun | ProbeRun) -> tuple[Hashable, ...]:
    """Return the seeds of a run."""
    flat = flatten(run.config)
    seeds = sorted((key, str(flat[key])) for key in flat if is_replicate_key(key) and not _is_fold_key(key))
    return (("seed", run.args.get("seed")), *seeds)


def fold_settings(run: DownstreamRun | ProbeRun) -> tuple[Hashable, ...]:
    """Return the fold of a run, empty where it has none."""
    flat = flatten(run.config)
    return tuple(sorted((key, str(flat[key])) for key in flat if is_replicate_key(key) and _is_fold_key(key)))


def _is_fold_key(key: str) -> bool:
    return _last_word(key) == "fold"


def probe_key(run: ProbeRun, task: str) -> tuple[Hashable, ...]:
    """Return what tells the probing of one task, with its data and classifiers, from another."""
    return (task, freeze(_probe_settings(run, task)))


def probed(run: ProbeRun) -> frozenset[tuple[str, int, str]]:
    """Return the task, layer and classifier of each probe of a run: runs may share them out."""
    return frozenset((result.task, result.layer, result.classifier) for result in run.results)


def _probe_settings(run: ProbeRun, task: str) -> dict[str, Any]:
    others = tuple(f"datarc.{name}." for name in PROBED_TASKS if name != task)
    own = {
        key: value
        for key, value in _experiment_settings(run).items()
        if not key.startswith(others) and _leaf(key) not in PROBE_SELECTION_KEYS
    }
    return {**own, **run.training}


def title_probes(runs: Sequence[ProbeRun]) -> dict[tuple[Hashable, ...], str]:
    """Name each probed task; one whose data or classifiers differ between runs by the keys that differ."""
    variants: dict[str, dict[tuple[Hashable, ...], dict[str, Any]]] = {}
    for run in runs:
        for task in unique(result.task for result in run.results):
            variants.setdefault(task, {})[probe_key(run, task)] = _probe_settings(run, task)
    titles: dict[tuple[Hashable, ...], str] = {}
    for task, settings in variants.items():
        for key, text in zip(settings, differences(list(settings.values())), strict=True):
            titles[key] = f"{task} ({text})" if text else task
    return titles


def freeze(settings: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return settings in a form that can be compared and used as a key."""
    return tuple(sorted((key, str(value)) for key, value in settings.items()))


def differences(variants: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in a few words how each variant differs from the others; empty texts where there is only one.

    The texts are unique: where the keys that fit do not tell two variants apart, a number is added.
    """
    if len(variants) == 1:
        return [""]
    keys = sorted({key for variant in variants for key in variant})
    differing = [key for key in keys if len({str(variant.get(key)) for variant in variants}) > 1]
    texts = [", ".join(_setting(key, variant) for key in differing[:MAX_SHOWN_KEYS]) for variant in variants]
    return _numbered(texts)


def _setting(key: str, variant: Mapping[str, Any]) -> str:
    value = str(variant.get(key, "default"))
    short = value.rstrip("/").rsplit("/", 1)[-1] if "/" in value else value
    return f"{_leaf(key)}={short}"


def _numbered(texts: Sequence[str]) -> list[str]:
    counts = {text: list(texts).count(text) for text in texts}
    seen: dict[str, int] = {}
    numbered = []
    for text in texts:
        seen[text] = seen.get(text, 0) + 1
        numbered.append(f"{text} #{seen[text]}" if counts[text] > 1 else text)
    return numbered


def title_tasks(runs: Sequence[DownstreamRun]) -> dict[tuple[Any, ...], str]:
    """Name each task; one whose data differ between runs is named by its number of classes or by the keys that differ.

    Returns:
        title by ``task_key`` of a run.
    """
    titles: dict[tuple[Any, ...], str] = {}
    for task in dict.fromkeys(run.task for run in runs):
        same = {task_key(run): run for run in runs if run.task == task}
        title = TASK_TITLES.get(task, task)
        for key, text in zip(same, _task_variants(list(same.values())), strict=True):
            titles[key] = f"{title} ({text})" if text else title
    return titles


def task_key(run: DownstreamRun) -> tuple[Any, ...]:
    """Return what tells one task, with its data and labels, from another."""
    return (run.task, freeze(data_settings(run)))


def _task_variants(runs: Sequence[DownstreamRun]) -> list[str]:
    classes = [class_count(run) for run in runs]
    if len(runs) > 1 and None not in classes and len(set(classes)) == len(classes):
        return [f"{count} classes" for count in classes]
    return differences([data_settings(run) for run in runs])


def class_count(run: DownstreamRun) -> int | None:
    """Return the number of classes a run recorded, None where it did not."""
    for name in ("classes", "speakers", "num_classes", "class_num"):
        value = run.data.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, (list, tuple)):
            return len(value)
    return None


def unique(values: Iterable[Any]) -> list[Any]:
    """Return the values in order of appearance, each once."""
    return list(dict.fromkeys(values))
