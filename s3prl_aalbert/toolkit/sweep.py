"""Experiments as a grid: models x tasks x settings x seeds, each one run of `aalbert downstream` or `aalbert probe`.

A run that is done is skipped, one that was interrupted is resumed, a failed one is reported and tried again next time.
"""

from __future__ import annotations

import json
import logging
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from s3prl_aalbert.config import ConfigError, from_dict, read_yaml
from s3prl_aalbert.errors import did_you_mean

logger = logging.getLogger(__name__)

DONE_FILE = "sweep_done.json"


@dataclass(frozen=True)
class SweepModel:
    """An upstream."""

    upstream: str
    ckpt: str | None = None
    model_config: str | None = None
    args: tuple[str, ...] = ()
    """Further arguments for every run of this model, e.g. ["-s", "no_cmvn"]."""


@dataclass(frozen=True)
class SweepTask:
    """A downstream task, or a probing run (``downstream: aalbert_probe``)."""

    downstream: str
    config: str | None = None
    override: str | None = None
    args: tuple[str, ...] = ()


@dataclass(frozen=True)
class SweepSetting:
    """A way to use the model."""

    args: tuple[str, ...] = ()
    override: str | None = None
    only_models: tuple[str, ...] | None = None
    """Null: all of them."""
    only_tasks: tuple[str, ...] | None = None


@dataclass(frozen=True)
class SweepConfig:
    """The YAML of a sweep."""

    output: str
    models: dict[str, Any]
    tasks: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=lambda: {"weighted_sum": {}})
    seeds: tuple[int, ...] = (1337,)
    override: str | None = None
    """S3PRL overrides for every run."""


@dataclass(frozen=True)
class SweepRun:
    """One cell of the grid."""

    name: str
    expdir: Path
    argv: tuple[str, ...]

    @property
    def done(self) -> bool:
        """Whether this very command has been run to its end."""
        path = self.expdir / DONE_FILE
        return path.is_file() and json.loads(path.read_text(encoding="utf-8"))["argv"] == list(self.argv)


def load_sweep(path: Path) -> list[SweepRun]:
    """Expand a sweep file into its runs, in order.

    Raises:
        ConfigError: unknown keys, or a setting that names an unknown model or task.
    """
    config = from_dict(SweepConfig, read_yaml(path), str(path))
    models = {n: from_dict(SweepModel, v, f"{path}: models.{n}") for n, v in config.models.items()}
    tasks = {n: from_dict(SweepTask, v, f"{path}: tasks.{n}") for n, v in config.tasks.items()}
    settings = {n: from_dict(SweepSetting, v, f"{path}: settings.{n}") for n, v in config.settings.items()}
    for name, setting in settings.items():
        _check_names(path, name, setting.only_models, models)
        _check_names(path, name, setting.only_tasks, tasks)
    return list(_expand(config, models, tasks, settings))


def _check_names(path: Path, setting: str, names: tuple[str, ...] | None, known: dict[str, Any]) -> None:
    for name in names or ():
        if name not in known:
            raise ConfigError(
                f'{path}: settings.{setting} names "{name}"{did_you_mean(name, known)}, which is not there'
            )


def _expand(
    config: SweepConfig,
    models: dict[str, SweepModel],
    tasks: dict[str, SweepTask],
    settings: dict[str, SweepSetting],
) -> Iterator[SweepRun]:
    for task_name, task in tasks.items():
        for setting_name, setting in settings.items():
            if setting.only_tasks is not None and task_name not in setting.only_tasks:
                continue
            for model_name, model in models.items():
                if setting.only_models is not None and model_name not in setting.only_models:
                    continue
                for seed in config.seeds:
                    name = f"{task_name}/{setting_name}/{model_name}/seed{seed}"
                    expdir = Path(config.output).expanduser() / name
                    override = ",,".join(o for o in (config.override, task.override, setting.override) if o)
                    argv = (*_command(task), *_upstream(model), *model.args, *task.args, *setting.args)
                    argv += ("--seed", str(seed), "-p", str(expdir), "-a")
                    yield SweepRun(name, expdir, (*argv, "-o", override) if override else argv)


def _command(task: SweepTask) -> tuple[str, ...]:
    config = ("-c", task.config) if task.config else ()
    if task.downstream == "aalbert_probe":
        return ("probe", *config)
    return ("downstream", "-m", "train", "-d", task.downstream, *config)


def _upstream(model: SweepModel) -> tuple[str, ...]:
    ckpt = ("-k", model.ckpt) if model.ckpt else ()
    config = ("-g", model.model_config) if model.model_config else ()
    return ("-u", model.upstream, *ckpt, *config)


def command_line(run: SweepRun) -> str:
    """Return the shell command of a run."""
    return shlex.join(["aalbert", *run.argv])


def execute(runs: list[SweepRun]) -> list[SweepRun]:
    """Run what is not done, one after the other, and return those that failed; each keeps its output in a log file."""
    failed = []
    waiting = [run for run in runs if not run.done]
    logger.info("%d runs, %d already done", len(runs), len(runs) - len(waiting))
    with tqdm(waiting, unit="run", desc="sweep") as progress:
        for run in progress:
            progress.set_postfix_str(run.name)
            run.expdir.mkdir(parents=True, exist_ok=True)
            log = run.expdir / "log.txt"
            with log.open("a", encoding="utf-8") as file:
                command = [sys.executable, "-m", "s3prl_aalbert", *run.argv]
                code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
            if code:
                failed.append(run)
                progress.write(f"{run.name}: ended with code {code}, see {log}")
            else:
                (run.expdir / DONE_FILE).write_text(json.dumps({"argv": list(run.argv)}), encoding="utf-8")
    return failed
