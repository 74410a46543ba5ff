"""A start that fails before its first step leaves no file of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3prl_aalbert.toolkit.leftovers import no_leftovers


@pytest.mark.parametrize(
    ("error", "trained", "left"),
    [
        (ValueError, False, set()),
        (KeyboardInterrupt, False, set()),
        (ValueError, True, {"args_2.yaml", "config_2.yaml"}),
    ],
)
def test_what_a_failed_start_wrote_goes_and_the_rest_stays(
    error: type[BaseException], trained: bool, left: set[str], tmp_path: Path
) -> None:
    earlier = {"args_1.yaml", "config_1.yaml", "events.out.tfevents.1", "states-5.ckpt"}
    for name in earlier:
        (tmp_path / name).touch()
    with pytest.raises(error), no_leftovers(tmp_path, lambda: trained):
        for name in ("args_2.yaml", "config_2.yaml", "notes.txt"):
            (tmp_path / name).touch()
        raise error
    assert {path.name for path in tmp_path.iterdir()} == earlier | {"notes.txt"} | left


def test_a_run_that_ends_well_keeps_its_files(tmp_path: Path) -> None:
    with no_leftovers(tmp_path, lambda: False):
        (tmp_path / "args_1.yaml").touch()
    with no_leftovers(None, lambda: False):
        pass
    assert (tmp_path / "args_1.yaml").exists()
