"""Why the input-feature speaker baseline is run with and without CMVN."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from s3prl_aalbert.downstream.speaker.dataset import SpeakerDataConfig, load_speaker_data
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus
from s3prl_aalbert.upstream.expert import FeaturesExpert


@pytest.fixture(scope="module")
def accuracies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Speaker accuracy of a linear classifier of mean-pooled features, cross-validated by scikit-learn."""
    folder = tmp_path_factory.mktemp("baseline")
    corpus = synthesise_corpus(folder / "speech", num_speakers=6, utterances_per_speaker=10, seconds=(2.0, 2.5), seed=1)
    data = load_speaker_data(SpeakerDataConfig(audio=str(corpus)), 0, folder)
    names = [name for members in data.names.values() for name in members]
    speakers = [data.label_of(name) for name in names]
    upstream = FeaturesExpert()
    wavs = [torch.from_numpy(data.store.read(name)) for name in names]
    return {key: accuracy(upstream, key, wavs, speakers) for key in ("hidden_states", "no_cmvn")}


def accuracy(upstream: FeaturesExpert, key: str, wavs: list[torch.Tensor], speakers: list[int]) -> float:
    pooled = torch.stack([upstream([wav])[key][0][0].mean(0) for wav in wavs]).numpy()
    linear = LogisticRegression(C=1e4, max_iter=200)  # next to no regularisation: the scale of the input is no excuse
    return float(cross_val_score(linear, pooled, speakers, cv=5).mean())


def test_means_of_normalised_features_carry_no_speaker(accuracies: dict[str, float]) -> None:
    assert accuracies["hidden_states"] < 0.3, "chance is 0.167"
    assert accuracies["no_cmvn"] > 0.5
