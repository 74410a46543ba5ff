"""Checks of the options of ``run_downstream.py``, each naming the option and what was expected."""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib
import importlib.util
import io
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3prl_aalbert.config import shown
from s3prl_aalbert.errors import AalbertError, did_you_mean, near_folder
from s3prl_aalbert.toolkit.register import ALL_LAYERS_PREFIX, DOWNSTREAMS, upstream_entries

logger = logging.getLogger(__name__)

# S3PRL names its upstreams so; all others bring their own weights and drop -k without a word.
_READS_CKPT = ("_local", "_url", "_gdriveid", "_custom")
_READS_CKPT_TOO = {"customized_upstream"}  # the template that users fill in
LARGEST_SEED = 2**32 - 1  # of numpy
SECTIONS = ("runner", "optimizer", "downstream_expert")
COUNTS = ("total_steps", "gradient_accumulate_steps", "log_step", "eval_step", "save_step", "max_keep")
_COUNT, _AMOUNT = (int, "a whole number of at least 1"), ((int, float), "a number above 0 (with a point: 1.0e-4)")
RUNNER_KEYS: dict[str, tuple[Any, str]] = {
    **{f"runner.{name}": _COUNT for name in COUNTS},
    "runner.gradient_clipping": _AMOUNT,
    "runner.eval_dataloaders": (list, "a list of splits"),
    "optimizer.name": (str, "the name of an optimiser"),
    "optimizer.lr": _AMOUNT,
}
"""What S3PRL's runner reads, with its type."""
OPTIONAL_KEYS = (
    *("runner.precision", "runner.feature_cache", "runner.fp16"),
    *("downstream_expert.modelrc.tasks", "downstream_expert.modelrc.layer_dims"),  # set by `aalbert probe`
)
"""What is read where it stands: a configuration may lack them."""
_NEEDS_MODEL_CONFIG = "baseline_local"  # features: reads -g and ignores -k


@dataclass
class Overrides:
    """What ``-o`` sets: command-line options by name, and configuration values by dotted key."""

    args: dict[str, str | None] = field(default_factory=dict)
    config: dict[str, str | None] = field(default_factory=dict)


def parse_override(text: str | None) -> Overrides:
    """Split ``-o`` as S3PRL does: assignments separated by ``,,``, each ``args.X=V`` or ``config.X.Y=V``.

    Raises:
        AalbertError: S3PRL would fail on the assignment, or would drop it silently.
    """
    overrides = Overrides()
    if text is None or text.lower() == "none":
        return overrides
    for assignment in text.split(",,"):
        key, equals, value = (part.strip() for part in assignment.partition("="))
        where, _, name = key.partition(".")
        well_formed = equals and name and value and "=" not in value
        if not well_formed or where not in ("args", "config") or (where == "args" and "." in name):
            raise AalbertError(
                f'-o: expected "args.NAME=VALUE" or "config.SECTION.KEY=VALUE", several joined by ",,", '
                f'found "{assignment.strip()}"'
            )
        getattr(overrides, where)[name] = None if value == "None" else value.strip("'\"")
    return overrides


def warn_of_new_keys(overrides: Overrides, config: Mapping[str, Any]) -> None:
    """Warn of each key that ``-o`` adds to the configuration: it may be a misspelt one.

    Raises:
        AalbertError: it is nearly one of the runner's, whose keys are known.
    """
    for key in overrides.config:
        if key in OPTIONAL_KEYS:
            continue
        section: Any = config
        for name in key.split("."):
            if not isinstance(section, Mapping) or name not in section:
                near = did_you_mean(name, section) if isinstance(section, Mapping) else ""
                if near and key.startswith("runner."):
                    raise AalbertError(f"-o config.{key}: the configuration has no {name}{near}")
                logger.warning("-o config.%s: the configuration has no %s%s", key, name, near)
                break
            section = section[name]


def overridden(config: Mapping[str, Any], text: str | None) -> dict[str, Any]:
    """Return a configuration with ``-o``, applied by S3PRL itself.

    Raises:
        AalbertError: it sets a key below a value that is no section.
    """
    from s3prl.utility.helper import override

    changed = copy.deepcopy(dict(config))
    if text is None or text.lower() == "none":
        return changed
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # S3PRL says what it overrides once more
            override(text, argparse.Namespace(), changed)
    except (AttributeError, TypeError) as error:
        raise AalbertError(f'-o "{text}": sets a key below a value of the configuration that is no section') from error
    return changed


def check_config(config: Mapping[str, Any], where: str, names: Collection[str] | None = None) -> None:
    """Check what S3PRL's runner reads, which it would answer with a stack trace, perhaps hours later.

    Args:
        config: with ``-o`` applied.
        where: it comes from.
        names: the keys to look at; None is all, and that their sections are there.

    Raises:
        AalbertError: with every problem.
    """
    sections = [name for name in SECTIONS if not isinstance(config.get(name), Mapping)] if names is None else []
    problems = [f'"{name}" is {shown(config.get(name))}, expected a mapping of keys' for name in sections]
    for name, (kind, expected) in RUNNER_KEYS.items():
        section, _, key = name.partition(".")
        values = config.get(section)
        if not isinstance(values, Mapping) or (names is not None and name not in names):
            continue
        value = values.get(key)
        if (
            not isinstance(value, kind)
            or isinstance(value, bool)
            or (kind is not list and kind is not str and value <= 0)
        ):
            problems.append(f'"{name}" is {shown(value)}, expected {expected}')
        elif name == "optimizer.name":
            problems += _optimizer_problems(value)
    problems = problems or _last_steps(config.get("runner") or {}, where)
    if problems:
        raise AalbertError(f"{where}: " + "; ".join(problems))


def _last_steps(runner: Mapping[str, Any], where: str) -> list[str]:
    """Return the problem that no step at all is kept, and warn of those after the last that is."""
    total, each = runner.get("total_steps"), {name: runner.get(name) for name in ("eval_step", "save_step")}
    if total is None or None in each.values():
        return []
    late = [f'"runner.{name}" is {step}' for name, step in each.items() if step > total]
    if late:
        return [f'{" and ".join(late)}, expected at most "runner.total_steps", {total}: nothing would be left']
    for (name, step), effect in zip(each.items(), ("end unused", "are not saved: -a would repeat them"), strict=True):
        if total % step:
            logger.warning(
                "%s: runner.%s is %d: the last %d of %d steps %s", where, name, step, total % step, total, effect
            )
    return []


def _optimizer_problems(name: str) -> list[str]:
    from s3prl import optimizers

    if hasattr(optimizers, f"get_{name}"):
        return []
    known = [entry.removeprefix("get_") for entry in vars(optimizers) if entry.startswith("get_")]
    return [f'"optimizer.name" is {shown(name)}, which S3PRL does not know{did_you_mean(name, known)}']


def place_of(given: Mapping[str, Any]) -> Path:
    """Return the folder of an experiment, by -p or -n."""
    return Path(given.get("expdir") or f"result/downstream/{given.get('expname')}")


def check_new_experiment(given: Mapping[str, Any]) -> None:
    """Check what only a new experiment needs: a place, an upstream, a task.

    Raises:
        AalbertError: one of them is missing.
    """
    if given.get("auto_resume") and "upstream" not in given:
        folder = place_of(given)
        raise AalbertError(f"{folder}: nothing to resume there{near_folder(folder)}; a new experiment needs -u and -d")
    if "expname" not in given and "expdir" not in given:
        raise AalbertError("-n NAME (writes to result/downstream/NAME) or -p EXPDIR is missing")
    for name, flag, example in (("upstream", "-u", "aalbert_local"), ("downstream", "-d", "aalbert_phone")):
        if name not in given:
            raise AalbertError(f"{flag} is missing: expected the {name} to use, e.g. {flag} {example}")


def check_unused_folder(expdir: Path) -> None:
    """Refuse to train a new experiment over another one, whose checkpoints S3PRL would replace one by one.

    Raises:
        AalbertError: it holds checkpoints.
    """
    held = sorted(expdir.glob("*.ckpt"))
    if held:
        raise AalbertError(f"{expdir}: holds {held[0].name} already; go on with -a, or choose another -n")


def check_settings(settings: Mapping[str, Any], trained: bool) -> None:
    """Check the settings that the run will use, typed or from the experiment that it resumes.

    Args:
        settings: the options by S3PRL's names.
        trained: whether the weights of a finished experiment will be loaded.

    Raises:
        AalbertError: a name that does not exist, a wrong or unused ``-k``, a missing file.
    """
    check_downstream(settings["downstream"])
    if settings.get("hub") != "huggingface":  # there -u is a repository, not a name
        upstream = settings["upstream"].removeprefix(ALL_LAYERS_PREFIX)
        check_upstream(upstream, settings.get("upstream_ckpt"), settings.get("upstream_model_config"))
    init_ckpt = settings.get("init_ckpt")
    if init_ckpt and not Path(init_ckpt).is_file():
        raise AalbertError(f"-i {init_ckpt}: no such file")
    seed = settings.get("seed", 0)
    if not str(seed).isdecimal() or int(seed) > LARGEST_SEED:
        raise AalbertError(f"--seed {seed}: expected a whole number from 0 to {LARGEST_SEED}")
    _check_mode(settings, trained)


def check_downstream(name: str) -> None:
    """Check that S3PRL or the plugin has the task ``name``.

    Raises:
        AalbertError: neither has.
    """
    known = {path.parent.name for folder in downstream_folders() for path in folder.glob("*/expert.py")}
    known |= set(DOWNSTREAMS)
    if name not in known:
        raise AalbertError(
            f"-d {name}: no downstream task of that name{did_you_mean(name, known)}; "
            f"the plugin's are {', '.join(DOWNSTREAMS)}"
        )


def downstream_folders() -> list[Path]:
    """Return the folders of S3PRL's own downstream tasks."""
    spec = importlib.util.find_spec("s3prl.downstream")
    return [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []


def check_upstream(name: str, ckpt: str | None, model_config: str | None = None) -> None:
    """Check that S3PRL or the plugin has the upstream ``name``, and that it reads what ``-k`` and ``-g`` name.

    Raises:
        AalbertError: it does not exist, or ``-k`` or ``-g`` is missing, unused, or names nothing.
    """
    from s3prl import hub

    if name not in hub.options():
        raise AalbertError(
            f"-u {name}: no upstream of that name{did_you_mean(name, hub.options())}; "
            f"the plugin's are {', '.join(upstream_entries())}"
        )
    reads_ckpt = name.endswith(_READS_CKPT) and name != _NEEDS_MODEL_CONFIG
    if reads_ckpt and not ckpt:
        raise AalbertError(f"-u {name} needs a checkpoint: -k is missing")
    if ckpt and not reads_ckpt and name not in _READS_CKPT_TOO:
        raise AalbertError(f"-u {name} would ignore -k {ckpt}; leave -k out, or use -u aalbert_local")
    if reads_ckpt and name.endswith("_local"):
        _check_local_ckpt(name, Path(str(ckpt)))
    _check_model_config(name, model_config)


def _check_local_ckpt(name: str, ckpt: Path) -> None:
    if not ckpt.exists():
        raise AalbertError(f"-k {ckpt}: no such file or folder")
    if ckpt.is_dir() and name not in upstream_entries():
        raise AalbertError(f"-k {ckpt} is a folder; -u {name} expects a checkpoint file")


def _check_model_config(upstream: str, path: str | None) -> None:
    if upstream == _NEEDS_MODEL_CONFIG and not path:
        raise AalbertError(f"-u {upstream} needs the configuration of its features: -g is missing")
    local = upstream.endswith("_local") and upstream not in upstream_entries()
    if local and path and not Path(path).is_file():
        raise AalbertError(f"-g {path}: no such file")


def _check_mode(settings: Mapping[str, Any], trained: bool) -> None:
    mode, task = settings["mode"], settings["downstream"]
    if mode != "train" and task in DOWNSTREAMS and not trained:
        raise AalbertError(f"-m {mode} of {task} needs a trained experiment, e.g. -e EXPDIR/dev-best.ckpt")
    if mode == "inference":
        _check_inference(task, settings.get("evaluate_split", "test"))


def _check_inference(task: str, wav: str) -> None:
    if not Path(wav).is_file():
        raise AalbertError(f"-m inference: -t {wav} is not a file; expected a wav to run the task on")
    expert = importlib.import_module(f"s3prl.downstream.{task}.expert").DownstreamExpert
    if not hasattr(expert, "inference"):
        raise AalbertError(f"-m inference: the task {task} offers no inference; expected train or evaluate")
