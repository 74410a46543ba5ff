"""The options of a pre-training, by S3PRL's names. Importing this costs nothing: the command line reads it first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from s3prl_aalbert.checkpoint.published import PRESETS, packaged_folder, packaged_names
from s3prl_aalbert.errors import AalbertError

DEFAULT_CONFIG = "pretrain_default"
DISTILL_CONFIG = "distill_default"
DEFAULT_MODEL = "aalbert_3l"
MODELS = {
    **PRESETS,
    **{name: packaged_folder(name).name for name in packaged_names()},
    "mockingjay": "mockingjay_3l",  # S3PRL's name
}
"""What -u means, by the names that upstreams have in tasks: the packaged model YAML of the same architecture."""


@dataclass(frozen=True)
class Request:
    """What was asked for; ``commands/pretrain.py`` says what each option means."""

    upstream: str | None = None
    upstream_config: str | None = None
    config: str | None = None
    speech: list[str] | None = None
    expname: str | None = None
    expdir: str | None = None
    past_exp: str | None = None
    auto_resume: bool = False
    init: str | None = None
    override: str | None = None
    seed: int | None = None
    device: str | None = None
    multi_gpu: bool = False
    strict: bool = False
    dry_run: bool = False
    default_config: str = DEFAULT_CONFIG
    """The runner of a new run without ``config``."""

    @property
    def folder(self) -> Path:
        """The experiment's.

        Raises:
            AalbertError: nothing names it.
        """
        if self.expdir:
            return Path(self.expdir).expanduser()
        if self.expname:
            return Path("result/pretrain") / self.expname
        if self.past_exp:
            past = Path(self.past_exp).expanduser()
            return past if past.is_dir() else past.parent
        raise AalbertError("name the experiment with -n NAME (saved at result/pretrain/NAME) or -p DIR")
