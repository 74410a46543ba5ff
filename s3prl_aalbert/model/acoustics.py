"""Waveforms to stacked input features and reconstruction targets, batched, with explicit lengths.

Legend: B batch, S samples, F frames, T tokens, M mel bins, K spectrogram bins. Every operation ignores padding:
an utterance's features are the same alone and in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as functional
import torchaudio
from torch import Tensor

from s3prl_aalbert.model.config import AudioConfig
from s3prl_aalbert.model.masking import length_mask
from s3prl_aalbert.model.precise_buffers import PreciseBuffers

CMVN_EPS, LEVEL_EPS = 1e-5, 1e-10
LIBROSA_CMVN_EPS = 1e-9
"""Added to standard deviations. The paper's code has 1e-16, which would amplify float32's rounding errors in a constant
dimension to the level of speech."""
LIBROSA_REACH = 4
"""Frames that librosa's delta uses on either side."""
NO_VARIANCE = 1e-30
"""Smallest power under a square root, whose gradient at 0 is infinite."""
# Decibel range of the original's target: level = (20 log10 |X| - REF_DB - MIN_DB) / -MIN_DB, clipped to [0, 1].
REF_DB, MIN_DB = 20.0, -100.0


class Features(NamedTuple):
    """Input tokens and, when asked for, targets of a padded batch."""

    tokens: Tensor
    """(B, T, stack * feature_dim); zero where padded."""
    lengths: Tensor
    """(B,) real tokens."""
    target: Tensor | None
    """(B, T, stack, K) linear spectrogram frames of each token, or None."""
    frame_mask: Tensor
    """(B, T, stack) bool, true at real frames (the last token may be partly padding)."""


class Acoustics(PreciseBuffers):
    """80 log-mel + delta, CMVN, three frames stacked; linear spectrogram target (paper section 3.1).

    Frame i is centred on the middle of its hop, sample hop * (i + 1/2), so that a waveform of n samples has exactly
    ceil(n / hop) frames, and token t covers samples [stack * hop * t, stack * hop * (t + 1)). With the front ends of
    S3PRL and of librosa, frame i is centred on sample hop * i, and there are n // hop + 1.

    It computes in float32 whatever type the weights have, and in float64 after ``double()``. It is differentiable where
    the waveforms require a gradient.
    """

    window: Tensor
    filters: Tensor
    corpus_mean: Tensor
    """(feature_dim,), only with ``cmvn: corpus``; a checkpoint stores it, and ``corpus_std``."""
    corpus_std: Tensor

    def __init__(self, config: AudioConfig, downsample_rate: int):
        super().__init__()
        self.config = config
        self.stack = downsample_rate
        window = torch.hann_window(config.win_samples)
        if config.front_end == "librosa":
            filters = slaney_filters(config)
        else:
            filters = torchaudio.functional.melscale_fbanks(
                config.spectrum_bins, 0.0, config.sample_rate / 2, config.num_mel_bins, config.sample_rate
            )  # (K, M)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", filters, persistent=False)
        if config.cmvn == "corpus":
            self.register_buffer("corpus_mean", torch.zeros(config.feature_dim))
            self.register_buffer("corpus_std", torch.ones(config.feature_dim))

    def token_lengths(self, num_samples: Tensor) -> Tensor:
        """Return the tokens (B,) of waveforms of num_samples (B,) samples: ceil(frames / stack)."""
        return -(-self.config.num_frames(num_samples) // self.stack)

    def forward(
        self, wavs: Tensor, num_samples: Tensor, with_target: bool = False, warp: Tensor | None = None
    ) -> Features:
        """Compute features, and targets if asked for.

        Args:
            wavs: (B, S) float waveforms at the configured rate; values past num_samples are ignored.
            num_samples: (B,) real samples, each at least 1.
            with_target: also compute the reconstruction target.
            warp: (B,) factors that stretch the frequency axis of each waveform, as another vocal tract would; None: 1.
        """
        differentiable = torch.is_grad_enabled() and wavs.requires_grad
        with torch.set_grad_enabled(differentiable), torch.autocast(wavs.device.type, enabled=False):
            wavs = wavs.to(self.window.dtype).masked_fill(~length_mask(num_samples, wavs.size(1)), 0)
            if self.config.target_level_db is not None:
                wavs = to_level(wavs, num_samples, self.config.target_level_db)
            num_frames = self.config.num_frames(num_samples)
            power = self._power(wavs, num_samples)  # (B, F, K)
            features = self._features(power, num_frames, warp)  # (B, F, feature_dim)
            frames = self._normalise(features, num_frames)
            target = None
            if with_target and self.config.target == "mel":
                target = self._normalise_target(self._absolute(features), num_frames)
            elif with_target:
                target = self._spectrogram(wavs, num_samples, power, num_frames)
            mask = length_mask(num_frames, frames.size(1)).unsqueeze(-1)
            return Features(
                tokens=self._stack(frames).flatten(2),
                lengths=self.token_lengths(num_samples),
                target=None if target is None else self._stack(target),
                frame_mask=self._stack(mask).squeeze(-1),
            )

    def _power(self, wavs: Tensor, num_samples: Tensor) -> Tensor:
        """Return the power spectrogram (B, F, K) of zero-padded waveforms (B, S)."""
        n_fft, hop = self.config.n_fft, self.config.hop_samples
        num_frames = self.config.num_frames(wavs.size(1))
        if self.config.mirrored_edges:
            padded = _mirrored(wavs, num_samples, n_fft // 2, hop * (num_frames - 1) + n_fft)
        else:
            left = (n_fft - hop) // 2
            right = hop * (num_frames - 1) + n_fft - left - wavs.size(1)
            padded = functional.pad(wavs, (left, right))
        spectrum = torch.stft(
            padded,
            n_fft,
            hop,
            self.config.win_samples,
            self._window(),
            center=False,
            return_complex=True,
        )  # (B, K, F)
        return (spectrum.real.square() + spectrum.imag.square()).transpose(1, 2)

    def _window(self) -> Tensor:
        """Return the window in full precision: after ``double()`` the buffer has only the digits of float32."""
        if self.window.dtype == torch.float32:
            return self.window
        return torch.hann_window(self.config.win_samples, dtype=self.window.dtype, device=self.window.device)

    def _features(self, power: Tensor, num_frames: Tensor, warp: Tensor | None = None) -> Tensor:
        """Return log-mel and delta (B, F, feature_dim) before any normalisation."""
        filters = self.filters if warp is None else warped(self.filters, warp)
        log_mel = self._log(power @ filters, self.config.cmvn != "none")  # (B, F, M)
        if not self.config.delta:
            return log_mel
        held = _hold_last_frame(log_mel, num_frames)
        if self.config.front_end == "librosa":
            delta = _with_fitted_edges(self._deltas(held, LIBROSA_REACH), held, num_frames)
        else:
            delta = self._deltas(held)
        return torch.cat([log_mel, delta], dim=-1)  # (B, F, 2 M)

    def _absolute(self, features: Tensor) -> Tensor:
        """Return features (B, F, feature_dim) as a target, with the constant of log-mel unless it is normalised."""
        if self.config.target_cmvn or self.config.cmvn == "none":  # with "none" it is there already
            return features
        log_mel, delta = features.split_with_sizes(
            [self.config.num_mel_bins, self.config.feature_dim - self.config.num_mel_bins], dim=-1
        )
        return torch.cat([log_mel + math.log(self.config.log_floor), delta], dim=-1)

    def _deltas(self, frames: Tensor, reach: int = 2) -> Tensor:
        """Return the slope (B, F, M) over ``reach`` frames on either side; the edge frames are repeated."""
        return torchaudio.functional.compute_deltas(frames.transpose(1, 2), 2 * reach + 1).transpose(1, 2)

    def _normalise(self, features: Tensor, num_frames: Tensor) -> Tensor:
        """Apply ``audio.cmvn`` to features (B, F, feature_dim); padding becomes 0."""
        if self.config.cmvn == "utterance":
            return self._cmvn(features, num_frames)
        if self.config.cmvn == "corpus":
            features = (features - self.corpus_mean) / self.corpus_std
        return _zero_padding(features, num_frames)

    def _cmvn(self, features: Tensor, num_frames: Tensor) -> Tensor:
        if self.config.front_end == "s3prl":
            return cmvn(features, num_frames, unbiased=True, eps=self.config.log_floor)  # S3PRL has one eps
        if self.config.front_end == "librosa":
            return cmvn(features, num_frames, eps=LIBROSA_CMVN_EPS)
        return cmvn(features, num_frames)

    def _normalise_target(self, target: Tensor, num_frames: Tensor) -> Tensor:
        return self._cmvn(target, num_frames) if self.config.target_cmvn else _zero_padding(target, num_frames)

    def _spectrogram(self, wavs: Tensor, num_samples: Tensor, power: Tensor, num_frames: Tensor) -> Tensor:
        """Return the linear spectrogram (B, F, K) that is the target."""
        if self.config.target_preemphasis:
            emphasised = wavs - self.config.target_preemphasis * functional.pad(wavs, (1, 0))[:, :-1]
            # The filter's response reaches one sample past the end, where an unpadded waveform has no click.
            power = self._power(emphasised * length_mask(num_samples, wavs.size(1)), num_samples)
        if self.config.target == "log":
            target = self._log(power, self.config.target_cmvn)
        else:
            level_db = 10 * torch.log10(power.clamp_min(1e-10))
            target = ((level_db - REF_DB - MIN_DB) / -MIN_DB).clamp(0, 1)
        return self._normalise_target(target, num_frames)

    def _log(self, power: Tensor, normalised: bool) -> Tensor:
        """Return log(power + log_floor), up to the constant log(log_floor) where CMVN removes it anyway.

        log1p keeps the small differences of near-silence, which float32 would round away next to that constant.
        """
        floor = self.config.log_floor
        level = self._log1p(power / floor)
        return level if normalised else level + math.log(floor)

    def _log1p(self, level: Tensor) -> Tensor:
        return torch.log1p(level)

    def _stack(self, frames: Tensor) -> Tensor:
        missing = -frames.size(1) % self.stack
        padded = functional.pad(frames, (0, 0, 0, missing))
        return padded.unflatten(1, (-1, self.stack))  # (B, T, stack, dim)


def warped(filters: Tensor, warp: Tensor) -> Tensor:
    """Return filters for stretched spectra: vocal tract length perturbation (Jaitly and Hinton, 2013).

    Args:
        filters: (K, M).
        warp: (B,) factors of the frequency axis; frequencies beyond the last bin have no power.

    Returns:
        (B, K, M): the filters at warp times each frequency, interpolated linearly between the bins.
    """
    bins = filters.size(0)
    place = torch.arange(bins, device=filters.device) * warp.to(filters).unsqueeze(1)  # (B, K)
    below = place.floor().long()
    share = (place - below).unsqueeze(-1)
    padded = functional.pad(filters, (0, 0, 0, 2))  # zeros beyond the last bin
    low, high = (padded[(below + step).clamp(max=bins + 1)] for step in (0, 1))  # (B, K, M)
    return low * (1 - share) + high * share


def slaney_filters(config: AudioConfig) -> Tensor:
    """Return mel filters (K, M) as librosa's: triangles of unit area, linear below 1 kHz and logarithmic above.

    Computed in float64; torchaudio's come from float32 and are off by 1e-5 where the triangles are narrow.
    """
    top = 15 + 27 * math.log(config.sample_rate / 2 / 1000) / math.log(6.4)  # of 8 kHz, in mels
    mels = np.linspace(0, top, config.num_mel_bins + 2)
    corners = np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))  # Hz
    low, centre, high = corners[:-2], corners[1:-1], corners[2:]
    frequency = np.arange(config.spectrum_bins)[:, None] * config.sample_rate / config.n_fft
    triangles = np.minimum((frequency - low) / (centre - low), (high - frequency) / (high - centre)).clip(0)
    return torch.from_numpy(triangles * 2 / (high - low)).float()


def corpus_statistics(acoustics: Acoustics, wavs: Iterable[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation of each feature dimension over all frames of some speech.

    Args:
        acoustics: computes the features; its own normalisation is skipped.
        wavs: waveforms (num_samples,) at 16 kHz, read one at a time.

    Returns:
        (feature_dim,) each, float32, summed in float64; the deviation at least ``CMVN_EPS``.
    """
    count = 0
    total = squares = torch.zeros(acoustics.config.feature_dim, dtype=torch.float64)
    for samples in wavs:
        num_samples = torch.tensor([len(samples)])
        wav = torch.from_numpy(samples).unsqueeze(0)
        if acoustics.config.target_level_db is not None:
            wav = to_level(wav, num_samples, acoustics.config.target_level_db)
        num_frames = acoustics.config.num_frames(num_samples)
        frames = acoustics._features(acoustics._power(wav, num_samples), num_frames)[0].double()  # (F, feature_dim)
        count, total, squares = count + len(frames), total + frames.sum(0), squares + frames.square().sum(0)
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp_min(0).sqrt().clamp_min(CMVN_EPS).float()


def to_level(wavs: Tensor, num_samples: Tensor, level_db: float) -> Tensor:
    """Scale each of the zero-padded waveforms (B, S) so that its root mean square is ``level_db`` decibels."""
    rms = (wavs.square().sum(1) / num_samples).clamp_min(NO_VARIANCE).sqrt()
    return wavs * (10 ** (level_db / 20) / (rms + LEVEL_EPS)).unsqueeze(1)


def _mirrored(wavs: Tensor, num_samples: Tensor, left: int, length: int) -> Tensor:
    """Return (B, length) samples from ``-left`` on, each waveform (B, S) mirrored at its own first and last sample."""
    position = torch.arange(-left, length - left, device=wavs.device).unsqueeze(0)
    period = (2 * (num_samples - 1)).clamp_min(1).unsqueeze(1)
    folded = position.remainder(period)
    index = torch.minimum(folded, period - folded).clamp_min(0)
    return wavs.gather(1, torch.minimum(index, num_samples.unsqueeze(1) - 1))


def cmvn(features: Tensor, num_frames: Tensor, unbiased: bool = False, eps: float = CMVN_EPS) -> Tensor:
    """Normalise each utterance and dimension to mean 0, variance 1 over its real frames; padding becomes 0.

    Args:
        features: (B, F, dim).
        num_frames: (B,).
        unbiased: divide by n - 1 in the variance.
        eps: added to the standard deviation.
    """
    mask = length_mask(num_frames, features.size(1)).unsqueeze(-1)
    count = num_frames.view(-1, 1, 1)
    # Differences to the first frame keep float32 exact for constant dimensions such as digital silence.
    shifted = (features - features[:, :1]).masked_fill(~mask, 0)
    centred = (shifted - shifted.sum(1, keepdim=True) / count).masked_fill(~mask, 0)
    variance = centred.square().sum(1, keepdim=True) / (count - int(unbiased)).clamp_min(1)
    std = variance.clamp_min(NO_VARIANCE).sqrt()
    return centred / (std + eps)


def _zero_padding(features: Tensor, num_frames: Tensor) -> Tensor:
    return features.masked_fill(~length_mask(num_frames, features.size(1)).unsqueeze(-1), 0)


def _with_fitted_edges(deltas: Tensor, frames: Tensor, num_frames: Tensor) -> Tensor:
    """Give the first and last frames the slope of a line through the nearest 2 * LIBROSA_REACH + 1, as librosa does.

    librosa refuses shorter utterances; here they have the slope of a line through all their frames.

    Args:
        deltas: (B, F, M) slopes around each frame.
        frames: (B, F, M) what they are slopes of.
        num_frames: (B,).
    """
    width = 2 * LIBROSA_REACH + 1
    count = num_frames.unsqueeze(1)
    index = torch.arange(frames.size(1), device=frames.device).clamp_min(LIBROSA_REACH).unsqueeze(0)
    index = torch.minimum(index, (count - 1 - LIBROSA_REACH).clamp_min(0))
    inner = deltas.gather(1, index.unsqueeze(-1).expand_as(deltas))
    first = functional.pad(frames, (0, 0, 0, width))[:, :width]  # the same size for any number of frames
    place = torch.arange(width, device=frames.device).unsqueeze(0)
    offset = (place - (count - 1) / 2).masked_fill(place >= count, 0).to(frames.dtype)  # (B, width) from the middle
    rise = (offset.unsqueeze(-1) * first).sum(1, keepdim=True)
    slope = rise / offset.square().sum(1).clamp_min(0.5)[:, None, None]  # 0 of a single frame, else from 0.5 up
    return torch.where((count < width).unsqueeze(-1), slope, inner)


def _hold_last_frame(features: Tensor, num_frames: Tensor) -> Tensor:
    """Repeat each utterance's last real frame through its padding, so that deltas see no edge of the batch."""
    index = torch.arange(features.size(1), device=features.device).unsqueeze(0)
    index = torch.minimum(index, num_frames.unsqueeze(1) - 1)
    return features.gather(1, index.unsqueeze(-1).expand_as(features))
