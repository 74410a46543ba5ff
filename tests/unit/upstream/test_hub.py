"""The hub entries: one list of names, what each builds, and the arguments they refuse."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from naming import mentions, naming

from s3prl_aalbert.audio_io import read_audio
from s3prl_aalbert.checkpoint.content import CheckpointError
from s3prl_aalbert.checkpoint.published import PUBLISHED, Published
from s3prl_aalbert.checkpoint.release import load_checkpoint
from s3prl_aalbert.downstream.abx import abx_errors, load_segments, pool_segments
from s3prl_aalbert.downstream.phone.config import PhoneDataConfig
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.aalbert import count_parameters
from s3prl_aalbert.model.config import load_model_config
from s3prl_aalbert.speech.training_list import overlap
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
    assert {*PRESETS, "aalbert_local", "aalbert_features", "aalbert_url"} <= set(hubconf.__all__)
    spec = importlib.util.spec_from_file_location("root_hubconf", repository / "hubconf.py")
    assert spec is not None and spec.loader is not None
    root = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(root)
    assert set(root.__all__) == set(hubconf.__all__)
    assert all(getattr(root, name) is getattr(hubconf, name) for name in root.__all__)
    public = {name for name, value in vars(root).items() if callable(value) and not name.startswith("_")}
    assert public == set(root.__all__)  # torch.hub.list shows entries, nothing else
    assert all(getattr(root, name).__doc__ for name in root.__all__)


def test_every_entry_is_typed_and_takes_what_s3prl_passes() -> None:
    for name in hubconf.__all__:
        signature = inspect.signature(getattr(hubconf, name))
        assert {"ckpt", "model_config", "refresh"} <= set(signature.parameters)
        assert signature.return_annotation in ("UpstreamExpert", "FeaturesExpert")
        for parameter in signature.parameters.values():
            assert parameter.annotation is not inspect.Parameter.empty
            assert parameter.kind is not inspect.Parameter.VAR_KEYWORD  # a misspelt argument is an error
    for name in PRESETS:
        parameters = inspect.signature(getattr(hubconf, name)).parameters
        assert parameters["pretrained"].default is True and parameters["progress"].default is True


@pytest.mark.usefixtures("no_initialisation")
@pytest.mark.parametrize(("name", "shape"), PRESETS.items())
def test_each_name_builds_its_architecture(
    name: str, shape: tuple[int, bool], caplog: pytest.LogCaptureFixture
) -> None:
    layers, shared = shape
    built = {
        "S3PRL's call": getattr(hubconf, name)(ckpt=None, model_config=None, refresh=False),
        "untrained control": getattr(hubconf, name)(pretrained=False),
    }
    for upstream in built.values():
        assert isinstance(upstream, UpstreamExpert)
        encoder = upstream.model.encoder
        assert len(encoder.config.group_of_layer) == layers and len(encoder.groups) == (1 if shared else layers)
    assert caplog.text.count(f"{name} has no published weights") == 1  # S3PRL's users are told


@pytest.mark.parametrize("name", PRESETS)
def test_a_name_without_weights_says_so_and_lists_those_that_have(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AalbertError) as error:
        getattr(hubconf, name)()
    listed = ", ".join(sorted(PUBLISHED)) or "none yet"
    assert mentions(str(error.value), name, listed, "pretrained=False")
    monkeypatch.setitem(PUBLISHED, "aalbert_b", Published("b", "0"))
    monkeypatch.setitem(PUBLISHED, "aalbert_a", Published("a", "0"))
    with pytest.raises(AalbertError, match="aalbert_a, aalbert_b"):
        getattr(hubconf, name)(True)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_refuses_a_checkpoint_rather_than_ignoring_it(name: str) -> None:
    with pytest.raises(AalbertError, match=naming(name, "some.ckpt")):
        getattr(hubconf, name)(ckpt="some.ckpt")


def test_a_preset_takes_a_model_yaml() -> None:
    assert hubconf.aalbert_3l(model_config="debug").model.config.transformer.hidden_size == 32


@pytest.fixture
def published(tiny_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Publish the tiny model under a name, as a packaged file; return that file."""
    path = tmp_path / "pretrained" / "aalbert_3l" / "model.safetensors"
    path.parent.mkdir(parents=True)
    shutil.copy(tiny_release / "model.safetensors", path)
    shutil.copy(tiny_release / "config.yaml", path.parent)
    monkeypatch.setattr("s3prl_aalbert.checkpoint.published.PACKAGED_WEIGHTS", tmp_path / "pretrained")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(PUBLISHED, "aalbert_3l", Published("aalbert_3l/model.safetensors", sha256))
    return path


def test_a_name_with_packaged_weights(published: Path, tiny_release: Path) -> None:
    expected = hubconf.aalbert_local(ckpt=str(tiny_release)).state_dict()
    for found in (hubconf.aalbert_3l(), hubconf.aalbert_3l(ckpt=None, model_config=None, refresh=False)):
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.state_dict().items())
    untrained = hubconf.aalbert_3l(pretrained=False)  # the same architecture, not the packaged YAML of that name
    assert untrained.model.config.transformer.hidden_size == 32
    assert not all(torch.equal(tensor, expected[name]) for name, tensor in untrained.state_dict().items())
    with pytest.raises(AalbertError, match=naming("aalbert_3l", "-g debug")):
        hubconf.aalbert_3l(model_config="debug")


def test_a_published_file_that_is_altered_or_missing(published: Path) -> None:
    published.write_bytes(published.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match="SHA-256"):
        hubconf.aalbert_3l()
    published.unlink()
    with pytest.raises(CheckpointError, match=naming(published)):
        hubconf.aalbert_3l()


def test_a_name_whose_weights_have_a_url(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    entry = PUBLISHED["aalbert_3l"]
    monkeypatch.setitem(PUBLISHED, "aalbert_3l", Published(published.as_uri(), entry.sha256))
    assert hubconf.aalbert_3l(progress=False).model.config.transformer.hidden_size == 32
    assert capsys.readouterr().err == "" and len(list((tmp_path / "hub").rglob("*.safetensors"))) == 1
    monkeypatch.setitem(PUBLISHED, "aalbert_3l", Published(published.as_uri(), "0" * 64))
    with pytest.raises(CheckpointError, match=naming("0" * 64)):
        hubconf.aalbert_3l(progress=False)


def test_every_published_name_is_an_entry_with_sound_weights() -> None:
    assert set(PUBLISHED) <= set(hubconf.__all__)
    for name, entry in PUBLISHED.items():
        assert len(entry.sha256) == 64
        if "://" not in entry.location:  # packaged: no network needed
            assert isinstance(getattr(hubconf, name)(), UpstreamExpert)


@pytest.mark.parametrize(
    ("name", "parameters", "largest"), [("aalbert_units", 3_908_096, 32_000_000), ("aalbert_tiny", 977_152, 2_000_000)]
)
def test_the_packaged_models_are_documented(repository: Path, name: str, parameters: int, largest: int) -> None:
    folder = repository / "s3prl_aalbert" / "pretrained" / name
    assert (folder / "model.safetensors").stat().st_size <= largest
    model, untrained = getattr(hubconf, name)().model, getattr(hubconf, name)(pretrained=False).model
    assert count_parameters(model) == parameters
    assert model.config == untrained.config == load_model_config(name)
    assert all(parameter.dtype is torch.float32 for parameter in model.parameters())
    assert torch.equal(untrained.acoustics.corpus_mean, model.acoustics.corpus_mean)  # the control has the same input
    assert not torch.equal(untrained.encoder.groups[0].value.weight, model.encoder.groups[0].value.weight)
    stored = load_checkpoint(folder).state
    assert all(torch.equal(stored[f"model.{n}"].float(), value) for n, value in model.state_dict().items())
    card = (folder / "README.md").read_text(encoding="utf-8")
    for stated in (f"{parameters:,}", "float16", "Apache-2.0", "CC BY 4.0", "dev loss", "**For**", "**Not for**"):
        assert stated in card


def test_the_default_is_the_larger_one() -> None:
    default, named = hubconf.aalbert().model, hubconf.aalbert_units().model
    assert default.config == named.config
    assert all(torch.equal(value, named.state_dict()[name]) for name, value in default.state_dict().items())


def test_no_speaker_of_the_test_sets_was_in_pre_training(repository: Path, shared_data: Path) -> None:
    """dev-clean, test-clean and the aligned sample are kept for choosing and testing, TIMIT for testing."""
    folder = repository / "s3prl_aalbert" / "pretrained" / "aalbert_units"
    for name in ("dev-clean", "test-clean", "train-clean-100-aligned"):
        paths = sorted((shared_data / "LibriSpeech" / name).rglob("*.opus"))
        speakers = {path.stem: path.stem.split("-")[0] for path in paths}
        assert paths and overlap(folder, list(speakers), speakers) == ([], [], True)
    training = sorted((shared_data / "LibriSpeech" / "train-clean-5").rglob("*.opus"))[:5]
    speakers = {path.stem: path.stem.split("-")[0] for path in training}
    assert len(overlap(folder, list(speakers), speakers).utterances) == 5


@torch.no_grad()
def test_the_released_model_tells_phones_apart_better_than_its_input(shared_data: Path) -> None:
    """ABX on the speakers of TIMIT, none of whom it ever met."""
    spoken = load_segments(PhoneDataConfig(str(shared_data / "timit"), phone_set="39", exclude=["sa1", "sa2"]))
    upstreams = {"released": hubconf.aalbert().eval(), "features": hubconf.aalbert_features().eval()}
    phones = [segment.phone for one in spoken for segment in one.segments]
    speakers = [one.speaker for one in spoken for _ in one.segments]
    errors = {}
    for name, upstream in upstreams.items():
        pooled = []
        for one in spoken:
            states = upstream([torch.from_numpy(read_audio(Path(one.path)))])["hidden_states"]
            pooled.append(pool_segments(states[len(states) // 2][0].numpy(), 480, one.segments))
        errors[name] = abx_errors(np.concatenate(pooled), phones, speakers)
    for condition in ("within", "across"):
        released, features = (getattr(errors[name], condition)() for name in upstreams)
        assert np.mean([released[each] < features[each] for each in released]) > 0.9  # of the speakers


def test_the_local_entry(tiny_release: Path) -> None:
    assert isinstance(hubconf.aalbert_local(ckpt=str(tiny_release), model_config=None, refresh=True), UpstreamExpert)
    with pytest.raises(AalbertError, match=naming("aalbert_local", "-k CKPT")):
        hubconf.aalbert_local()
    with pytest.raises(AalbertError, match=naming("-g debug", "-k")):
        hubconf.aalbert_local(ckpt=str(tiny_release), model_config="debug")


def test_the_untrained_control_of_a_checkpoint(tiny_release: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained = hubconf.aalbert_local(ckpt=str(tiny_release))
    torch.manual_seed(5)
    control = hubconf.aalbert_local(ckpt=str(tiny_release), pretrained=False)
    assert control.model.config == trained.model.config and "random" in caplog.text
    for name, weight in control.named_parameters():
        same = torch.equal(weight, trained.get_parameter(name))
        assert same is not (weight.dim() == 2)  # the release's biases and norms are as initialised
        if weight.dim() == 2:
            assert abs(float(weight.detach().std()) - 0.02) < 0.004


def test_the_features_entry() -> None:
    assert isinstance(hubconf.aalbert_features(refresh=False), FeaturesExpert)
    with pytest.raises(AalbertError, match=naming("aalbert_features", "some.ckpt")):
        hubconf.aalbert_features(ckpt="some.ckpt")
