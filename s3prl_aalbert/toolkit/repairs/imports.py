"""Repairs that let S3PRL 0.4.18 run with current versions of torch and torchaudio.

S3PRL 0.4.18 was tested up to torch 2.4. Each function below repairs one break. Its docstring states
what the user would see without it, and when it can go. A function changes nothing if the installed
versions still offer what S3PRL uses, or if it was called before.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import logging
import sys
import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch
import torchaudio
from tqdm import tqdm

from s3prl_aalbert.toolkit import finders
from s3prl_aalbert.toolkit.bars import CountingBar
from s3prl_aalbert.toolkit.replace import Changed


def apply() -> None:
    """Apply every workaround that the installed versions need; call before importing ``s3prl.hub``."""
    keep_espnet_unmentioned()
    provide_set_audio_backend()
    provide_audio_files()
    provide_sox_effects()
    allow_s3prl_checkpoints()
    keep_names_from_running_code()
    keep_checkpoints_from_running_code()
    count_steps_without_bars()


def keep_espnet_unmentioned() -> None:
    """Suppress S3PRL's message that ESPnet is not installed, unless its upstream is used.

    Reason: ``hub`` imports all upstreams, and one of them, espnet_hubert, prints the message when it is imported.
    Symptom: ``ESPnet is not installed, cannot use espnet_hubert upstream``, whatever upstream is used.
    Remove when: S3PRL prints it where the upstream is built.
    """
    logging.getLogger("s3prl.upstream.espnet_hubert.expert").setLevel(logging.ERROR)


def provide_set_audio_backend() -> None:
    """Give torchaudio a ``set_audio_backend`` that accepts any name and does nothing.

    Reason: torchaudio 2.9 removed it; S3PRL calls it at import and in ``run_downstream.main()``.
    Symptom: ``AttributeError: module 'torchaudio' has no attribute 'set_audio_backend'`` from
    ``import s3prl.hub``. torchaudio had made the call a no-op in 2.2 already.
    Remove when: S3PRL no longer calls it.
    """
    if not hasattr(torchaudio, "set_audio_backend"):
        torchaudio.set_audio_backend = lambda backend: None  # files go through soundfile here


def provide_audio_files() -> None:
    """Let ``torchaudio.load``, ``save`` and ``info`` work without TorchCodec, through soundfile.

    Reason: torchaudio 2.9 hands ``load`` and ``save`` to the separate package TorchCodec (which needs
    FFmpeg) and removed ``info``; S3PRL's tasks call all three.
    Symptom: ``ImportError: TorchCodec is required for load_with_torchcodec``, or
    ``AttributeError: module 'torchaudio' has no attribute 'info'``.
    Remove when: S3PRL reads audio by other means, or TorchCodec becomes a dependency of torchaudio.
    """
    from s3prl_aalbert.toolkit.repairs import audio_files

    if not hasattr(torchaudio, "info"):
        torchaudio.info = audio_files.info
    # That torchaudio has no readers of its own (2.9) shows in its missing list of backends.
    needs_torchcodec = hasattr(torchaudio, "load_with_torchcodec") and not hasattr(torchaudio, "list_audio_backends")
    if needs_torchcodec and importlib.util.find_spec("torchcodec") is None:
        torchaudio.load = audio_files.load
        torchaudio.save = audio_files.save


def provide_sox_effects() -> None:
    """Offer ``torchaudio.sox_effects`` with the effects that S3PRL's tasks use, computed by torch.

    Reason: torchaudio 2.9 removed the module; earlier versions need the system library libsox. S3PRL's
    ``hub`` imports it for one upstream (``mos_prediction``), and many tasks import it to read audio.
    Symptom: ``ModuleNotFoundError: No module named 'torchaudio.sox_effects'`` from ``import s3prl.hub``;
    with torchaudio 2.8 ``OSError: libsox.so: cannot open shared object file`` when a task starts.
    Remove when: S3PRL's tasks stop using SoX.
    """
    from s3prl_aalbert.toolkit.repairs import sox_effects

    if not _has_working_sox():
        torchaudio.sox_effects = sox_effects
        sys.modules["torchaudio.sox_effects"] = sox_effects


def _has_working_sox() -> bool:
    try:
        from torchaudio import sox_effects

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchaudio 2.8 announces the removal at length
            sox_effects.effect_names()  # loads libsox
    except (ImportError, OSError, RuntimeError):
        return False
    return True


def allow_s3prl_checkpoints() -> None:
    """Let ``torch.load`` read the experiments that S3PRL saves, without running code from them.

    Reason: torch 2.6 made ``weights_only=True`` the default; S3PRL saves its ``argparse.Namespace``
    beside the weights, and the configuration or the optimizer state may contain numpy numbers. A date in a YAML file
    is read as one of ``datetime``.
    Symptom: ``_pickle.UnpicklingError: Weights only load failed ... Unsupported global: GLOBAL
    argparse.Namespace`` on ``-e`` and ``-a``.
    Remove when: S3PRL saves ``vars(args)``. These types only hold data, so that ``weights_only`` stays safe.
    """
    dates = [datetime.date, datetime.datetime, datetime.timezone, datetime.timedelta]
    torch.serialization.add_safe_globals([argparse.Namespace, *dates, *_numpy_number_globals()])


def keep_checkpoints_from_running_code() -> None:
    """Let S3PRL's mockingjay, audio_albert, tera and distiller read only tensors and plain values.

    Reason: their builders ask ``torch.load`` for ``weights_only=False``, with which a file given to ``-k`` can run
    any program.
    Symptom: none, until a file is malicious. For a refused file that you trust: ``aalbert convert --trust``.
    Remove when: S3PRL leaves ``weights_only`` at its default.
    """
    for name in ("mockingjay", "distiller"):
        finders.after_import(f"s3prl.upstream.{name}.builder", _load_carefully)


def _load_carefully(builder: ModuleType) -> None:
    if builder.torch is torch:
        careful = Changed(torch, load=lambda *args, **options: torch.load(*args, **{**options, "weights_only": True}))
        vars(builder)["torch"] = careful


def keep_names_from_running_code() -> None:
    """Let S3PRL evaluate only existing names and plain values.

    Reason: S3PRL calls ``eval`` on text from a configuration or checkpoint: names of optimisers, models and metrics,
    and sizes of convolutions. Its speaker tasks unpickle files that a configuration names.
    Symptom: none, until a file is malicious; a misspelt name is ``NameError: name 'get_adm' is not defined``.
    Remove when: S3PRL looks names up.
    """
    finders.watch()


def count_steps_without_bars() -> None:
    """Let S3PRL's training count its steps even if progress bars are turned off.

    Reason: the runner takes its step from ``n`` of a bar, and tqdm does not count in a bar that is not shown.
    Symptom: with ``TQDM_DISABLE=1`` a training never ends.
    Remove when: S3PRL counts its steps.
    """
    finders.after_import("s3prl.downstream.runner", _count)


def _count(runner: ModuleType) -> None:
    if runner.tqdm is tqdm:
        vars(runner)["tqdm"] = CountingBar


def _numpy_number_globals() -> list[Callable[..., object] | tuple[Callable[..., object], str]]:
    """Return the globals for unpickling a numpy number, under the names of numpy 1 and numpy 2."""
    rebuild = np.float64(0).__reduce__()[0]  # numpy's own `scalar(dtype, bytes)`
    dtypes = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [*((rebuild, name) for name in names), np.dtype, *dtypes]
