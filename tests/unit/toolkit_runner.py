"""S3PRL's runner as far as its upstream, for tests of what the toolkit changes in it."""

import argparse
from typing import Any

from s3prl_aalbert import toolkit


def new_runner(upstream: str = "aalbert_tiny", trainable: bool = False, **runner_section: Any) -> Any:
    """Return S3PRL's runner before it builds anything; ``aalbert_tiny`` comes with weights."""
    toolkit.activate()
    from s3prl.downstream.runner import Runner

    runner = Runner.__new__(Runner)
    runner.args = argparse.Namespace(
        upstream=upstream,
        upstream_ckpt=None,
        upstream_model_config=None,
        upstream_refresh=False,
        upstream_trainable=trainable,
        upstream_feature_selection="hidden_states",
        upstream_layer_selection=None,
        upstream_feature_normalize=False,
        device="cpu",
    )
    runner.config, runner.init_ckpt = {"runner": runner_section}, {}
    return runner
