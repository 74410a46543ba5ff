"""What units are clusters of: MFCC, or a layer of a model (HuBERT, arXiv 2106.07447, 3.1).

Legend: S samples, F frames, T tokens, U units a token, N rows, C features of a unit.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torchaudio
from torch import Tensor
from torch.nn import functional

from s3prl_aalbert.checkpoint.release import content_digest, load_checkpoint, load_weights
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.aalbert import AalbertModel
from s3prl_aalbert.model.acoustics import Acoustics
from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.model.sub_network import full_architecture
from s3prl_aalbert.pretrain.config import MFCC, UnitsConfig

NUM_MFCC = 13
Facts = dict[str, str | int | float]
"""What something was made of, by name."""


class UnitFeatures(Protocol):
    """What is clustered."""

    def __call__(self, wav: np.ndarray) -> Tensor:
        """Return the features (N, C) of a waveform (S,), a row for each unit."""

    @property
    def description(self) -> Facts:
        """Everything that decides their values."""


class MfccFeatures:
    """Thirteen MFCC and their deltas of each frame, of log-mel with CMVN; of a token, those of its frames."""

    def __init__(self, config: ModelConfig):
        audio = replace(config.audio, cmvn="utterance")
        self.acoustics = Acoustics(audio, 1)
        self.frames = config.transformer.downsample_rate // config.task.units_per_token
        self.mels = audio.num_mel_bins
        self.cosines = torchaudio.functional.create_dct(NUM_MFCC, self.mels, "ortho")  # (mel bins, 13)
        self._audio = audio

    @property
    def description(self) -> Facts:
        """The front end and how many frames a unit spans."""
        return {"source": MFCC, "audio": json.dumps(asdict(self._audio), sort_keys=True), "frames": self.frames}

    @torch.no_grad()
    def __call__(self, wav: np.ndarray) -> Tensor:
        """Return (N, 26 * frames)."""
        features = self.acoustics(torch.from_numpy(wav).unsqueeze(0), torch.tensor([len(wav)]))
        mfcc = features.tokens[:, :, : self.mels] @ self.cosines  # (1, F, 13)
        delta = torchaudio.functional.compute_deltas(mfcc.transpose(1, 2)).transpose(1, 2)
        frames = torch.cat([mfcc, delta], dim=-1)[0]  # (F, 26)
        missing = -len(frames) % self.frames
        return functional.pad(frames, (0, 0, 0, missing)).view(-1, self.frames * frames.size(1))


class LayerFeatures:
    """A hidden state of a model of this project, frozen."""

    def __init__(self, path: Path, units: UnitsConfig, config: ModelConfig, device: torch.device):
        """Load the model.

        Raises:
            AalbertError: no such checkpoint or layer, or its tokens are not as long as a unit.
        """
        checkpoint = load_checkpoint(path)
        layer = units.layer
        assert layer is not None
        layers = checkpoint.config.transformer.num_hidden_layers
        if not 0 <= layer <= layers:
            raise AalbertError(f"units.layer is {layer}; {path} has the hidden states 0 to {layers}")
        theirs = checkpoint.config.samples_per_token
        self.unit_samples = config.samples_per_token // config.task.units_per_token
        self.units_of_token, rest = divmod(theirs, self.unit_samples)
        hop = checkpoint.config.audio.hop_samples
        if rest or self.units_of_token % 2 == 0 or self.unit_samples % hop:
            raise AalbertError(
                f"{path}: a token has {theirs} samples and a unit of task.units_per_token "
                f"{config.task.units_per_token} has {self.unit_samples}; expected as many, or an odd part of them of "
                f"whole frames, which have {hop}"
            )
        self.frames = self.unit_samples // hop
        self.model = AalbertModel(checkpoint.config).to(device).eval()
        load_weights(self.model, checkpoint.model_state, checkpoint.path)
        self.layer, self.cmvn, self.device = layer, units.cmvn, device
        # No layer after the one that is clustered.
        self.arch = full_architecture(checkpoint.config.transformer).first_layers(max(layer, 1))

    @property
    def description(self) -> Facts:
        """The weights themselves, the layer, how its values are normalised, and how many units its token has."""
        digest = content_digest({}, {name: tensor.cpu() for name, tensor in self.model.state_dict().items()})
        finer = {"units_of_token": self.units_of_token} if self.units_of_token > 1 else {}
        return {"source": f"model {digest}", "layer": self.layer, "cmvn": self.cmvn, **finer}

    @torch.no_grad()
    def __call__(self, wav: np.ndarray) -> Tensor:
        """Return (N, hidden size): for each unit the token that has it at its centre."""
        batch = torch.from_numpy(wav).unsqueeze(0).to(self.device), torch.tensor([len(wav)], device=self.device)
        if self.units_of_token > 1:
            states = self.model.at_every_frame(*batch, self.arch).hidden_states[self.layer]
            middle, last = self.frames // 2, states.size(1) - 1
            index = torch.arange(middle, states.size(1) + middle, self.frames, device=self.device)
            states = states[:, index.clamp(max=last)]  # the last unit may have less than half of its frames
        else:
            states = self.model(*batch, self.arch).hidden_states[self.layer]
        rows = states[0].float().cpu()
        if self.cmvn == "utterance":
            # What is constant in an utterance is the speaker and the channel, not the phones.
            rows = (rows - rows.mean(0)) / (rows.std(0, correction=0) + 1e-5)
        return rows


def unit_features(config: ModelConfig, units: UnitsConfig, device: torch.device) -> UnitFeatures:
    """Return what ``units.source`` names.

    Raises:
        AalbertError: it names nothing usable.
    """
    if units.source == MFCC:
        return MfccFeatures(config)
    from s3prl_aalbert.checkpoint.published import located

    return LayerFeatures(located(units.source), units, config, device)
