"""The model card that a release carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s3prl_aalbert.config import ModelConfig
from s3prl_aalbert.pretrain.config import PretrainConfig


def model_card(config: ModelConfig, pretraining: PretrainConfig, info: Mapping[str, Any], num_parameters: int) -> str:
    """Return the Markdown card of a model pre-trained here.

    Args:
        config: the model.
        pretraining: how it was trained.
        info: ``step``, ``dev_loss``, ``corpus`` and ``seed`` of the run.
        num_parameters: of encoder and input block.
    """
    transformer, optimizer = config.transformer, pretraining.optimizer
    kind = "AALBERT" if transformer.share_layer else "Mockingjay"
    datarc = pretraining.datarc
    dev = "no dev split" if info["dev_loss"] is None else f"best dev L1 {info['dev_loss']:.4f}"
    return f"""# {kind}-{transformer.num_hidden_layers}L, hidden size {transformer.hidden_size}

| | |
|---|---|
| parameters | {num_parameters:,} (encoder and input block) |
| layers | {transformer.num_hidden_layers}, {"one shared set of weights" if transformer.share_layer else "unshared"} |
| token | {config.samples_per_token / config.audio.sample_rate * 1000:g} ms |
| speech | {info["corpus"]} |
| training | {info["step"]} steps, {optimizer.name}, peak learning rate {optimizer.lr:g}, \
{datarc.train_batch_size} utterances per process and micro-batch, seed {info["seed"]} |
| loss | {dev} |

Use it with S3PRL: `aalbert downstream -m train -u aalbert_local -k THIS_FOLDER -d aalbert_phone -n NAME`.
"""
