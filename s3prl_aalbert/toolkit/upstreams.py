"""Any upstream by its name: S3PRL's own and the plugin's."""

from __future__ import annotations

from typing import Any

from torch import nn

from s3prl_aalbert import toolkit


def build_upstream(name: str, ckpt: str | None = None, model_config: str | None = None) -> nn.Module:
    """Build what ``-u NAME -k CKPT -g CONFIG`` means to S3PRL's runner; some names download their weights.

    Raises:
        AalbertError: no upstream has that name, or it would ignore or lacks the checkpoint.
    """
    toolkit.activate()
    from s3prl import hub

    from s3prl_aalbert.toolkit.checks import check_upstream

    check_upstream(name, ckpt, model_config)
    entry: Any = getattr(hub, name)
    upstream: nn.Module = entry(ckpt=ckpt, model_config=model_config, refresh=False)
    return upstream
