"""Files that are no pickles of programs and no plain weights either: one sentence each, and no hang."""

from __future__ import annotations

import argparse
import json
import os
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from naming import naming

from s3prl_aalbert import toolkit
from s3prl_aalbert.checkpoint.interop.exporting import export_s3prl
from s3prl_aalbert.checkpoint.interop.pickled import read_foreign
from s3prl_aalbert.checkpoint.release import load_checkpoint, save_release
from s3prl_aalbert.checkpoint.training_state import load_training_state
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import AudioConfig, ConfigError, ModelConfig, TransformerConfig, read_yaml, to_dict
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.toolkit.arguments import complete
from s3prl_aalbert.toolkit.option_checks import check_upstream
from s3prl_aalbert.toolkit.resume import load_experiment, load_states
from s3prl_aalbert.toolkit.upstreams import build_upstream

Read = Callable[[Path], Any]


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def doubled(levels: int) -> list[Any]:
    """Return a few lists that stand for 2**levels values."""
    value: list[Any] = [0, 0]
    for _ in range(levels):
        value = [value, value]
    return value


def in_itself() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["x"] = value
    return value


ODD: dict[str, Callable[[], Any]] = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse rows": lambda: torch.eye(3).to_sparse_csr(),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "meta": lambda: torch.ones(3, device="meta"),
    "gigabytes": lambda: torch.ones(1).expand(1 << 40),
    "overlapping": lambda: torch.ones(7).as_strided((4, 4), (1, 1)),
    "not a number": lambda: torch.tensor([1.0, float("nan")]),
    "half a character": lambda: "a\ud800",
    "deep": lambda: deep(200),
    "in itself": in_itself,
    "explodes": lambda: doubled(60),
}


def state(tiny_config: ModelConfig, odd: Any) -> dict[str, Any]:
    weights = MaskedPrediction(tiny_config).state_dict()
    name = next(iter(weights))
    model = {**weights, name: odd} if isinstance(odd, torch.Tensor) else weights
    return {
        "format": "s3prl-aalbert",
        "format_version": 1,
        "config": to_dict(tiny_config),
        "model": model,
        "odd": odd,
        "step": 1,
        "seed": 1,
    }


def experiment(odd: Any) -> dict[str, Any]:
    args = {"upstream": "fbank", "downstream": "example", "expdir": "x", "upstream_ckpt": None}
    return {"Args": argparse.Namespace(**args), "Config": {"runner": {"odd": odd}}, "Downstream": {"w": odd}, "Step": 1}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_with_something_odd_is_one_sentence(name: str, tiny_config: ModelConfig, tmp_path: Path) -> None:
    toolkit.activate()
    odd = ODD[name]()
    readers: list[tuple[Any, Read]] = [
        (state(tiny_config, odd), load_training_state),
        (state(tiny_config, odd), load_checkpoint),
        ({"Transformer": {"w": odd}, "Config": {}}, lambda path: read_foreign(path, trust=False)),
        (experiment(odd), load_experiment),
        ({"Downstream": {"w": odd}}, lambda path: load_states(path, "-i")),
    ]
    for number, (content, read) in enumerate(readers):
        path = tmp_path / f"states-{number}.ckpt"
        torch.save(content, path)
        with pytest.raises(AalbertError, match=path.name) as told:
            read(path)
        assert "\n" not in str(told.value) and len(str(told.value)) < 400


def metadata_file(path: Path, metadata: dict[str, str]) -> Path:
    """Write a safetensors file by hand: its library checks what it writes."""
    header = json.dumps({"__metadata__": metadata}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


@pytest.mark.parametrize(
    "values",
    [
        "[" * 20_000,
        '{"a": ' * 20_000,
        '{"transformer": "\\ud800"}',
        '{"\\ud800": 1}',
        "NaN",
        "[1]",
    ],
    ids=["lists", "mappings", "half a character", "half a key", "number", "list"],
)
def test_the_metadata_of_a_release_is_read_within_bounds(values: str, tmp_path: Path) -> None:
    good = {"format": "s3prl-aalbert", "format_version": "1", "config": "{}", "info": "{}"}
    for key in ("config", "info"):
        path = metadata_file(tmp_path / "model.safetensors", {**good, key: values})
        with pytest.raises(AalbertError) as told:
            load_checkpoint(path)
        assert "\n" not in str(told.value) and len(str(told.value)) < 600
        str(told.value).encode()


def test_weights_that_are_no_numbers_are_refused(tiny_config: ModelConfig, tmp_path: Path) -> None:
    weights = MaskedPrediction(tiny_config).state_dict()
    name = next(name for name, value in weights.items() if value.is_floating_point())
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_release(tmp_path, tiny_config, weights, "")
    with pytest.raises(AalbertError, match=naming(f"weights.{name}", "NaN")):
        load_checkpoint(tmp_path)


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def sparse_file(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(1 << 40)
    return path


def bomb(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 24))
    return path


NO_FILES: dict[str, Callable[[Path], Path]] = {
    "pipe": pipe,
    "endless": lambda path: Path("/dev/zero"),
    "folder": lambda path: path.mkdir() or path,  # type: ignore[func-returns-value]
    "too large": sparse_file,
    "compressed": bomb,
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_regular_file_is_not_read(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe would wait for a writer, /dev/zero never ends."""
    toolkit.activate()
    monkeypatch.chdir(tmp_path)
    path = NO_FILES[kind](tmp_path / "states-1.ckpt")
    new = "-m train -n x -u fbank -d example --device cpu"
    places: list[Callable[[], Any]] = [
        lambda: load_checkpoint(path),
        lambda: load_training_state(path),
        lambda: read_foreign(path, trust=True),
        lambda: complete(["-m", "evaluate", "-e", str(path)]),
        lambda: complete([*new.split(), "-i", str(path)]),
        lambda: check_upstream("tera_local", str(path)),
        lambda: check_upstream("hubert_local", str(path)),
    ]
    if kind not in ("too large", "compressed"):  # read as any other
        places.append(lambda: read_yaml(path))
        places.append(lambda: complete([*new.split(), "-c", str(path)]))
        places.append(lambda: complete([*new.replace("fbank", "baseline_local").split(), "-g", str(path)]))
    started = time.process_time()
    for place in places:
        with pytest.raises(AalbertError) as told:
            place()
        assert "\n" not in str(told.value)
    assert time.process_time() - started < 20


def aliases(levels: int) -> str:
    """Return YAML of a few lines that stands for 9**levels values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


EXPLODING = {
    "aliases": aliases(12),
    "merges": "a0: &a0 {x: 1}\n" + "\n".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 40)),
    "in itself": "a: &a [*a]",
    "in its own keys": "&a {x: *a}",
    "deep": "x: " + "[" * 200 + "]" * 200,
    "deeper": "x: " + "[" * 2_000,
    "deep mappings": "\n".join(" " * n + "x:" for n in range(300)),
    "large": "x: '" + "a" * 200_001 + "'",
}


@pytest.mark.parametrize("name", EXPLODING)
def test_yaml_that_explodes_is_refused_at_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(EXPLODING[name])
    with pytest.raises(ConfigError, match=r"own\.yaml: (is not valid YAML|has \d)") as told:
        read_yaml(path)
    assert "\n" not in str(told.value) and len(str(told.value)) < 400


def test_yaml_with_reasonable_aliases_is_read_as_pyyaml_reads_it(tmp_path: Path) -> None:
    text = "base: &base {lr: 1.0e-3, list: [1, 2]}\nown: {<<: *base, lr: 2}\nagain: *base\n1: true\n"
    (tmp_path / "own.yaml").write_text(text)
    assert read_yaml(tmp_path / "own.yaml") == yaml.safe_load(text)
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path / "empty.yaml") == {}


def s3prl_checkpoint(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Write a Mockingjay as S3PRL does, with one weight changed."""
    config = ModelConfig(
        transformer=TransformerConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                                      downsample_rate=1),
        audio=AudioConfig(num_mel_bins=8, n_fft=400, front_end="s3prl", delta=False),
    )  # fmt: skip
    save_release(folder / "release", config, MaskedPrediction(config).state_dict(), "")
    content = export_s3prl(load_checkpoint(folder / "release")).content
    change(content["Transformer"])
    torch.save(content, folder / "mockingjay.ckpt")
    return folder / "mockingjay.ckpt"


def test_an_upstream_of_s3prl_that_does_not_come_out_of_its_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    def no_number(weights: dict[str, Any]) -> None:
        name = next(name for name in weights if "query" in name)
        weights[name] = torch.full_like(weights[name], float("nan"))

    path = s3prl_checkpoint(tmp_path, lambda weights: None)
    assert build_upstream("mockingjay_local", str(path)) is not None
    path = s3prl_checkpoint(tmp_path, no_number)
    with pytest.raises(AalbertError, match=naming("-u mockingjay_local", "NaN")):
        build_upstream("mockingjay_local", str(path))
    torch.save({"Config": 3}, path)
    with pytest.raises(AalbertError, match=naming("-u mockingjay_local", f"-k {path}")) as told:
        build_upstream("mockingjay_local", str(path))
    assert "\n" not in str(told.value)
