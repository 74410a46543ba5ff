"""Checks ``-s`` and ``-l`` of S3PRL's runner: unknown features or layers are an error."""

from __future__ import annotations

from collections.abc import Callable

import torch

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit.parts import Entry, Features, Featurizer, Runner


def checked_featurizer(runner: Runner, build: Callable[[], Entry[Featurizer]]) -> Entry[Featurizer]:
    """Build the runner's featurizer; refuse features that S3PRL would replace by ``hidden_states`` or fail on."""
    upstream, features = runner.args.upstream, runner.args.upstream_feature_selection
    layer = runner.args.upstream_layer_selection
    try:
        entry = build()
    except IndexError as error:
        if layer is None:
            raise
        found = _features_of_noise(runner)
        last = len(found.get(features, found["hidden_states"])) - 1
        raise AalbertError(f"-l {layer}: -u {upstream} has {features} 0 to {last}") from error
    model = getattr(entry.model, "module", entry.model)  # inside torch's DistributedDataParallel
    instead = model.feature_selection
    if layer is not None and not _is_list(runner, instead):
        raise AalbertError(f"-l {layer} would be ignored: {instead} of -u {upstream} is a single layer; leave -l out")
    if instead != features:
        raise AalbertError(f"-s {features}: -u {upstream} has no such features, but for example {instead}")
    if runner.args.upstream_feature_normalize and (layer is not None or not _is_list(runner, features)):
        raise AalbertError("--upstream_feature_normalize would be ignored: it normalises layers before they are summed")
    return entry


def _is_list(runner: Runner, features: str) -> bool:
    found = _features_of_noise(runner).get(features)
    return isinstance(found, (list, tuple, dict)) and len(found) > 1  # S3PRL unwraps a list of one


def _features_of_noise(runner: Runner) -> dict[str, Features]:
    with torch.no_grad():
        return runner.upstream.model([torch.zeros(16000, device=runner.args.device)])
