"""The featurizer of probing against the upstream's hidden states, and how the layers reach the task."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from naming import naming
from toolkit_runner import new_runner

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit.probing import first_layer

GENERATOR = torch.Generator().manual_seed(0)
WAVS = [torch.randn(size, generator=GENERATOR) for size in (8000, 16000)]


def build(
    upstream: str = "aalbert_tiny",
    layer: int | None = None,
    normalize: bool = False,
    selection: str = "hidden_states",
) -> Any:
    runner = new_runner(upstream)
    runner.args.upstream_feature_selection = selection
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
    assert recorded(build(), section) == {"layer_dims": expected, "first_layer": 0}


@pytest.mark.parametrize(
    ("selection", "layer", "first", "count"),
    [
        ("hidden_states", None, 0, 4),
        ("hidden_states", 2, 2, 1),
        ("hidden_states", -1, 3, 1),
        ("layer_states", None, 1, 3),
        ("layer_states", 1, 2, 1),
        ("layer_states", -3, 1, 1),
        ("last_hidden_state", None, 3, 1),
    ],
)
def test_the_task_gets_the_number_of_the_first_layer(selection: str, layer: int | None, first: int, count: int) -> None:
    runner = build(layer=layer, selection=selection)
    assert recorded(runner, {}) == {"layer_dims": [256] * count, "first_layer": first}
    states, features = runner.upstream.model(WAVS)["hidden_states"], runner.upstream.model(WAVS)
    with torch.no_grad():
        found = runner.featurizer.model(WAVS, features)[1]
    torch.testing.assert_close(found[:, :256], states[first][1, : len(found)])


def test_a_run_from_before_layers_were_numbered_goes_on_as_it_began() -> None:
    runner = build(layer=2)
    runner.args.past_exp = "old"
    assert recorded(runner, {"hidden_size": 8})["first_layer"] == 0
    assert recorded(runner, {"first_layer": 2})["first_layer"] == 2


@pytest.mark.parametrize(
    ("selection", "number"), [("hidden_state_5", 5), ("last_hidden_state", 0), ("no_cmvn", 0), ("PR", 0)]
)
def test_features_of_upstreams_without_numbered_layers(selection: str, number: int) -> None:
    assert first_layer({selection: WAVS[0]}, selection, None) == number


def recorded(runner: Any, section: dict[str, Any] | None) -> dict[str, Any]:
    """Return ``modelrc`` as the task gets it, which is also the one of the checkpoints."""
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
    assert runner.config["downstream_expert"]["modelrc"] == given[0]
    return given[0]


def test_layers_of_several_rates_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from s3prl_aalbert.upstream.expert import UpstreamExpert

    monkeypatch.setattr(UpstreamExpert, "get_downsample_rates", lambda self, key: [160, 320])
    with pytest.raises(AalbertError, match=naming("one rate", "[160, 320]")):
        build()
