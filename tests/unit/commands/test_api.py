"""``import s3prl_aalbert as aalbert``: light to import, and the calls do what the commands do."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from command_lines import blocks

import s3prl_aalbert as aalbert
from s3prl_aalbert import api
from s3prl_aalbert.audio_io import read_audio
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus
from s3prl_aalbert.upstream.expert import UpstreamExpert


def test_importing_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, s3prl_aalbert as aalbert\n"
        "assert {'load', 'features', 'pretrain', 'probe', 'report'} <= set(dir(aalbert))\n"
        "assert not {'torch', 'numpy', 's3prl', 'yaml', 'soundfile'} & set(sys.modules)\n"
        "import s3prl_aalbert.pretrain.signals_of_nobody\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: No module named 's3prl_aalbert.pretrain.signals_of_nobody'"
    ), "the package of that name is still one"


def test_there_is_no_other_name() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        aalbert.train  # type: ignore[attr-defined]  # noqa: B018


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, voice) -> Path:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("speech") / "one.wav"
    soundfile.write(path, voice(7000).numpy(), 8000)
    return path


def test_features_of_a_file_a_tensor_and_an_array(
    tiny_release: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tiny_release.parent))
    model = aalbert.load(f"~/{tiny_release.name}")
    assert not model.training
    wav = read_audio(file)
    assert len(wav) == 14000, "resampled to 16 kHz"
    with torch.no_grad():
        states = UpstreamExpert(str(tiny_release)).eval()([torch.from_numpy(wav)])["hidden_states"]
    for audio in (file, str(file), wav, wav.astype(np.float64), torch.from_numpy(wav)):
        assert torch.equal(aalbert.features(model, audio), states[-1][0])
    assert torch.equal(aalbert.features(model, file, layer=1), states[1][0])
    assert torch.equal(aalbert.features(model, file, layer="all"), torch.stack(states).squeeze(1))
    assert torch.equal(aalbert.features(model, file, layer=0, selection="layer_states"), states[1][0])


def test_untrained_models_are_drawn_by_the_seed() -> None:
    one, same, other = (aalbert.load("aalbert_3l", model_config="debug", seed=seed)
                        for seed in (1, 1, 2))  # fmt: skip
    pairs = list(zip(one.parameters(), same.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs) and not all(torch.equal(a, c) for a, _, c in pairs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda file: aalbert.load("aalbert_local"), "needs a checkpoint"),
        (lambda file: aalbert.load("aalbert_tiny", file), "takes no checkpoint"),
        (lambda file: aalbert.features(aalbert.load("aalbert_tiny"), file, layer=4), "layers 0 to 3"),
        (lambda file: aalbert.features(aalbert.load("aalbert_tiny"), file.parent / "two.wav"), "no such file"),
        (lambda file: aalbert.pretrain([file.parent / "none"], file.parent / "x", model="debug"), "no such folder"),
        (lambda file: aalbert.pretrain([file.parent], file.parent / "x", settings={"optimizer.lr": 1}), "-o: "),
        (lambda file: aalbert.report([file.parent / "none"], file.parent / "report"), "none"),
    ],
)
def test_mistakes_are_one_sentence(call, message: str, file: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(AalbertError, match=message) as caught:
        call(file)
    assert "\n" not in str(caught.value)


def test_pretrain_then_load_then_go_on(tmp_path: Path) -> None:
    speech = synthesise_corpus(tmp_path / "speech", 3, 4, (0.5, 0.7))
    settings = {"config.runner.total_steps": 2, "config.optimizer.lr": 1e-3, "model.transformer.num_hidden_layers": 2}
    run = {"model": "debug", "config": "pretrain_debug", "settings": settings, "device": "cpu"}
    folder = aalbert.pretrain([speech], tmp_path / "run", **run)
    assert folder == tmp_path / "run"
    model = aalbert.load(folder)
    assert len(model([torch.zeros(480)])["hidden_states"]) == 3
    with pytest.raises(AalbertError, match=r"holds states-2\.ckpt already"):
        aalbert.pretrain([speech], folder, **run)
    aalbert.pretrain([], folder, settings={"config.runner.total_steps": 3}, device="cpu", resume=True)
    assert (folder / "states-3.ckpt").is_file()


def documented_calls() -> list[ast.Call]:
    nodes = (node for block in blocks("docs/features.md", "python") for node in ast.walk(ast.parse(block)))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    return [call for call in calls if ast.unparse(call.func).startswith("aalbert.")]


def test_the_documented_calls_have_arguments_that_exist() -> None:
    calls = documented_calls()
    names = [ast.unparse(call.func).partition(".")[2] for call in calls]
    assert set(names) == {"features", "load", "pretrain", "probe", "report"}
    for name, call in zip(names, calls, strict=True):
        inspect.signature(getattr(api, name)).bind(*call.args, **{str(each.arg): each.value for each in call.keywords})
