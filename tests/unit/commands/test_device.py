"""``--device`` means the same to every command."""

from __future__ import annotations

import pytest
import torch

from s3prl_aalbert.cli import main
from s3prl_aalbert.device import checked_device
from s3prl_aalbert.errors import AalbertError


@pytest.mark.parametrize("name", ["gpu", "mps", "meta", "cpu:0", "cuda:x", "cuda:", "cuda:-1", "CPU", "", "cuda:1"])
@pytest.mark.parametrize("numbered", [True, False])
def test_a_device_is_cuda_or_cpu(name: str, numbered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(AalbertError, match=f"--device {name}: expected cuda or cpu|has 1 GPU"):
        checked_device(name, numbered)


def test_what_this_machine_has_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert checked_device(None) == checked_device("cpu") == "cpu"
    with pytest.raises(AalbertError, match="--device cuda: this machine has no usable GPU"):
        checked_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert checked_device(None) == "cuda"
    assert checked_device("cuda:1", numbered=True) == "cuda:1"


@pytest.mark.parametrize("name", ["gpu", "mps", "meta"])
@pytest.mark.parametrize(
    "command",
    [
        "pretrain -g debug -n x --speech .",
        "distill --teacher fbank -g debug -n x --speech .",
        "downstream -m train -n x -u fbank -d example",
        "probe -u fbank -n x",
        "features . out -u fbank",
        "profile --measure -u aalbert_tiny",
    ],
)
def test_every_command_says_it_in_one_sentence(
    name: str, command: str, capfd: pytest.CaptureFixture[str], tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*command.split(), "--device", name]) == 2
    told = capfd.readouterr().err
    assert f"aalbert {command.split()[0]}: --device {name}: expected cuda or cpu" in told.splitlines()[-1]
    assert "Traceback" not in told and not list(tmp_path.rglob("*.ckpt"))
