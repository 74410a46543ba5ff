"""Reading run folders: what counts as a run, and what is said of those that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from naming import naming
from report_runs import write_probe_run, write_results

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.report.runs import collect


def test_every_kind_of_run_is_found_below_the_given_folder(tmp_path: Path) -> None:
    write_results(tmp_path / "a" / "phone", test=0.5, seed=3)
    write_probe_run(tmp_path / "b" / "probe", [("phone", 0, "linear", 0.4, 0.41)])
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "manifest.tsv").write_text("path\n")
    (tmp_path / ".hidden").mkdir()
    write_results(tmp_path / ".hidden" / "phone")
    found = collect([tmp_path])
    assert [run.folder.name for run in found.downstream] == ["phone"]
    assert found.downstream[0].results.seed == 3
    assert found.downstream[0].test["acc"] == 0.5
    assert [(p.task, p.layer, p.classifier, p.dev_acc, p.test_acc) for p in found.probing[0].probes] == [
        ("phone", 0, "linear", 0.4, 0.41)
    ]
    assert [run.folder.name for run in found.pretraining] == ["c"]
    assert not found.skipped


def test_a_run_named_twice_counts_once(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "run")
    found = collect([tmp_path, folder, folder / "results.json"])
    assert len(found.downstream) == 1


def _edited(folder: Path, **changes: object) -> None:
    write_results(folder)
    content = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**content, **changes}))


DAMAGES = {
    "cut": ("is damaged", lambda folder: (folder / "results.json").write_text('{"format": 1, "ta')),
    "list": ("holds list", lambda folder: (folder / "results.json").write_text("[]")),
    "format": ("has format 2, expected 1", lambda folder: _edited(folder, format=2)),
    "no best": ("no best step yet", lambda folder: _edited(folder, best=None)),
    "no test": (
        "unfinished: it has no test of its best step yet",
        lambda folder: _edited(folder, best={"step": 5, "dev": {"acc": 0.5}, "test": None}),
    ),
    "per cent": (
        "is 48.0, expected within [0, 1]",
        lambda folder: _edited(folder, best={"step": 5, "dev": {"acc": 0.5}, "test": {"acc": 48.0}}),
    ),
    "nan": (
        "is nan, expected within [0, 1]",
        lambda folder: _edited(folder, best={"step": 5, "dev": {"acc": float("nan")}, "test": {"acc": 0.5}}),
    ),
    "no task": ('"task" is None', lambda folder: _edited(folder, task=None)),
    "history": ('"history" holds', lambda folder: _edited(folder, history=["step 5"])),
    "history, a number": ('"history" is 0.5, expected a list', lambda folder: _edited(folder, history=0.5)),
    "started": (
        "it has no results.json yet",
        lambda folder: (folder / "args_2026.yaml").write_text("upstream: fbank\n"),
    ),
    "empty probes": ("holds no probe yet", lambda folder: write_probe_run(folder, [])),
    "untested probe": (
        "1 of 2 probes have no test",
        lambda folder: write_probe_run(folder, [("phone", 0, "linear", 0.5, 0.4), ("phone", 1, "linear", 0.5, None)]),
    ),
    "probes alone": ("results.json is damaged", lambda folder: (folder / "probes.csv").write_text("task,layer\n")),
    "no number": (
        '"best.test" is not a mapping of numbers',
        lambda folder: _edited(folder, best={"step": 5, "dev": {"acc": 0.5}, "test": {"acc": 0.5, "per": "low"}}),
    ),
    "majority": ('"majority" is not a mapping of numbers', lambda folder: _edited(folder, majority={"test": [1]})),
    "an option": ('"seed" is', lambda folder: _edited(folder, args={"seed": [1]})),
    "probe": ("line 2: accuracy 0.5, 7.0", lambda folder: write_probe_run(folder, [("phone", 1, "linear", 0.5, 7.0)])),
    "probe text": ("line 2: no layer", lambda folder: write_probe_run(folder, [("phone", "", "linear", 0.5, 0.7)])),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_run_is_listed_with_its_reason_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    reason, damage = DAMAGES[name]
    write_results(tmp_path / "good")
    (tmp_path / "bad").mkdir()
    damage(tmp_path / "bad")
    found = collect([tmp_path])
    assert [run.folder.name for run in found.downstream] == ["good"]
    assert [item.folder.name for item in found.skipped] == ["bad"]
    assert reason in found.skipped[0].reason


@pytest.mark.parametrize(("total", "finished"), [(1000, True), (1400, True), (1500, False), (5000, False)])
def test_a_run_is_unfinished_while_an_evaluation_is_due(tmp_path: Path, total: int, finished: bool) -> None:
    training = {"runner": {"total_steps": total, "eval_step": 500}}
    folder = write_results(tmp_path / "run", history=[(500, 0.3), (1000, 0.4)], training=training)
    write_results(tmp_path / "other")
    found = collect([tmp_path])
    assert (folder in [run.folder for run in found.downstream]) == finished
    assert [item.reason for item in found.skipped] == (
        [] if finished else [f"unfinished: last evaluated at step 1000 of {total}"]
    )


def test_nothing_usable_is_an_error_that_names_the_reason(tmp_path: Path) -> None:
    with pytest.raises(AalbertError, match=naming(tmp_path)):
        collect([tmp_path])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "results.json").write_text("{")
    with pytest.raises(AalbertError, match=naming("1 runs", "bad", "damaged")):
        collect([tmp_path])


def test_a_misspelt_folder_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    write_results(tmp_path / "downstream")
    with pytest.raises(AalbertError, match='did you mean "downstream"'):
        collect([tmp_path / "downstraem"])
