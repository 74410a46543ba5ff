"""What the launchers' environment, the precision of a device and --init mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3prl_aalbert.checkpoint.published import PACKAGED_WEIGHTS, located
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import load_model_config
from s3prl_aalbert.pretrain.launch import choose_precision
from s3prl_aalbert.pretrain.plan import model_name, processes
from s3prl_aalbert.pretrain.request import DEFAULT_MODEL, MODELS, Request
from s3prl_aalbert.upstream import hubconf
from s3prl_aalbert.upstream.named import OWN_CHECKPOINT

SLURM = {"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (1, 1)),
        ({"LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}, (4, 2)),
        (SLURM, (4, 2)),
        ({**SLURM, "LOCAL_WORLD_SIZE": "3", "WORLD_SIZE": "6"}, (3, 2)),
        ({**SLURM, "SLURM_JOB_NAME": "bash"}, (1, 1)),
        ({"SLURM_NTASKS": "1"}, (1, 1)),
    ],
)
def test_processes_and_machines(environment: dict[str, str], expected: tuple[int, int]) -> None:
    assert processes(environment, False, "cpu") == expected


@pytest.mark.parametrize("change", [{"SLURM_NTASKS": "7"}, {"SLURM_NTASKS_PER_NODE": "3"}])
def test_uneven_slurm_tasks_are_told(change: dict[str, str]) -> None:
    with pytest.raises(AalbertError, match="--ntasks-per-node"):
        processes({**SLURM, **change}, False, "cpu")


def test_what_needs_a_gpu_says_so() -> None:
    with pytest.raises(AalbertError, match="--multi_gpu needs GPUs"):
        processes({}, True, "cpu")
    with pytest.raises(AalbertError, match="bf16 or fp32"):
        choose_precision("fp16", "cpu")


def test_init_takes_a_path_or_the_name_of_packaged_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert located("~/model") == Path.home() / "model"
    assert located("aalbert_tiny") == PACKAGED_WEIGHTS / "aalbert_tiny" / "model.safetensors"
    (tmp_path / "aalbert_tiny").mkdir()
    assert located("aalbert_tiny") == Path("aalbert_tiny")


@pytest.mark.parametrize("name", MODELS)
def test_u_means_the_architecture_that_the_name_has_in_tasks(name: str) -> None:
    """``mockingjay`` is S3PRL's name, which is none of this plugin's upstreams."""
    ours = load_model_config(MODELS[name])
    entry = {"mockingjay": "aalbert_mockingjay_3l"}.get(name, name)
    upstream = getattr(hubconf, entry)(pretrained=False).model.config
    assert (upstream.transformer, upstream.audio) == (ours.transformer, ours.audio)
    assert model_name(Request(name)) == MODELS[name]
    assert model_name(Request(name, "debug")) == "debug"


def test_without_u_the_default_is_the_papers_three_layers() -> None:
    assert model_name(Request()) == DEFAULT_MODEL == "aalbert_3l"
    named = set(hubconf.__all__) - {*OWN_CHECKPOINT, "aalbert_features"}
    assert set(MODELS) == named | {"mockingjay"}
