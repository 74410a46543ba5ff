"""What a task's own mistakes are reported as."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from naming import mentions

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit.building import misfits_reported

EXPERT = """import json, torch

def build(datarc):
    torch.ones(2) @ torch.ones(3)
    return datarc['no']

def read(text):
    return json.loads(text)
"""


def test_a_mistake_of_a_users_expert_has_its_place(tmp_path: Path) -> None:
    """Of its innermost line, also where torch or Python raises the error."""
    path = tmp_path / "mine" / "expert.py"
    path.parent.mkdir()
    path.write_text(EXPERT)
    spec = importlib.util.spec_from_file_location("expert", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(AalbertError) as told, misfits_reported("-d mine: cannot work"):
        module.build({})
    assert mentions(str(told.value), "-d mine: cannot work", "RuntimeError", "mine/expert.py:4", "--verbose")
    with pytest.raises(AalbertError) as told, misfits_reported("-d mine: cannot work"):
        module.read("no JSON")
    assert mentions(str(told.value), "JSONDecodeError", "mine/expert.py:8", "--verbose")
    module.torch = type("Torch", (), {"ones": staticmethod(lambda size: torch.ones(1))})
    with pytest.raises(AalbertError) as told, misfits_reported("-d mine: cannot work"):
        module.build({})
    assert mentions(str(told.value), "KeyError", "no", "mine/expert.py:5")
