"""The name of a packaged model stands for its checkpoint wherever one is asked for; a path of that name goes first.

``--init`` and ``from_pretrained``: test_pretrain_command.py and test_huggingface.py; CKPT: test_convert.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import s3prl_aalbert as aalbert
from s3prl_aalbert.checkpoint.published import packaged_file, packaged_names
from s3prl_aalbert.checkpoint.release import load_checkpoint
from s3prl_aalbert.cli import main
from s3prl_aalbert.compress.distill_config import DistillConfig
from s3prl_aalbert.downstream.pretraining_overlap import check_overlap
from s3prl_aalbert.experiments.pretraining import load_teacher
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus
from s3prl_aalbert.toolkit.option_checks import check_upstream
from s3prl_aalbert.toolkit.upstreams import build_upstream
from s3prl_aalbert.upstream import hubconf

NAME = "aalbert_tiny"


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return getattr(hubconf, NAME)().state_dict()


def same(upstream: nn.Module, weights: dict[str, torch.Tensor]) -> bool:
    found = upstream.state_dict()
    return found.keys() == weights.keys() and all(torch.equal(found[name], weights[name]) for name in weights)


def test_as_k_of_tasks_probes_features_and_abx(weights: dict[str, torch.Tensor]) -> None:
    check_upstream("aalbert_local", NAME)
    assert same(build_upstream("aalbert_local", NAME), weights)
    assert same(aalbert.load("aalbert_local", ckpt=NAME), weights)
    assert same(aalbert.load(NAME), weights)


def test_as_k_its_training_speech_is_known() -> None:
    names, speakers = ["somebody/something"], {"somebody/something": "somebody"}
    by_name, by_ckpt = (
        check_overlap(args, names, speakers, "refuse")
        for args in ({"upstream": NAME}, {"upstream": "aalbert_local", "upstream_ckpt": NAME})
    )
    assert by_name == by_ckpt == {"utterances": 0, "speakers": 0}


def test_as_a_teacher(weights: dict[str, torch.Tensor]) -> None:
    for teacher in (DistillConfig(teacher=NAME), DistillConfig(teacher="aalbert_local", teacher_ckpt=NAME)):
        assert same(load_teacher(teacher), weights)


def test_as_k_of_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "-u", "aalbert_local", "-k", NAME]) == 0
    assert "977,152" in capsys.readouterr().out


def test_as_tsne_of_the_report(tmp_path: Path) -> None:
    speech = synthesise_corpus(tmp_path / "speech", 3, 4, (0.5, 0.6), seed=1)
    packaged = str(packaged_file(NAME).parent)
    assert main(["report", packaged, "--tsne", NAME, "--speech", str(speech), "-o", str(tmp_path / "report")]) == 0
    assert (tmp_path / "report" / "index.html").is_file()


@pytest.mark.parametrize("name", packaged_names())
def test_a_path_of_that_name_goes_first(
    name: str, tiny_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_checkpoint(name).path == packaged_file(name)
    (tmp_path / name).symlink_to(tiny_release)
    monkeypatch.chdir(tmp_path)
    assert load_checkpoint(name).path == Path(name) / "model.safetensors"
