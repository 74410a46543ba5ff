"""Checkpoints: written whole or not at all, read without unpickling, and every bad file is one sentence."""

from __future__ import annotations

import argparse
import errno
import json
import os
import pickle
import random
import resource
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml
from naming import mentions, naming

from s3prl_aalbert.checkpoint.content import CheckpointError
from s3prl_aalbert.checkpoint.release import load_checkpoint, load_weights, save_release
from s3prl_aalbert.checkpoint.training_state import latest_state, load_training_state, save_training_state
from s3prl_aalbert.errors import AalbertError, environment_fault
from s3prl_aalbert.files import FileError, write_atomically
from s3prl_aalbert.model.config import ConfigError, ModelConfig, load_model_config, to_dict
from s3prl_aalbert.model.objective import MaskedPrediction


@pytest.fixture(scope="module")
def weights(tiny_config: ModelConfig) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return MaskedPrediction(tiny_config).state_dict()


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert sorted(found) == sorted(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


def one_sentence(error: pytest.ExceptionInfo, path: Path) -> str:
    """Return the message after checking that it names the file and is a single line."""
    message = str(error.value)
    assert isinstance(error.value, AalbertError) and str(path) in message and "\n" not in message
    return message


# -------------------------------------------------------------------------------------------- round trips


def test_a_release_returns_as_it_was_written(tmp_path: Path, weights) -> None:
    config = load_model_config("original")
    save_release(tmp_path / "new" / "folder", config, weights, "# Card\n", {"step": 12, "loss": 0.5})
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.yaml", "model.safetensors"]
    for path in (folder, str(folder), folder / "model.safetensors"):
        found = load_checkpoint(path)
        assert found.config == config and found.info == {"step": 12, "loss": 0.5}
        assert found.path == folder / "model.safetensors"
        assert_same(found.state, weights)
    assert (folder / "README.md").read_text(encoding="utf-8") == "# Card\n"
    assert yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")) == to_dict(config)


def test_the_weights_file_alone_suffices(tmp_path: Path, weights, tiny_config) -> None:
    save_release(tmp_path, tiny_config, weights, "")
    alone = tmp_path / "elsewhere.safetensors"
    (tmp_path / "model.safetensors").rename(alone)
    assert load_checkpoint(alone).config == tiny_config


def test_transposed_and_half_precision_weights_are_kept(tmp_path: Path, tiny_config) -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(2, dtype=torch.bfloat16)}
    save_release(tmp_path, tiny_config, state, "")
    assert_same(load_checkpoint(tmp_path).state, state)


def test_a_training_state_returns_as_it_was_written(tmp_path: Path, weights, tiny_config) -> None:
    moments = {0: {"step": torch.tensor(3.0), "exp_avg": torch.randn(5)}, 1: {"exp_avg": torch.randn(2, 3)}}
    optimizer = {"state": moments, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0, 1]}]}
    extra = {"step": 3, "optimizer": optimizer, "rng": [torch.get_rng_state()], "note": None}
    path = tmp_path / "states-3.ckpt"
    save_training_state(path, tiny_config, {"model": weights, **extra})
    found = load_training_state(path)
    assert_same(found["model"], weights)
    assert found["step"] == 3 and found["note"] is None and torch.equal(found["rng"][0], extra["rng"][0])
    assert found["optimizer"]["param_groups"] == optimizer["param_groups"]
    for key, state in moments.items():
        assert_same(found["optimizer"]["state"][key], state)
    checkpoint = load_checkpoint(path)
    assert checkpoint.config == tiny_config and checkpoint.info == {"step": 3}
    assert_same(checkpoint.state, weights)


def test_a_folder_gives_its_latest_state(tmp_path: Path, weights, tiny_config) -> None:
    for step in (2, 10, 9):
        save_training_state(tmp_path / f"states-{step}.ckpt", tiny_config, {"model": weights, "step": step})
    (tmp_path / "states-best.ckpt").write_bytes(b"not a step")
    latest = latest_state(tmp_path)
    assert latest is not None and latest.name == "states-10.ckpt"
    assert load_checkpoint(tmp_path).info["step"] == 10
    assert latest_state(tmp_path / "nothing") is None


# -------------------------------------------------------------------------------------------- atomic writing


def fill(content: bytes) -> Callable[[Path], None]:
    """Return a writer of ``content``."""

    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


FAILURES = [
    (OSError(errno.ENOSPC, "No space left on device"), FileError),
    (PermissionError(errno.EACCES, "Permission denied"), FileError),
    (RuntimeError("unexpected pos 64 vs 0"), FileError),
    (ValueError("a bug of ours"), ValueError),
    (KeyboardInterrupt(), KeyboardInterrupt),
]


@pytest.mark.parametrize(("failure", "expected"), FAILURES, ids=lambda value: getattr(value, "__name__", repr(value)))
@pytest.mark.parametrize("existing", [True, False], ids=["over an old file", "new file"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, failure: BaseException, expected: type[BaseException], existing: bool
) -> None:
    path = tmp_path / "file.bin"
    if existing:
        path.write_bytes(b"old")

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"half of the new")
        assert temporary.parent == tmp_path  # else the rename would not be atomic
        assert path.exists() is existing
        raise failure

    with pytest.raises(expected) as error:
        write_atomically(path, write)
    assert [p.name for p in tmp_path.iterdir()] == (["file.bin"] if existing else [])
    assert not existing or path.read_bytes() == b"old"
    if expected is FileError:
        assert "could not be written" in one_sentence(error, path)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fills_up_late_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), full)
    with pytest.raises(FileError, match="No space left on device"):
        write_atomically(path, fill(b"new"))
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"] and path.read_bytes() == b"old"


def test_a_full_disk_while_saving_a_state(
    tmp_path: Path, weights, tiny_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "states-1.ckpt"
    save_training_state(path, tiny_config, {"model": weights, "step": 1})
    before = path.read_bytes()

    def full(content: object, target: Path) -> None:
        Path(target).write_bytes(b"PK half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(FileError):
        save_training_state(path, tiny_config, {"model": weights, "step": 2})
    assert [p.name for p in tmp_path.iterdir()] == ["states-1.ckpt"] and path.read_bytes() == before


def test_a_file_replaces_the_old_one_and_obeys_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.bin"
    old = os.umask(0o027)
    try:
        write_atomically(path, fill(b"one"))
        write_atomically(path, fill(b"two"))
    finally:
        assert os.umask(old) == 0o027
    assert path.read_bytes() == b"two" and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError, match="could not be written"):
        write_atomically(tmp_path / "file" / "model.bin", lambda temporary: None)


# ------------------------------------------------------------------------------------------------- bad files


class Touch:
    """Unpickles to a call that creates a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("name", ["states-1.ckpt", "model.pt", "model.safetensors"])
@pytest.mark.parametrize("kind", ["torch", "legacy torch", "pickle"])
def test_a_file_that_runs_code_when_unpickled_is_refused_unrun(
    tmp_path: Path, name: str, kind: str, tiny_config
) -> None:
    marker, path = tmp_path / "marker", tmp_path / name
    content = {"format": "s3prl-aalbert", "format_version": 1, "config": {}, "model": Touch(marker)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    one_sentence(error, path)
    assert not marker.exists()
    if kind == "pickle":  # the file does bite
        pickle.loads(path.read_bytes())
        assert marker.exists()


def foreign_files(folder: Path) -> dict[str, Path]:
    """Write files of other programs."""
    paths = {name: folder / f"{name}.ckpt" for name in ("s3prl", "weights", "list", "tensor", "text", "empty")}
    torch.save({"Args": argparse.Namespace(seed=1), "Transformer": {"w": torch.ones(2)}}, paths["s3prl"])
    torch.save({"w": torch.ones(2)}, paths["weights"])
    torch.save([1, 2], paths["list"])
    torch.save(torch.ones(3), paths["tensor"])
    paths["text"].write_text("hello\n", encoding="utf-8")
    paths["empty"].write_bytes(b"")
    paths["safetensors"] = folder / "other.safetensors"
    safetensors.torch.save_file({"w": torch.ones(2)}, paths["safetensors"], {"format": "pt"})
    paths["no safetensors"] = folder / "text.safetensors"
    paths["no safetensors"].write_text("hello\n", encoding="utf-8")
    return paths


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("s3prl", "another"),
        ("weights", "another kind"),
        ("list", "another kind"),
        ("tensor", "another kind"),
        ("text", "damaged"),
        ("empty", "0 bytes"),
        ("safetensors", "another program"),
        ("no safetensors", "no safetensors file"),
    ],
)
def test_a_checkpoint_of_another_kind_is_told(tmp_path: Path, kind: str, message: str) -> None:
    path = foreign_files(tmp_path)[kind]
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    assert message in one_sentence(error, path)


def test_missing_paths_and_folders_without_a_checkpoint(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(CheckpointError) as error:
            load_checkpoint(path)
        one_sentence(error, path)
    with pytest.raises(CheckpointError, match=naming(tmp_path, "folder", "file")):
        load_training_state(tmp_path)


@pytest.fixture(scope="module")
def good_files(tmp_path_factory: pytest.TempPathFactory, weights, tiny_config) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("good")
    save_training_state(folder / "states-1.ckpt", tiny_config, {"model": weights, "step": 1})
    save_release(folder, tiny_config, weights, "")
    return {path.suffix: path.read_bytes() for path in (folder / "states-1.ckpt", folder / "model.safetensors")}


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_truncated_file_is_told(tmp_path: Path, good_files: dict[str, bytes], suffix: str, share: float) -> None:
    path = tmp_path / f"cut{suffix}"
    data = good_files[suffix]
    path.write_bytes(data)
    load_checkpoint(path)
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    one_sentence(error, path)


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_stray_bytes_never_cause_anything_but_our_error(
    tmp_path: Path, good_files: dict[str, bytes], suffix: str
) -> None:
    path, draw, refused = tmp_path / f"stray{suffix}", random.Random(0), 0
    for _ in range(150):
        data = bytearray(good_files[suffix])
        for _ in range(draw.randint(1, 5)):
            data[draw.randrange(min(len(data), 3000))] = draw.randrange(256)
        path.write_bytes(data)
        try:
            load_checkpoint(path)
        except AalbertError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert refused > 20


def test_one_flipped_weight_in_a_training_state_is_noticed(tmp_path: Path, good_files: dict[str, bytes]) -> None:
    path, data = tmp_path / "flipped.ckpt", bytearray(good_files[".ckpt"])
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("lacking", ["config", "model"])
def test_a_training_state_without_a_part_is_told(tmp_path: Path, weights, tiny_config, lacking: str) -> None:
    content = {"format": "s3prl-aalbert", "format_version": 1, "config": to_dict(tiny_config), "model": weights}
    path = tmp_path / "states-1.ckpt"
    torch.save({key: value for key, value in content.items() if key != lacking}, path)
    with pytest.raises(CheckpointError, match=naming(path, lacking)):
        load_checkpoint(path)


def test_a_newer_format_version_asks_for_an_upgrade(tmp_path: Path, weights, tiny_config) -> None:
    state, release = tmp_path / "states-1.ckpt", tmp_path / "model.safetensors"
    torch.save({"format": "s3prl-aalbert", "format_version": 9, "config": {}, "model": {}}, state)
    metadata = {"format": "s3prl-aalbert", "format_version": "9", "config": json.dumps(to_dict(tiny_config))}
    safetensors.torch.save_file(weights, release, metadata)
    for path in (state, release):
        with pytest.raises(CheckpointError, match=naming(path, 9, "upgrade")):
            load_checkpoint(path)


def test_the_first_formats_keep_loading(tmp_path: Path, weights, tiny_config) -> None:
    """Both files as version 1 wrote them, put together by hand: the release has no checksum."""
    config = to_dict(tiny_config)
    state, release = tmp_path / "states-5.ckpt", tmp_path / "model.safetensors"
    torch.save({"format": "s3prl-aalbert", "format_version": 1, "config": config, "model": weights, "step": 5}, state)
    metadata = {"format": "s3prl-aalbert", "format_version": "1", "config": json.dumps(config), "info": '{"step": 5}'}
    safetensors.torch.save_file(weights, release, metadata)
    for path in (state, release):
        found = load_checkpoint(path)
        assert found.config == tiny_config and found.info["step"] == 5
        assert_same(found.state, weights)


@pytest.mark.parametrize("version", [0, -1, "two", None, [2]])
def test_a_format_version_that_is_none_is_told(tmp_path: Path, version: object) -> None:
    path = tmp_path / "states-1.ckpt"
    torch.save({"format": "s3prl-aalbert", "format_version": version, "config": {}, "model": {}}, path)
    with pytest.raises(CheckpointError, match="format version"):
        load_checkpoint(path)


# --------------------------------------------------------------------------------------------- checksum


def header_and_data(path: Path) -> tuple[dict, bytes]:
    """Split a safetensors file by its published layout: 8 bytes of length, a JSON header, the tensors' bytes."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write_parts(path: Path, header: dict, data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def test_one_flipped_bit_anywhere_in_the_weights_is_noticed(tmp_path: Path, weights, tiny_config) -> None:
    save_release(tmp_path, tiny_config, weights, "", {"step": 1})
    path = tmp_path / "model.safetensors"
    header, data = header_and_data(path)
    write_parts(path, header, data)
    assert load_checkpoint(path).info == {"step": 1}  # putting the same parts together again is no change
    draw = random.Random(0)
    for position in (0, len(data) - 1, *(draw.randrange(len(data)) for _ in range(20))):
        altered = bytearray(data)
        altered[position] ^= 1 << draw.randrange(8)
        write_parts(path, header, bytes(altered))
        with pytest.raises(CheckpointError) as error:
            load_checkpoint(path)
        assert "checksum" in one_sentence(error, path)


def test_altered_facts_and_swapped_tensors_are_noticed(tmp_path: Path, weights, tiny_config) -> None:
    save_release(tmp_path, tiny_config, weights, "", {"step": 1})
    (tmp_path / "config.yaml").unlink()
    path = tmp_path / "model.safetensors"
    good, data = header_and_data(path)
    names = ("model.encoder.groups.0.query.weight", "model.encoder.groups.0.key.weight")
    assert good[names[0]]["shape"] == good[names[1]]["shape"]
    metadata = good["__metadata__"]
    changes = [
        {names[0]: good[names[1]], names[1]: good[names[0]]},
        {"__metadata__": {**metadata, "config": metadata["config"].replace('"hop_ms": 10.0', '"hop_ms": 20.0')}},
        {"__metadata__": {**metadata, "info": '{"step": 2}'}},
        {"__metadata__": {**metadata, "sha256": "0" * 64}},
        {"__metadata__": {key: value for key, value in metadata.items() if key != "sha256"}},
    ]
    for change in changes:
        assert {**good, **change} != good
        write_parts(path, {**good, **change}, data)
        with pytest.raises(CheckpointError, match="checksum"):
            load_checkpoint(path)


def test_a_release_of_every_kind_of_tensor_is_checked_as_written(tmp_path: Path, tiny_config) -> None:
    state = {
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 4),
        "half": torch.ones(3, dtype=torch.float16),
        "whole": torch.arange(5),
        "true": torch.tensor([True, False]),
        "turned": torch.arange(12.0).reshape(3, 4).T,
        "gradient": torch.nn.Parameter(torch.ones(2)),
    }
    save_release(tmp_path, tiny_config, state, "")
    assert_same(load_checkpoint(tmp_path).state, {name: tensor.detach() for name, tensor in state.items()})


@pytest.mark.parametrize("change", [{"config": "{"}, {"config": None}, {"format_version": "one"}, {"info": "["}])
def test_damaged_metadata_of_a_release_is_told(tmp_path: Path, weights, tiny_config, change: dict) -> None:
    metadata = {"format": "s3prl-aalbert", "format_version": "1", "config": json.dumps(to_dict(tiny_config)), **change}
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(weights, path, {key: value for key, value in metadata.items() if value is not None})
    with pytest.raises(CheckpointError, match="metadata is damaged"):
        load_checkpoint(path)


def test_an_altered_config_beside_the_weights_is_told(tmp_path: Path, weights, tiny_config) -> None:
    save_release(tmp_path, tiny_config, weights, "")
    path = tmp_path / "config.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("num_hidden_layers: 3", "num_hidden_layers: 6"), encoding="utf-8")
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(tmp_path)
    assert "differs" in one_sentence(error, path)
    path.write_text(text.replace("num_hidden_layers", "num_hiden_layers"), encoding="utf-8")
    with pytest.raises(ConfigError, match='did you mean "num_hidden_layers"'):
        load_checkpoint(tmp_path)


# ------------------------------------------------------------------------------------------ fitting weights


def test_weights_that_do_not_fit_are_told_and_none_is_copied(weights, tiny_config) -> None:
    model, path = MaskedPrediction(tiny_config), Path("given.ckpt")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names = sorted(weights)
    lacking = {name: tensor for name, tensor in weights.items() if name not in names[:5]}
    cases = [
        (lacking, [*names[:3], 2]),
        ({**weights, "extra.weight": torch.ones(1)}, ["extra.weight"]),
        ({**weights, names[0]: torch.ones(2, 7)}, [names[0], (2, 7), tuple(weights[names[0]].shape)]),
    ]
    for state, named in cases:
        with pytest.raises(CheckpointError, match=naming(*named)) as error:
            load_weights(model, state, path)
        one_sentence(error, path)
        assert_same(model.state_dict(), before)
    load_weights(model, weights, path)
    assert_same(model.state_dict(), weights)


def test_a_state_newer_than_the_release_is_what_a_folder_gives(
    tmp_path: Path, weights, tiny_config, caplog: pytest.LogCaptureFixture
) -> None:
    """A finished run was extended and stopped: its release is of an earlier step."""
    save_release(tmp_path, tiny_config, weights, "# A model\n", {"step": 2})
    newer = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    for step, state in ((2, weights), (5, newer)):
        save_training_state(tmp_path / f"states-{step}.ckpt", tiny_config, {"step": step, "model": state})
        with caplog.at_level("INFO"):
            found = load_checkpoint(tmp_path)
        assert found.info["step"] == step
        assert_same(found.state, state)
        assert mentions(caplog.text, "states-5.ckpt", "model.safetensors") == (step == 5)


def test_what_the_disk_did_is_told_where_torch_does_not_pass_it_on(tmp_path: Path) -> None:
    """torch.save and safetensors answer a failed write with errors of their own."""
    path = tmp_path / "states-1.ckpt"
    path.write_bytes(b"before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writers = (
        lambda temporary: torch.save(torch.zeros(1 << 16), temporary),
        lambda temporary: safetensors.torch.save_file({"w": torch.zeros(1 << 16)}, temporary),
    )
    for write in writers:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
        try:
            with pytest.raises(FileError, match=naming(path, "larger")):
                write_atomically(path, write)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"before" and [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("number", "told"),
    [(errno.ENOSPC, "No space left on device"), (errno.EDQUOT, "quota")],
)
def test_a_full_disk_is_called_one(number: int, told: str, tmp_path: Path) -> None:
    error = OSError(number, "whatever", str(tmp_path / "x"))
    assert told in str(environment_fault(error)) and "x: " in str(environment_fault(error))

    def write(temporary: Path) -> None:
        raise error

    with pytest.raises(FileError, match=naming("x", "previous version", told)):
        write_atomically(tmp_path / "x", write)


def test_a_model_that_transformers_has_saved(tmp_path: Path, weights, tiny_config) -> None:
    """It keeps the configuration beside the weights, among keys of its own."""
    plain = {name: tensor for name, tensor in weights.items() if name.startswith("model.")}
    safetensors.torch.save_file(plain, tmp_path / "model.safetensors", {"format": "pt"})
    content = {"model_type": "aalbert", "transformers_version": "5.0", **to_dict(tiny_config)}
    (tmp_path / "config.json").write_text(json.dumps(content))
    loaded = load_checkpoint(tmp_path)
    assert loaded.config == tiny_config and loaded.state.keys() == plain.keys() and loaded.info == {}
    for text, message in {
        json.dumps({**content, "model_type": "bert"}): "of another program",
        "[]": "of another program",
        "{": "config.json: .*damaged",
        json.dumps({**content, "audio": {"num_mel_binz": 3}}): "num_mel_binz",
    }.items():
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(AalbertError, match=message):
            load_checkpoint(tmp_path)
