"""The featurizer of probing against the upstream's hidden states, and how the layers reach the task."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from naming import naming
from toolkit_runner import new_runner

from s3prl_aalbert.errors import AalbertError

GENERATOR = torch.Generator().manual_seed(0)
WAVS = [torch.randn(size, generator=GENERATOR) for size in (8000, 16000)]


def build(upstream: str = "aalbert_tiny", layer: int | None = None, normalize: bool = False) -> Any:
    runner = new_runner(upstream)
    runner.args.downstream, runner.args.upstream_layer_selection = "aalbert_probe", layer
    runner.args.upstream_feature_normalize = normalize
    runner.upstream = runner._get_upstream()
    runner.featurizer = runner._get_featurizer()
    return runner


@pytest.mark.parametrize("normalize", [False, True])
def test_the_layers_lie_side_by_side(normalize: bool, capfd: pytest.CaptureFixture[str]) -> None:
    runner = build(normalize=normalize)
    states = runner.upstream.model(WAVS)["hidden_states"]
    featurizer = runner.featurizer.model
    with torch.no_grad():
        found = featurizer(WAVS, {"hidden_states": states})
    assert featurizer.layer_dims == [state.size(-1) for state in states] and len(states) == 4
    assert featurizer.output_dim == sum(featurizer.layer_dims) and not list(featurizer.parameters())
    for number, tokens in enumerate(found):
        assert abs(len(tokens) - len(WAVS[number]) / featurizer.downsample_rate) <= 1
        for state, part in zip(states, tokens.split(featurizer.layer_dims, dim=-1), strict=True):
            wanted = state[number, : len(tokens)]
            if normalize:
                centred = wanted - wanted.mean(-1, keepdim=True)
                wanted = centred / (wanted.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
            torch.testing.assert_close(part, wanted)
    assert "weighted sum" not in capfd.readouterr().err


@pytest.mark.parametrize(("upstream", "layer"), [("fbank", None), ("aalbert_tiny", 2)])
def test_one_layer_is_one(upstream: str, layer: int | None) -> None:
    runner = build(upstream, layer)
    states = runner.upstream.model(WAVS)["hidden_states"]
    with torch.no_grad():
        found = runner.featurizer.model(WAVS, {"hidden_states": states})
    wanted = states[layer or 0]
    torch.testing.assert_close(found[1], wanted[1, : len(found[1])])


@pytest.mark.parametrize(
    ("section", "expected"),
    [(None, [256] * 4), ({}, [256] * 4), ({"layer_dims": None}, [256] * 4), ({"layer_dims": [1, 2]}, [1, 2])],
)
def test_the_task_gets_the_widths_of_the_layers(section: dict[str, Any] | None, expected: list[int]) -> None:
    """Unless the configuration, e.g. of a run that goes on, has them."""
    runner = build()
    given: list[dict[str, Any]] = []
    runner.config["downstream_expert"] = {"modelrc": section}

    class Stop(Exception):
        pass

    def expert(**options: Any) -> None:
        given.append(options["downstream_expert"]["modelrc"])
        raise Stop

    from s3prl_aalbert.downstream.probe import expert as probe

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(probe, "DownstreamExpert", expert)
        runner._get_downstream()
    assert given == [{"layer_dims": expected}] and runner.config["downstream_expert"]["modelrc"] == given[0]


def test_layers_of_several_rates_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from s3prl_aalbert.upstream.expert import UpstreamExpert

    monkeypatch.setattr(UpstreamExpert, "get_downsample_rates", lambda self, key: [160, 320])
    with pytest.raises(AalbertError, match=naming("one rate", "[160, 320]")):
        build()
