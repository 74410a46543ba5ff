"""A hidden state for every frame: the token around it, stacked by hand here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from naming import naming

from s3prl_aalbert.checkpoint.published import release_of_upstream
from s3prl_aalbert.checkpoint.release import save_release
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.acoustics import Acoustics
from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.upstream.expert import UpstreamExpert
from s3prl_aalbert.upstream.hubconf import aalbert_every_frame_local


def release(config: ModelConfig, folder: Path) -> str:
    torch.manual_seed(0)
    save_release(folder, config, MaskedPrediction(config).state_dict(), "# A tiny model\n", {"step": 7})
    return str(folder)


@pytest.mark.parametrize("stack", [1, 2, 3, 5])
@pytest.mark.parametrize("num_samples", [1, 480, 16000, 16161])
def test_a_state_is_that_of_the_token_around_the_frame(
    tiny_config: ModelConfig, voice, tmp_path: Path, stack: int, num_samples: int
) -> None:
    config = replace(tiny_config, transformer=replace(tiny_config.transformer, downsample_rate=stack))
    upstream = UpstreamExpert(release(config, tmp_path), every_frame=True).eval()
    wave = voice(num_samples, 1)
    with torch.no_grad():
        found = upstream([wave])["hidden_states"]
        frames = Acoustics(config.audio, 1)(wave.unsqueeze(0), torch.tensor([num_samples])).tokens[0].numpy()
        count = -(-num_samples // 160)
        assert found[0].shape == (1, count, 32) and len(found) == 4
        for first in range(min(stack, count)):  # the model hears it once for each: frames first, first + stack, ...
            tokens = []
            for centre in range(first, count, stack):
                near = [centre - stack // 2 + place for place in range(stack)]
                rows = [frames[one] if 0 <= one < count else np.zeros_like(frames[0]) for one in near]
                tokens.append(np.concatenate(rows))
            expected = upstream.model.encode(torch.from_numpy(np.stack(tokens))[None], torch.tensor([len(tokens)]))
            for state, its in zip(found, expected, strict=True):
                torch.testing.assert_close(state[:, first::stack], its, rtol=0, atol=1e-5)


def test_the_middle_frame_of_a_token_has_the_tokens_state(tiny_release: Path, voice) -> None:
    wave = voice(480 * 33, 2)
    with torch.no_grad():
        tokens = UpstreamExpert(str(tiny_release)).eval()([wave])["hidden_states"]
        frames = UpstreamExpert(str(tiny_release), every_frame=True).eval()([wave])["hidden_states"]
    for state, its in zip(tokens, frames, strict=True):
        torch.testing.assert_close(its[:, 1::3], state, rtol=0, atol=1e-5)


def test_a_batch_gives_what_each_utterance_gives_alone(tiny_release: Path, uneven_wavs) -> None:
    upstream = UpstreamExpert(str(tiny_release), every_frame=True).eval()
    with torch.no_grad():
        together = upstream(list(uneven_wavs.values()))
        for row, wave in enumerate(uneven_wavs.values()):
            alone = upstream([wave])["hidden_states"]
            for batch, single in zip(together["hidden_states"], alone, strict=True):
                frames = single.size(1)
                torch.testing.assert_close(batch[row, :frames], single[0], rtol=0, atol=1e-5)
                assert not batch[row, frames:].any()
    assert torch.equal(together["last_hidden_state"], together["hidden_states"][-1])


def test_the_entry(tiny_release: Path) -> None:
    upstream = aalbert_every_frame_local(ckpt=str(tiny_release), refresh=False)
    assert upstream.get_downsample_rates("hidden_states") == 160
    assert aalbert_every_frame_local("aalbert_tiny").model.config.transformer.hidden_size == 256
    with pytest.raises(AalbertError, match=naming("aalbert_every_frame_local", "-k")):
        aalbert_every_frame_local()


def test_its_pre_training_speech_is_known(tiny_release: Path) -> None:
    assert release_of_upstream("aalbert_every_frame_local", str(tiny_release)) == tiny_release
