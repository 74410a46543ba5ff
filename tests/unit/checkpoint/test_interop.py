"""Conversion against the peers' own code: S3PRL's as installed, and the others' where AALBERT_PEERS has checkouts.

AALBERT_PEERS is a folder with AlbertNew/ (branch AlbertNew of s3prl/s3prl) and pohanchi/ (pohanchi/AALBERT); neither
is part of this repository. Without it, files in their layouts are put together from S3PRL's module, which is the same
Transformer under the same names.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import os
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from naming import mentions, naming
from torch import Tensor

from s3prl_aalbert.checkpoint.content import CheckpointError
from s3prl_aalbert.checkpoint.interop.exporting import export_s3prl
from s3prl_aalbert.checkpoint.interop.importing import Imported, import_checkpoint, s3prl_audio
from s3prl_aalbert.checkpoint.release import load_checkpoint, save_release
from s3prl_aalbert.checkpoint.training_state import save_training_state
from s3prl_aalbert.cli import main
from s3prl_aalbert.model.aalbert import AalbertModel, SpectrogramHead
from s3prl_aalbert.model.acoustics import Acoustics
from s3prl_aalbert.model.config import (
    AudioConfig,
    ConfigError,
    ModelConfig,
    TaskConfig,
    TransformerConfig,
    load_model_config,
)
from s3prl_aalbert.model.objective import MaskedPrediction

TOLERANCE = 1e-5
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
DETAILS = {"hidden_act": "gelu", "initializer_range": 0.02, "layer_norm_eps": 1e-12}
DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}


@pytest.fixture(scope="module")
def peer() -> types.SimpleNamespace:
    """S3PRL's own code."""
    pytest.importorskip("s3prl.upstream.audio_albert.expert", reason="needs s3prl")
    names = ("mockingjay.model", "mockingjay.builder", "audio_albert.hubconf", "baseline.preprocessor")
    modules = {name.replace(".", "_"): importlib.import_module(f"s3prl.upstream.{name}") for name in names}
    return types.SimpleNamespace(**modules)


@pytest.fixture(autouse=True)
def torchs_own_rules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what other tests made of torch.load, for S3PRL's runner (toolkit.repairs): stock S3PRL is compared."""
    for name in ("mockingjay", "distiller"):
        builder = sys.modules.get(f"s3prl.upstream.{name}.builder")
        if builder is not None:
            monkeypatch.setattr(builder, "torch", torch)
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.add_safe_globals(allowed)


def s3prl_config(**transformer: Any) -> dict[str, Any]:
    """Return the model YAML of S3PRL's audio_albert, with a small encoder."""
    mel = {"feat_type": "mel", "channel": 0, "log": True, "delta": 0, "cmvn": True}
    audio = {"target_level": -25, "win_ms": 25, "hop_ms": 10, "n_freq": 201, "n_mels": 80, "n_mfcc": 13}
    fixed = {"input_dim": -1, "share_layer": True, "pre_layer_norm": False}
    return {
        "transformer": {**SIZES, **DETAILS, **DROPOUT, **fixed, **transformer},
        "task": {"loss": "L1", "sequence_length": 1500, "mask_proportion": 0.15},
        "audio": {**audio, "input": mel, "target": {**mel, "channel": 1}},
    }


def scatter(module: torch.nn.Module, seed: int = 0) -> None:
    """Give every weight a value of its own size, LayerNorms included, so that a wrong name shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            scale = 1.0 if name.endswith("LayerNorm.weight") else 0.0
            weight.copy_(scale + 0.1 * torch.randn(weight.shape, generator=generator))


def peer_model(peer: types.SimpleNamespace, config: dict[str, Any], input_dim: int) -> Any:
    model = peer.mockingjay_model.TransformerModel(
        peer.mockingjay_model.TransformerConfig(config["transformer"]), input_dim
    ).eval()
    scatter(model)
    return model


def s3prl_content(peer: types.SimpleNamespace, config: dict[str, Any], target_dim: int = 80) -> dict[str, Any]:
    """Return what S3PRL's pre-training saves."""
    feature = config["audio"]["input"]
    model = peer_model(peer, config, config["audio"].get("n_mels", 40) * (1 + feature.get("delta", 0)))
    settings = peer.mockingjay_model.TransformerConfig(config["transformer"])
    head = peer.mockingjay_model.TransformerSpecPredictionHead(settings, target_dim)
    scatter(head, 1)
    return {
        "Optimizer": {"state": {}, "param_groups": []},
        "Step": 1000,
        "Args": argparse.Namespace(upstream="audio_albert", seed=1337),
        "Config": {"runner": {"total_steps": 1000}},
        "SpecHead": head.state_dict(),
        "Transformer": model.state_dict(),
        "Upstream_Config": config,
    }


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def wavs(voice) -> list[Tensor]:
    return [voice(16000, 1), voice(11111, 2), voice(4000, 3)]


def stock(peer: types.SimpleNamespace, path: Path, wavs: list[Tensor]) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """Run S3PRL's -u audio_albert_local: its hidden states, and the features and lengths that its model was given."""
    upstream = peer.audio_albert_hubconf.audio_albert_local(ckpt=str(path)).eval()
    seen: list[Any] = []
    upstream.transformer.model.register_forward_pre_hook(lambda module, arguments: seen.append(arguments))
    with torch.no_grad():
        states = upstream(wavs)["hidden_states"]
    (features, _, mask), *more = seen
    assert not more  # one piece: all utterances are shorter than sequence_length
    return states, features, mask.sum(1).long()


def as_release(imported: Imported, folder: Path) -> AalbertModel:
    """Write the converted model as a release and read that with the upstream's own code."""
    from s3prl_aalbert.upstream.hubconf import aalbert_local

    save_release(folder, imported.config, imported.state, "", imported.info)
    return aalbert_local(ckpt=str(folder)).eval().model


def assert_same_states(theirs: Any, ours: list[Tensor], lengths: Tensor) -> None:
    assert len(theirs) == len(ours)
    for layer, (expected, found) in enumerate(zip(theirs, ours, strict=True)):
        assert expected.shape == found.shape and float(expected.std()) > 0.1
        for row, length in enumerate(lengths):
            error = float((expected[row, :length] - found[row, :length]).abs().max())
            assert error < TOLERANCE, f"layer {layer}, utterance {row}: {error}"


# --------------------------------------------------------------------------------------------- S3PRL's in


@pytest.mark.parametrize(
    "transformer",
    [{}, {"share_layer": False}, {"hidden_act": "relu", "num_hidden_layers": 5}],
    ids=["audio_albert", "mockingjay and tera", "other options"],
)
def test_every_hidden_state_of_s3prls_upstream(
    peer, tmp_path: Path, wavs: list[Tensor], transformer: dict[str, Any]
) -> None:
    path = save(tmp_path / "states-1000.ckpt", s3prl_content(peer, s3prl_config(**transformer)))
    theirs, features, lengths = stock(peer, path, wavs)
    model = as_release(import_checkpoint(path, trust=True), tmp_path / "release")
    assert len(model.encoder.groups) == (3 if transformer.get("share_layer") is False else 1)
    with torch.no_grad():
        assert_same_states(theirs, model.encode(features, lengths), lengths)


def test_delta_and_the_older_layout_with_tensorflows_names(peer, tmp_path: Path, wavs: list[Tensor]) -> None:
    config = s3prl_config()
    config["audio"]["input"]["delta"] = 1
    content = s3prl_content(peer, config)
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for new, old in names.items():
        content["Transformer"] = {name.replace(new, old): tensor for name, tensor in content["Transformer"].items()}
    content["Config"] = content.pop("Upstream_Config")
    path = save(tmp_path / "states-1000.ckpt", content)
    theirs, features, lengths = stock(peer, path, wavs)
    imported = import_checkpoint(path, trust=True)
    assert imported.config.audio.delta and features.size(-1) == imported.config.input_dim == 160
    with torch.no_grad():
        assert_same_states(theirs, as_release(imported, tmp_path / "release").encode(features, lengths), lengths)


def test_the_configuration_and_facts_that_come_along(peer, tmp_path: Path) -> None:
    path = save(tmp_path / "states-1000.ckpt", s3prl_content(peer, s3prl_config()))
    imported = import_checkpoint(path, trust=True)
    theirs = {"front_end": "s3prl", "target_level_db": -25.0}
    audio = AudioConfig(n_fft=400, num_mel_bins=80, delta=False, log_floor=1e-10, **theirs)
    transformer = TransformerConfig(**SIZES, **DROPOUT, downsample_rate=1)
    task = TaskConfig(dice="utterance")
    assert imported.config == ModelConfig(transformer, audio, task) and imported.config.samples_per_token == 160
    assert imported.info["step"] == 1000 and imported.info["converted_from"] == "S3PRL"
    text = "\n".join(imported.differences)
    for subject in ("padding of a batch", "1500 frames", "pre-training head"):
        assert text.count(subject) == 1


@pytest.mark.parametrize(
    ("audio", "eps"),
    [({}, 1e-10), ({"delta": 1}, 1e-10), ({"cmvn": False}, 1e-10), ({}, 1e-3)],
    ids=["mel", "delta", "no CMVN", "a large eps"],
)
def test_every_hidden_state_of_a_waveform(
    peer, tmp_path: Path, voice, awkward_wavs, audio: dict[str, Any], eps: float
) -> None:
    config = s3prl_config()
    config["audio"]["input"] |= audio
    config["audio"]["eps"] = eps
    path = save(tmp_path / "states-1000.ckpt", s3prl_content(peer, config))
    ours = as_release(import_checkpoint(path, trust=True), tmp_path / "release")
    # The delta of a handful of frames is so small that CMVN magnifies float32's rounding.
    lengths = (16000, 15999, 16079, 16080, 12345, *(() if "delta" in audio else (480, 201)))
    waves = [voice(length, seed, amplitude=0.3) for seed, length in enumerate(lengths)]
    waves += [awkward_wavs["near-silence"], awkward_wavs["half silence"]]
    for wave in waves:
        theirs, _, count = stock(peer, path, [wave])
        assert int(count) == ours.acoustics.token_lengths(torch.tensor([len(wave)])) == len(wave) // 160 + 1
        with torch.no_grad():
            found = ours(wave.unsqueeze(0), torch.tensor([len(wave)]))
        assert_same_states(theirs, found.hidden_states, count)


def test_s3prls_front_end_is_the_same_alone_and_in_a_batch(voice, awkward_wavs) -> None:
    acoustics = Acoustics(s3prl_audio(s3prl_config()["audio"], Path("x"))[0], 1)
    waves = [voice(7777, 3), voice(16000, 1), *awkward_wavs.values()]
    lengths = torch.tensor([len(wave) for wave in waves])
    batch = acoustics(torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), lengths, with_target=True)
    assert batch.target is not None and bool(torch.isfinite(batch.tokens).all() and torch.isfinite(batch.target).all())
    for row, wave in enumerate(waves):
        alone = acoustics(wave.unsqueeze(0), lengths[row : row + 1], with_target=True)
        count = int(alone.lengths)
        assert int(batch.lengths[row]) == count == alone.tokens.size(1) and alone.target is not None
        assert float((batch.tokens[row, :count] - alone.tokens[0]).abs().max()) < 1e-4
        assert not batch.tokens[row, count:].any() and not batch.target[row, count:].any()


def test_the_head_of_a_linear_target(peer, tmp_path: Path) -> None:
    config = s3prl_config(share_layer=False)
    config["audio"]["target"] |= {"feat_type": "linear"}
    content = s3prl_content(peer, config, target_dim=201)
    imported = import_checkpoint(save(tmp_path / "states.ckpt", content), trust=True)
    assert not any("head" in difference for difference in imported.differences)
    ours = SpectrogramHead(imported.config)
    ours.load_state_dict({n.removeprefix("head."): t for n, t in imported.state.items() if n.startswith("head.")})
    settings = peer.mockingjay_model.TransformerConfig(config["transformer"])
    theirs = peer.mockingjay_model.TransformerSpecPredictionHead(settings, 201)
    theirs.load_state_dict(content["SpecHead"])
    hidden = torch.randn(7, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert float((theirs(hidden)[0] - ours(hidden).squeeze(1)).abs().max()) < TOLERANCE


def changed(config: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a config with ``section__key`` (or ``section__key__key``) set."""
    config = copy.deepcopy(config)
    for name, value in changes.items():
        *sections, key = name.split("__")
        inner = config
        for section in sections:
            inner = inner[section]
        inner[key] = value
    return config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transformer__pre_layer_norm": True}, "pre_layer_norm is true"),
        ({"transformer__hidden_act": "swish"}, 'hidden_act is "swish"'),
        ({"audio__kaldi": {"feat_type": "fbank"}}, "Kaldi's features"),
        ({"audio__input__delta": 2}, "delta is 2"),
        ({"audio__input__feat_type": "mfcc"}, "is mfcc with log True"),
        ({"audio__input__log": False}, "is mel with log False"),
        ({"audio": None}, "extracted beforehand"),
        ({"task": None}, 'lacks the section "task"'),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_represented_is_refused(peer, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    content = s3prl_content(peer, s3prl_config())
    content["Upstream_Config"] = changed(content["Upstream_Config"], **changes)
    path = save(tmp_path / "states.ckpt", content)
    with pytest.raises((CheckpointError, ConfigError)) as error:
        import_checkpoint(path, trust=True)
    assert message in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_weights_that_do_not_fit_are_told(peer, tmp_path: Path) -> None:
    good = s3prl_content(peer, s3prl_config())
    name = "encoder.layer.1.output.dense.weight"
    cases = [
        ({key: tensor for key, tensor in good["Transformer"].items() if key != name}, f"lacks {name}"),
        ({**good["Transformer"], "more.weight": torch.ones(1)}, "has more.weight"),
        ({**good["Transformer"], name: good["Transformer"][name] + 1}, "share_layer is true"),
    ]
    for weights, message in cases:
        path = save(tmp_path / "states.ckpt", {**good, "Transformer": weights})
        with pytest.raises(CheckpointError) as error:
            import_checkpoint(path, trust=True)
        assert message in str(error.value)
    bigger = changed(good["Upstream_Config"], transformer__intermediate_size=65)
    path = save(tmp_path / "states.ckpt", {**good, "Upstream_Config": bigger})
    with pytest.raises(CheckpointError, match=naming((64,), (65,))):
        import_checkpoint(path, trust=True)


# ------------------------------------------------------------------------------------------------- trust


class Touch:
    """Unpickles to a call that makes a folder."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_pickled_objects_are_read_on_trust_alone(peer, tmp_path: Path, zipped: bool, caplog) -> None:
    marker, path = tmp_path / "marker", tmp_path / "states.ckpt"
    content = {**s3prl_content(peer, s3prl_config()), "Scheduler": Touch(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError) as error:
        import_checkpoint(path)
    assert "--trust" in str(error.value) and str(path) in str(error.value) and not marker.exists()
    assert not zipped or "argparse.Namespace" in str(error.value)
    assert "may run any program" not in caplog.text
    import_checkpoint(path, trust=True)
    assert marker.exists() and "may run any program" in caplog.text  # it does bite: hence the flag


def test_a_file_of_tensors_and_plain_values_needs_no_trust(peer, tmp_path: Path, caplog) -> None:
    content = s3prl_content(peer, s3prl_config())
    del content["Args"]
    assert import_checkpoint(save(tmp_path / "states.ckpt", content)).program == "S3PRL"
    assert not caplog.records


def test_objects_of_programs_that_are_not_installed_are_left_out(
    peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3PRL's first checkpoints hold its scheduler; Lightning's an AttributeDict."""
    gone = types.ModuleType("gone_optimizers")
    gone.Schedule = type("Schedule", (), {"__module__": "gone_optimizers"})  # type: ignore[attr-defined]
    gone.Attributes = type("Attributes", (dict,), {"__module__": "gone_optimizers"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gone_optimizers", gone)
    schedule = gone.Schedule()
    schedule.rate = 1e-4
    content = {**s3prl_content(peer, s3prl_config()), "Scheduler": schedule, "Global": gone.Attributes(a=1)}
    path = save(tmp_path / "states.ckpt", content)
    monkeypatch.delitem(sys.modules, "gone_optimizers")
    assert import_checkpoint(path, trust=True).info["step"] == 1000


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello\n", encoding="utf-8")
    good = save(tmp_path / "good", {"Transformer": {}})
    (tmp_path / "cut").write_bytes(good.read_bytes()[:-50])
    (tmp_path / "empty").write_bytes(b"")
    save(tmp_path / "list", [1])
    save(tmp_path / "unknown", {"weights": {}, "epoch": 3})
    for name, message in [
        ("missing", "no such checkpoint"),
        ("text", "torch.save"),
        ("empty", "0 bytes"),
        ("cut", "damaged"),
        ("list", "holds list"),
        ("unknown", "weights, epoch"),
        ("good", '"transformer"'),
    ]:
        for trust in (False, True):
            with pytest.raises(CheckpointError) as error:
                import_checkpoint(tmp_path / name, trust)
            assert message in str(error.value) and name in str(error.value)


def test_checkpoints_of_this_project_need_no_conversion(tiny_release: Path, tmp_path: Path) -> None:
    release = load_checkpoint(tiny_release)
    save_training_state(tmp_path / "states-1.ckpt", release.config, {"model": release.state, "step": 1})
    for path in (tiny_release, tiny_release / "model.safetensors", tmp_path / "states-1.ckpt"):
        with pytest.raises(CheckpointError, match="aalbert_local reads"):
            import_checkpoint(path)


# -------------------------------------------------------------------------------------------- S3PRL's out

PLAIN = AudioConfig(n_fft=400, delta=False, log_floor=1e-10)
THEIRS = replace(PLAIN, front_end="s3prl", target_level_db=-25.0)


def own_release(folder: Path, transformer: dict[str, Any], audio: AudioConfig = PLAIN) -> Path:
    config = ModelConfig(TransformerConfig(**{**SIZES, "downsample_rate": 1, **transformer}), audio)
    model = MaskedPrediction(config)
    scatter(model)
    save_release(folder, config, model.state_dict(), "", {"step": 12})
    return folder


@pytest.mark.parametrize(
    ("transformer", "audio"),
    [
        ({}, PLAIN),
        ({"share_layer": False}, PLAIN),
        ({"num_hidden_layers": 4, "num_hidden_groups": 2}, PLAIN),
        ({"layer_groups": (0, 1, 0)}, replace(PLAIN, delta=True, num_mel_bins=40)),
        ({"hidden_act": "relu", "hidden_dropout_prob": 0.1}, replace(PLAIN, target="db", win_ms=20)),
        ({}, THEIRS),
        ({}, replace(THEIRS, cmvn="none", delta=True, log_floor=1e-6, target_level_db=-20.0)),
    ],
    ids=["shared", "unshared", "two groups", "alternating, delta", "other options", "front end", "its options"],
)
def test_stock_s3prl_reads_what_is_written_for_it(
    peer, tmp_path: Path, wavs: list[Tensor], transformer: dict[str, Any], audio: AudioConfig
) -> None:
    checkpoint = load_checkpoint(own_release(tmp_path / "release", transformer, audio))
    exported = export_s3prl(checkpoint)
    path = save(tmp_path / "states-12.ckpt", exported.content)
    torch.load(path, weights_only=True)  # nothing but tensors and plain values
    theirs, features, lengths = stock(peer, path, wavs)
    model = AalbertModel(checkpoint.config).eval()
    model.load_state_dict({n.removeprefix("model."): t for n, t in checkpoint.state.items() if "model." in n})
    with torch.no_grad():
        assert_same_states(theirs, model.encode(features, lengths), lengths)
    told = len(exported.differences)
    assert told == (0 if audio.front_end == "s3prl" else 3)  # frames, CMVN, level
    if not told:
        upstream = peer.audio_albert_hubconf.audio_albert_local(ckpt=str(path)).eval()
        with torch.no_grad():
            theirs = upstream(wavs[:1])["hidden_states"]
            found = model(wavs[0].unsqueeze(0), torch.tensor([len(wavs[0])]))
        assert_same_states(theirs, found.hidden_states, found.lengths)
    assert ("SpecHead" in exported.content) == (audio.target == "log")


def test_a_model_of_s3prl_returns_to_it_unchanged(peer, tmp_path: Path, wavs: list[Tensor]) -> None:
    path = save(tmp_path / "states-1000.ckpt", s3prl_content(peer, s3prl_config()))
    imported = import_checkpoint(path, trust=True)
    save_release(tmp_path / "release", imported.config, imported.state, "", imported.info)
    exported = export_s3prl(load_checkpoint(tmp_path / "release"))
    assert exported.differences == []
    back = save(tmp_path / "back.ckpt", exported.content)
    for expected, found in zip(stock(peer, path, wavs)[0], stock(peer, back, wavs)[0], strict=True):
        assert torch.equal(expected, found)


REFUSED = [
    ({"downsample_rate": 3}, PLAIN, "stacks 3 frames"),
    ({"embedding_size": 8}, PLAIN, "transformer.embedding_size is 8"),
    ({"reuse_pattern": (0, 1, 0)}, PLAIN, "transformer.reuse_pattern"),
    ({"position_encoding_size": 64}, PLAIN, "transformer.position_encoding_size is 64"),
    ({"attention_head_size": 4}, PLAIN, "transformer.attention_head_size is 4"),
    ({"layer_attention_heads": (4, 2, 4)}, PLAIN, "transformer.layer_attention_heads"),
    ({"layer_intermediate_sizes": (64, 32, 64)}, PLAIN, "transformer.layer_intermediate_sizes"),
    ({}, replace(PLAIN, hop_ms=12.5), "audio.hop_ms is 12.5"),
    ({}, replace(PLAIN, n_fft=512), "audio.n_fft is 512"),
    ({}, replace(PLAIN, cmvn="none"), "audio.cmvn is none without"),
]


@pytest.mark.parametrize(("transformer", "audio", "message"), REFUSED, ids=[case[2] for case in REFUSED])
def test_what_s3prl_cannot_represent_is_refused(
    tmp_path: Path, transformer: dict[str, Any], audio: AudioConfig, message: str
) -> None:
    release = own_release(tmp_path / "release", transformer, audio)
    with pytest.raises(CheckpointError) as error:
        export_s3prl(load_checkpoint(release))
    assert message in str(error.value) and "S3PRL" in str(error.value)
    assert "; " not in str(error.value)  # that reason alone


def test_sizes_spelt_out_are_still_a_plain_model(tmp_path: Path) -> None:
    spelt = {"reuse_pattern": (0, 0, 0), "attention_head_size": 8, "position_encoding_size": 32}
    spelt |= {"layer_attention_heads": (4, 4, 4), "layer_intermediate_sizes": (64, 64, 64)}
    assert export_s3prl(load_checkpoint(own_release(tmp_path / "release", spelt))).content["Transformer"]


def test_the_refusals_are_s3prls_own_limits(peer, tmp_path: Path) -> None:
    wide = changed(s3prl_config(), audio__n_freq=257)
    with pytest.raises(RuntimeError):
        peer.baseline_preprocessor.get_preprocessor(wide["audio"], process_input_only=True)
    slow = s3prl_content(peer, changed(s3prl_config(), audio__hop_ms=20))
    upstream = peer.audio_albert_hubconf.audio_albert_local(ckpt=str(save(tmp_path / "states.ckpt", slow)))
    assert upstream.get_downsample_rates("hidden_states") == 160


# -------------------------------------------------------------------------------- AlbertNew and pohanchi/AALBERT


@pytest.fixture
def peers_code(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of the peers' checkouts, or skip; what was imported from there is forgotten afterwards."""
    folder = Path(os.environ.get("AALBERT_PEERS", "missing"))
    if not folder.is_dir():
        pytest.skip("AALBERT_PEERS names no folder with checkouts of AlbertNew and pohanchi/AALBERT")
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("mockingjay", "src", "upstream"):
            del sys.modules[name]


def stacked_features(lengths: Tensor, dim: int = 480) -> Tensor:
    features = torch.randn(len(lengths), int(lengths.max()), dim, generator=torch.Generator().manual_seed(3))
    for row, length in enumerate(lengths):
        features[row, length:] = 0
    return features


LENGTHS = torch.tensor([40, 25, 9])


def positions_and_mask(peer: types.SimpleNamespace) -> tuple[Tensor, Tensor]:
    """Return S3PRL's position table (B, T, D) and a mask (B, T), 1 at real tokens, as all three programs take them."""
    table = peer.mockingjay_builder.position_encoding(int(LENGTHS.max()), SIZES["hidden_size"])
    mask = (torch.arange(int(LENGTHS.max())) < LENGTHS.unsqueeze(1)).float()
    return table.expand(len(LENGTHS), -1, -1), mask


def albert_new_file(path: Path, weights: dict[str, Tensor], head: dict[str, Tensor] | None, **sizes: Any) -> Path:
    """Write what AlbertNew's solver saves: the YAML has a section for each of its models."""
    section = {**SIZES, **DETAILS, **DROPOUT, "layer_norm_eps": "1e-12", "downsample_rate": 3, **sizes}
    config = {"mockingjay": section, "albertmockingjay": section, "albertmockingjayVariant": section}
    content: dict[str, Any] = {
        "Mockingjay": weights,
        "Settings": {"Config": config, "Paras": argparse.Namespace(gpu=True)},
        "Optimizer": {},
        "Global_step": 500000,
    }
    return save(path, {**content, **({} if head is None else {"SpecHead": head})})


def encode(imported: Imported, folder: Path, features: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return as_release(imported, folder).encode(features, LENGTHS)


@pytest.mark.parametrize("shared", [True, False], ids=["AALBERT", "Mockingjay"])
def test_albert_new_by_its_layout(peer, tmp_path: Path, shared: bool) -> None:
    model = peer_model(peer, s3prl_config(share_layer=shared), 480)
    weights = model.state_dict()
    if shared:  # AlbertNew holds the shared layer once
        weights = {n.replace("layer.0.", "layer."): t for n, t in weights.items() if ".layer.1" not in n}
        weights = {n: t for n, t in weights.items() if ".layer.2" not in n}
    path = albert_new_file(tmp_path / "mockingjayALBERT-500000.ckpt", weights, None)
    imported = import_checkpoint(path, trust=True)
    assert imported.program == "AlbertNew" and imported.info["step"] == 500000
    assert imported.config.samples_per_token == 600 and imported.config.transformer.share_layer is shared
    original = load_model_config("original")
    assert (imported.config.audio, imported.config.task) == (original.audio, original.task)
    features = stacked_features(LENGTHS)
    positions, mask = positions_and_mask(peer)
    with torch.no_grad():
        theirs = model(features, positions, mask)
    assert_same_states(theirs, encode(imported, tmp_path / "release", features), LENGTHS)


@pytest.mark.parametrize("shared", [True, False], ids=["AALBERT", "Mockingjay"])
def test_albert_new_by_its_own_code(peer, peers_code: Path, tmp_path: Path, monkeypatch, shared: bool) -> None:
    monkeypatch.syspath_prepend(peers_code / "AlbertNew")
    section = {**SIZES, **DETAILS, **DROPOUT, "downsample_rate": 3}
    if shared:
        code = importlib.import_module("mockingjay.Albertmodel")
        config = code.MockingjayAlbertConfig({"albertmockingjay": section})
        # It gives its input block the unstacked width, which that multiplies by downsample_rate.
        whole = code.AlbertMockingjayForMaskedAcousticModel(config, 160, 1025).eval()
    else:
        code = importlib.import_module("mockingjay.model")
        config = code.MockingjayConfig({"mockingjay": section})
        whole = code.MockingjayForMaskedAcousticModel(config, 160, 1025).eval()
    scatter(whole)
    path = albert_new_file(tmp_path / "file.ckpt", whole.Mockingjay.state_dict(), whole.SpecHead.state_dict())
    imported = import_checkpoint(path, trust=True)
    features = stacked_features(LENGTHS)
    positions, mask = positions_and_mask(peer)
    with torch.no_grad():
        theirs = whole.Mockingjay(features, positions, mask)  # the layers without the input embedding
        predicted, _ = whole.SpecHead(theirs[-1])
    ours = encode(imported, tmp_path / "release", features)
    assert_same_states(theirs, ours[1:], LENGTHS)
    objective = MaskedPrediction(imported.config)
    objective.load_state_dict(imported.state)  # model and head, all of both
    with torch.no_grad():
        found = objective.head(theirs[-1].flatten(0, 1)).flatten(1).unflatten(0, predicted.shape[:2])
    assert_same_states([predicted], [found], LENGTHS)


def test_albert_news_other_models_are_refused(peer, tmp_path: Path) -> None:
    weights = peer_model(peer, s3prl_config(num_hidden_layers=1), 480).state_dict()
    weights = {name.replace("layer.0.", "layer."): tensor for name, tensor in weights.items()}
    query = {name: t for name, t in weights.items() if ".self.key" not in name and ".self.value" not in name}
    other = {**weights, "input_representations.spec_transform.weight": torch.ones(32, 3 * 39)}
    lacking = {name: t for name, t in weights.items() if "spec_transform" not in name}
    for content, message in [(query, "only-query variant"), (other, "39-dimensional"), (lacking, "lacks input_rep")]:
        with pytest.raises(CheckpointError, match=message):
            import_checkpoint(albert_new_file(tmp_path / "file.ckpt", content, None), trust=True)


def lightning_file(path: Path, weights: dict[str, Tensor], shared: bool, trainable: bool = False) -> Path:
    """Write what Lightning saves of pohanchi/AALBERT's PretrainedSystem, with its model_config.yaml."""
    common = {"share_across_layer": shared, "num_layers": 3, "hidden_dim": 32, "norm_eps": 1e-12, "dropout": 0.0}
    model = {
        "common": {**common, "act_fn": "gelu", "init_range": 0.02},
        "transform": {"input_dim": 160, "downsample_rate": 3},
        "position_embedding": {"max_timestep": 500, "trainable": trainable},
        "attention": {"attention_head": 4},
        "fully_connected": {"intermediate_dim": 64},
    }
    training = {"datarc": {"input": {"feature_type": "mel", "config_path": "upstream/aalbert/input_config.yaml"}}}
    hyper = {"args": argparse.Namespace(seed=0), "model_config": {"model": model}, "training_config": training}
    more = {"tradition_feat_extractor.extracter._window": torch.ones(400)}
    content = {"state_dict": {**weights, **more}, "hyper_parameters": hyper, "global_step": 9000, "epoch": 9}
    return save(path, {**content, "pytorch-lightning_version": "1.4.0", "callbacks": {}})


EXTRACTOR = "pretrained_model.extractor."


def test_pohanchi_by_its_layout(peer, tmp_path: Path) -> None:
    model = peer_model(peer, s3prl_config(), 480)
    weights = {
        EXTRACTOR + name.replace("input_representations", "input_reps"): t for name, t in model.state_dict().items()
    }
    weights[EXTRACTOR + "input_reps.position_embed.weight"] = torch.zeros(500, 32)
    weights["mask_token_embedding.weight"] = torch.zeros(2, 480)
    imported = import_checkpoint(lightning_file(tmp_path / "epoch=9.ckpt", weights, True), trust=True)
    assert imported.program == "pohanchi/AALBERT" and imported.info["step"] == 9000
    assert imported.config.samples_per_token == 480 and any("mask token" in text for text in imported.differences)
    features = stacked_features(LENGTHS)
    positions, mask = positions_and_mask(peer)
    with torch.no_grad():
        theirs = model(features, positions, mask)
    assert_same_states(theirs, encode(imported, tmp_path / "release", features), LENGTHS)
    trained = lightning_file(tmp_path / "trained.ckpt", weights, True, trainable=True)
    with pytest.raises(CheckpointError, match="position embedding is trained"):
        import_checkpoint(trained, trust=True)


@pytest.mark.parametrize("shared", [True, False], ids=["AALBERT", "unshared"])
def test_pohanchi_by_its_own_code(peers_code: Path, tmp_path: Path, monkeypatch, shared: bool) -> None:
    monkeypatch.syspath_prepend(peers_code / "pohanchi")
    transformer = importlib.import_module("src.module.transformer")
    heads = importlib.import_module("upstream.aalbert.model")
    common = {"share_across_layer": shared, "num_layers": 3, "hidden_dim": 32, "norm_eps": 1e-12, "dropout": 0.0}
    config = {
        "common": {**common, "act_fn": "gelu", "init_range": 0.02},
        "transform": {"input_dim": 160, "downsample_rate": 3},
        "position_embedding": {"max_timestep": 500, "trainable": False},
        "attention": {"attention_head": 4},
        "fully_connected": {"intermediate_dim": 64},
    }
    model = transformer.PretrainedModel(config).eval()
    head = heads.SpecHead(**config["common"], **config["transform"], output_dim=1024, name="linear").eval()
    table = model.input_reps.position_embed.weight.clone()
    scatter(model)
    scatter(head, 1)
    model.input_reps.position_embed.weight.data.copy_(table)
    weights = {EXTRACTOR + name: tensor for name, tensor in model.state_dict().items()}
    weights |= {f"pretrained_heads.0.{name}": tensor for name, tensor in head.state_dict().items()}
    imported = import_checkpoint(lightning_file(tmp_path / "epoch=9.ckpt", weights, shared), trust=True)
    features = stacked_features(LENGTHS)
    mask = (torch.arange(int(LENGTHS.max())) < LENGTHS.unsqueeze(1)).long()
    index = torch.arange(int(LENGTHS.max())).expand(len(LENGTHS), -1)
    with torch.no_grad():
        theirs, _ = model(features, index, mask, None, all_hidden=True)
        predicted, _ = head(theirs[-1])
    ours = encode(imported, tmp_path / "release", features)
    assert_same_states(theirs, ours[1:], LENGTHS)
    objective = MaskedPrediction(imported.config)
    objective.load_state_dict(imported.state)
    with torch.no_grad():
        found = objective.head(theirs[-1].flatten(0, 1)).flatten(1).unflatten(0, predicted.shape[:2])
    assert_same_states([predicted], [found], LENGTHS)


# ------------------------------------------------------------------------------------------------ the command


def test_the_command_converts_in_and_out(peer, tmp_path: Path, capsys, wavs: list[Tensor]) -> None:
    path = save(tmp_path / "states-1000.ckpt", s3prl_content(peer, s3prl_config()))
    release, back = tmp_path / "release", tmp_path / "back.ckpt"
    assert main(["convert", str(path), "-o", str(release)]) == 2 and "--trust" in capsys.readouterr().err
    assert not release.exists()
    assert main(["convert", str(path), "-o", str(release), "--trust"]) == 0
    said = capsys.readouterr().out
    assert mentions(said, "S3PRL", "3 layers", "shared") and "padding" in said
    card = (release / "README.md").read_text(encoding="utf-8")
    assert "states-1000.ckpt" in card and "padding of a batch" in card and "licence" in card
    assert main(["convert", str(path), "-o", str(release), "--trust"]) == 2
    assert mentions(capsys.readouterr().err, release, "not empty")
    assert main(["convert", str(release), "-o", str(back), "--to", "s3prl"]) == 0
    for expected, found in zip(stock(peer, path, wavs)[0], stock(peer, back, wavs)[0], strict=True):
        assert torch.equal(expected, found)


def test_the_command_writes_other_features_only_when_accepted(tmp_path: Path, capsys) -> None:
    release, output = own_release(tmp_path / "release", {}), tmp_path / "states-12.ckpt"
    arguments = ["convert", str(release), "-o", str(output), "--to", "s3prl"]
    assert main(arguments) == 2 and "--accept-differences" in capsys.readouterr().err and not output.exists()
    assert main([*arguments, "--accept-differences"]) == 0
    assert output.is_file() and "centres frame i" in capsys.readouterr().out


@pytest.mark.parametrize("program", ["S3PRL", "AlbertNew", "pohanchi/AALBERT"])
def test_names_of_a_wrapped_model_are_read(peer, tmp_path: Path, program: str) -> None:
    """DataParallel and DistributedDataParallel put ``module.`` before every name of what they wrap."""
    plain, wrapped = tmp_path / "plain.ckpt", tmp_path / "wrapped.ckpt"
    if program == "S3PRL":
        save(plain, s3prl_content(peer, s3prl_config()))
        parts = ["Transformer"]
    elif program == "AlbertNew":
        albert_new_file(plain, peer_model(peer, s3prl_config(share_layer=False), 480).state_dict(), None)
        parts = ["Mockingjay"]
    else:
        weights = peer_model(peer, s3prl_config(), 480).state_dict()
        names = {name: EXTRACTOR + name.replace("input_representations", "input_reps") for name in weights}
        lightning_file(plain, {names[name]: tensor for name, tensor in weights.items()}, shared=True)
        parts = ["state_dict"]
    content = torch.load(plain, weights_only=False)
    for part in parts:
        content[part] = {f"module.{name}": tensor for name, tensor in content[part].items()}
    torch.save(content, wrapped)
    expected, found = import_checkpoint(plain, trust=True), import_checkpoint(wrapped, trust=True)
    assert expected.state.keys() == found.state.keys()
    assert all(torch.equal(tensor, found.state[name]) for name, tensor in expected.state.items())
    assert found.config.task.dice == ("token" if program == "pohanchi/AALBERT" else "utterance")


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({}, {}),
        ({"mask_proportion": 0.2, "mask_consecutive_min": 7, "mask_consecutive_max": 7}, (0.2, 7, "grid")),
        ({"mask_consecutive_min": 3, "mask_consecutive_max": 7, "mask_allow_overlap": True}, (0.15, 1, "overlap")),
        ({"mask_proportion": 0}, (0.15, 1, "grid")),
        ({"mask_consecutive_min": 7, "mask_consecutive_max": 7, "mask_bucket_ratio": 1.2}, (0.15, 7, "grid", 1)),
    ],
)
def test_how_s3prl_masked_comes_along(peer, tmp_path: Path, section: dict[str, Any], expected: Any) -> None:
    config = s3prl_config()
    config["task"] = {**config["task"], **section}
    task = import_checkpoint(save(tmp_path / "states-1.ckpt", s3prl_content(peer, config)), trust=True).config.task
    proportion, width, layout, *gap = expected or (0.15, 1, "grid")
    assert task == TaskConfig(
        dice="utterance",
        mask_proportion=proportion,
        mask_consecutive=width,
        mask_layout=layout,
        mask_gap=gap[0] if gap else 0,
    )
