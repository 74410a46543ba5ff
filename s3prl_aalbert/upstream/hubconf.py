"""The upstream entries, for S3PRL's hub and for torch.hub.

Both call an entry by its name. S3PRL always passes ``refresh`` and does not know ``pretrained``. There a name without
published weights builds its architecture untrained, as the control of a comparison. In torch.hub it is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from s3prl_aalbert.checkpoint.published import PRESETS, PUBLISHED, packaged_folder, packaged_names
from s3prl_aalbert.checkpoint.release import load_checkpoint
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.aalbert import reinitialise
from s3prl_aalbert.upstream.download import fetch, fetch_published
from s3prl_aalbert.upstream.expert import FeaturesExpert, UpstreamExpert

logger = logging.getLogger(__name__)

__all__ = [
    "aalbert",
    "aalbert_3l",
    "aalbert_6l",
    "aalbert_12l",
    "aalbert_every_frame_local",
    "aalbert_features",
    "aalbert_local",
    "aalbert_mockingjay_3l",
    "aalbert_mockingjay_6l",
    "aalbert_mockingjay_12l",
    "aalbert_tiny",
    "aalbert_units",
    "aalbert_url",
]


def aalbert_local(
    ckpt: str | None = None, model_config: str | None = None, pretrained: bool = True, refresh: bool | None = None
) -> UpstreamExpert:
    """Load AALBERT or Mockingjay from a checkpoint of this project.

    Args:
        ckpt: release folder or file, pre-training folder, or training state.
        model_config: the YAML of a sub-network of a supernet (arch.yaml); the model itself is in the checkpoint.
        pretrained: false builds the same architecture untrained, as a control.
        refresh: S3PRL's argument, without effect here.
    """
    if not ckpt:
        raise AalbertError("aalbert_local needs a checkpoint (-k CKPT); for an untrained model use e.g. aalbert_6l")
    upstream = UpstreamExpert(ckpt=ckpt, model_config=model_config)
    if not pretrained:
        reinitialise(upstream.model)
        logger.warning("%s: its weights were replaced by random ones (pretrained=False)", ckpt)
    return upstream


def aalbert_every_frame_local(
    ckpt: str | None = None, model_config: str | None = None, refresh: bool | None = None
) -> UpstreamExpert:
    """Load a checkpoint with a hidden state every frame (10 ms), not every token (30 ms), at three times the cost.

    Args:
        ckpt: as in ``aalbert_local``.
        model_config: the YAML of a sub-network of a supernet (arch.yaml); the model itself is in the checkpoint.
        refresh: S3PRL's argument, without effect here.
    """
    if not ckpt:
        raise AalbertError("aalbert_every_frame_local needs a checkpoint (-k CKPT), e.g. aalbert_units")
    return UpstreamExpert(ckpt, model_config, every_frame=True)


def aalbert_url(
    ckpt: str | None = None,
    model_config: str | None = None,
    pretrained: bool = True,
    progress: bool = True,
    sha256: str | None = None,
    refresh: bool | None = None,
) -> UpstreamExpert:
    """Load AALBERT or Mockingjay from the URL of a release's model.safetensors (or of a training state).

    Args:
        ckpt: http, https or file URL; ``#sha256=HEX`` at its end is checked. The copy is kept in torch.hub's folder.
        model_config: the YAML of a sub-network of a supernet (arch.yaml); the model itself is in the checkpoint.
        pretrained: false builds the same architecture untrained, as a control.
        progress: show the download on stderr.
        sha256: the expected hash of the file, in place of the one in the URL.
        refresh: download again even if a copy exists.
    """
    if not ckpt:
        raise AalbertError("aalbert_url needs the URL of a checkpoint (-k URL)")
    path = fetch(ckpt, sha256, progress, bool(refresh), check=load_checkpoint)
    return aalbert_local(str(path), model_config, pretrained)


def aalbert_features(
    ckpt: str | None = None, model_config: str | None = None, refresh: bool | None = None
) -> FeaturesExpert:
    """Build an upstream of the model's input acoustic features; ``-s no_cmvn`` selects those without CMVN."""
    if ckpt:
        raise AalbertError(f"aalbert_features has no weights, but a checkpoint was given (-k {ckpt}); leave it out")
    return FeaturesExpert(model_config=model_config)


def _named(
    name: str, pretrained: bool, progress: bool, ckpt: str | None, model_config: str | None, refresh: bool | None
) -> UpstreamExpert:
    """Build the upstream of a name: with its published weights, or with its packaged architecture untrained.

    Args:
        name: the entry.
        pretrained: whether to load weights; with a model YAML the model is untrained anyway.
        progress: show a download on stderr.
        ckpt: refused, since it would not be used.
        model_config: a model YAML in place of the packaged one.
        refresh: download again; S3PRL always passes it, torch.hub does not.
    """
    if ckpt:
        raise AalbertError(f"{name} takes no checkpoint, but one was given (-k {ckpt}); use -u aalbert_local")
    if name in PUBLISHED and pretrained:
        if model_config:
            raise AalbertError(f"{name} has its own configuration, but one was given (-g {model_config}); leave it out")
        return UpstreamExpert(ckpt=str(fetch_published(name, progress, bool(refresh))))
    if name in packaged_names() and not model_config:
        return aalbert_local(str(packaged_folder(name)), pretrained=False)  # this keeps the statistics of the corpus
    if pretrained and not model_config:
        missing = f"{name} has no published weights; names that have: {', '.join(sorted(PUBLISHED)) or 'none yet'}"
        if refresh is None:
            raise AalbertError(f"{missing}. Pass pretrained=False for the untrained model, or use aalbert_local")
        logger.warning("%s. Building the untrained model", missing)
    return UpstreamExpert(model_config=model_config or PRESETS.get(name, name))


def _entry(name: str, description: str) -> Callable[..., UpstreamExpert]:
    """Return the entry of a name. Each is a function of its own, since torch.hub lists and documents functions."""

    def entry(
        pretrained: bool = True,
        progress: bool = True,
        *,
        ckpt: str | None = None,
        model_config: str | None = None,
        refresh: bool | None = None,
    ) -> UpstreamExpert:
        return _named(name, pretrained, progress, ckpt, model_config, refresh)

    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = f"{description}\n\n``pretrained=False`` builds it untrained; ``progress`` shows the download."
    return entry


_UNPUBLISHED = "no published weights"
aalbert_3l = _entry("aalbert_3l", f"AALBERT-3L (7.46M parameters): {_UNPUBLISHED}.")
aalbert_6l = _entry("aalbert_6l", f"AALBERT-6L (7.46M parameters): {_UNPUBLISHED}.")
aalbert_units = _entry(
    "aalbert_units", "Three shared layers of width 512 (3.91M parameters), pre-trained on units of 19 h of read speech."
)
aalbert = _entry("aalbert", "The default: aalbert_units.")
aalbert_12l = _entry("aalbert_12l", f"AALBERT-12L (7.46M parameters): {_UNPUBLISHED}.")
aalbert_mockingjay_3l = _entry("aalbert_mockingjay_3l", f"Mockingjay-3L (21.6M parameters): {_UNPUBLISHED}.")
aalbert_mockingjay_6l = _entry("aalbert_mockingjay_6l", f"Mockingjay-6L (42.9M parameters): {_UNPUBLISHED}.")
aalbert_mockingjay_12l = _entry("aalbert_mockingjay_12l", f"Mockingjay-12L (85.4M parameters): {_UNPUBLISHED}.")
aalbert_tiny = _entry(
    "aalbert_tiny",
    "Three shared layers of width 256 (0.98M parameters), pre-trained on units of 19 h: for first steps.",
)
