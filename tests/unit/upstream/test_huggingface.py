"""Releases through huggingface_hub's own code, offline: a local folder, its cache, and a stand-in for the uploads."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.hub_mixin
import pytest
import torch
from huggingface_hub import ModelCard

from s3prl_aalbert.checkpoint.content import CheckpointError
from s3prl_aalbert.checkpoint.published import packaged_names
from s3prl_aalbert.checkpoint.release import load_checkpoint
from s3prl_aalbert.checkpoint.training_state import save_training_state
from s3prl_aalbert.model.config import ModelConfig, to_dict
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.speech.training_list import heard, read_training_list, write_training_list
from s3prl_aalbert.upstream.expert import UpstreamExpert
from s3prl_aalbert.upstream.huggingface import PretrainedAalbert

WAVE = torch.sin(torch.arange(5000) / 20)


def last_state(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()([WAVE])["last_hidden_state"]


def test_a_release_folder_loads_as_it_does_everywhere(tiny_release: Path) -> None:
    model = PretrainedAalbert.from_pretrained(str(tiny_release))
    assert not model.training
    assert torch.equal(last_state(model), last_state(UpstreamExpert(ckpt=str(tiny_release))))


def test_saving_gives_the_same_release_again(tiny_release: Path, tmp_path: Path) -> None:
    PretrainedAalbert.from_pretrained(tiny_release).save_pretrained(tmp_path / "copy")
    files = sorted(path.name for path in (tmp_path / "copy").iterdir())
    assert files == ["README.md", "config.json", "config.yaml", "model.safetensors"]
    first, again = load_checkpoint(tiny_release), load_checkpoint(tmp_path / "copy")
    assert (first.config, first.info) == (again.config, again.info) and sorted(first.state) == sorted(again.state)
    assert all(torch.equal(tensor, again.state[name]) for name, tensor in first.state.items())  # the head's too
    config = json.loads((tmp_path / "copy" / "config.json").read_text(encoding="utf-8"))
    assert config == {"model_type": "aalbert", **json.loads(json.dumps(to_dict(first.config)))}
    assert str(tiny_release) not in (tmp_path / "copy" / "config.json").read_text(encoding="utf-8")


def test_a_named_state_loads_and_not_the_latest_one(tiny_config: ModelConfig, tmp_path: Path) -> None:
    for step in (5, 10):
        model = MaskedPrediction(tiny_config)
        save_training_state(tmp_path / f"states-{step}.ckpt", tiny_config, {"model": model.state_dict(), "step": step})
    for path, step in ((tmp_path / "states-5.ckpt", 5), (str(tmp_path / "states-10.ckpt"), 10), (tmp_path, 10)):
        assert PretrainedAalbert.from_pretrained(path).checkpoint.info == {"step": step}
    assert not PretrainedAalbert.from_pretrained(tmp_path / "states-5.ckpt").training
    with pytest.raises(TypeError, match="revison"):
        PretrainedAalbert.from_pretrained(tmp_path / "states-5.ckpt", revison="main")


def test_the_list_of_training_speech_goes_with_the_weights(
    tiny_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_release, tmp_path / "own")
    write_training_list(tmp_path / "own", heard({"a/1.wav": "a"}))
    PretrainedAalbert.from_pretrained(tmp_path / "own").save_pretrained(tmp_path / "copy")
    assert read_training_list(tmp_path / "copy") == heard({"a/1.wav": "a"})
    asked: list[str] = []
    monkeypatch.setattr(
        "s3prl_aalbert.upstream.huggingface.snapshot_download",
        lambda _, allow_patterns, **__: asked.extend(allow_patterns) or str(tmp_path / "own"),
    )
    PretrainedAalbert._from_pretrained(model_id="user/tiny")
    assert {path.name for path in (tmp_path / "copy").iterdir()} - {"config.json"} == set(asked)


def test_weights_changed_since_are_the_ones_saved(tiny_release: Path, tmp_path: Path) -> None:
    model = PretrainedAalbert.from_pretrained(tiny_release)
    with torch.no_grad():
        model.model.embedding.projection.weight += 1
    model.save_pretrained(tmp_path)
    changed = PretrainedAalbert.from_pretrained(tmp_path)
    assert torch.equal(last_state(changed), last_state(model))
    assert not torch.equal(last_state(changed), last_state(UpstreamExpert(ckpt=str(tiny_release))))


def test_the_card_is_kept_and_can_be_found_on_the_hub(tiny_release: Path, tmp_path: Path) -> None:
    model = PretrainedAalbert.from_pretrained(tiny_release)
    model.save_pretrained(tmp_path / "one")
    card = ModelCard.load(tmp_path / "one" / "README.md")
    assert card.text.strip() == "# A tiny model" and card.data.library_name == "s3prl-aalbert"
    card.data.license = "mit"
    card.data.tags = ["mine"]
    card.save(tmp_path / "one" / "README.md")
    PretrainedAalbert.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    kept = ModelCard.load(tmp_path / "two" / "README.md")
    assert kept.data.license == "mit" and kept.data.tags == ["mine"] and kept.text.strip() == "# A tiny model"


def test_a_repository_in_the_hubs_cache_loads_offline(tiny_release: Path, tmp_path: Path) -> None:
    """The cache's published layout: refs/main names the snapshot folder."""
    repository, commit = tmp_path / "models--user--tiny", "0" * 40
    PretrainedAalbert.from_pretrained(tiny_release).save_pretrained(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    model = PretrainedAalbert.from_pretrained("user/tiny", cache_dir=tmp_path, local_files_only=True)
    assert torch.equal(last_state(model), last_state(UpstreamExpert(ckpt=str(tiny_release))))


def test_push_to_hub_uploads_a_release(tiny_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Api:
        def __init__(self, token: str | None = None) -> None:
            calls.append(("token", token))

        def create_repo(self, repo_id: str, **options: object) -> SimpleNamespace:
            calls.append(("create_repo", repo_id, options["private"]))
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, folder_path: Path, repo_id: str, **options: object) -> str:
            calls.append(("upload_folder", repo_id, options["commit_message"]))
            shutil.copytree(folder_path, tmp_path / "uploaded")
            return "done"

    monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", Api)
    model = PretrainedAalbert.from_pretrained(tiny_release)
    assert model.push_to_hub("user/tiny", private=True, commit_message="First", token="hf_x") == "done"
    assert calls == [("token", "hf_x"), ("create_repo", "user/tiny", True), ("upload_folder", "user/tiny", "First")]
    assert torch.equal(last_state(PretrainedAalbert.from_pretrained(tmp_path / "uploaded")), last_state(model))


@pytest.mark.parametrize("name", packaged_names())
def test_a_packaged_name_does_not_touch_the_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(AssertionError, match="asked the network"):
        socket.create_connection(("huggingface.co", 443))
    model = PretrainedAalbert.from_pretrained(name)
    assert torch.equal(last_state(model), last_state(UpstreamExpert(ckpt=name)))


def test_a_folder_goes_before_a_packaged_name(
    tiny_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_release, tmp_path / "aalbert")
    monkeypatch.chdir(tmp_path)
    assert PretrainedAalbert.from_pretrained("aalbert").checkpoint.path == Path("aalbert/model.safetensors")


def test_a_folder_without_a_release_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds neither"):
        PretrainedAalbert.from_pretrained(tmp_path)
