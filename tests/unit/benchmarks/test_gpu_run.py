"""scripts/gpu_run.py: its command line, the wheels it installs, the parts of a release, its figures; a run is slow."""

from __future__ import annotations

import contextlib
import json
import math
import re
import subprocess
import sys
import zipfile
from argparse import Namespace
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
import soundfile
import torch
import yaml
from naming import naming
from torch import Tensor

from s3prl_aalbert.device import native_bf16
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.model.macs import encoder_macs


@pytest.fixture
def script(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [*sys.path, str(repository / "scripts"), str(repository / "benchmarks")])
    import gpu_run

    return gpu_run


@pytest.fixture
def gpu(script: ModuleType) -> ModuleType:
    import gpu

    return gpu


@pytest.fixture
def parts(script: ModuleType, tmp_path: Path) -> Path:
    """Return a folder of the parts, 1000 bytes each, of a release; its states stay behind."""
    experiment, output = tmp_path / "experiment", tmp_path / "out"
    experiment.mkdir()
    (experiment / "model.safetensors").write_bytes(torch.randint(256, (3000,), dtype=torch.uint8).numpy().tobytes())
    (experiment / "README.md").write_text("card")
    (experiment / "states-10.ckpt").write_bytes(bytes(5000))
    (experiment / "units").mkdir()
    script.pack(experiment, output, 1000)
    return output


def test_parts_are_small_and_together_are_the_release(script: ModuleType, parts: Path, tmp_path: Path) -> None:
    sizes = [path.stat().st_size for path in sorted(parts.glob("release.zip.*"))]
    assert len(sizes) == 4 and sizes[:3] == [1000] * 3 and 0 < sizes[3] <= 1000
    script.join(parts, tmp_path / "a folder" / "release")
    joined = tmp_path / "a folder" / "release"
    assert sorted(path.name for path in joined.iterdir()) == ["README.md", "model.safetensors"]
    for path in joined.iterdir():
        assert path.read_bytes() == (tmp_path / "experiment" / path.name).read_bytes()
    assert [path.name for path in joined.parent.iterdir()] == ["release"]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)


def _alter(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def altered(parts: Path) -> None:
        index = json.loads((parts / "release.json").read_text())
        change(index)
        (parts / "release.json").write_text(json.dumps(index))

    return altered


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda parts: _flip(parts / "release.zip.001"), r"release\.zip\.001: .*SHA-256"),
        (lambda parts: (parts / "release.zip.002").unlink(), r"release\.zip\.002: .*missing"),
        (lambda parts: (parts / "release.json").unlink(), r"release\.json: .*not there"),
        (lambda parts: (parts / "release.json").write_text('{"parts": 1}'), r"release\.json: is damaged"),
        (_alter(lambda index: index.update(sha256="0" * 64)), "together.* release.json"),
        (_alter(lambda index: index["parts"].pop()), "together.* release.json"),
        (_alter(lambda index: index["parts"][0].update(name="../model.safetensors")), r"expected .*release\.zip\.000"),
        (_alter(lambda index: index["parts"].reverse()), r"expected .*release\.zip\.000"),
    ],
)
def test_damaged_parts_are_refused_and_nothing_is_written(
    script: ModuleType, parts: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(parts)
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(AalbertError, match=message):
        script.join(parts, target / "release")
    assert list(target.iterdir()) == []


def test_a_folder_that_holds_something_is_refused(
    script: ModuleType, parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["join", str(parts), "-o", str(parts.parent / "experiment")]) == 2
    assert capsys.readouterr().err.endswith("experiment: is not empty; name a new folder\n")


def _wheel(folder: Path, name: str, files: dict[str, str]) -> None:
    """Write a wheel of plain files."""
    about = f"{name}-1.0.dist-info"
    tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {
        **files,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{about}/WHEEL": tag,
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{about}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, content in {**files, f"{about}/RECORD": record}.items():
            archive.writestr(path, content)


def test_missing_wheels_alone_are_installed_and_can_be_imported(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "")
    folder, target = tmp_path / "wheels", tmp_path / "site"
    folder.mkdir()
    with pytest.raises(AalbertError, match=naming(folder, "wheels")):
        script.install(folder, target)
    _wheel(folder, "numpy", {"numpy/__init__.py": "raise ImportError"})
    _wheel(folder, "carried_for_a_test", {"carried_for_a_test.py": "VALUE = 7\n"})
    assert [wheel.name for wheel in script.install(folder, target)] == ["carried_for_a_test-1.0-py3-none-any.whl"]
    import carried_for_a_test

    assert carried_for_a_test.VALUE == 7
    assert not (target / "numpy").exists()
    code = "import carried_for_a_test"  # a process that is started has it too
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_torchaudio_that_is_carried_leaves_its_compiled_library_behind(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(script, "_installed", lambda name: False)
    folder, target = tmp_path / "wheels", tmp_path / "site"
    folder.mkdir()
    _wheel(folder, "torchaudio", {"torchaudio/__init__.py": "", "torchaudio/lib/_torchaudio.abi3.so": "for another"})
    script.install(folder, target)
    assert (target / "torchaudio" / "__init__.py").is_file() and not list(target.rglob("*.so"))


def test_wheels_that_are_downloaded_are_those_of_this_environment(script: ModuleType) -> None:
    import numpy

    line = "wheels -o there --torch 2.9.1+cu128 --python 3.12 --pictures --without scipy"
    command = script.download_command(script.parser().parse_args(line.split()))
    assert command[1:4] == ["-m", "pip", "download"] and "--python-version=3.12" in command and "--no-deps" in command
    assert {f"numpy=={numpy.__version__}", "torchaudio==2.9.1"} <= set(command)
    assert any(part.startswith("matplotlib==") for part in command)
    assert not any(part.startswith("scipy==") for part in command)
    with pytest.raises(AalbertError, match=naming("--without torch", "matplotlib")):
        script.download_command(script.parser().parse_args([*line.split(), "torch"]))


def test_pre_training_imports_no_other_packages_than_those_that_are_carried(script: ModuleType) -> None:
    allowed = _with_requirements("torch") | set(script.PACKAGES) | {"torchaudio", "setuptools", "s3prl-aalbert"}
    owners = metadata.packages_distributions()
    blocked = {module for module, names in owners.items() if not allowed & {_normalised(name) for name in names}}
    assert {"s3prl", "matplotlib"} <= blocked
    code = """
import sys
class Bare:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name in sys.argv else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Bare, sys.meta_path)
import s3prl_aalbert.pretrain.runner
from sklearn.cluster import MiniBatchKMeans
from torch.utils.tensorboard import SummaryWriter
"""
    result = subprocess.run([sys.executable, "-c", code, *blocked], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _with_requirements(name: str) -> set[str]:
    """Return a distribution and every one that it needs, at any depth."""
    found, pending = set(), [name]
    while pending:
        found.add(_normalised(name := pending.pop()))
        with contextlib.suppress(metadata.PackageNotFoundError):
            for line in metadata.requires(name) or []:
                needed = re.split(r"[^\w.-]", line, maxsplit=1)[0]
                if "extra ==" not in line and _normalised(needed) not in found:
                    pending.append(needed)
    return found


def test_figures_of_a_run_by_hand(gpu: ModuleType, tiny_config: ModelConfig) -> None:
    waits, steps = [9.0] * 10 + [0.5, 1.5] * 5 + [99.0], [9.0] * 10 + [1.0] * 10
    meter = gpu.Meter(waits, steps, [[1]] * 10 + [[16000, 8000], [24000]] * 5)
    row = meter.figures(tiny_config, bf16=1e9)  # the last wait is of a step that did not come
    macs = sum(encoder_macs(tiny_config, n) for n in (16000, 8000, 24000))
    assert row["steps"] == 20
    assert row["steps_per_second"] == pytest.approx(2 / 4)
    assert row["data_wait_share"] == pytest.approx(2 / 4)
    assert row["audio_seconds_per_second"] == pytest.approx(3.0 / 4)
    assert row["share_of_bf16"] == pytest.approx(2 * 3 * macs / 4 / 1e9)
    assert row["tflops"] == pytest.approx(2 * 3 * macs / 4 / 1e12)
    assert gpu.Meter().figures(tiny_config, 1.0) == {"steps": 0}


def test_stages_share_the_minutes(gpu: ModuleType, script: ModuleType, tmp_path: Path) -> None:
    args = script.parser().parse_args(["train", "--speech", str(tmp_path), "--out", "out", "--minutes", "10"])
    stages = gpu._stages(args, tmp_path / "model", "cpu")
    assert [stage.name for stage in stages] == ["mfcc_units", "small_units", "units"]
    assert {stage.config["pretrain_expert"]["datarc"]["num_workers"] for stage in stages} == {0}
    assert {stage.corpus for stage in stages} == {tmp_path / "model"}
    (plain,) = gpu._stages(Namespace(**{**vars(args), "config": "pretrain_tiny"}), tmp_path / "model", "cpu")
    assert (plain.name, plain.expdir, plain.init) == ("pretrain", tmp_path / "model", None)
    hours = [gpu._hours(360, stage is stages[-1], 10, None, stage.name) for stage in stages]
    assert hours == pytest.approx([1.2 / 60, 1.2 / 60, 6 / 60])
    assert gpu._hours(360, False, 10, 0.01, "a") == 0.01 and gpu._hours(36, False, 10, None, "a") == 0.01
    for left in (0, float("nan")):
        with pytest.raises(AalbertError, match=naming("--minutes 10", "stage units")):
            gpu._hours(left, True, 10, None, "stage units")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train --speech x --minutes 1", "--out is missing, and so is the environment variable OUT"),
        ("train --speech x --minutes 1 --out {tmp}/full", "measured.json: is there already; name another folder"),
        ("table --speech x --out {tmp}/new --wheels {tmp}/full", "full: no wheels there"),
    ],
)
def test_mistakes_are_one_sentence(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    message: str,
) -> None:
    monkeypatch.delenv("OUT", raising=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "measured.json").write_text("{}")
    assert script.main(line.format(tmp=tmp_path).split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_out_is_the_environments(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUT", str(tmp_path))
    arguments: Namespace = script.parser().parse_args(["table", "--speech", "x"])
    assert arguments.out == tmp_path and arguments.models == ["aalbert_12l"]
    assert (arguments.batch, arguments.seconds) == (50, 15)


@pytest.mark.slow
def test_a_run_and_a_table_from_opus_files(
    script: ModuleType, tmp_path: Path, voice: Callable[..., Tensor], repository: Path
) -> None:
    for number in range(12):
        path = tmp_path / "speech" / f"speaker{number % 3}" / f"{number}.opus"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, voice(40_000, number).numpy(), 16000, format="OGG", subtype="OPUS")
    for name in ("aalbert_units", "pretrain_units"):
        settings = yaml.safe_load((repository / "upstream_configs" / f"{name}.yaml").read_text())
        small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        if name == "aalbert_units":
            settings["transformer"].update(small)
            settings["task"]["num_units"] = 8
        else:
            for stage in settings["stages"]:
                stage.setdefault("model", {}).setdefault("transformer", {}).update(small)
                stage["model"].setdefault("task", {})["num_units"] = 8
                stage["config"].setdefault("runner", {})["total_steps"] = 12
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    run = [
        *("train", "--speech", str(tmp_path / "speech"), "--out", str(tmp_path / "out"), "--work", str(tmp_path / "w")),
        *("--minutes", "10", "--steps", "12", "--device", "cpu"),
        *("-g", str(tmp_path / "aalbert_units.yaml"), "-c", str(tmp_path / "pretrain_units.yaml")),
    ]
    assert script.main(run) == 0
    assert script.main(["join", str(tmp_path / "out"), "-o", str(tmp_path / "release")]) == 0
    for name in ("model.safetensors", "config.yaml", "README.md"):
        assert (tmp_path / "release" / name).read_bytes() == (tmp_path / "w" / "model" / name).read_bytes()
    measured = json.loads((tmp_path / "out" / "measured.json").read_text())
    assert [(row["stage"], row["steps"]) for row in measured["rows"]] == [
        ("mfcc_units", 12), ("small_units", 12), ("units", 12),
    ]  # fmt: skip
    most = 1 if native_bf16("cpu") else math.inf  # a CPU without bf16 multiplies it slower than it trains in fp32
    assert all(0 < row["share_of_bf16"] < most and 0 <= row["data_wait_share"] < 1 for row in measured["rows"])

    line = ["table", "--speech", str(tmp_path / "speech"), "--out", str(tmp_path / "table"), "--device", "cpu"]
    assert script.main([*line, "--models", "debug", "--batch", "3", "--seconds", "2", "--steps", "4"]) == 0
    (row,) = json.loads((tmp_path / "table" / "measured.json").read_text())["rows"]
    assert (row["model"], row["steps"], row["compile"]) == ("debug", 4, False)
    assert row["audio_seconds_per_second"] == pytest.approx(6 * row["steps_per_second"])
