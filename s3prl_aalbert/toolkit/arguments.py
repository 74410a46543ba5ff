"""Completes and checks the options of ``run_downstream.py`` before S3PRL sees them.

S3PRL's own parser reads the options. This module adds the two defaults that users expect (``-c`` from
``-d``, and ``--device``). It reports early and clearly what S3PRL would ignore, or fail on later.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from s3prl_aalbert.device import check_device_name, checked_device
from s3prl_aalbert.model.config import ConfigError, find_config, packaged_configs, read_config
from s3prl_aalbert.toolkit import option_checks
from s3prl_aalbert.toolkit.config_checks import check_config
from s3prl_aalbert.toolkit.experiments import check_nothing_newer, check_unused_folder, find_past_experiment, place_of
from s3prl_aalbert.toolkit.options import Options, check_overridden, given_options
from s3prl_aalbert.toolkit.overrides import check_new_keys, overridden, parse_override
from s3prl_aalbert.toolkit.register import DOWNSTREAMS

logger = logging.getLogger(__name__)


def complete(argv: Sequence[str]) -> list[str]:
    """Return ``argv`` with the missing options filled in.

    Args:
        argv: the options as typed, without the program name.

    Raises:
        AalbertError: S3PRL would ignore an option, or fail on it later.
        SystemExit: S3PRL's own parser refused the options, or ``--help`` was given.
    """
    # Checks without torch come first, so that a typing error is reported within a fraction of a second.
    argv = _readable(argv)
    given = given_options(argv)
    overrides = parse_override(given.get("override"))
    check_overridden(overrides.args)
    check_device_name((given | overrides.args).get("device"), numbered=True)
    past = find_past_experiment(given)
    if past:
        from s3prl_aalbert.toolkit import resume  # imports torch

        states = resume.load_experiment(past)
        settings = resume.resumed_settings(past, vars(states["Args"]), given, overrides)
        option_checks.check_settings(settings, trained=True, resumed=True)
        if given["mode"] == "train":
            check_nothing_newer(Path(str(settings["expdir"])), past, int(states.get("Step", 0)))
        config, added, where = states["Config"], [], past
    else:
        option_checks.check_new_experiment(given)
        settings = given | overrides.args
        if given["mode"] == "train" and not given.get("auto_resume"):
            check_unused_folder(place_of(settings))
        option_checks.check_settings(settings, trained=bool(given.get("init_ckpt")))
        path = _config_path(given)
        config, added, where = read_config(path, "task"), ["-c", str(path)], path
    # The configuration is checked with the overrides applied, as S3PRL will use it.
    check_new_keys(overrides, config, settings["downstream"] in DOWNSTREAMS)
    changed = " with -o" if overrides.config else ""
    check_config(overridden(config, overrides), f"{where}{changed}", given["mode"], settings)
    return [*argv, *added, *_device_option(given | overrides.args)]


def typed_options(argv: Sequence[str]) -> Options:
    """Return the options in ``argv`` by S3PRL's names, without defaults; imports nothing heavy.

    Raises:
        AalbertError: the parser refused the options.
        SystemExit: ``--help`` was given.
    """
    return given_options(_readable(argv))


def training_folder(argv: Sequence[str]) -> Path | None:
    """Return the folder of a training with these options; None if they name no training or no folder."""
    given = typed_options(argv)
    if given["mode"] != "train" or not {"expname", "expdir", "past_exp"} & given.keys():
        return None
    overrides = parse_override(given.get("override"))
    past = find_past_experiment(given)
    return Path(overrides.args.get("expdir") or (past.parent if past else place_of(given)))


def _readable(argv: Sequence[str]) -> list[str]:
    """Return ``argv`` in the forms that S3PRL reads: of a launcher's rank, and of ``~`` in -p, -e and -i."""
    argv = _with_launcher_rank(list(argv))
    given = given_options(argv)
    typed = {"-p": given.get("expdir"), "-e": given.get("past_exp"), "-i": given.get("init_ckpt")}
    # Of an option that is there twice, the last counts.
    home = ((flag, str(Path(path).expanduser())) for flag, path in typed.items() if path and path.startswith("~"))
    return [*argv, *(part for option in home for part in option)]


def _with_launcher_rank(argv: list[str]) -> list[str]:
    """Pass on a launcher's rank in the only form that S3PRL reads, ``--local_rank N``.

    ``torch.distributed.launch`` of torch 2 writes ``--local-rank``, and ``torchrun`` sets only LOCAL_RANK.
    Without the option every process would train alone and overwrite the files of the others.
    """
    dashed = "--local-rank"
    argv = [f"--local_rank{arg[len(dashed) :]}" if arg.startswith(dashed) else arg for arg in argv]
    rank = os.environ.get("LOCAL_RANK")
    if rank is None or any(arg.startswith("--local_rank") for arg in argv):
        return argv
    return [*argv, "--local_rank", rank]


def _config_path(given: Options) -> Path:
    """Return the configuration of ``-c``; the default is the one of the task."""
    if "config" in given:
        return find_config(given["config"], "downstream_configs")
    path = _default_config(given["downstream"])
    logger.info("configuration (no -c given): %s", path)
    return path


def _default_config(task: str) -> Path:
    if task in DOWNSTREAMS:
        return find_config(task, "downstream_configs")
    folders = [Path("downstream"), *option_checks.downstream_folders()]  # S3PRL itself looks in the first
    candidates = [folder / task / "config.yaml" for folder in folders]
    candidates.append(packaged_configs("downstream_configs") / f"{task}.yaml")
    for path in candidates:
        if path.is_file():
            return path
    raise ConfigError(
        f"-c is missing: S3PRL's wheel has no configuration of the task {task}; "
        f"give s3prl/downstream/{task}/config.yaml from its source"
    )


def _device_option(given: Options) -> list[str]:
    """Return ``--device`` if it was not typed; hide the GPUs if the user chose the CPU.

    S3PRL's ``evaluate`` empties the GPU cache of ``--device`` if any GPU is visible, which fails with
    ``--device cpu``.
    """
    device = checked_device(given.get("device"), numbered=True)
    if device == "cpu" and "device" in given:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return [] if "device" in given else ["--device", device]
