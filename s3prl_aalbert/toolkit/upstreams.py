"""Builds any upstream by its name, of S3PRL or of the plugin."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from s3prl_aalbert import toolkit
from s3prl_aalbert.toolkit.building import check_numbers, upstream_misfits_reported


def build_upstream(name: str, ckpt: str | None = None, model_config: str | None = None) -> nn.Module:
    """Build the upstream of ``-u NAME -k CKPT -g CONFIG`` in S3PRL's runner; some names download their weights.

    Raises:
        AalbertError: no upstream has that name; its checkpoint is missing, unused or does not fit; weights are NaN.
    """
    from s3prl_aalbert.upstream import hubconf

    entry = getattr(hubconf, name) if name in hubconf.__all__ else _s3prl_entry(name, ckpt, model_config)
    with upstream_misfits_reported(name, ckpt):
        upstream: nn.Module = entry(ckpt=ckpt, model_config=model_config, refresh=False)
    check_numbers(name, upstream)
    return upstream


def _s3prl_entry(name: str, ckpt: str | None, model_config: str | None) -> Callable[..., nn.Module]:
    """Return an entry of S3PRL's hub, whose import takes seconds."""
    toolkit.activate()
    from s3prl import hub

    from s3prl_aalbert.toolkit.option_checks import check_upstream

    check_upstream(name, ckpt, model_config)
    return getattr(hub, name)
