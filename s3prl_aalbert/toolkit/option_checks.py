"""Checks the options of ``run_downstream.py``; each message names the option and the expected value."""

from __future__ import annotations

import importlib
from pathlib import Path

from s3prl_aalbert import toolkit
from s3prl_aalbert.checkpoint.published import BY_URL, located
from s3prl_aalbert.errors import AalbertError, did_you_mean, is_url, near_folder
from s3prl_aalbert.seeds import NUMPY_LARGEST, checked_seed
from s3prl_aalbert.toolkit.experiments import place_of
from s3prl_aalbert.toolkit.hub import plugin_upstreams, s3prl_folder, s3prl_upstreams
from s3prl_aalbert.toolkit.options import Options
from s3prl_aalbert.toolkit.register import DOWNSTREAMS

# Endings of S3PRL's upstreams that read -k; all others have their own weights and ignore -k silently.
_READS_CKPT = ("_local", "_url", "_gdriveid", "_custom")
_READS_CKPT_TOO = {"customized_upstream"}  # the template that users fill in
_NEEDS_MODEL_CONFIG = "baseline_local"  # features: reads -g and ignores -k
# Upstreams of S3PRL that put a configuration of their own in the place of -g.
_OWN_MODEL_CONFIG = {"baseline", "spectrogram", "fbank", "fbank_no_cmvn", "mfcc", "mel", "linear", "pase_plus"}


def check_new_experiment(given: Options) -> None:
    """Check the options that only a new experiment needs: folder, upstream, task.

    Raises:
        AalbertError: one of them is missing.
    """
    if given.get("auto_resume") and "upstream" not in given:
        folder = place_of(given)
        raise AalbertError(f"{folder}: found nothing to resume{near_folder(folder)}; a new experiment needs -u and -d")
    if "expname" not in given and "expdir" not in given:
        raise AalbertError("-n NAME (writes to result/downstream/NAME) or -p EXPDIR is missing")
    for name, flag, example in (("upstream", "-u", "aalbert_local"), ("downstream", "-d", "aalbert_phone")):
        if name not in given:
            raise AalbertError(f"{flag} is missing: expected the {name} to use, e.g. {flag} {example}")


def check_settings(settings: Options, trained: bool, resumed: bool = False) -> None:
    """Check the options of the run, whether typed or from the experiment that it resumes.

    Args:
        settings: the options by S3PRL's names.
        trained: whether the weights of a finished experiment will be loaded.
        resumed: whether ``settings`` are those of a checkpoint, which may record a ``-g`` that was not read.

    Raises:
        AalbertError: a name does not exist, ``-k`` or ``-g`` is wrong or unused, or a file is missing.
    """
    check_downstream(settings["downstream"])
    if settings.get("hub") != "huggingface":  # there -u is a repository, not a name
        name, model_config = settings["upstream"], settings.get("upstream_model_config")
        unread = resumed and name in _OWN_MODEL_CONFIG
        check_upstream(name, settings.get("upstream_ckpt"), None if unread else model_config)
    _check_given_file("-i", settings.get("init_ckpt"))
    checked_seed(settings.get("seed", 0), NUMPY_LARGEST)
    _check_mode(settings, trained)


def check_downstream(name: str) -> None:
    """Check that S3PRL or the plugin has the task ``name``.

    Raises:
        AalbertError: neither has it.
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
    folder = s3prl_folder()
    return [folder / "downstream"] if folder else []


def check_upstream(name: str, ckpt: str | None, model_config: str | None = None) -> None:
    """Check that S3PRL or the plugin has the upstream ``name``, and that it reads ``-k`` and ``-g`` if given.

    Raises:
        AalbertError: the upstream does not exist, or ``-k`` or ``-g`` is missing, unused or not found.
    """
    known = [*plugin_upstreams(), *s3prl_upstreams()]
    if name not in known:
        raise AalbertError(
            f"-u {name}: no upstream of that name{did_you_mean(name, known)}; "
            f"the plugin's are {', '.join(plugin_upstreams())}"
        )
    reads_ckpt = name.endswith(_READS_CKPT) and name != _NEEDS_MODEL_CONFIG
    if reads_ckpt and not ckpt:
        raise AalbertError(f"-u {name} needs a checkpoint: -k is missing")
    if ckpt and not reads_ckpt and name not in _READS_CKPT_TOO:
        raise AalbertError(f"-u {name} would ignore -k {ckpt}; remove -k, or use -u aalbert_local")
    if reads_ckpt and name.endswith("_local"):
        _check_local_ckpt(name, str(ckpt))
    _check_model_config(name, model_config)


def _check_local_ckpt(name: str, typed: str) -> None:
    if is_url(typed):
        url_name = BY_URL if name in plugin_upstreams() else f"{name.removesuffix('_local')}_url"
        raise AalbertError(f"-k {typed}: is a URL, expected a file or folder; -u {url_name} downloads")
    ckpt = located(typed) if name in plugin_upstreams() else Path(typed)
    if not ckpt.exists():
        raise AalbertError(f"-k {ckpt}: no such file or folder")
    if ckpt.is_dir() and name not in plugin_upstreams():
        raise AalbertError(f"-k {ckpt} is a folder; -u {name} expects a checkpoint file")
    if not ckpt.is_dir():
        _check_file("-k", ckpt)


def _check_given_file(flag: str, path: str | None) -> None:
    if path and not Path(path).is_file():
        raise AalbertError(f"{flag} {path}: no such file")
    if path:
        _check_file(flag, Path(path))


def _check_file(flag: str, path: Path) -> None:
    from s3prl_aalbert.checkpoint.content import CheckpointError, check_regular

    try:
        check_regular(path)
    except CheckpointError as error:
        raise AalbertError(f"{flag} {error}") from error


def _check_model_config(upstream: str, path: str | None) -> None:
    if upstream == _NEEDS_MODEL_CONFIG and not path:
        raise AalbertError(f"-u {upstream} needs the configuration of its features: -g is missing")
    if upstream in _OWN_MODEL_CONFIG and path:
        others = "-u pase_url" if upstream.startswith("pase") else f"-u {_NEEDS_MODEL_CONFIG}"
        raise AalbertError(f"-u {upstream} would ignore -g {path}; remove -g, or use {others}, which reads it")
    if upstream.endswith("_local") and upstream not in plugin_upstreams():
        _check_given_file("-g", path)


def _check_mode(settings: Options, trained: bool) -> None:
    mode, task = settings["mode"], settings["downstream"]
    if mode != "train" and task in DOWNSTREAMS and not trained:
        raise AalbertError(f"-m {mode} of {task} needs a trained experiment, e.g. -e EXPDIR/dev-best.ckpt")
    if mode == "inference":
        _check_inference(task, settings.get("evaluate_split", "test"))


def _check_inference(task: str, wav: str) -> None:
    if not Path(wav).is_file():
        raise AalbertError(f"-m inference: -t {wav} is not a file; expected a wav to run the task on")
    toolkit.activate()
    expert = importlib.import_module(f"s3prl.downstream.{task}.expert").DownstreamExpert
    if not hasattr(expert, "inference"):
        raise AalbertError(f"-m inference: the task {task} offers no inference; expected train or evaluate")
