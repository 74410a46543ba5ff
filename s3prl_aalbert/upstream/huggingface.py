"""Loads and saves releases on the Hugging Face Hub with huggingface_hub's own mixin; the files are a normal release.

The module is separate from the hub entries, since users of torch.hub need no huggingface_hub.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, snapshot_download
from torch import Tensor

from s3prl_aalbert.checkpoint.interop.releases import keep_training_list
from s3prl_aalbert.checkpoint.published import located
from s3prl_aalbert.checkpoint.release import (
    CARD_FILE,
    CONFIG_FILE,
    MODEL_PREFIX,
    WEIGHTS_FILE,
    Checkpoint,
    load_checkpoint,
    save_release,
)
from s3prl_aalbert.model.config import to_dict
from s3prl_aalbert.speech.training_list import TRAINING_LIST_FILE
from s3prl_aalbert.upstream.expert import UpstreamExpert

LIBRARY, TASK, TAGS = "s3prl-aalbert", "feature-extraction", ["audio", "speech", "s3prl"]
DEFAULT_CARD = "# An AALBERT or Mockingjay model\n\nLoad it with s3prl-aalbert.\n"


class PretrainedAalbert(
    UpstreamExpert,
    ModelHubMixin,
    library_name=LIBRARY,
    pipeline_tag=TASK,
    tags=TAGS,
):
    """The upstream with ``from_pretrained``, ``save_pretrained`` and ``push_to_hub``.

    Args:
        ckpt: release folder or file, pre-training folder, or training state.

    Example::

        model = PretrainedAalbert.from_pretrained("user/aalbert-6l")  # or a release folder, or "aalbert"
        states = model([wav])["hidden_states"]
        model.push_to_hub("user/aalbert-6l-tuned")
    """

    def __init__(self, ckpt: str):
        super().__init__(ckpt=ckpt)
        self._source = load_checkpoint(ckpt)
        card = self._source.path.parent / CARD_FILE
        self._card = card.read_text(encoding="utf-8") if card.is_file() else DEFAULT_CARD
        # Otherwise the mixin would write the argument ckpt, a path of this machine, into config.json.
        self._hub_mixin_config = {"model_type": "aalbert", **to_dict(self._source.config)}

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint as it was read: configuration, recorded facts, and all weights with the pre-training head."""
        return self._source

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write a release: the encoder as it is now, the pre-training head and training speech as they were read."""
        state: dict[str, Tensor] = dict(self._source.state)
        state |= {f"{MODEL_PREFIX}{name}": weight for name, weight in self.model.state_dict().items()}
        save_release(save_directory, self._source.config, state, _with_metadata(self._card), self._source.info)
        keep_training_list(self._source, save_directory)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> PretrainedAalbert:
        """Load a checkpoint, a model that comes with the package, or a repository of the Hub.

        Args:
            pretrained_model_name_or_path: a folder or file, a packaged name such as ``aalbert`` (all without network),
                or a repository.
            options: of huggingface_hub's mixin, such as ``revision`` and ``cache_dir``.
        """
        path = located(pretrained_model_name_or_path)
        if path.is_file():  # the mixin knows only folders, in which another state may be the latest
            return cls._from_pretrained(model_id=str(path), **options)
        return super().from_pretrained(str(path if path.is_dir() else pretrained_model_name_or_path), **options)

    @classmethod
    def _from_pretrained(  # other arguments of the mixin keep the hub's defaults
        cls,
        *,
        model_id: str,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        proxies: dict[str, str] | None = None,
        resume_download: bool | None = None,
        **model_kwargs: object,
    ) -> PretrainedAalbert:
        """Load a folder or file, or the repository of that name on the Hub, in evaluation mode."""
        found = model_id
        if not Path(model_id).exists():
            found = snapshot_download(
                model_id,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
                proxies=proxies,
                allow_patterns=[WEIGHTS_FILE, CONFIG_FILE, CARD_FILE, TRAINING_LIST_FILE],
            )
        return cls(ckpt=found, **model_kwargs).eval()


def _with_metadata(text: str) -> str:
    """Return a model card with the fields by which the Hub finds models; existing fields are kept."""
    card = ModelCard(text, ignore_metadata_errors=True)
    data = card.data
    assert isinstance(data, ModelCardData)
    data.library_name = data.library_name or LIBRARY
    data.pipeline_tag = data.pipeline_tag or TASK
    data.tags = data.tags or TAGS
    return str(card)
