"""`aalbert distill` on the pre-training runner: teachers by name, exact resume, a release without projections."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from s3prl_aalbert.checkpoint.release import load_checkpoint, save_release
from s3prl_aalbert.checkpoint.training_state import load_training_state, save_training_state
from s3prl_aalbert.cli import main
from s3prl_aalbert.model.config import load_model_config
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus
from s3prl_aalbert.speech.training_list import TRAINING_LIST_FILE, heard, overlap, write_training_list
from s3prl_aalbert.upstream.expert import UpstreamExpert
from s3prl_aalbert.upstream.huggingface import PretrainedAalbert


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("distill")
    synthesise_corpus(place / "speech", num_speakers=4, utterances_per_speaker=6, seconds=(0.5, 1.0), seed=11)
    config = load_model_config("debug")
    torch.manual_seed(0)
    save_release(place / "teacher", config, MaskedPrediction(config).state_dict(), card="")
    return place


def distill(place: Path, name: str, total: int, *more: str, teacher: tuple[str, ...] | None = None) -> int:
    settings = {
        "runner.total_steps": total,
        "runner.save_step": 2,
        "runner.precision": "fp32",
        "optimizer.schedule_steps": 8,
        "pretrain_expert.datarc.train_batch_size": 3,
        "distill.average_top_k": 2,
    }
    override = ",,".join(f"config.{key}={value}" for key, value in settings.items())
    if teacher is None:
        teacher = ("--teacher", "aalbert_local", "--teacher_ckpt", str(place / "teacher"))
    base = ["-g", "debug", "--speech", str(place / "speech"), "-p", str(place / name), "--device", "cpu"]
    return main(["distill", *base, "-o", override, *teacher, *more])


def test_distilling_resumes_exactly_and_releases_no_projections(place: Path) -> None:
    assert distill(place, "straight", 4) == 0
    assert distill(place, "parts", 2) == 0
    again = ["distill", "-p", str(place / "parts"), "-a", "--device", "cpu", "-o", "config.runner.total_steps=4"]
    assert main(again) == 0, "the teacher is part of the recorded configuration"
    straight, parts = (load_training_state(place / name / "states-4.ckpt") for name in ("straight", "parts"))
    assert any(name.startswith("projections.") for name in straight["model"])
    assert all(torch.equal(value, parts["model"][name]) for name, value in straight["model"].items())
    PretrainedAalbert(str(place / "straight" / "states-4.ckpt")).save_pretrained(place / "hub")
    for folder in ("straight", "hub"):
        release = load_checkpoint(place / folder)
        assert release.state and all(name.startswith("model.") for name in release.state)
    assert len(UpstreamExpert(ckpt=str(place / "straight"))([torch.randn(8000)])["hidden_states"]) == 3
    card = (place / "straight" / "README.md").read_text()
    assert "aalbert_local" in card and "average of the last 2 layers" in card


@pytest.mark.parametrize(("loss", "kept"), [("l1", True), ("mse", False)])
def test_another_loss_has_a_best_of_its_own(place: Path, loss: str, kept: bool) -> None:
    """The best dev loss of another loss would never be beaten, or at once."""
    folder, begun = place / f"best_{loss}", place / f"best_{loss}" / "states-2.ckpt"
    assert distill(place, folder.name, 2) == 0
    state = load_training_state(begun)
    best = 1e-9
    begun.unlink()
    save_training_state(begun, load_model_config("debug"), {**state, "best_dev": best})
    changes = f"config.distill.loss={loss},,config.runner.total_steps=4"
    assert main(["distill", "-p", str(folder), "-a", "--device", "cpu", "-o", changes]) == 0
    found = load_training_state(folder / "states-4.ckpt")["best_dev"]
    assert (found == best) == kept and found < math.inf


def test_a_teacher_whose_path_yaml_would_read_otherwise(place: Path) -> None:
    folder = place / "run #1: it's 𠮷"
    folder.mkdir()
    (place / "teacher").rename(folder / "teacher")
    try:
        assert (
            distill(place, "odd", 1, teacher=("--teacher", "aalbert_local", "--teacher_ckpt", f"{folder}/teacher")) == 0
        )
    finally:
        (folder / "teacher").rename(place / "teacher")
    recorded = load_training_state(place / "odd" / "states-1.ckpt")["pretrain_config"]["distill"]
    assert recorded["teacher_ckpt"] == f"{folder}/teacher"


def test_a_new_run_has_the_same_configuration_with_and_without_a(place: Path) -> None:
    recorded = []
    for name, more in (("without_a", ()), ("with_a", ("-a",))):
        assert distill(place, name, 1, *more) == 0
        recorded.append(load_training_state(place / name / "states-1.ckpt")["pretrain_config"])
    assert recorded[0] == recorded[1]
    assert recorded[0]["optimizer"]["lr"] == 5e-4, "distill_default's"


def test_an_upstream_of_s3prl_teaches_and_a_student_starts_from_a_pre_trained_model(place: Path) -> None:
    teacher = ("--teacher", "fbank")
    override = ("-c", "pretrain_debug", "-o", "config.runner.total_steps=1,,config.distill.loss=l1_cosine")
    assert distill(place, "fbank", 1, *override, "--init", str(place / "teacher"), teacher=teacher) == 0
    assert (place / "fbank" / "model.safetensors").is_file()


def test_a_student_has_heard_what_its_teacher_did(place: Path) -> None:
    spoken = {"elsewhere/hello": "elsewhere", "elsewhere/nothing": "elsewhere"}
    write_training_list(place / "teacher", heard({"elsewhere/hello": "elsewhere"}))
    try:
        assert distill(place, "hearing", 1) == 0
    finally:
        (place / "teacher" / TRAINING_LIST_FILE).unlink()
    assert overlap(place / "hearing", spoken, spoken) == (["elsewhere/hello"], ["elsewhere"], True)
    own = {str(path): path.parent.name for path in (place / "speech").rglob("*.wav")}
    assert overlap(place / "hearing", own, own).utterances == sorted(own)
    for name, teacher in (("unlisted", None), ("fbank_student", ("--teacher", "fbank"))):
        override = ("-o", "config.runner.total_steps=1,,config.distill.average_top_k=1")
        assert distill(place, name, 1, *override, teacher=teacher) == 0
        found = overlap(place / name, own, own)
        assert found.utterances == sorted(own) and not found.complete


def test_stage_2_goes_on_with_the_projections_of_stage_1(place: Path) -> None:
    """A learning rate of next to nothing keeps them as they begin; those of another teacher begin anew."""
    assert distill(place, "stage1", 2) == 0
    still = ("-o", "config.optimizer.lr=1e-30,,config.runner.total_steps=1,,config.optimizer.weight_decay=0")
    supernet = ",,config.supernet.hidden_size=[16, 32],,config.distill.average_top_k=2"
    init = ("--init", str(place / "stage1"))
    assert distill(place, "stage2", 1, *init, still[0], still[1] + supernet) == 0
    last_layer = ("-c", "pretrain_debug", still[0], still[1] + ",,config.distill.loss=l1")
    assert distill(place, "layers", 1, *init, *last_layer, teacher=("--teacher", "fbank")) == 0
    first, second, other = (
        load_training_state(place / name / f"states-{step}.ckpt")["model"]
        for name, step in (("stage1", 2), ("stage2", 1), ("layers", 1))
    )
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert all(torch.equal(value, other[name]) for name, value in first.items() if name.startswith("model."))
    assert other["projections.0.weight"].shape != first["projections.0.weight"].shape


def test_a_teacher_that_does_not_exist(place: Path, capsys: pytest.CaptureFixture) -> None:
    assert distill(place, "x", 1, teacher=("--teacher", "hubert_bas")) == 2
    assert 'did you mean "hubert_base"' in capsys.readouterr().err
    assert distill(place, "x", 1, teacher=()) == 2
    assert "name the teacher" in capsys.readouterr().err
    assert not (place / "x").exists()
