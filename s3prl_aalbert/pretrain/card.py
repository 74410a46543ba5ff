"""The model card that a release carries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from s3prl_aalbert.model.config import ModelConfig, to_dict
from s3prl_aalbert.pretrain.config import PretrainConfig
from s3prl_aalbert.printable import markdown_cell


def model_card(
    config: ModelConfig, pretraining: PretrainConfig, info: Mapping[str, object], num_parameters: int
) -> str:
    """Return the Markdown card of a model pre-trained here.

    Args:
        config: the model.
        pretraining: how it was trained.
        info: ``step``, ``dev_loss``, ``corpus`` and ``seed`` of the run.
        num_parameters: of encoder and input block.
    """
    transformer, optimizer = config.transformer, pretraining.optimizer
    groups = len(set(transformer.group_of_layer))
    kind = "Mockingjay" if groups == transformer.num_hidden_layers > 1 else "AALBERT"
    sharing = "unshared" if kind == "Mockingjay" else f"{groups} shared set{'s' * (groups > 1)} of weights"
    datarc = pretraining.datarc
    name = _loss_name(config, pretraining)
    dev = "no dev split" if info["dev_loss"] is None else f"best dev {name} {info['dev_loss']:.4f}"
    return f"""# {kind}-{transformer.num_hidden_layers}L, hidden size {transformer.hidden_size}

| | |
|---|---|
| parameters | {num_parameters:,} (encoder and input block) |
| layers | {transformer.num_hidden_layers}, {sharing} |
| token | {config.samples_per_token / config.audio.sample_rate * 1000:g} ms |
| speech | {markdown_cell(info["corpus"])} |
| training | {info["step"]} steps, {optimizer.name}, peak learning rate {optimizer.lr:g}, \
{datarc.train_batch_size} utterances per process and micro-batch, seed {info["seed"]} |
| loss | {dev} |
{_how(config, pretraining)}
Use it with S3PRL: `aalbert downstream -m train -u aalbert_local -k THIS_FOLDER -d aalbert_phone -n NAME`.
"""


def _loss_name(config: ModelConfig, pretraining: PretrainConfig) -> str:
    if pretraining.distill is not None:
        return "distillation loss"
    task = config.task
    if not task.unit_weight:
        return "L1"
    if not task.reconstruction_weight:
        return "cross-entropy"
    return f"{task.reconstruction_weight:g} L1 + {task.unit_weight:g} cross-entropy"


def _how(config: ModelConfig, pretraining: PretrainConfig) -> str:
    """Return the rows of what only some models have: relative positions, units, a teacher, sub-networks."""
    rows = ""
    if config.transformer.positions != "sinusoid":
        rows += f"| positions | {config.transformer.positions} |\n"
    if config.task.unit_weight and pretraining.distill is None:
        units, source = pretraining.units, "MFCC of each token"
        if units.layer is not None:
            # Not its path, which says nothing to others.
            source = f"layer {units.layer} of {Path(units.source).name}"
        task = config.task
        near = f"; also those of {task.unit_neighbours} tokens on each side" if task.unit_neighbours else ""
        rows += f"| units | {task.num_units} clusters of {source}, {task.units_per_token} a token{near} |\n"
    if pretraining.distill is not None:
        distill = pretraining.distill
        learned = f"average of the last {distill.average_top_k} layers" if distill.average_top_k else "layer by layer"
        rows += f"| teacher | {markdown_cell(distill.teacher)}, {learned}, {distill.loss} |\n"
    if pretraining.supernet is not None:
        rows += f"| sub-networks | {to_dict(pretraining.supernet)} |\n"
    return rows
