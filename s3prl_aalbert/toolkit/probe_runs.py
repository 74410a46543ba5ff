"""Runs ``aalbert downstream -d aalbert_probe`` with the options of ``aalbert probe``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s3prl_aalbert.errors import AalbertError, did_you_mean

TASKS = ("phone", "speaker")


@dataclass(frozen=True)
class ProbeOptions:
    """The options of a probing run; ``commands/probe.py`` documents them."""

    upstream: str | None
    upstream_ckpt: str | None
    upstream_model_config: str | None
    task: str | None
    config: str | None
    expname: str | None
    expdir: str | None
    auto_resume: bool
    override: str | None
    seed: int | None
    device: str | None

    def arguments(self, expdir: Path, overrides: Sequence[str]) -> list[str]:
        """Return the options of S3PRL's runner."""
        argv = ["-m", "train", "-d", "aalbert_probe", "-p", str(expdir)]
        options = {"-u": self.upstream, "-k": self.upstream_ckpt, "-g": self.upstream_model_config, "-c": self.config}
        for flag, value in {**options, "--device": self.device, "--seed": self.seed}.items():
            argv += [flag, str(value)] if value is not None else []
        argv += ["-a"] if self.auto_resume else []
        return [*argv, *(["-o", ",,".join(overrides)] if overrides else [])]


def run_probes(options: ProbeOptions) -> Path:
    """Probe and return the experiment folder, which holds probes.csv.

    Log messages go to the terminal unless the program has configured logging.

    Raises:
        AalbertError: the options, the configuration or the data have a mistake.
        SystemExit: with EXIT_STOPPED if a signal ended the training after it saved its state.
    """
    from s3prl_aalbert.toolkit.experiments import find_past_experiment, place_of
    from s3prl_aalbert.toolkit.launch import run

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not (options.expname or options.expdir):
        raise AalbertError("name the experiment with -n NAME (saved at result/downstream/NAME) or -p DIR")
    expdir = place_of({"expname": options.expname, "expdir": options.expdir})
    past = find_past_experiment({"expdir": str(expdir), "auto_resume": options.auto_resume})
    tasks = _checked_tasks(options.task)
    if past and tasks:
        _check_same_tasks(tasks, past)
    chosen = f"config.downstream_expert.modelrc.tasks={tasks}" if tasks and not past else None
    code = run(options.arguments(expdir, [text for text in (chosen, options.override) if text]))
    if code:
        raise SystemExit(code)
    return expdir


def _checked_tasks(typed: str | None) -> list[str]:
    tasks = [task.strip() for task in (typed or "").split(",") if task.strip()]
    for task in tasks:
        if task not in TASKS:
            raise AalbertError(f"--task {task}: unknown{did_you_mean(task, TASKS)}; expected {' or '.join(TASKS)}")
    return tasks


def _check_same_tasks(tasks: Sequence[str], past: Path) -> None:
    """Raise AalbertError if a resumed run probes other tasks than those typed."""
    from s3prl_aalbert.toolkit.resume import load_experiment

    try:
        recorded = load_experiment(past)["Config"]["downstream_expert"]["modelrc"].get("tasks") or list(TASKS)
    except (LookupError, TypeError, AttributeError) as error:
        raise AalbertError(f"{past}: is not a probing run; choose another -n") from error
    if sorted(tasks) != sorted(recorded):
        raise AalbertError(
            f"--task {','.join(tasks)}: {past} probes {','.join(recorded)}; omit it, or choose another -n"
        )
