"""Maps mean-pooled utterances of some speakers to two dimensions (paper section 4.2, Figure 5).

Legend: U utterances, D dimensions, T tokens.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from torch import Tensor

from s3prl_aalbert.audio_io import AudioError, read_audio
from s3prl_aalbert.downstream.audio_dataset import find_audio
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import SAMPLE_RATE, Cmvn, ModelConfig
from s3prl_aalbert.report.describe import grouped
from s3prl_aalbert.report.models import describe_config
from s3prl_aalbert.speech.speakers import speaker_of
from s3prl_aalbert.upstream.expert import UpstreamExpert, input_acoustics

logger = logging.getLogger(__name__)

MIN_SECONDS = 0.3
MIN_UTTERANCES = 3
PERPLEXITY = 30.0
COINCIDENT = 1e-4
"""Pooled vectors that vary less than this in every dimension count as one point."""


@dataclass(frozen=True)
class TsneRequest:
    """The model, speech and options of the figure."""

    checkpoint: Path
    speech: tuple[Path, ...]
    layer: int | None = None
    """Layer to draw; 0 is the input embedding, None the last layer."""
    speakers: int = 10
    utterances: int = 20
    """Largest number of utterances of each speaker."""
    seed: int = 0


@dataclass(frozen=True)
class SpeakerMap:
    """The map of one representation."""

    name: str
    points: np.ndarray
    """(U, 2)."""
    raw_silhouette: float | None
    """Silhouette in the representation's own space; None if all points coincide."""
    flat_silhouette: float | None
    """Silhouette in the two-dimensional picture."""


@dataclass(frozen=True)
class SpeakerMaps:
    """The content of Figure 5."""

    model: str
    """Description of the model."""
    paths: tuple[str, ...]
    speakers: tuple[str, ...]
    """Speaker of each utterance."""
    maps: tuple[SpeakerMap, ...]
    layer: int
    layer_silhouettes: tuple[float | None, ...]
    """Silhouette of every layer in its own space, the input embedding first."""


def compute_speaker_maps(request: TsneRequest) -> SpeakerMaps:
    """Pool, map and score the utterances, in input features with and without CMVN and in the model.

    Raises:
        AalbertError: there are too few speakers, the layer does not exist, or checkpoint or speech is unusable.
    """
    model = UpstreamExpert(ckpt=str(request.checkpoint)).eval()
    num_layers = model.model.config.transformer.num_hidden_layers
    layer = num_layers if request.layer is None else request.layer
    if not 0 <= layer <= num_layers:
        raise AalbertError(f"--tsne-layer is {layer}, expected 0 to {num_layers} for {request.checkpoint}")
    files = find_audio([str(path) for path in request.speech])
    paths, speakers, waveforms = zip(*choose_utterances(files, request), strict=True)
    wavs = [torch.from_numpy(wav) for wav in waveforms]
    layers = pool(wavs, lambda wav: model([wav])["hidden_states"])
    (normalised,) = pool(wavs, input_features(model.model.config, cmvn="utterance"))
    (raw,) = pool(wavs, input_features(model.model.config, cmvn="none"))
    spaces = {
        "input features with CMVN": normalised,
        "input features without CMVN": raw,
        f"model, layer {layer}": layers[layer],
    }
    maps = tuple(map_speakers(name, vectors, speakers, request.seed) for name, vectors in spaces.items())
    scores = tuple(score(vectors, speakers) for vectors in layers)
    description = describe_config(model.model.config)
    return SpeakerMaps(description, tuple(map(str, paths)), speakers, maps, layer, scores)


def input_features(config: ModelConfig, cmvn: Cmvn) -> Callable[[Tensor], list[Tensor]]:
    """Return a function from a waveform (num_samples,) to the model's input tokens [(1, T, D)]."""
    acoustics = input_acoustics(config, cmvn)
    return lambda wav: [acoustics(wav.unsqueeze(0), torch.tensor([wav.numel()])).tokens]


def choose_utterances(files: Sequence[Path], request: TsneRequest) -> list[tuple[Path, str, np.ndarray]]:
    """Choose the speakers with the most files (then by name), and draw their utterances by the seed.

    Returns:
        (path, speaker, (num_samples,) waveform) of each utterance; unreadable and very short ones are skipped.
    """
    by_speaker = grouped(files, speaker_of)
    generator = np.random.default_rng(request.seed)
    found: dict[str, list[tuple[Path, str, np.ndarray]]] = {}
    for speaker in sorted(by_speaker, key=lambda name: (-len(by_speaker[name]), name)):
        paths = [by_speaker[speaker][i] for i in generator.permutation(len(by_speaker[speaker]))]
        usable = _read_some(paths, speaker, request.utterances)
        if len(usable) >= MIN_UTTERANCES:
            found[speaker] = usable
        if len(found) == request.speakers:
            break
    if len(found) < 2:
        raise AalbertError(
            f"--speech: {len(found)} speakers with at least {MIN_UTTERANCES} usable utterances, expected 2 or more"
        )
    if len(found) < request.speakers:
        logger.warning("t-SNE: found only %d speakers, and %d were requested", len(found), request.speakers)
    return [utterance for usable in found.values() for utterance in usable]


def _read_some(paths: Sequence[Path], speaker: str, count: int) -> list[tuple[Path, str, np.ndarray]]:
    usable = []
    for path in paths:
        try:
            wav = read_audio(path, SAMPLE_RATE)
        except AudioError as error:
            logger.warning("t-SNE: skipped %s", error)
            continue
        if len(wav) >= MIN_SECONDS * SAMPLE_RATE:
            usable.append((path, speaker, wav))
        if len(usable) == count:
            break
    return usable


@torch.no_grad()
def pool(wavs: Sequence[Tensor], represent: Callable[[Tensor], Sequence[Tensor]]) -> list[np.ndarray]:
    """Average each representation over the tokens of an utterance, computed one at a time to avoid padding.

    Args:
        wavs: U waveforms (num_samples,).
        represent: returns K representations (1, T, D) of one waveform.

    Returns:
        K arrays (U, D).
    """
    pooled = [[states[0].mean(dim=0).numpy() for states in represent(wav)] for wav in wavs]
    return [np.stack(column) for column in zip(*pooled, strict=True)]


def score(vectors: np.ndarray, speakers: Sequence[str]) -> float | None:
    """Return the silhouette of the speakers in [-1, 1]; None if all vectors coincide."""
    if float(np.max(vectors.std(axis=0))) < COINCIDENT:
        return None
    return float(silhouette_score(vectors, list(speakers)))


def map_speakers(name: str, vectors: np.ndarray, speakers: Sequence[str], seed: int) -> SpeakerMap:
    """Map vectors (U, D) to (U, 2) by t-SNE with a fixed seed and score them before and after."""
    raw = score(vectors, speakers)
    if raw is None:
        return SpeakerMap(name, np.zeros((len(vectors), 2)), None, None)
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scikit-learn's randomised PCA overflows harmlessly
        points = tsne.fit_transform(vectors.astype(np.float64))
    return SpeakerMap(name, points, raw, score(points, speakers))
