"""Expands a sweep file into a grid: pre-training, then models x tasks x settings x seeds, each an `aalbert` command.

``execute`` runs the cells.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from s3prl_aalbert.errors import AalbertError, did_you_mean
from s3prl_aalbert.experiments.inputs import config_digest, identity_of_weights, named_configs
from s3prl_aalbert.files import write_text
from s3prl_aalbert.model.config import ConfigError, from_dict, read_config

RECORD = "sweep.json"
READS = "reads"
"""Its key for the digests of what the run reads."""
PRETRAIN = "pretrain"


@dataclass(frozen=True)
class SweepPretrain:
    """A model that the sweep pre-trains itself, before the tasks."""

    model_config: str
    speech: tuple[str, ...]
    config: str = "pretrain_default"
    init: str | None = None
    """Name of an earlier entry of ``pretrain`` whose weights it starts from."""
    override: dict[str, Any] = field(default_factory=dict)
    args: tuple[str, ...] = ()


@dataclass(frozen=True)
class SweepModel:
    """An upstream."""

    upstream: str
    ckpt: str | None = None
    pretrained: str | None = None
    """Name of an entry of ``pretrain``, in place of ckpt."""
    model_config: str | None = None
    args: tuple[str, ...] = ()
    """Further arguments for every run of this model, e.g. ["-s", "no_cmvn"]."""


@dataclass(frozen=True)
class SweepTask:
    """A downstream task, or a probing run (``downstream: aalbert_probe``)."""

    downstream: str
    config: str | None = None
    override: dict[str, Any] = field(default_factory=dict)
    args: tuple[str, ...] = ()


@dataclass(frozen=True)
class SweepSetting:
    """A way of using the model."""

    args: tuple[str, ...] = ()
    override: dict[str, Any] = field(default_factory=dict)
    only_models: tuple[str, ...] | None = None
    """Names of the models of this setting; null: all."""
    only_tasks: tuple[str, ...] | None = None


@dataclass(frozen=True)
class SweepConfig:
    """The YAML of a sweep."""

    output: str
    models: dict[str, Any]
    tasks: dict[str, Any]
    data: str = "data"
    """Replaces {data} in every text of the file, as ``output`` replaces {output}; `--data` overrides it. {seed} is the
    seed of a run, so that for example each seed may have its own fold."""
    pretrain: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=lambda: {"weighted_sum": {}})
    seeds: tuple[int, ...] = (1337,)
    override: dict[str, Any] = field(default_factory=dict)
    """Overrides (`-o`) for the runs of every task, as key and value, e.g. config.runner.total_steps: 100."""
    report: tuple[str, ...] = ()
    """Further options of `aalbert report`, e.g. ["--note", "..."]."""


@dataclass(frozen=True)
class SweepRun:
    """One cell of the grid."""

    name: str
    expdir: Path
    argv: tuple[str, ...]
    needs: str | None = None
    """Name of the run that must be done first."""
    weights: Path | None = None
    """Folder of that run, whose weights this one reads."""

    @property
    def done(self) -> bool:
        """Whether exactly this command has been completed, with the files and weights that it would read now."""
        record = self.recorded()
        return record is not None and record["done"] is True and not self.changes(record)

    def changes(self, record: Mapping[str, Any]) -> list[str]:
        """Say what has changed since the run of a record, in a few words for each; an empty list if nothing has.

        What cannot be compared has not changed: a file that is gone, or what an earlier version did not record.
        """
        if record["argv"] != list(self.argv):
            return ["the command has changed"]
        now, names = self._reads(), named_configs(self.argv)
        changed = [key for key, digest in record.get(READS, {}).items() if now.get(key, digest) != digest]
        return [f"{names[k]} has changed" if k in names else f"{k} has been trained again" for k in changed]

    def _reads(self) -> dict[str, str]:
        """Return digests of what the command reads, by option or by name of the needed run."""
        digests = {option: config_digest(self.argv, option) for option in named_configs(self.argv)}
        if self.needs and self.weights:
            digests[self.needs] = identity_of_weights(self.weights)
        return {key: digest for key, digest in digests.items() if digest}

    def recorded(self) -> dict[str, Any] | None:
        """Return the record in its folder of what was run there.

        Raises:
            AalbertError: the record is damaged.
        """
        path = self.expdir / RECORD
        if not path.is_file():
            return None
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise AalbertError(f"{path}: is damaged ({error}); remove it to run {self.name} again") from error
        if not isinstance(record, dict) or not {"argv", "done"} <= record.keys():
            raise AalbertError(
                f"{path}: is damaged, expected the keys argv and done; remove it to run {self.name} again"
            )
        if not isinstance(record.get(READS, {}), dict):
            raise AalbertError(f"{path}: is damaged, expected a mapping {READS}; remove it to run {self.name} again")
        return record

    def record(self, done: bool) -> None:
        """Record in its folder that this command was started, with what it reads; or that it is done."""
        self.expdir.mkdir(parents=True, exist_ok=True)
        started = self.recorded() if done else None
        # A file may have been edited since the start.
        reads = started.get(READS, {}) if started and started["argv"] == list(self.argv) else self._reads()
        write_text(self.expdir / RECORD, json.dumps({"argv": list(self.argv), "done": done, READS: reads}))

    @property
    def cell(self) -> bool:
        """Whether it is a cell of the grid and not a pre-training."""
        return not self.name.startswith(f"{PRETRAIN}/")

    @property
    def command(self) -> str:
        """The shell command."""
        return shlex.join(["aalbert", *self.argv])


@dataclass(frozen=True)
class Sweep:
    """A sweep file, expanded."""

    output: Path
    runs: tuple[SweepRun, ...]
    report: tuple[str, ...] = ()
    data: str | None = None
    """Folder that replaces {data}; null if the file does not use it."""

    def with_needed(self, cells: Sequence[SweepRun]) -> list[SweepRun]:
        """Return ``cells`` and all runs that they need, directly or indirectly, in the sweep's order."""
        by_name = {run.name: run for run in self.runs}
        names = {run.name for run in cells}
        waiting = list(cells)
        while waiting:
            needed = waiting.pop().needs
            if needed and needed not in names:
                names.add(needed)
                waiting.append(by_name[needed])
        return [run for run in self.runs if run.name in names]


def load_sweep(path: Path, data: str | None = None, output: str | None = None) -> Sweep:
    """Expand a sweep file into its runs, in order.

    Args:
        path: the YAML file.
        data: folder for {data} in place of the file's.
        output: folder of the runs in place of the file's.

    Raises:
        ConfigError: a key is unknown, a name is not that of a model, task or pre-training of the file, or there is
            nothing to run.
    """
    config = from_dict(SweepConfig, read_config(path, "sweep"), str(path))
    uses_data = "{data}" in repr([getattr(config, name) for name in _FILLED])
    folders = {"{data}": data or config.data, "{output}": str(Path(output or config.output).expanduser())}
    config = replace(config, **{name: _fill(getattr(config, name), folders) for name in _FILLED})
    config = replace(config, output=folders["{output}"])
    grid = _Grid(
        config,
        {n: from_dict(SweepPretrain, v, f"{path}: pretrain.{n}") for n, v in config.pretrain.items()},
        {n: from_dict(SweepModel, v, f"{path}: models.{n}") for n, v in config.models.items()},
        {n: from_dict(SweepTask, v, f"{path}: tasks.{n}") for n, v in config.tasks.items()},
        {n: from_dict(SweepSetting, v, f"{path}: settings.{n}") for n, v in config.settings.items()},
    )
    grid.check(path)
    runs = (*grid.pretrainings(), *grid.cells())
    if not runs:
        raise ConfigError(
            f"{path}: has no runs, expected a model, task, setting and seed that go together, or a pretrain"
        )
    return Sweep(Path(config.output), runs, tuple(config.report), folders["{data}"] if uses_data else None)


def chosen_runs(sweep: Sweep, names: Sequence[str] | None) -> list[SweepRun]:
    """Return the runs that ``--only`` names, in the sweep's order; without names all runs.

    Args:
        sweep: the sweep.
        names: whole names, or beginnings of names.

    Raises:
        AalbertError: no run has a name that begins so.
    """
    known = [run.name for run in sweep.runs]
    whole = set(known) & set(names or ())  # a whole name does not select longer names
    begun = tuple(set(names or ()) - whole)
    for name in begun:
        if not any(run.startswith(name) for run in known):
            first = ", ".join(sorted({run.split("/")[0] for run in known}))
            parts = {"/".join(run.split("/")[:depth]) for run in known for depth in range(1, run.count("/") + 2)}
            raise AalbertError(
                f"--only {name}: no run begins so, expected one of {first} ...{did_you_mean(name, parts)}"
            )
    return [run for run in sweep.runs if not names or run.name in whole or run.name.startswith(begun)]


_FILLED = ("pretrain", "models", "tasks", "settings", "override", "report")


def _fill(value: object, folders: Mapping[str, str]) -> Any:
    """Replace {data} and {output} by their folders in every text."""
    if isinstance(value, str):
        for name, folder in folders.items():
            value = value.replace(name, folder)
        return value
    if isinstance(value, Mapping):
        return {key: _fill(item, folders) for key, item in value.items()}
    return [_fill(item, folders) for item in value] if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True)
class _Grid:
    config: SweepConfig
    pretrain: dict[str, SweepPretrain]
    models: dict[str, SweepModel]
    tasks: dict[str, SweepTask]
    settings: dict[str, SweepSetting]

    def check(self, path: Path) -> None:
        for name, setting in self.settings.items():
            _check_names(path, f"settings.{name}", setting.only_models, self.models)
            _check_names(path, f"settings.{name}", setting.only_tasks, self.tasks)
        above: dict[str, SweepPretrain] = {}
        for name, task in self.pretrain.items():
            _check_names(path, f"pretrain.{name}.init", (task.init,) if task.init else None, above)
            above[name] = task
        for name, model in self.models.items():
            _check_names(path, f"models.{name}", (model.pretrained,) if model.pretrained else None, self.pretrain)
            if model.pretrained and model.ckpt:
                raise ConfigError(f"{path}: models.{name} has both ckpt and pretrained, expected one of them")

    def pretrainings(self) -> Iterator[SweepRun]:
        for name, task in self.pretrain.items():
            expdir = self.folder(name)
            argv = ("pretrain", "-g", task.model_config, "-c", task.config, "--speech", *task.speech)
            argv += ("--init", str(self.folder(task.init))) if task.init else ()
            argv += (*task.args, "-p", str(expdir), "-a", *_overrides(task.override, _yaml_value))
            yield SweepRun(f"{PRETRAIN}/{name}", expdir, argv, *self._needed(task.init))

    def folder(self, pretrained: str) -> Path:
        return Path(self.config.output) / PRETRAIN / pretrained

    def _needed(self, pretrained: str | None) -> tuple[str, Path] | tuple[None, None]:
        return (f"{PRETRAIN}/{pretrained}", self.folder(pretrained)) if pretrained else (None, None)

    def cells(self) -> Iterator[SweepRun]:
        for task_name in self.tasks:
            for setting_name, setting in self.settings.items():
                if setting.only_tasks is not None and task_name not in setting.only_tasks:
                    continue
                for model_name in self.models:
                    if setting.only_models is not None and model_name not in setting.only_models:
                        continue
                    for seed in self.config.seeds:
                        yield self._cell(task_name, setting_name, model_name, seed)

    def _cell(self, task_name: str, setting_name: str, model_name: str, seed: int) -> SweepRun:
        task, setting, model = self.tasks[task_name], self.settings[setting_name], self.models[model_name]
        name = f"{task_name}/{setting_name}/{model_name}/seed{seed}"
        expdir = Path(self.config.output) / name
        override = {**self.config.override, **task.override, **setting.override}
        argv = (*_command(task), *self._upstream(model), *model.args, *task.args, *setting.args)
        argv += ("--seed", str(seed), "-p", str(expdir), "-a")
        argv = tuple(part.replace("{seed}", str(seed)) for part in (*argv, *_overrides(override)))
        return SweepRun(name, expdir, argv, *self._needed(model.pretrained))

    def _upstream(self, model: SweepModel) -> tuple[str, ...]:
        ckpt = str(self.folder(model.pretrained)) if model.pretrained else model.ckpt
        options = (("-k", ckpt), ("-g", model.model_config))
        return ("-u", model.upstream, *(part for flag, value in options if value for part in (flag, value)))


def _check_names(path: Path, where: str, names: tuple[str, ...] | None, known: Mapping[str, object]) -> None:
    for name in names or ():
        if name not in known:
            raise ConfigError(f'{path}: {where} names "{name}"{did_you_mean(name, known)}, which does not exist')


def _overrides(values: Mapping[str, object], written: Callable[[object], str] = repr) -> tuple[str, ...]:
    """Return `-o`; "{seed}" becomes a number.

    Args:
        values: by dotted key.
        written: how a value is written; by default as a Python literal, which S3PRL's runner reads.
    """
    texts = (f"{key}={value if value == '{seed}' else written(value)}" for key, value in values.items())
    return ("-o", ",,".join(texts)) if values else ()


def _yaml_value(value: object) -> str:
    """Write a value for pre-training, which reads YAML: JSON is a part of it. A date is written as its text."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _command(task: SweepTask) -> tuple[str, ...]:
    config = ("-c", task.config) if task.config else ()
    if task.downstream == "aalbert_probe":
        return ("probe", *config)
    return ("downstream", "-m", "train", "-d", task.downstream, *config)
