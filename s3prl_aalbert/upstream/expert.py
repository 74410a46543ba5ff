"""The S3PRL upstream: a list of unpadded waveforms in, hidden states out. Needs neither s3prl nor a network."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from s3prl_aalbert.checkpoint.release import Checkpoint, load_checkpoint, load_weights
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.aalbert import AalbertModel
from s3prl_aalbert.model.acoustics import Acoustics
from s3prl_aalbert.model.config import SAMPLE_RATE, Cmvn, ModelConfig, load_model_config
from s3prl_aalbert.model.masking import length_mask
from s3prl_aalbert.model.sub_network import Architecture, load_architecture

logger = logging.getLogger(__name__)

LONG_SECONDS = 600
"""Above this length attention takes most of the time (four fifths at full width), which one warning explains."""
LARGEST_SAMPLE = 1e9
"""Larger samples make the power spectrum overflow float32. Full scale is 1; samples on the 16-bit scale still pass."""


def pad_wavs(wavs: Sequence[Tensor], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Pad a list of (num_samples,) waveforms to (batch, longest) and return it with their lengths (batch,).

    Values are checked once per batch, so that the program waits for a GPU only once.

    Raises:
        AalbertError: the list is empty, or a waveform is empty, not one-dimensional, not of a floating-point type, or
            has samples that are not finite or larger than ``LARGEST_SAMPLE``.
    """
    if not isinstance(wavs, (Sequence, Tensor)) or isinstance(wavs, str):
        raise AalbertError(f"the upstream was given {type(wavs).__name__}, expected a list of waveforms")
    if (isinstance(wavs, Tensor) and not wavs.dim()) or not len(wavs):
        raise AalbertError("the upstream was given no waveforms")
    for index, wav in enumerate(wavs):
        _check_wav(index, wav)
    # A tensor built from a list directly on a GPU would make torch wait for it.
    lengths = torch.tensor([wav.numel() for wav in wavs]).to(wavs[0].device, non_blocking=True)
    padded = pad_sequence([wav.to(dtype) for wav in wavs], batch_first=True)
    if torch.compiler.is_compiling():
        return padded, _checked_lengths(padded.detach(), lengths)
    _check_samples(padded)
    return padded, lengths


def _check_wav(index: int, wav: object) -> None:
    if not isinstance(wav, Tensor):
        raise AalbertError(f"waveform {index} is {type(wav).__name__}, expected a tensor (num_samples,)")
    if wav.dim() != 1 or not wav.numel():
        shape = tuple(wav.shape)
        raise AalbertError(f"waveform {index} has shape {shape}, expected (num_samples,) with at least one sample")
    if not wav.is_floating_point():
        raise AalbertError(
            f"waveform {index} is of type {wav.dtype}, expected floating-point samples within [-1, 1]; "
            "divide 16-bit samples by 32768"
        )


def _check_samples(padded: Tensor) -> None:
    for index, largest in enumerate(padded.detach().abs().amax(dim=1).tolist()):
        if not math.isfinite(largest):
            raise AalbertError(f"waveform {index} holds NaN or infinite samples")
        if largest > LARGEST_SAMPLE:
            raise AalbertError(f"waveform {index} has samples up to {largest:g}, expected them within [-1, 1]")


def _check_in_graph(padded: Tensor, lengths: Tensor) -> Tensor:
    """Check the samples; the lengths are returned so that no compiler removes the check."""
    _check_samples(padded)
    return lengths.clone()


_checked_lengths = torch.library.custom_op(
    "s3prl_aalbert::checked_lengths",
    _check_in_graph,
    mutates_args=(),
    schema="(Tensor padded, Tensor lengths) -> Tensor",
)
"""``_check_in_graph`` as one operation, which torch.compile keeps in its graph."""
_checked_lengths.register_fake(lambda _, lengths: torch.empty_like(lengths))


def represent(
    model: AalbertModel, wavs: Sequence[Tensor], arch: Architecture | None = None, every_frame: bool = False
) -> list[Tensor]:
    """Return the L + 1 hidden states (batch, tokens, hidden) of unpadded waveforms; padded tokens are zero.

    Args:
        model: the model, on the waveforms' device.
        wavs: list of (num_samples,) float tensors at 16 kHz.
        arch: a sub-network; None is the whole model.
        every_frame: a hidden state for every frame, not for every token: (batch, frames, hidden).

    Raises:
        AalbertError: see ``pad_wavs``.
    """
    padded, lengths = pad_wavs(wavs, model.acoustics.window.dtype)
    tokens = {model.config.num_tokens(wav.numel()) for wav in wavs}
    if not torch.compiler.is_compiling() and padded.size(1) > LONG_SECONDS * SAMPLE_RATE:
        _warn_of_length()
    # A compiled graph serves batches of any length.
    if every_frame:
        representation = model.at_every_frame(padded, lengths, arch)
    else:
        representation = model(padded, lengths, arch, torch.compiler.is_compiling() or len(tokens) > 1)
    padding = ~length_mask(representation.lengths, representation.hidden_states[0].size(1)).unsqueeze(-1)
    precise = torch.promote_types(representation.hidden_states[0].dtype, torch.float32)
    return [state.to(precise).masked_fill(padding, 0) for state in representation.hidden_states]


class UpstreamExpert(nn.Module):
    """AALBERT or Mockingjay as S3PRL calls it.

    Args:
        ckpt: ``-k``: a release folder or file, a pre-training folder or state. None builds an untrained model.
        model_config: ``-g``: without ``ckpt``, a model YAML (a path or a packaged name). With ``ckpt``, which carries
            its own configuration, the YAML of a sub-network of it (``arch.yaml``).
        every_frame: a hidden state for every frame (10 ms by default), not for every token (30 ms).

    Raises:
        AalbertError: a file is missing or damaged, or does not fit.
    """

    def __init__(
        self, ckpt: str | None = None, model_config: str | None = None, every_frame: bool = False, **_: object
    ):
        super().__init__()
        self.arch: Architecture | None = None
        self.every_frame = every_frame
        if ckpt:
            checkpoint = load_checkpoint(ckpt)
            self.model = AalbertModel(checkpoint.config)
            load_weights(self.model, checkpoint.model_state, checkpoint.path)
            logger.info("loaded %s (step %s)", checkpoint.path, checkpoint.info.get("step"))
            if model_config:
                self.arch = _sub_network(Path(model_config).expanduser(), checkpoint)
                logger.info("its sub-network %s", model_config)
        else:
            config = load_model_config(model_config) if model_config else ModelConfig()
            self.model = AalbertModel(config)
            logger.warning("no checkpoint given: the upstream is untrained (random weights)")
            if config.audio.cmvn == "corpus":
                logger.warning(
                    "and its input is not normalised: statistics of a corpus come with a checkpoint; as the control of "
                    "a trained model, use `aalbert convert CKPT control --untrained 0`, which keeps them"
                )

    def get_downsample_rates(self, key: str) -> int:
        """Return the samples per token, the same for every key: 480 by default (30 ms at 16 kHz)."""
        config = self.model.config
        return config.audio.hop_samples if self.every_frame else config.samples_per_token

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, list[Tensor] | Tensor]:
        """Represent unpadded waveforms.

        Args:
            wavs: list of (num_samples,) float tensors at 16 kHz, on the model's device.

        Returns:
            ``hidden_states``: L + 1 tensors (batch, tokens, hidden): input embedding and every layer.
            ``layer_states``: the L layers alone, for the paper's weighted sum (section 3.2.1).
            ``last_hidden_state``: (batch, tokens, hidden). Padded tokens are zero everywhere.
        """
        states = represent(self.model, wavs, self.arch, self.every_frame)
        return {
            "hidden_states": states,
            "layer_states": states[1:],
            "last_hidden_state": states[-1],
        }


@functools.cache
def _warn_of_length() -> None:
    logger.warning(
        "audio of more than %d minutes: time grows with the square of the length, since every token attends to every "
        "other; cut the audio at pauses, e.g. to 30 s",
        LONG_SECONDS // 60,
    )


def _sub_network(path: Path, checkpoint: Checkpoint) -> Architecture:
    if not path.is_file():
        raise AalbertError(
            f"-g {path}: with a checkpoint (-k), which carries its own configuration, "
            "-g can only name the YAML file of a sub-network"
        )
    arch = load_architecture(path)
    problems = arch.problems(checkpoint.config.transformer)
    if problems:
        raise AalbertError(f"-g {path} is no sub-network of {checkpoint.path}: " + "; ".join(problems))
    return arch


class FeaturesExpert(nn.Module):
    """The paper's input acoustic features as an upstream: the baseline of every table.

    Args:
        model_config: ``-g``: supplies ``audio`` and the stacking of frames; the default is the default model.

    ``hidden_states`` holds the features with CMVN of the utterance, also where the model of ``-g`` has a corpus's;
    select ``-s no_cmvn`` for those without: their mean over an utterance is not zero, so that utterance-level tasks can
    learn from them.
    """

    def __init__(self, model_config: str | None = None, **_: object):
        super().__init__()
        config = load_model_config(model_config) if model_config else ModelConfig()
        self.config = config
        self.normalised = input_acoustics(config, "utterance")
        self.raw = input_acoustics(config, "none")

    def get_downsample_rates(self, key: str) -> int:
        """Return the samples per token."""
        return self.config.samples_per_token

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, list[Tensor] | Tensor]:
        """Return ``hidden_states`` [with CMVN] and ``no_cmvn`` [without], each (batch, tokens, stack * feature_dim)."""
        padded, lengths = pad_wavs(wavs, self.raw.window.dtype)
        normalised = self.normalised(padded, lengths).tokens
        return {
            "hidden_states": [normalised],
            "last_hidden_state": normalised,
            "no_cmvn": [self.raw(padded, lengths).tokens],
        }


def input_acoustics(config: ModelConfig, cmvn: Cmvn) -> Acoustics:
    """Return the acoustic features that are a model's input, with or without CMVN."""
    return Acoustics(replace(config.audio, cmvn=cmvn), config.transformer.downsample_rate)
