"""results.json while a training and evaluations of its checkpoints write it at the same time."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from naming import mentions
from other_process import another_process

from s3prl_aalbert import locking
from s3prl_aalbert.downstream import recorder as recorder_module
from s3prl_aalbert.downstream.recorder import Recorder
from s3prl_aalbert.downstream.results import (
    BestStep,
    CheckpointEvaluation,
    RunnerOptions,
    RunResults,
    training_sections,
)

TRAINED: dict[str, Any] = {
    "upstream": "aalbert_local",
    "upstream_ckpt": "release",
    "upstream_feature_selection": "hidden_states",
    "upstream_feature_normalize": False,
    "upstream_trainable": True,
    "seed": 1,
    "expname": "x",
    "runner": {"total_steps": 60, "eval_step": 20},
}
EARLIER = {"checkpoint": "earlier.ckpt", "step": 8, "split": "test", "metrics": {"acc": 0.3}, "datarc": {}}

CHANGE = """
import json, sys
from pathlib import Path
from s3prl_aalbert.locking import one_at_a_time
path, entry = Path(sys.argv[1]), json.loads(sys.argv[2])
with one_at_a_time(path):
    content = json.loads(path.read_text())
    print("held", flush=True)
    sys.stdin.readline()
    path.write_text(json.dumps({**content, "evaluations": [*content.get("evaluations", []), entry]}))
"""


def recorder(folder: Path, resume: bool = False, **changed: Any) -> Recorder:
    args = {**TRAINED, **changed}
    return Recorder(folder, RunResults("t", RunnerOptions.of(args), training_sections(args)), args, resume)


def evaluator(folder: Path, checkpoint: str = "dev-best.ckpt", **changed: Any) -> Recorder:
    return recorder(folder, resume=True, mode="evaluate", init_ckpt=checkpoint, **changed)


def recorded(folder: Path) -> tuple[list[int], int | None, list[tuple[str, float]]]:
    """Return the steps of the history, the best step, and the evaluations in results.json."""
    found = RunResults.read(folder)
    evaluations = [(entry.checkpoint, entry.metrics["acc"]) for entry in found.evaluations]
    return [h.step for h in found.history], None if found.best is None else found.best.step, evaluations


def another_process_changes(path: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    """Let another process add ``EARLIER`` to results.json: it has read the file, and writes it after a line."""
    return another_process(CHANGE, path, json.dumps(EARLIER))


# ------------------------------------------------------------------------------- at the same time


def test_an_evaluation_keeps_what_the_training_wrote_meanwhile(tmp_path: Path) -> None:
    training = recorder(tmp_path)
    training.add("dev", 8, {"acc": 0.2})
    evaluation = evaluator(tmp_path)
    for step, acc in ((20, 0.3), (40, 0.5), (60, 0.6)):
        training.add("dev", step, {"acc": acc})
        training.add("test", step, {"acc": acc - 0.1})
    evaluation.add("test", 0, {"acc": 0.1})
    assert recorded(tmp_path) == ([8, 20, 20, 40, 40, 60, 60], 60, [("dev-best.ckpt", 0.1)])
    assert RunResults.read(tmp_path).best == BestStep(60, {"acc": 0.6}, {"acc": 0.5})


@pytest.mark.parametrize("resumed", [False, True])
def test_a_training_keeps_evaluations_that_finished_meanwhile(tmp_path: Path, resumed: bool) -> None:
    recorder(tmp_path).add("dev", 8, {"acc": 0.2})
    training = recorder(tmp_path, resume=resumed)
    training.add("dev", 20, {"acc": 0.3})
    evaluator(tmp_path).add("test", 0, {"acc": 0.1})
    training.add("dev", 40, {"acc": 0.4})
    evaluator(tmp_path).add("test", 0, {"acc": 0.15})
    training.add("dev", 60, {"acc": 0.5})
    assert recorded(tmp_path) == ([*([8] if resumed else []), 20, 40, 60], 60, [("dev-best.ckpt", 0.15)])


def test_two_evaluations_at_once_are_both_kept(tmp_path: Path) -> None:
    recorder(tmp_path).add("dev", 8, {"acc": 0.2})
    first, second = evaluator(tmp_path, "a.ckpt"), evaluator(tmp_path, "b.ckpt")
    first.add("test", 0, {"acc": 0.1})
    second.add("test", 0, {"acc": 0.2})
    first.add("dev", 0, {"acc": 0.3})
    assert recorded(tmp_path) == ([8], 8, [("a.ckpt", 0.1), ("b.ckpt", 0.2), ("a.ckpt", 0.3)])


def test_an_evaluation_before_the_first_record_of_a_training_is_kept(tmp_path: Path) -> None:
    """S3PRL may save states-4.ckpt before it evaluates."""
    training = recorder(tmp_path)
    evaluation = evaluator(tmp_path, "states-4.ckpt", upstream_layer_selection=3)
    training.add("dev", 8, {"acc": 0.2})
    evaluation.add("test", 0, {"acc": 0.1})
    assert recorded(tmp_path) == ([8], 8, [("states-4.ckpt", 0.1)])
    (entry,) = RunResults.read(tmp_path).evaluations
    assert entry.datarc == {"args.upstream_layer_selection": 3}, "compared with the training, not with itself"

    other = tmp_path / "other"
    training = recorder(other)
    evaluator(other, "states-4.ckpt").add("test", 0, {"acc": 0.1})
    training.add("dev", 8, {"acc": 0.2})
    assert recorded(other) == ([8], 8, [("states-4.ckpt", 0.1)])


def test_a_new_training_drops_the_evaluations_of_an_earlier_one(tmp_path: Path) -> None:
    """Its checkpoints were removed by hand, and those of the new run have the same names."""
    recorder(tmp_path).add("dev", 8, {"acc": 0.2})
    evaluator(tmp_path).add("test", 0, {"acc": 0.9})
    training = recorder(tmp_path)
    training.add("dev", 20, {"acc": 0.3})
    assert recorded(tmp_path) == ([20], 20, [])
    evaluator(tmp_path).add("test", 0, {"acc": 0.9})
    training.add("dev", 40, {"acc": 0.2})
    assert recorded(tmp_path) == ([20, 40], 20, [("dev-best.ckpt", 0.9)])


@pytest.mark.parametrize("damage", [None, "", "{", '{"format": 1, "history": 3}'])
def test_a_record_that_is_damaged_or_removed_meanwhile_is_written_again(
    tmp_path: Path, damage: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    training = recorder(tmp_path)
    training.add("dev", 8, {"acc": 0.2})
    evaluator(tmp_path).add("test", 0, {"acc": 0.1})
    training.add("dev", 20, {"acc": 0.3})
    evaluation = evaluator(tmp_path, "other.ckpt")
    for write, expected in (
        (lambda: training.add("dev", 40, {"acc": 0.4}), ([8, 20, 40], 40, [("dev-best.ckpt", 0.1)])),
        (lambda: evaluation.add("test", 0, {"acc": 0.2}), ([8, 20], 20, [("dev-best.ckpt", 0.1), ("other.ckpt", 0.2)])),
        (lambda: training.add("dev", 60, {"acc": 0.5}), ([8, 20, 40, 60], 60, [("dev-best.ckpt", 0.1)])),
    ):
        path = tmp_path / "results.json"
        path.unlink() if damage is None else path.write_text(damage)
        write()
        assert recorded(tmp_path) == expected
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == (0 if damage is None else 3)
    assert all(mentions(message, tmp_path, "results.json") for message in told)


# --------------------------------------------------------------------------------------- the lock


@pytest.mark.parametrize("evaluating", [False, True])
def test_a_change_of_another_process_is_waited_for(
    tmp_path: Path, evaluating: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = recorder(tmp_path)
    training.add("dev", 8, {"acc": 0.2})
    evaluation = evaluator(tmp_path)
    with another_process_changes(tmp_path / "results.json") as process:

        def sleep(seconds: float) -> None:
            if process.stdin is not None and not process.stdin.closed:
                process.stdin.close()  # lets it write
            real_sleep(seconds)

        real_sleep = time.sleep
        monkeypatch.setattr(locking.time, "sleep", sleep)
        evaluation.add("test", 0, {"acc": 0.1}) if evaluating else training.add("dev", 20, {"acc": 0.3})
    assert recorded(tmp_path) == (
        ([8], 8, [("earlier.ckpt", 0.3), ("dev-best.ckpt", 0.1)])
        if evaluating
        else ([8, 20], 20, [("earlier.ckpt", 0.3)])
    )


def test_a_process_that_never_ends_its_change_does_not_stop_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    training = recorder(tmp_path)
    training.add("dev", 8, {"acc": 0.2})
    monkeypatch.setattr(recorder_module, "LONGEST_WAIT", 0.0)
    with another_process_changes(tmp_path / "results.json"):
        training.add("dev", 20, {"acc": 0.3})
    assert recorded(tmp_path) == ([8, 20], 20, [])
    assert mentions(caplog.text, tmp_path / "results.json", "without a lock")


def test_where_nothing_can_be_locked_results_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".results.json.lock").mkdir()
    recorder(tmp_path).add("dev", 8, {"acc": 0.2})
    assert recorded(tmp_path) == ([8], 8, [])
    monkeypatch.setattr(locking, "fcntl", None)
    recorder(tmp_path / "new").add("dev", 8, {"acc": 0.2})
    assert recorded(tmp_path / "new") == ([8], 8, [])


# --------------------------------------------------------------------------- what an evaluation changed


@pytest.mark.parametrize(
    ("changed", "marks"),
    [
        ({"upstream_layer_selection": 3}, {"args.upstream_layer_selection": 3}),
        ({"upstream_layer_selection": 0}, {"args.upstream_layer_selection": 0}),
        ({"upstream_feature_normalize": True}, {"args.upstream_feature_normalize": True}),
        ({"upstream_trainable": False}, {"args.upstream_trainable": False}),
        ({"upstream_ckpt": "other"}, {"args.upstream_ckpt": "other"}),
        ({"runner": {"evaluate_ratio": 0.1}}, {"runner.evaluate_ratio": 0.1}),
        ({"runner": {"precision": "bf16"}}, {"runner.precision": "bf16"}),
    ],
)
def test_an_evaluation_with_other_settings_is_kept_apart(
    tmp_path: Path, changed: dict[str, Any], marks: dict[str, object]
) -> None:
    recorder(tmp_path).add("dev", 8, {"acc": 0.2})
    for acc, options in ((0.6, {}), (0.1, changed), (0.2, changed)):
        evaluator(tmp_path, **options).add("test", 0, {"acc": acc})
    kept = [(entry.metrics["acc"], entry.datarc) for entry in RunResults.read(tmp_path).evaluations]
    assert kept == [(0.6, {}), (0.2, marks)]


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 9, "expname": "y", "device": "cpu", "expdir": "elsewhere"},
        {"runner": {"evaluate_ratio": 1.0, "precision": "fp32", "total_steps": 5, "eval_step": 1}},
    ],
)
def test_settings_that_change_no_number_are_not_marked(tmp_path: Path, changed: dict[str, Any]) -> None:
    recorder(tmp_path).add("dev", 8, {"acc": 0.2})
    for acc, options in ((0.6, {}), (0.7, changed)):
        evaluator(tmp_path, **options).add("test", 0, {"acc": acc})
    entry = CheckpointEvaluation("dev-best.ckpt", None, "test", {"acc": 0.7})
    assert RunResults.read(tmp_path).evaluations == [entry]


def test_what_the_training_was_evaluated_with_is_not_marked(tmp_path: Path) -> None:
    ratio: dict[str, Any] = {"runner": {"evaluate_ratio": 0.1, "precision": "bf16"}}
    recorder(tmp_path, **ratio).add("dev", 8, {"acc": 0.2})
    evaluator(tmp_path, **ratio).add("test", 0, {"acc": 0.3})
    evaluator(tmp_path, runner={"evaluate_ratio": 1}).add("test", 0, {"acc": 0.4})
    kept = [(entry.metrics["acc"], entry.datarc) for entry in RunResults.read(tmp_path).evaluations]
    assert kept == [(0.3, {}), (0.4, {"runner.evaluate_ratio": 1, "runner.precision": "fp32"})]


@pytest.mark.parametrize("missing", [["args"], ["args.upstream_feature_normalize"], ["training", "config.runner"]])
def test_records_of_older_versions_are_read_as_before(tmp_path: Path, missing: list[str]) -> None:
    """They lack settings, which are then not compared; an earlier evaluation of the same is replaced."""
    recorder(tmp_path).add("dev", 8, {"acc": 0.2})
    content = json.loads((tmp_path / "results.json").read_text())
    for name in missing:
        section, _, key = name.rpartition(".")
        del (content[section] if section else content)[key]
    content["evaluations"] = [{**EARLIER, "checkpoint": "dev-best.ckpt"}]
    (tmp_path / "results.json").write_text(json.dumps(content))
    evaluator(tmp_path).add("test", 0, {"acc": 0.4})
    assert RunResults.read(tmp_path).evaluations == [CheckpointEvaluation("dev-best.ckpt", None, "test", {"acc": 0.4})]
