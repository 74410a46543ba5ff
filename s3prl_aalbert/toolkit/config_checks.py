"""Checks the configuration of ``run_downstream.py`` for values that make S3PRL fail, or that it ignores."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection, Mapping, Sequence

from s3prl_aalbert import toolkit
from s3prl_aalbert.errors import AalbertError, did_you_mean
from s3prl_aalbert.model.config import shown
from s3prl_aalbert.toolkit.hub import functions_of
from s3prl_aalbert.toolkit.register import OPTIMIZERS
from s3prl_aalbert.toolkit.repairs.compiler import import_compiler_when_used

logger = logging.getLogger(__name__)

SECTIONS = ("runner", "optimizer", "downstream_expert")
OPTIONAL_SECTIONS = ("scheduler", "specaug")
COUNTS = ("total_steps", "gradient_accumulate_steps", "log_step", "eval_step", "save_step", "max_keep")
Kind = type | tuple[type, ...]
_COUNT, _AMOUNT = (int, "a whole number of at least 1"), ((int, float), "a number above 0 (with a point: 1.0e-4)")
RUNNER_KEYS: dict[str, tuple[Kind, str]] = {
    **{f"runner.{name}": _COUNT for name in COUNTS},
    "runner.gradient_clipping": _AMOUNT,
    "runner.eval_dataloaders": (list, "a list of splits"),
    "optimizer.name": (str, "the name of an optimiser"),
    "optimizer.lr": _AMOUNT,
}
"""Keys that S3PRL's runner reads, with their types."""
OPTIONAL_RUNNER_KEYS: dict[str, tuple[Kind, str]] = {
    "runner.evaluate_ratio": _AMOUNT,
    "runner.train_dataloader": (str, "the name of a split"),
    "runner.fp16": (bool, "true or false"),
}
Config = Mapping[str, Mapping[str, object]]
# Errors that S3PRL, torch and our own optimiser raise on a wrong value.
_REFUSALS = (TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError, RuntimeError)


def check_config(config: Mapping[str, object], where: str, mode: str, settings: Mapping[str, object]) -> None:
    """Check the keys that S3PRL's runner reads, on which it would otherwise fail, perhaps hours later.

    Args:
        config: the configuration with ``-o`` applied.
        where: where it comes from, for messages.
        mode: train, or a mode that reads fewer keys.
        settings: the options by S3PRL's names.

    Raises:
        AalbertError: there are problems; the message lists all.
    """
    train = mode == "train"
    needed = SECTIONS if train else ("runner", "downstream_expert")
    problems = [
        f'"{name}" is {shown(config.get(name))}, expected a mapping of keys'
        for name in (*needed, *(name for name in OPTIONAL_SECTIONS if train and config.get(name) is not None))
        if not isinstance(config.get(name), Mapping)
    ]
    sections = {name: section for name, section in config.items() if isinstance(section, Mapping)}
    problems += _wrong_keys(sections, RUNNER_KEYS if train else {}, optional=False)
    problems += _wrong_keys(sections, OPTIONAL_RUNNER_KEYS, optional=True)
    if train:
        problems += _misspelt(config, (*SECTIONS, *OPTIONAL_SECTIONS), "")
        runner = sections.get("runner", {})
        problems += _misspelt(runner, [key.partition(".")[2] for key in RUNNER_KEYS], "runner.") + _names(sections)
        # Checks that import torch and S3PRL come last, so that other mistakes are reported at once.
        problems = (
            problems or _unknown_to_torch(sections) or _last_steps(runner, where) or _refused(sections, where, settings)
        )
    if problems:
        raise AalbertError(f"{where}: " + "; ".join(problems))


def _wrong_keys(config: Config, keys: Mapping[str, tuple[Kind, str]], optional: bool) -> list[str]:
    """Return the problems of these keys in the existing sections."""
    problems = []
    for name, (kind, expected) in keys.items():
        section, _, key = name.partition(".")
        values = config.get(section)
        if values is None or (optional and values.get(key) is None):
            continue
        if not _fits(values.get(key), kind):
            problems.append(f'"{name}" is {shown(values.get(key))}, expected {expected}')
    return problems


def _fits(value: object, kind: Kind) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind is list:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, kind) and (not isinstance(value, (int, float)) or value > 0)


def _misspelt(values: Mapping[str, object], known: Collection[str], prefix: str) -> list[str]:
    """Return a problem for each unknown key that resembles a known one, since S3PRL would ignore it."""
    near = {
        str(key): did_you_mean(str(key), [name for name in known if name not in values])
        for key in values
        if key not in known and f"{prefix}{key}" not in OPTIONAL_RUNNER_KEYS
    }
    return [f'unknown key "{prefix}{key}"{hint}' for key, hint in near.items() if hint]


def _names(config: Config) -> list[str]:
    """Check the names that S3PRL looks up for the optimiser and the scheduler."""
    problems = []
    for section in ("optimizer", "scheduler"):
        values = config.get(section)
        if not values or (section == "optimizer" and values.get("name") is None):
            continue
        known = _known(section)
        name = values.get("name")
        if name not in known:
            hint = did_you_mean(name, known) if isinstance(name, str) else ""
            problems.append(f'"{section}.name" is {shown(name)}, which S3PRL does not know{hint}')
    return problems


def _unknown_to_torch(config: Config) -> list[str]:
    """Return the problem of a ``torch_optim_name`` that torch.optim does not have."""
    from torch import optim

    section = config["optimizer"]
    name = section.get("torch_optim_name")
    known = [each for each, found in vars(optim).items() if optim.Optimizer in getattr(found, "__mro__", ())[1:]]
    if section.get("name") != "TorchOptim" or name in known:
        return []
    hint = did_you_mean(name, known) if isinstance(name, str) else ""
    return [f'"optimizer.torch_optim_name" is {shown(name)}, which torch.optim does not have{hint}']


def _known(section: str) -> list[str]:
    """Return NAME of each get_NAME that builds an optimiser or a scheduler."""
    names = [name.removeprefix("get_") for name in functions_of(f"s3prl.{section}s") if name.startswith("get_")]
    ours = OPTIMIZERS if section == "optimizer" else ()
    return [*(name for name in names if name not in ("optimizer", "scheduler", "grouped_parameters")), *ours]


def _refused(config: Config, where: str, settings: Mapping[str, object]) -> list[str]:
    """Build optimiser, scheduler and SpecAugment for a toy model, take a step, and return their errors."""
    toolkit.activate()
    import_compiler_when_used()
    import torch
    from s3prl.optimizers import get_optimizer
    from s3prl.schedulers import get_scheduler

    parts = [torch.nn.Linear(2, 2) for _ in range(3 if settings.get("upstream_trainable") else 2)]
    torch.stack([part(torch.ones(2)).sum() for part in parts]).sum().backward()
    steps = config["runner"]["total_steps"]
    section = "optimizer"
    try:
        optimizer = get_optimizer(parts, steps, dict(config["optimizer"]))
        _warn_of_unused(config["optimizer"], optimizer.param_groups, where)
        optimizer.step()
        if config.get("scheduler"):
            section = "scheduler"
            get_scheduler(optimizer, steps, dict(config["scheduler"])).step()
        if config.get("specaug"):
            section = "specaug"
            from s3prl.downstream.specaug import SpecAug

            SpecAug(**config["specaug"])([torch.randn(300, 80)])
    except AalbertError as error:
        return [str(error)]
    except ImportError as error:
        return [f'"{section}" needs the package {error.name}']
    except _REFUSALS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return [f'"{section}" is {shown(dict(config[section]))}, which S3PRL and torch refuse ({reason[:200]})']
    return []


def _warn_of_unused(section: Mapping[str, object], groups: Sequence[Mapping[str, object]], where: str) -> None:
    """Warn of settings that S3PRL's own optimisers accept but ignore, such as weight_decay of its AdamW."""
    from s3prl import optimizers

    named = inspect.signature(getattr(optimizers, f"get_{section['name']}")).parameters
    for key, value in section.items():
        used = any(group.get(key) == value for group in groups)
        if key != "name" and key not in named and not used:
            logger.warning("%s: optimizer.%s is not used by S3PRL's %s", where, key, section["name"])


def _last_steps(runner: Mapping[str, object], where: str) -> list[str]:
    """Return the problem that no step would be saved; warn of steps after the last saved one."""
    counts = {name: count for name, count in runner.items() if isinstance(count, int)}
    total, each = counts["total_steps"], {name: counts[name] for name in ("eval_step", "save_step")}
    late = [f'"runner.{name}" is {step}' for name, step in each.items() if step > total]
    if late:
        return [f'{" and ".join(late)}, expected at most "runner.total_steps", {total}: nothing would be saved']
    for (name, step), effect in zip(each.items(), ("end unused", "are not saved: -a would repeat them"), strict=True):
        if total % step:
            logger.warning(
                "%s: runner.%s is %d: the last %d of %d steps %s", where, name, step, total % step, total, effect
            )
    return []
