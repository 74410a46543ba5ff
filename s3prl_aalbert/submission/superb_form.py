"""Answers the leaderboard's form: the shared model, its profile, and each task's hyper-parameters."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from torch import Tensor

from s3prl_aalbert.checkpoint.published import EVERY_FRAME
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import ModelConfig, read_yaml
from s3prl_aalbert.printable import printable
from s3prl_aalbert.profile.costs import profile_config
from s3prl_aalbert.submission.superb_best import dev_score, load_states, naming_damage
from s3prl_aalbert.submission.superb_tasks import Prediction
from s3prl_aalbert.upstream.named import family_name, upstream_config

logger = logging.getLogger(__name__)

_HEADER = """\
# Answers to the form at superbbenchmark.org/submit, beside predict.zip. Fill in what is empty.
"""
_BATCH_KEYS = ("train_batch_size", "train_batchsize", "batch_size")
LONGEST_VALUE = 80
_NO_PARAMETERS = ("best_score", "num_batches_tracked")


@dataclass(frozen=True)
class Experiment:
    """The record of an experiment."""

    args: Mapping[str, object]
    config: Mapping[str, object]
    step: object = None
    """The step of the checkpoint."""
    last_step: int = 0
    """The last step of the run; the best checkpoint of a screening records only the screening's steps."""
    dev_score: float | None = None
    task_parameters: int = 0
    fine_tuned_parameters: int = 0

    @property
    def upstream_options(self) -> tuple[str, str | None, str | None]:
        """The recorded values of -u, -k and -g."""
        ckpt, config = self.args.get("upstream_ckpt"), self.args.get("upstream_model_config")
        return str(self.args.get("upstream")), str(ckpt) if ckpt else None, str(config) if config else None

    @property
    def upstream(self) -> str:
        """The same in one line."""
        return " ".join(filter(None, self.upstream_options))


def write_form(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write the form as YAML."""
    from s3prl_aalbert.files import write_text

    text = yaml.safe_dump(build_form(predictions), sort_keys=False, allow_unicode=True, width=110)
    write_text(path, _HEADER + text)


def build_form(predictions: Sequence[Prediction]) -> dict[str, object]:
    """Return the form's answers; unknown ones are None or an empty string."""
    experiments = {prediction.option: read_experiment(prediction) for prediction in predictions}
    upstreams = {found.upstream: None for found in experiments.values() if found}
    if len(upstreams) > 1:
        logger.warning("the tasks use different models, but SUPERB expects one: %s", "; ".join(upstreams))
    shared = next((found for found in experiments.values() if found), None)
    fine_tuned = max((found.fine_tuned_parameters for found in experiments.values() if found), default=0)
    if fine_tuned:
        logger.warning("the shared model was fine-tuned, which the constrained track does not allow")
    return {
        "submission_name": "",
        "model_url": "",
        "pretraining_corpus": "",
        **_describe_model(shared),
        "fine_tuned_parameters": fine_tuned,
        "tasks": {
            prediction.option: {"predictions": prediction.utterances, **_task_answers(experiments[prediction.option])}
            for prediction in predictions
        },
    }


def _describe_model(experiment: Experiment | None) -> dict[str, object]:
    answers: dict[str, object] = {
        "model_description": "",
        "upstream": experiment.upstream if experiment else None,
        "input_format": "",
        "stride_samples": None,
        "stride_ms": None,
        "shared_parameters": None,
        "macs_of_superbs_32_utterances": None,
        "macs_per_second_least": None,
        "macs_per_second_most": None,
    }
    config = _config_of(experiment) if experiment else None
    if config is None:
        logger.warning("the model's profile stays empty; `aalbert profile -u NAME --superb` profiles any upstream")
        return answers
    every_frame = experiment is not None and experiment.upstream_options[0] == EVERY_FRAME
    profile = profile_config("", config, every_frame=every_frame)
    assert profile.superb is not None
    stride = config.audio.hop_samples if every_frame else config.samples_per_token
    kind = "log-mel filter bank with deltas" if config.audio.delta else "log-mel filter bank"
    return answers | {
        "model_description": f"{family_name(config)}, hidden size {config.transformer.hidden_size}",
        "input_format": f"{kind}, {config.input_dim} values a token, computed from the waveform by the model",
        "stride_samples": stride,
        "stride_ms": 1000 * stride / config.audio.sample_rate,
        "shared_parameters": profile.parameters,
        "macs_of_superbs_32_utterances": profile.superb.total,
        "macs_per_second_least": round(profile.superb.least),
        "macs_per_second_most": round(profile.superb.most),
    }


def _config_of(experiment: Experiment) -> ModelConfig | None:
    try:
        return upstream_config(*experiment.upstream_options)
    except AalbertError as error:
        logger.warning("the model cannot be read: %s", error)
    return None


def read_experiment(prediction: Prediction) -> Experiment | None:
    """Read the record of an experiment from its checkpoint or, for a task without training, from S3PRL's YAML files.

    Returns None if nothing is recorded.
    """
    checkpoint = _find_checkpoint(prediction)
    if checkpoint:
        with naming_damage(checkpoint):
            return _read_checkpoint(checkpoint, prediction.option)
    folder = prediction.experiment
    recorded = [sorted(filter(Path.is_file, folder.glob(f"{kind}_*.yaml")))[-1:] for kind in ("args", "config")]
    if not all(recorded):
        logger.warning("%s: no checkpoint and no args_*.yaml: its hyper-parameters stay empty", folder)
        return None
    args, config = (_plain_mapping(read_yaml(path)) for (path,) in recorded)
    return Experiment(args, config)


def _read_checkpoint(path: Path, option: str) -> Experiment:
    states = load_states(path)
    score = dev_score(states)
    return Experiment(
        args=_plain_mapping(vars(states["Args"])),
        config=_plain_mapping(states["Config"]),
        step=_plain(states.get("Step")),
        last_step=_last_step(path.parent),
        dev_score=score.value if score and option != "sv" else None,
        task_parameters=_count(states["Downstream"]) + _count(states.get("Featurizer", {})),
        fine_tuned_parameters=_count(states.get("Upstream", {})),
    )


def _last_step(folder: Path) -> int:
    steps = (path.stem.rpartition("-")[2] for path in folder.glob("states-*.ckpt"))
    return max((int(step) for step in steps if step.isdecimal()), default=0)


def _plain_mapping(values: Mapping[str, object]) -> dict[str, object]:
    return {str(key): _plain(each) for key, each in values.items()}


def _plain(value: object) -> object:
    """Return a value for YAML; anything but text, numbers and collections of them becomes text."""
    if isinstance(value, Mapping):
        return _plain_mapping(value)
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if value is None or type(value) in (str, int, float, bool) else printable(value, LONGEST_VALUE)


def _find_checkpoint(prediction: Prediction) -> Path | None:
    """Return the checkpoint of the predictions; links to another folder's predictions are followed."""
    _, file = prediction.files[0]
    beside = Path(f"{file.resolve().parent}.ckpt")  # states-N/test_predict.txt came from states-N.ckpt
    if beside.is_file():
        return beside
    found = filter(Path.is_file, prediction.experiment.glob(prediction.task.checkpoint))
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _count(state: Mapping[str, object]) -> int:
    return sum(
        tensor.numel()
        for name, tensor in state.items()
        if isinstance(tensor, Tensor) and not name.endswith(_NO_PARAMETERS)
    )


def _task_answers(experiment: Experiment | None) -> dict[str, object]:
    if experiment is None:
        return {}
    sections = {key: value for key, value in experiment.config.items() if isinstance(value, Mapping)}
    runner, optimizer = sections.get("runner", {}), sections.get("optimizer", {})
    total = runner.get("total_steps")
    batch = _find_key(sections.get("downstream_expert", {}), _BATCH_KEYS) if runner else None
    return {
        "task_parameters": experiment.task_parameters,
        "learning_rate": optimizer.get("lr"),
        "optimizer": optimizer.get("torch_optim_name") or optimizer.get("name"),
        "batch_size": batch,
        "gradient_accumulate_steps": runner.get("gradient_accumulate_steps"),
        "total_steps": max(total, experiment.last_step) if isinstance(total, int) else total,
        "step_of_checkpoint": experiment.step,
        "dev_score": experiment.dev_score,
        "features": experiment.args.get("upstream_feature_selection"),
        "layer": experiment.args.get("upstream_layer_selection"),
        "seed": experiment.args.get("seed"),
    }


def _find_key(section: Mapping[str, object], names: Sequence[str]) -> object:
    """Return the value of the first of ``names`` in a section or in its sub-sections."""
    for name in names:
        if name in section:
            return section[name]
    inner = (_find_key(value, names) for value in section.values() if isinstance(value, Mapping))
    return next((value for value in inner if value is not None), None)
