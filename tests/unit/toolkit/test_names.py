"""What S3PRL evaluates: names that exist and plain values, never a program."""

from __future__ import annotations

import io
import math
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from naming import naming
from torch import nn

from s3prl_aalbert import toolkit
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit.names import UnknownNameError, evaluate, key_of, literal, load_plain

Evaluate = Callable[..., Any]


@pytest.fixture
def in_s3prl() -> Evaluate:
    """Return ``evaluate(text, **names)`` as a module of S3PRL calls ``eval(text)``, with such globals and a self."""
    toolkit.activate()
    module = ModuleType("s3prl.downstream.pretended")
    source = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 3)])
    def get_train_dataloader(self):
        return "loader"
    def evaluated(self, text):
        return eval(text)
class Data:
    pass
def get_Adam():
    pass
_get_hidden = get_Adam
"""
    vars(module).update(nn=nn, os=os, math=math, torch=torch, eval=evaluate)
    exec(source, vars(module))
    model = module.Model()
    return lambda text: model.evaluated(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[(512,10,5)] + [(512,3,2)] * 2", [(512, 10, 5), (512, 3, 2), (512, 3, 2)]),
        ("-math.inf", -math.inf),
        ("nn.ReLU", nn.ReLU),
        ("2.5e-3", 2.5e-3),
    ],
)
def test_what_s3prl_means_is_evaluated_as_before(in_s3prl: Evaluate, text: str, value: Any) -> None:
    assert in_s3prl(text) == value


def test_models_parts_and_own_functions_are_found_by_name(in_s3prl: Evaluate) -> None:
    assert in_s3prl("Model").__name__ == "Model"
    assert in_s3prl("get_Adam").__name__ == "get_Adam"
    assert in_s3prl("self.layers[1]").out_features == 3
    assert len(in_s3prl("self.layers")) == 2
    assert in_s3prl("self.get_train_dataloader")() == "loader"


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').mkdir('ran')",
        "Model if __import__('os').mkdir('ran') else 1",
        "[os.mkdir('ran') for _ in [1]]",
        "(lambda: os.mkdir('ran'))()",
        "os.mkdir",
        "exec",
        "os",
        "torch.hub.load",
        "torch.load",
        "self.load_state_dict",
        "self.__class__",
        "self.layers.__init__.__globals__",
        "self.layers[0].forward.__globals__['os']",
        "Model.__init__",
        "Data",
        "_get_hidden",
        "evaluate",
        "f'{os.mkdir(\"ran\")}'",
        "Model\nModel",
        "[0] * 10**9",
        "9 ** 9 ** 9",
        "(" * 5000,
        "'" + "a" * 5000 + "'",
        "",
        None,
        7,
    ],
)
def test_everything_else_is_refused_in_one_sentence(in_s3prl: Evaluate, tmp_path: Path, monkeypatch, text: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError) as told:
        in_s3prl(text)
    assert "\n" not in str(told.value) and len(str(told.value)) < 400
    assert not list(tmp_path.iterdir())


def test_the_message_names_what_was_probably_meant(in_s3prl: Evaluate) -> None:
    with pytest.raises(UnknownNameError, match=naming("get_Adm", 'did you mean "get_Adam"')):
        in_s3prl("get_Adm")


def test_plain_values_alone_are_literals() -> None:
    assert literal("{'a': [1, -2.5, None, True]}") == {"a": [1, -2.5, None, True]}
    for text in ("math.inf", "int", "[x]", "f()"):
        with pytest.raises(ValueError):
            literal(text)


def test_every_module_of_s3prl_that_evaluates_is_guarded() -> None:
    """Those imported so far, and one that is imported now."""
    toolkit.activate()
    import s3prl.downstream.model
    import s3prl.optimizers
    import s3prl.run_downstream
    import s3prl.schedulers
    import s3prl.upstream.hubert.hubert_model
    import s3prl.utility.helper

    for name in ("downstream.model", "downstream.runner", "optimizers", "run_downstream", "schedulers"):
        assert vars(sys.modules[f"s3prl.{name}"])["eval"] is evaluate, name
    assert vars(s3prl.upstream.hubert.hubert_model)["eval"] is evaluate
    assert "eval" not in vars(sys.modules["s3prl.hub"])
    with pytest.raises(UnknownNameError):
        s3prl.optimizers.get_optimizer([nn.Linear(1, 1)], 3, {"name": "Adam or print()"})


def test_the_size_of_convolutions_in_a_checkpoint_runs_nothing(tmp_path: Path) -> None:
    """DistilHuBERT's, HuBERT's and others' configurations hold it as a text."""
    toolkit.activate()
    from s3prl.upstream.distiller.model import DistillerConfig, DistillerModel

    config = DistillerConfig({"extractor_conv_feature_layers": f"__import__('os').mkdir('{tmp_path}/ran')"})
    with pytest.raises(AalbertError, match="is not a name"):
        DistillerModel(config)
    assert not list(tmp_path.iterdir())


class Payload:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


def test_pickled_lists_of_s3prls_tasks_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The speaker tasks keep their lists in pickles, at a place that a configuration may name."""
    monkeypatch.chdir(tmp_path)
    for content, good in (({"a": [Path("x")], "n": 1.5}, True), (Payload(), False)):
        Path("list.pkl").write_bytes(pickle.dumps(content))
        with Path("list.pkl").open("rb") as file:
            if good:
                assert load_plain(file) == content
            else:
                with pytest.raises(pickle.UnpicklingError):
                    load_plain(file)
    assert not Path("ran").exists()


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
def test_pickled_paths_of_every_python_are_read(module: str) -> None:
    """Python 3.13 names the module of its paths in another way than those before and after it."""
    written = f"(lp0\nc{module}\nPosixPath\np1\n(Vx\np2\ntp3\nRp4\na.".encode()
    assert load_plain(io.BytesIO(written)) == [Path("x")]


def test_the_key_of_a_name_is_found() -> None:
    config = {"runner": {"n": 3}, "downstream_expert": {"modelrc": {"select": "Bad", "list": ["x", "y"]}}}
    assert key_of("Bad", config) == "downstream_expert.modelrc.select"
    assert key_of("get_y_loader", config) == "downstream_expert.modelrc.list.1"
    assert key_of("nothing", config) == ""
    config["downstream_expert"] = {"labels": {"0": "a", "1": "h"}, "modelrc": {"of": "torch", "act": "torch.tanh"}}
    assert key_of("torch.tanh", config) == "downstream_expert.modelrc.act"
    assert key_of("nn.tanh", config) == "", "a letter of a word is no part of it"
