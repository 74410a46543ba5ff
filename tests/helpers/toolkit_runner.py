"""S3PRL's runner with what the toolkit adds to it, as far as its featurizer."""

import argparse
from typing import Any


def new_runner(upstream: str = "aalbert_tiny", trainable: bool = False, **runner_section: Any) -> Any:
    """Return the runner before it builds anything; ``aalbert_tiny`` comes with weights."""
    from s3prl_aalbert.toolkit.runner import Runner

    runner = Runner.__new__(Runner)
    runner.args = argparse.Namespace(
        upstream=upstream,
        downstream="example",
        upstream_ckpt=None,
        upstream_model_config=None,
        upstream_refresh=False,
        upstream_trainable=trainable,
        upstream_feature_selection="hidden_states",
        upstream_layer_selection=None,
        upstream_feature_normalize=False,
        device="cpu",
        init_ckpt=None,
        past_exp=None,
    )
    runner.config, runner.init_ckpt = {"runner": runner_section}, {}
    return runner
