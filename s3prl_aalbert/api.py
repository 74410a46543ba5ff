"""The ``aalbert`` command's most used parts as typed calls: load, features, pretrain, probe, report.

``import s3prl_aalbert as aalbert`` offers all of them. A mistake raises ``AalbertError`` with the message that the
command would print.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from s3prl_aalbert.audio_io import read_audio
from s3prl_aalbert.commands.pretrain import pretrain as pretrain_command
from s3prl_aalbert.commands.probe import probe as probe_command
from s3prl_aalbert.device import checked_device
from s3prl_aalbert.downstream.features import FeatureOptions, represent
from s3prl_aalbert.downstream.result_tables import read_probes
from s3prl_aalbert.seeds import checked_seed
from s3prl_aalbert.toolkit.upstreams import build_upstream

Location = str | PathLike[str]


def load(
    name: Location = "aalbert",
    ckpt: Location | None = None,
    model_config: Location | None = None,
    *,
    device: str = "cpu",
    seed: int = 0,
) -> nn.Module:
    """Return an upstream in evaluation mode: a call with a list of waveforms gives ``hidden_states`` and more.

    Args:
        name: an upstream of this plugin or of S3PRL, or a checkpoint of this project (a release, a pre-training folder
            or a file).
        ckpt: its checkpoint, as ``-k``.
        model_config: its configuration, as ``-g``.
        device: cpu or cuda.
        seed: draws the weights of an untrained model.

    Raises:
        AalbertError: no upstream or checkpoint of that name, no such device, or an unusable seed.
    """
    if ckpt is None and (path := Path(name).expanduser()).exists():
        name, ckpt = "aalbert_local", path
    device = checked_device(device, numbered=True)
    torch.manual_seed(checked_seed(seed))
    upstream = build_upstream(str(name), *(None if each is None else str(each) for each in (ckpt, model_config)))
    return upstream.eval().to(device)


def features(
    model: nn.Module,
    audio: Location | np.ndarray | Tensor,
    layer: int | Literal["all"] = -1,
    selection: str = "hidden_states",
) -> Tensor:
    """Return the features of one utterance on the CPU: (tokens, width), or (layers, tokens, width) of all layers.

    Args:
        model: an upstream, from ``load``.
        audio: a file of any rate and format, or (num_samples,) floating-point samples at 16 kHz.
        layer: hidden state; 0 is the first, negative ones count from the end.
        selection: key of the upstream's outputs, as ``-s``.

    Raises:
        AalbertError: unusable audio, or a layer that the upstream does not have.
    """
    if isinstance(audio, Tensor):
        wav = audio.detach().cpu().float().numpy()
    else:
        wav = audio.astype(np.float32) if isinstance(audio, np.ndarray) else read_audio(Path(audio).expanduser())
    return torch.from_numpy(represent(model, wav, FeatureOptions(layer, selection)))


def pretrain(
    speech: Sequence[Location],
    folder: Location,
    *,
    model: Location | None = None,
    config: Location | None = None,
    settings: Mapping[str, object] | None = None,
    init: Location | None = None,
    seed: int | None = None,
    device: str | None = None,
    resume: bool = False,
) -> Path:
    """Pre-train and return the folder, which ``load`` takes.

    Args:
        speech: folders of audio.
        folder: where everything is written.
        model: a YAML file, or a packaged one such as ``aalbert_6l``; default: ``aalbert_3l``, or that of ``init``.
        config: the training, likewise; default: ``pretrain_default``. A resumed run keeps its own model and config.
        settings: what to change in them, as ``-o``: ``{"config.optimizer.lr": 1e-3, "model.task.dice": "token"}``.
        init: start from the weights of this checkpoint.
        seed: default 1337.
        device: cpu or cuda; default: cuda if there is one.
        resume: continue if the folder has a training state.

    Raises:
        AalbertError: unusable speech, configuration or folder.
        SystemExit: a signal stopped the run after it saved its state; continue with ``resume``.
    """
    code = pretrain_command(
        upstream_config=_text(model),
        config=_text(config),
        speech=[str(each) for each in speech],
        expdir=str(folder),
        auto_resume=resume,
        init=_text(init),
        override=_override(settings, json.dumps),
        seed=seed,
        device=device,
    )
    if code:
        raise SystemExit(code)
    return Path(folder)


@dataclass(frozen=True)
class Probed:
    """The result of one probe."""

    task: str
    layer: int
    """Hidden state, 0 is the first."""
    classifier: str
    dev_accuracy: float
    test_accuracy: float | None
    """At the step that was best on dev."""
    best_step: int


def probe(
    upstream: str,
    folder: Location,
    *,
    ckpt: Location | None = None,
    model_config: Location | None = None,
    tasks: Sequence[str] = ("phone", "speaker"),
    config: Location | None = None,
    settings: Mapping[str, object] | None = None,
    seed: int | None = None,
    device: str | None = None,
    resume: bool = False,
) -> list[Probed]:
    """Train a probe on every hidden state of an upstream and return what each reached.

    Args:
        upstream: any upstream of this plugin or of S3PRL.
        folder: where everything is written.
        ckpt: its checkpoint, as ``-k``.
        model_config: its configuration, as ``-g``.
        tasks: phone, speaker or both.
        config: a YAML file, or a packaged one; default: ``aalbert_probe``, or that of the resumed run.
        settings: what to change in it, as ``-o``: ``{"config.downstream_expert.datarc.phone.audio": "timit"}``.
        seed: default 1337.
        device: cpu or cuda; default: cuda if there is one.
        resume: continue if the folder has a checkpoint.

    Raises:
        AalbertError: unusable audio, labels, configuration or folder.
    """
    expdir = probe_command(
        upstream=upstream,
        upstream_ckpt=_text(ckpt),
        upstream_model_config=_text(model_config),
        task=",".join(tasks),
        config=_text(config),
        expdir=str(folder),
        auto_resume=resume,
        override=_override(settings, repr),
        seed=seed,
        device=device,
    )
    return [
        Probed(probe.task, probe.layer, probe.classifier, probe.dev_acc, probe.test_acc, probe.best_step)
        for probe in read_probes(expdir)
    ]


def report(runs: Sequence[Location], out: Location, title: str | None = None, note: str = "") -> Path:
    """Draw tables and figures of finished runs and return the page, ``OUT/index.html``.

    Args:
        runs: folders, searched for runs of every kind.
        out: folder of the page.
        title: its heading.
        note: what the reader should know first.

    Raises:
        AalbertError: a folder is missing, or nothing in it is usable.
    """
    from s3prl_aalbert.report.write import DEFAULT_TITLE, write_report

    return write_report([Path(run) for run in runs], Path(out), title or DEFAULT_TITLE, note)


def _text(value: Location | None) -> str | None:
    return None if value is None else str(value)


def _override(settings: Mapping[str, object] | None, written: Callable[[object], str]) -> str | None:
    """Return ``settings`` in the form of ``-o``; ``written`` turns a value into text."""
    return ",,".join(f"{key}={written(value)}" for key, value in settings.items()) if settings else None
