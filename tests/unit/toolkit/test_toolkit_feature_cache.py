"""``runner.feature_cache``: what is kept, what is computed anew, and what is refused."""

import logging
from pathlib import Path

import pytest
import torch
from naming import naming
from toolkit_runner import new_runner

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit import precision

GENERATOR = torch.Generator().manual_seed(0)
SHORT, MIDDLE, LONG = (torch.randn(size, generator=GENERATOR) for size in (4800, 11111, 16000))


def build_runner(
    cache, upstream="aalbert_tiny", selection="hidden_states", trainable=False, downstream_expert=None, **runner_section
):
    """Return S3PRL's runner with its upstream and featurizer."""
    runner = new_runner(upstream, trainable, feature_cache=cache, **runner_section)
    runner.config["downstream_expert"] = downstream_expert
    runner.args.upstream_feature_selection = selection
    runner.upstream = runner._get_upstream()
    runner.featurizer = runner._get_featurizer()
    return runner


def features_of(runner, wavs):
    """Return what a task gets."""
    with torch.no_grad():
        return runner.featurizer.model(wavs, runner.upstream.model(wavs))


def count_heard(runner):
    """Return a list that grows by the lengths of the utterances which the upstream itself hears, batch by batch."""
    heard = []
    runner.upstream.model.upstream.register_forward_pre_hook(
        lambda _, inputs: heard.append([len(wav) for wav in inputs[0]])
    )
    return heard


@pytest.mark.parametrize(
    ("upstream", "selection"),
    [
        ("aalbert_tiny", "hidden_states"),
        ("aalbert_tiny", "last_hidden_state"),
        ("aalbert_tiny", "layer_states"),
        ("aalbert_features", "no_cmvn"),
    ],
)
def test_a_task_gets_the_same_features_from_the_cache(tmp_path, upstream, selection):
    wavs = [SHORT, LONG, MIDDLE]
    wanted = features_of(build_runner(None, upstream, selection), wavs)
    features_of(build_runner(str(tmp_path), upstream), wavs)  # of which nothing may be taken for another selection
    runner = build_runner(str(tmp_path), upstream, selection)
    for _ in range(2):
        found = features_of(runner, wavs)
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == torch.float32
            assert one.shape == other.shape
            torch.testing.assert_close(one, other, rtol=1e-3, atol=3e-3)  # float16 keeps 11 bits


def test_an_utterance_is_heard_once_in_all_runs_together(tmp_path):
    first = build_runner(str(tmp_path))
    heard = count_heard(first)
    features_of(first, [MIDDLE, LONG])
    features_of(first, [LONG, SHORT, MIDDLE])
    assert heard == [[11111], [16000], [4800]]
    features_of(first, [MIDDLE])  # of which the upstream gave more tokens, for it was padded
    second = build_runner(str(tmp_path), selection="last_hidden_state")
    heard = count_heard(second)
    features_of(second, [MIDDLE, SHORT])
    assert heard == []


@pytest.mark.parametrize("datarc", [{"max_seconds": 0.7}, {"max_timestep": 11200}])
def test_random_crops_are_not_stored(tmp_path, datarc):
    runner = build_runner(str(tmp_path), downstream_expert={"datarc": datarc})
    heard = count_heard(runner)
    wavs = [SHORT, LONG[:11200], MIDDLE]  # the second is as long as a crop
    first, again = (features_of(runner, wavs) for _ in range(2))
    assert heard == [[4800], [11111, 11200], [11200]]
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    for one, other in zip(first, again, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=3e-3)


@pytest.mark.parametrize("datarc", [None, "text", {"max_seconds": "text"}, {"max_seconds": float("inf")}, {}])
def test_what_the_task_will_refuse_or_lacks_does_not_stop_the_cache(tmp_path, datarc):
    runner = build_runner(str(tmp_path), downstream_expert={"datarc": datarc})
    features_of(runner, [SHORT])
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


def test_utterances_of_like_length_are_heard_together(tmp_path):
    runner = build_runner(str(tmp_path))
    heard = count_heard(runner)
    wavs = [LONG, SHORT, LONG[:15000], LONG[:13000], MIDDLE, LONG[:12000]]
    found = features_of(runner, wavs)
    assert heard == [[4800], [11111, 12000, 13000], [15000, 16000]]
    assert [len(one) for one in found] == [round(len(wav) / 480) for wav in wavs]
    torch.testing.assert_close(found[2], features_of(build_runner(None), [wavs[2]])[0], rtol=1e-3, atol=3e-3)


def test_the_size_on_the_disk_is_told_once(tmp_path, caplog):
    caplog.set_level(logging.INFO, "s3prl_aalbert")
    runner = build_runner(str(tmp_path))
    for wav in (LONG, MIDDLE):
        features_of(runner, [wav])
    told = [record.getMessage() for record in caplog.records if "an hour of speech" in record.getMessage()]
    assert len(told) == 1
    # Of 16,000 samples: 4 hidden states of 256 values in float16 for each of 34 tokens of 30 ms.
    assert f"takes {4 * 256 * 2 * 34 * 3600 / 1e9:.1f} GB" in told[0]


def test_a_damaged_file_is_computed_again_and_named(tmp_path, caplog):
    runner = build_runner(str(tmp_path))
    wanted = features_of(runner, [SHORT])
    [kept] = tmp_path.rglob("*.safetensors")
    kept.write_bytes(kept.read_bytes()[:100])
    heard = count_heard(runner)
    assert torch.equal(features_of(runner, [SHORT])[0], wanted[0])
    assert heard == [[4800]]
    assert str(kept) in caplog.text
    assert not list(tmp_path.rglob("*.tmp"))


def test_other_weights_options_or_precision_have_a_cache_of_their_own(tmp_path):
    base = str(tmp_path)
    folders = [
        build_runner(base, **options).upstream.model.folder
        for options in (
            {},
            {"upstream": "aalbert_3l"},
            {"upstream": "aalbert_3l"},  # untrained, no seed set: other weights than the one before
            {"upstream": "aalbert_features"},
            {"precision": "bf16"},
        )
    ]
    assert len(set(folders)) == len(folders)
    assert build_runner(base).upstream.model.folder == folders[0]


@pytest.mark.parametrize("native", [True, False])
def test_auto_shares_the_cache_of_the_precision_that_it_chooses(tmp_path, monkeypatch, native):
    """Machines with and without bfloat16 may share a folder."""
    monkeypatch.setattr(precision, "native_bf16", lambda device_type: native)
    names = ("auto", "bf16", "fp32")
    auto, bf16, fp32 = (build_runner(str(tmp_path), precision=name).upstream.model.folder for name in names)
    assert auto == (bf16 if native else fp32) and bf16 != fp32


def test_upstreams_of_s3prl_are_kept_too(tmp_path):
    wanted = features_of(build_runner(None, upstream="fbank"), [SHORT, LONG])
    runner = build_runner(str(tmp_path), upstream="fbank")
    features_of(runner, [SHORT, LONG])
    features_of(runner, [SHORT])  # alone: what the upstream made of its padding would be too long
    found = features_of(runner, [LONG, SHORT])[::-1]
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-2)  # values of up to 20


def test_the_noise_in_s3prls_preprocessor_does_not_divide_the_cache(tmp_path):
    runners = [build_runner(str(tmp_path), upstream="mel") for _ in range(2)]
    noises = [dict(runner.upstream.model.named_buffers())["upstream.extracter._pseudo_wavs"] for runner in runners]
    assert not torch.equal(*noises)
    assert runners[0].upstream.model.folder == runners[1].upstream.model.folder


def test_a_trainable_upstream_is_refused(tmp_path):
    with pytest.raises(AalbertError, match=naming("feature_cache", "-f")):
        build_runner(str(tmp_path), trainable=True)


def test_what_autocast_computes_is_refused(tmp_path):
    with pytest.raises(AalbertError, match=naming("feature_cache", "runner.fp16")):
        build_runner(str(tmp_path), fp16=True)


def test_what_is_no_folder_is_refused():
    with pytest.raises(AalbertError, match=naming("runner.feature_cache", True, "null")):
        build_runner(True)


def test_states_too_large_for_float16_are_refused(tmp_path):
    runner = build_runner(str(tmp_path))
    runner.upstream.model.upstream.forward = lambda wavs: {"hidden_states": [torch.full((1, 33, 2), 1e5)]}
    with pytest.raises(AalbertError, match=naming("float16")):
        runner.upstream.model([LONG])
    assert not list(Path(tmp_path).rglob("*.safetensors"))


def test_another_last_hidden_state_is_refused(tmp_path):
    runner = build_runner(str(tmp_path))
    states = {"hidden_states": [torch.zeros(1, 33, 2)], "last_hidden_state": torch.ones(1, 33, 2)}
    runner.upstream.model.upstream.forward = lambda wavs: states
    with pytest.raises(AalbertError, match=naming("last_hidden_state", "hidden_states")):
        runner.upstream.model([LONG])
