"""S3PRL's hub, of which only what is asked for is imported, against the whole of it."""

from __future__ import annotations

import inspect
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from s3prl_aalbert import toolkit
from s3prl_aalbert.toolkit.hub import plugin_upstreams, s3prl_upstreams
from s3prl_aalbert.upstream import hubconf


@pytest.fixture(scope="module")
def lazy() -> Any:
    toolkit.activate()
    from s3prl import hub

    return hub


@pytest.fixture(scope="module")
def whole(lazy: Any) -> types.ModuleType:
    """S3PRL's hub as it is on its own."""
    module = types.ModuleType("whole")
    exec(Path(lazy.__file__).read_text(), vars(module))
    return module


def public(names: Any) -> set[str]:
    return {name for name in names if not name.startswith("_")} - {"options", *hubconf.__all__}


def test_it_has_the_names_and_values_of_the_whole_hub(lazy: Any, whole: types.ModuleType) -> None:
    assert public(dir(lazy)) == public(vars(whole))
    for name in public(vars(whole)):
        assert getattr(lazy, name) is getattr(whole, name), name
    with pytest.raises(AttributeError, match="no_such_upstream"):
        _ = lazy.no_such_upstream


@pytest.mark.parametrize("registered", [True, False])
def test_its_options_are_all(lazy: Any, whole: types.ModuleType, registered: bool) -> None:
    ours = {name for name in hubconf.__all__ if not (registered and name.endswith(("_local", "_url")))}
    found = lazy.options(only_registered_ckpt=registered)
    assert set(found) == set(whole.options(registered)) | ours


def test_a_star_takes_all_of_it(lazy: Any, whole: types.ModuleType) -> None:
    taken: dict[str, Any] = {}
    exec("from s3prl.hub import *", taken)
    assert public(vars(whole)) <= taken.keys()


def test_the_names_of_upstreams_are_those_of_the_hub(lazy: Any, whole: types.ModuleType) -> None:
    """Read from the sources: what the hub has of functions, but for a tool that is no upstream."""
    functions = {name for name in public(vars(whole)) if inspect.isfunction(getattr(whole, name))}
    assert functions - set(s3prl_upstreams()) == {"load_and_convert_fairseq_ckpt"}
    assert set(s3prl_upstreams()) <= functions
    assert list(plugin_upstreams()) == hubconf.__all__


def test_an_upstream_imports_only_its_own() -> None:
    code = (
        "import sys; from s3prl_aalbert import toolkit; toolkit.activate()\n"
        "from s3prl import hub; import s3prl.run_downstream\n"
        "assert hub.fbank and hub.aalbert_local and 'hubert' in dir(hub)\n"
        "heavy = {'transformers', 'sklearn', 'torch._dynamo', 's3prl.upstream.hubert.hubconf'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=300)
