"""``runner.feature_cache: DIR`` for S3PRL's runner: a frozen upstream computes each utterance once for all runs."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from s3prl_aalbert.downstream.features import weights_digest
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.files import write_atomically
from s3prl_aalbert.machine import free_disk
from s3prl_aalbert.model.config import SAMPLE_RATE, shown
from s3prl_aalbert.toolkit.parts import Features, Rates, Runner, Upstream
from s3prl_aalbert.toolkit.precision import chosen_precision

logger = logging.getLogger(__name__)

MORE_TOKENS = 4
"""Tokens kept beyond the number that S3PRL's Featurizer expects of an utterance; it refuses more."""
LONGEST_TO_SHORTEST = 1.3
"""Largest ratio of the lengths of utterances in one batch."""
ALL, LAST = "hidden_states", "last_hidden_state"


def cache_features(runner: Runner) -> None:
    """Let the runner read hidden states that its upstream has computed before from ``runner.feature_cache``.

    S3PRL itself computes them anew at every step of every run. Hidden states are stored in float16. They are padded
    with zeros in place of the upstream's values at padding, which S3PRL's Featurizer cuts off. Call this after the
    featurizer is built, since that lets the upstream compute noise.
    """
    folder = runner.config["runner"].get("feature_cache")
    if folder is None:
        return
    if not isinstance(folder, str) or not folder:
        raise AalbertError(f"runner.feature_cache is {shown(folder)}, expected a folder or null")
    if runner.upstream.trainable:
        raise AalbertError("runner.feature_cache is for frozen upstreams: remove it, or -f")
    if runner.config["runner"].get("fp16"):
        # With S3PRL's autocast the hidden states of training and evaluation differ.
        raise AalbertError("runner.feature_cache does not work with runner.fp16; use runner.precision: bf16")
    selected = runner.args.upstream_feature_selection
    key = ALL if selected == LAST else selected
    cache = Path(folder).expanduser() / fingerprint(runner, key)
    runner.upstream.model = CachedUpstream(runner.upstream.model, cache, key, selected == LAST, _crop(runner))
    logger.info("runner.feature_cache: hidden states in float16, in %s", cache)


def _crop(runner: Runner) -> float | None:
    """Return the samples to which the task crops its training utterances at random; None: it does not."""
    task = runner.config.get("downstream_expert")
    data = task.get("datarc") if isinstance(task, dict) else None
    if not isinstance(data, dict):
        return None
    seconds = data.get("max_seconds")  # of this package's tasks, which check it later; S3PRL's have max_timestep
    return seconds * SAMPLE_RATE // 1 if isinstance(seconds, (int, float)) else data.get("max_timestep")


def fingerprint(runner: Runner, key: str) -> str:
    """Return a name for the features of the runner's upstream: a digest of its options, precision, weights and key."""
    args, model = runner.args, runner.upstream.model
    config = args.upstream_model_config
    options = {
        "upstream": args.upstream,
        "ckpt": str(args.upstream_ckpt),
        "model_config": Path(config).read_text(encoding="utf-8") if config and Path(config).is_file() else str(config),
        "key": key,
        "precision": chosen_precision(runner.config, torch.device(args.device).type),  # auto differs between machines
    }
    return f"{args.upstream}-{weights_digest(model, options)[:16]}"


class CachedUpstream(nn.Module):
    """A frozen upstream whose hidden states are on disk, one file per utterance.

    Args:
        upstream: returns a dictionary for a list of (num_samples,) waveforms.
        folder: where the files are; created with the first file.
        key: the stored entry of the dictionary: (batch, tokens, width), or a list of such tensors.
        last_alone: whether only the last tensor is needed, so that no other is read.
        crop: samples of random crops, which do not come again and are not stored; None: there are none.
    """

    def __init__(
        self, upstream: Upstream, folder: Path, key: str, last_alone: bool = False, crop: float | None = None
    ) -> None:
        super().__init__()
        self.upstream, self.folder, self.key, self.last_alone, self.crop = upstream, folder, key, last_alone, crop
        self.told = False

    def get_downsample_rates(self, key: str, /) -> Rates:
        """Return the samples per token of the inner upstream."""
        return self.upstream.get_downsample_rates(key)

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, Features]:
        """Return the entry of ``key``, or only its last tensor as ``last_hidden_state``.

        Raises:
            AalbertError: the upstream's last_hidden_state is another tensor, or does not fit float16.
            CheckpointError: a file cannot be written.
        """
        paths = [None if len(wav) == self.crop else self.folder / f"{_digest(wav)}.safetensors" for wav in wavs]
        kept = [None if path is None else _read(path, self.last_alone) for path in paths]
        for group in _of_like_length([index for index, states in enumerate(kept) if states is None], wavs):
            for index, states in zip(group, self._compute([wavs[index] for index in group]), strict=True):
                if (path := paths[index]) is not None:
                    _write(path, states)
                    self._tell_size(sum(state.nbytes for state in states) / len(wavs[index]))
                kept[index] = states[-1:] if self.last_alone else states
        device = wavs[0].device
        layers = [
            pad_sequence([layer.float() for layer in of_layer], batch_first=True).to(device)  # (batch, tokens, width)
            for of_layer in zip(*(states for states in kept if states is not None), strict=True)
        ]
        return {LAST: layers[-1]} if self.last_alone else {self.key: layers}

    def _tell_size(self, bytes_per_sample: float) -> None:
        if not self.told:
            hour, free = bytes_per_sample * SAMPLE_RATE * 3600, free_disk(self.folder)
            logger.info(
                "runner.feature_cache: an hour of speech takes %.1f GB, %.0f GB are free", hour / 1e9, free / 1e9
            )
            self.told = True

    def _compute(self, wavs: Sequence[Tensor]) -> list[list[Tensor]]:
        """Return the layers of each utterance, (tokens, width) in float16."""
        found = self.upstream(wavs)
        layers = found.get(self.key)
        layers = [layers] if isinstance(layers, Tensor) else layers
        last = found.get(LAST, layers[-1]) if layers else None
        if not layers or (self.key == ALL and not (isinstance(last, Tensor) and torch.equal(last, layers[-1]))):
            raise AalbertError(
                "runner.feature_cache: the upstream's last_hidden_state is not the last of hidden_states; leave it out"
            )
        rate = self.get_downsample_rates(self.key)
        rates = rate if isinstance(rate, (list, tuple)) else [rate] * len(layers)
        halves = [_in_half(layer) for layer in layers]
        return [
            [half[index, : round(len(wav) / rate) + MORE_TOKENS] for half, rate in zip(halves, rates, strict=True)]
            for index, wav in enumerate(wavs)
        ]


def _of_like_length(indices: Sequence[int], wavs: Sequence[Tensor]) -> list[list[int]]:
    """Divide utterances into groups of similar length, since padding costs as much as speech."""
    groups: list[list[int]] = []
    for index in sorted(indices, key=lambda index: len(wavs[index])):
        if not groups or len(wavs[index]) > LONGEST_TO_SHORTEST * len(wavs[groups[-1][0]]):
            groups.append([])
        groups[-1].append(index)
    return groups


def _in_half(layer: Tensor) -> Tensor:
    half = layer.detach().to("cpu", torch.float16)
    if not half.isfinite().all():
        raise AalbertError("runner.feature_cache: a hidden state does not fit float16; leave it out for this upstream")
    return half


def _digest(wav: Tensor) -> str:
    return hashlib.sha256(wav.detach().cpu().contiguous().numpy().data).hexdigest()[:32]


def _read(path: Path, last_alone: bool) -> list[Tensor] | None:
    """Return the stored layers of an utterance; None if there are none that can be read."""
    try:
        with safe_open(path, "pt") as file:
            count = len(file.keys())
            return [file.get_tensor(str(index)) for index in range(count - 1 if last_alone else 0, count)]
    except FileNotFoundError:
        return None
    except SafetensorError as error:
        logger.warning("%s: is damaged (%s) and computed again", path, error)
        return None


def _write(path: Path, layers: Sequence[Tensor]) -> None:
    tensors = {str(index): layer.contiguous() for index, layer in enumerate(layers)}
    write_atomically(path, lambda temporary: safetensors.torch.save_file(tensors, temporary))
