"""`aalbert convert`: one command of all formats, its earlier names, and options made from a typed function."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import safetensors
import torch
from naming import mentions

from s3prl_aalbert.checkpoint.published import packaged_folder
from s3prl_aalbert.checkpoint.release import load_checkpoint, load_weights, save_release
from s3prl_aalbert.cli import command_parser, main
from s3prl_aalbert.commands import convert as convert_command
from s3prl_aalbert.commands.convert import convert
from s3prl_aalbert.model.aalbert import AalbertModel
from s3prl_aalbert.model.config import AudioConfig, ModelConfig, TransformerConfig
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.report.models import ModelKey
from s3prl_aalbert.speech.training_list import TRAINING_LIST_FILE, overlap
from s3prl_aalbert.typed_options import argument_texts
from s3prl_aalbert.upstream.expert import UpstreamExpert

ARCH = "hidden_size: 16\nnum_hidden_layers: 2\nnum_attention_heads: 2\nintermediate_size: 20\n"


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("supernet")
    transformer = TransformerConfig(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64)
    config = ModelConfig(transformer, AudioConfig(num_mel_bins=20))
    torch.manual_seed(0)
    save_release(folder / "model", config, MaskedPrediction(config).state_dict(), "# A model\n", {"step": 3})
    (folder / "arch.yaml").write_text(ARCH)
    return folder


def content(folder: Path) -> dict[str, str]:
    """Return the digest of every file; of the weights the one they carry, as safetensors shuffles its metadata."""
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    with safetensors.safe_open(folder / "model.safetensors", framework="pt") as file:
        return found | {"model.safetensors": file.metadata()["sha256"]}


def test_the_earlier_names_do_the_same(supernet: Path, tmp_path: Path) -> None:
    model, arch = str(supernet / "model"), str(supernet / "arch.yaml")
    pairs = {
        "hub": (["export", model, "{}"], ["convert", model, "{}", "--to", "huggingface"]),
        "cut": (["extract", model, "--arch", arch, "-o", "{}"], ["convert", "--arch", arch, model, "{}"]),
    }
    for name, commands in pairs.items():
        for number, command in enumerate(commands):
            folder = tmp_path / f"{name}{number}"
            assert main([word.format(folder) for word in command]) == 0
        assert content(tmp_path / f"{name}0") == content(tmp_path / f"{name}1")


@pytest.mark.parametrize("given", ["{0} {1} --no-head", "{0} --no-head {1}", "{0} -o {1} --no-head"])
def test_out_may_stand_anywhere(supernet: Path, tmp_path: Path, given: str) -> None:
    assert main(["convert", *given.format(supernet / "model", tmp_path / "out").split()]) == 0
    assert all(name.startswith("model.") for name in load_checkpoint(tmp_path / "out").state)


def test_without_out_the_message_says_what_is_missing(supernet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(supernet / "model")]) == 2
    assert mentions(capsys.readouterr().err, "OUT")
    assert main(["extract", str(supernet / "model"), "x"]) == 2
    assert "--arch YAML" in capsys.readouterr().err


def test_a_sub_network_in_another_format(supernet: Path, tmp_path: Path) -> None:
    """Cut out on the way: the same hidden states as the slice of the supernet."""
    arch = supernet / "arch.yaml"
    convert(str(supernet / "model"), tmp_path / "hub", to="huggingface", arch=arch)
    convert(str(supernet / "model"), tmp_path / "half", arch=arch, dtype="float16")
    wav = torch.randn(8000)
    with torch.no_grad():
        sliced = UpstreamExpert(str(supernet / "model"), str(arch)).eval()([wav])["last_hidden_state"]
        exported = UpstreamExpert(str(tmp_path / "hub")).eval()([wav])["last_hidden_state"]
        half = UpstreamExpert(str(tmp_path / "half")).eval()([wav])["last_hidden_state"]
    assert torch.equal(exported, sliced) and 0 < (half - sliced).abs().max() < 0.02
    assert "# Sub-network of model" in (tmp_path / "hub" / "README.md").read_text()


def test_the_name_of_a_packaged_model_is_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "aalbert_tiny", str(tmp_path / "small"), "--dtype", "bfloat16"]) == 0
    assert load_checkpoint(tmp_path / "small").config == load_checkpoint("aalbert_tiny").config
    (tmp_path / "arch.yaml").write_text(ARCH.replace("num_attention_heads: 2", "num_attention_heads: 1"))
    assert main(["convert", "aalbert_tiny", str(tmp_path / "cut"), "--arch", str(tmp_path / "arch.yaml")]) == 0
    expected = (packaged_folder("aalbert_tiny") / TRAINING_LIST_FILE).read_text()
    assert all((tmp_path / name / TRAINING_LIST_FILE).read_text() == expected for name in ("small", "cut"))
    assert main(["convert", "aalbert_tiny", str(tmp_path / "again")]) == 2
    assert "release already" in capsys.readouterr().err


def test_what_is_no_checkpoint_does_not_invite_trust(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("# Not a checkpoint\n")
    assert main(["convert", str(tmp_path / "README.md"), str(tmp_path / "x")]) == 2
    shown = capsys.readouterr().err
    assert mentions(shown, "README.md", "checkpoint") and "--trust" not in shown


def test_the_help_of_convert_is_its_docstring() -> None:
    shown = " ".join(command_parser("convert", convert_command).format_help().split())
    for name, text in argument_texts(convert).items():
        assert text.split("`")[0].strip()[:30] in shown, name


def test_the_untrained_twin_has_the_corpus_statistics_and_other_weights(tmp_path: Path) -> None:
    config = ModelConfig(
        transformer=TransformerConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16),
        audio=AudioConfig(num_mel_bins=10, cmvn="corpus"),
    )
    objective = MaskedPrediction(config)
    objective.model.acoustics.corpus_mean.fill_(3.0)
    save_release(tmp_path / "model", config, objective.state_dict(), "# card\n", {"step": 600})
    assert main(["convert", str(tmp_path / "model"), str(tmp_path / "untrained"), "--untrained", "1"]) == 0
    twin, model = load_checkpoint(tmp_path / "untrained"), load_checkpoint(tmp_path / "model")
    assert twin.config == model.config and twin.info["step"] == 0
    keys = [ModelKey("aalbert_local", str(tmp_path / name)) for name in ("model", "untrained")]
    assert [key.untrained for key in keys] == [False, True], "the report tells them apart"
    assert overlap(tmp_path / "untrained", ["a"], {"a": "b"}) == ([], [], True)
    own, other = AalbertModel(config), AalbertModel(config)
    load_weights(own, model.model_state, model.path)
    load_weights(other, twin.model_state, twin.path)
    assert torch.equal(other.acoustics.corpus_mean, own.acoustics.corpus_mean)
    matrices = [name for name, weight in own.named_parameters() if weight.dim() == 2]
    assert matrices
    for name in matrices:
        assert not torch.equal(own.get_parameter(name), other.get_parameter(name)), name
