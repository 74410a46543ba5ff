"""The hub entries: one list of names, what each builds, and the arguments they refuse."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.upstream import hubconf
from s3prl_aalbert.upstream.expert import FeaturesExpert, UpstreamExpert

PRESETS = {
    f"aalbert_{family}{layers}l": (layers, family == "") for family in ("", "mockingjay_") for layers in (3, 6, 12)
}


@pytest.fixture
def no_initialisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave weights as allocated: only their shapes matter here."""
    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", lambda self: None)
    monkeypatch.setattr(torch.nn.init, "normal_", lambda tensor, *_, **__: tensor)


def test_the_promised_names_are_there_and_the_root_file_offers_the_same(repository: Path) -> None:
    assert {*PRESETS, "aalbert_local", "aalbert_features"} <= set(hubconf.__all__)
    spec = importlib.util.spec_from_file_location("root_hubconf", repository / "hubconf.py")
    assert spec is not None and spec.loader is not None
    root = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(root)
    assert set(root.__all__) == set(hubconf.__all__)
    assert all(getattr(root, name) is getattr(hubconf, name) for name in root.__all__)
    public = {name for name, value in vars(root).items() if callable(value) and not name.startswith("_")}
    assert public == set(root.__all__)  # torch.hub.list shows entries, nothing else
    assert all(getattr(root, name).__doc__ for name in root.__all__)


@pytest.mark.usefixtures("no_initialisation")
@pytest.mark.parametrize(("name", "shape"), PRESETS.items())
def test_each_preset_builds_its_model(name: str, shape: tuple[int, bool]) -> None:
    layers, shared = shape
    upstream = getattr(hubconf, name)(ckpt=None, model_config=None, refresh=False)
    assert isinstance(upstream, UpstreamExpert)
    encoder = upstream.model.encoder
    assert len(encoder.layer_groups) == layers and len(encoder.groups) == (1 if shared else layers)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_refuses_a_checkpoint_rather_than_ignoring_it(name: str) -> None:
    with pytest.raises(AalbertError, match=rf"{name} takes no checkpoint.*some\.ckpt"):
        getattr(hubconf, name)(ckpt="some.ckpt")


def test_a_preset_takes_a_model_yaml() -> None:
    assert hubconf.aalbert_3l(model_config="debug").model.config.transformer.hidden_size == 32


def test_the_local_entry(tiny_release: Path) -> None:
    assert isinstance(hubconf.aalbert_local(ckpt=str(tiny_release), model_config=None, refresh=True), UpstreamExpert)
    with pytest.raises(AalbertError, match="needs a checkpoint"):
        hubconf.aalbert_local()
    with pytest.raises(AalbertError, match="either a checkpoint"):
        hubconf.aalbert_local(ckpt=str(tiny_release), model_config="debug")


def test_the_features_entry() -> None:
    assert isinstance(hubconf.aalbert_features(refresh=False), FeaturesExpert)
    with pytest.raises(AalbertError, match="has no weights"):
        hubconf.aalbert_features(ckpt="some.ckpt")
