"""Registration against stand-ins for S3PRL's hub and for a task."""

import importlib
import pickle
import sys
import types

import pytest

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit import register


def entry(**kwargs):
    return kwargs


def test_upstreams_become_attributes_and_again_changes_nothing():
    hub = types.ModuleType("hub")
    for _ in range(2):
        register.register_upstreams(hub, {"aalbert_a": entry, "aalbert_b": entry})
    assert hub.aalbert_a is entry and hub.aalbert_b is entry


def test_an_upstream_of_s3prl_is_never_shadowed():
    hub = types.ModuleType("hub")
    hub.taken = theirs = object()
    with pytest.raises(AalbertError, match='"taken"'):
        register.register_upstreams(hub, {"free": entry, "taken": entry})
    assert hub.taken is theirs and not hasattr(hub, "free")


def test_every_upstream_entry_has_a_name_of_the_plugin():
    entries = register.upstream_entries()
    assert {"aalbert_local", "aalbert_features", "aalbert_6l", "aalbert_mockingjay_6l"} <= set(entries)
    assert all(name.partition("_")[0] == "aalbert" and callable(call) for name, call in entries.items())


@pytest.fixture
def task(tmp_path, monkeypatch):
    """A registered task whose module counts how often it is run."""
    source = "import standin_count\nstandin_count.runs += 1\nclass DownstreamExpert: pass\n"
    (tmp_path / "standin_expert.py").write_text(source)
    (tmp_path / "standin_count.py").write_text("runs = 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    register.register_downstreams({"standin": "standin_expert"})
    yield "s3prl.downstream.standin.expert"
    for name in [name for name in sys.modules if "standin" in name]:
        del sys.modules[name]


def test_a_task_is_imported_only_when_asked_for_and_only_once(task):
    assert "standin_expert" not in sys.modules
    found = importlib.import_module(task)
    assert found is importlib.import_module(task) is importlib.import_module("standin_expert")
    assert sys.modules[task] is found
    assert importlib.import_module("standin_count").runs == 1


def test_a_task_keeps_its_own_identity_so_that_workers_can_unpickle_it(task):
    expert = importlib.import_module(task)
    assert expert.__name__ == expert.__spec__.name == "standin_expert"
    assert b"standin_expert" in pickle.dumps(expert.DownstreamExpert)
    assert b"s3prl" not in pickle.dumps(expert.DownstreamExpert)


def test_other_names_stay_with_s3prl(task):
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("s3prl.downstream.standin.other")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("s3prl.downstream.unheard_of.expert")


def test_a_task_of_s3prl_is_never_shadowed():
    before = list(sys.meta_path)
    with pytest.raises(AalbertError, match='"example"'):
        register.register_downstreams({"example": "standin_expert"})
    assert sys.meta_path == before


@pytest.mark.parametrize(
    "path",
    [
        "toolkit.activate",
        "toolkit.compat.apply",
        "toolkit.register.DOWNSTREAMS",
        "toolkit.register.register_downstreams",
        "toolkit.register.register_upstreams",
        "toolkit.register.upstream_entries",
        "toolkit.optimizers.get_aalbert_adamw",
        "run_downstream.main",
    ],
)
def test_what_files_of_other_people_import_stays(path):
    """Those that `aalbert link` has changed, and programs that use the plugin."""
    module, _, name = f"s3prl_aalbert.{path}".rpartition(".")
    assert hasattr(importlib.import_module(module), name)
