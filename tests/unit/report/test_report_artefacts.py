"""What the report takes from a run's folder beside its results; the results themselves, written and read."""

from __future__ import annotations

import argparse
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from naming import naming
from report_runs import write_featurizer, write_results
from torch.utils.tensorboard import SummaryWriter

from s3prl_aalbert.downstream.result_tables import Confusion, ProbeResult, read_probes, write_probes
from s3prl_aalbert.downstream.results import (
    BestStep,
    CheckpointEvaluation,
    DataFacts,
    Evaluation,
    ModelFacts,
    ResultsError,
    RunnerOptions,
    RunResults,
)
from s3prl_aalbert.report.artefacts import (
    add_up,
    first_layer,
    learned_weights,
    most_confused,
    pretraining_scalars,
    running_mean,
    shares_of,
)
from s3prl_aalbert.report.page import short_path, short_paths
from s3prl_aalbert.report.runs import DownstreamRun, UnusableRun, read_folder
from s3prl_aalbert.report.sections import FigureData, confusions
from s3prl_aalbert.report.style import Styles
from s3prl_aalbert.report.write import summarise_runs


def read(folder: Path) -> DownstreamRun:
    run = read_folder(folder)
    assert isinstance(run, DownstreamRun)
    return run


# ------------------------------------------------------------------------------------------- the schema


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = RunResults(
        "aalbert_phone",
        RunnerOptions("aalbert_local", "model", None, "hidden_states", 3, True, False, 7, "name"),
        training={"runner": {"total_steps": 10}},
        config={"datarc": {"audio": "speech"}},
        data=DataFacts(8, 1, 1, 39, 4, 0.5, {"silent": {"count": 1, "names": ["a"]}}, {"utterances": 1, "speakers": 1}),
        model=ModelFacts(768, 480, 1000, [768, 768]),
        majority={"dev": 0.1, "test": 0.2},
        history=[Evaluation(5, "train", {"loss": math.inf}), Evaluation(5, "dev", {"acc": 0.5})],
        best=BestStep(5, {"acc": 0.5}, {"acc": 0.25, "per": 1.5}),
        evaluations=[CheckpointEvaluation("dev-best.ckpt", None, "test", {"acc": 0.25})],
    )
    written.write(tmp_path)
    assert RunResults.read(tmp_path) == written
    by_task = RunResults(
        "aalbert_probe", data={"phone": DataFacts(1), "speaker": DataFacts(2)}, majority={"phone": {"dev": 0.5}}
    )
    by_task.write(tmp_path)
    assert RunResults.read(tmp_path) == by_task


def test_probes_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = [
        ProbeResult("phone", 0, "linear", 0.5, 0.25, 40, 100),
        ProbeResult("phone", 1, "linear", 0.5, None, 1, 9),
    ]
    write_probes(tmp_path, written)
    assert read_probes(tmp_path) == written
    assert (tmp_path / "probes.csv").read_text().splitlines()[1] == "phone,0,linear,0.500000,0.250000,40,100"


@pytest.mark.parametrize("text", ["", ",a,b\na,1\nb,1,2\n", ",a,b\na,1,2\nc,3,4\n", ",a\na,-1\n", ",a\na,x\n"])
def test_a_table_that_is_no_confusion_matrix_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "confusion.csv").write_text(text)
    with pytest.raises(ResultsError, match=r"confusion\.csv"):
        Confusion.read(tmp_path)


# ----------------------------------------------------------------------------------------- layer weights


def test_layer_weights_are_those_of_the_best_checkpoint_as_s3prl_applies_them(tmp_path: Path) -> None:
    """S3PRL's Featurizer sums with the softmax of its weights: of log 1, log 2 and log 5 that is 1/8, 2/8 and 5/8."""
    folder = write_results(tmp_path, upstream="wav2vec2")
    assert learned_weights(read(folder)) is None, "no checkpoint was kept"
    torch.save({"Featurizer": {"weights": torch.tensor([0.0, 9.0, 0.0])}}, folder / "states-9.ckpt")
    write_featurizer(folder, [math.log(1), math.log(2), math.log(5)])
    assert learned_weights(read(folder)) == pytest.approx([0.125, 0.25, 0.625])
    (folder / "dev-best.ckpt").unlink()
    assert learned_weights(read(folder)) == pytest.approx(torch.tensor([0.0, 9.0, 0.0]).softmax(0).tolist())


def test_a_run_of_one_layer_has_no_layer_weights(tmp_path: Path) -> None:
    folder = write_results(tmp_path, upstream="wav2vec2", selection="last_hidden_state")
    write_featurizer(folder, [0.0, 1.0])
    assert learned_weights(read(folder)) is None
    torch.save({"Featurizer": {}, "Args": argparse.Namespace()}, write_results(tmp_path / "b") / "dev-best.ckpt")
    assert learned_weights(read(tmp_path / "b")) is None


def test_layers_are_counted_from_the_input_embedding(tmp_path: Path) -> None:
    runs = {name: read(write_results(tmp_path / name, selection=name)) for name in ("hidden_states", "layer_states")}
    assert {name: first_layer(run) for name, run in runs.items()} == {"hidden_states": 0, "layer_states": 1}


def test_a_damaged_checkpoint_names_itself(tmp_path: Path) -> None:
    (write_results(tmp_path) / "dev-best.ckpt").write_bytes(b"nothing")
    with pytest.raises(UnusableRun, match=naming("dev-best.ckpt")):
        learned_weights(read(tmp_path))


# -------------------------------------------------------------------------------------------- confusions


def test_confusions_add_up_by_class_and_scale_by_row() -> None:
    first = Confusion(("a", "b"), np.array([[3, 1], [0, 2]]))
    second = Confusion(("b", "c"), np.array([[1, 3], [0, 0]]))
    total = add_up([first, second])
    assert total.labels == ("a", "b", "c") and total.counts.tolist() == [[3, 1, 0], [0, 3, 3], [0, 0, 0]]
    assert shares_of(total).tolist() == [[0.75, 0.25, 0], [0, 0.5, 0.5], [0, 0, 0]]
    assert most_confused(total, 5) == [("b", "c", 0.5), ("a", "b", 0.25)]


def test_the_confusion_matrix_is_the_models_and_not_that_of_better_features(tmp_path: Path) -> None:
    for name, upstream, test in (
        ("f", "fbank", 0.9),
        ("u", "aalbert_3l", 0.8),
        ("m", "aalbert_tiny", 0.6),
        ("h", "hubert", 0.7),
    ):
        folder = write_results(tmp_path / name, upstream=upstream, test=test)
        Confusion(("a", "b"), np.array([[3, 1], [0, 2]])).write(folder)
    summary = summarise_runs([tmp_path])
    styles = Styles(tuple(model.label for model in summary.models), ("as they are", "weighted sum with layer 0"))
    (figure,) = confusions(FigureData(list(summary.rows), [], styles))
    assert "aalbert_tiny (weighted sum with layer 0), the trained model of this project" in figure.caption  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------ small things


def test_curves_are_read_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As at the end of `aalbert sweep`; TensorBoard itself tells where each file ends."""
    with SummaryWriter(str(tmp_path)) as writer:
        for step in (1, 2):
            writer.add_scalar("pretrain/loss", 3 / step, step)
    logging.getLogger("tensorboard").setLevel(logging.NOTSET)
    with caplog.at_level(logging.INFO):
        assert pretraining_scalars(tmp_path) == {"loss": [(1, 3.0), (2, 1.5)]}
    assert not caplog.records


def test_a_running_mean_shrinks_towards_the_ends() -> None:
    values = [float(number % 7) for number in range(100)]  # a window of 2 to either side
    smooth = running_mean(values)
    assert smooth[0] == pytest.approx(np.mean(values[:3])) and smooth[50] == pytest.approx(np.mean(values[48:53]))
    assert running_mean([1.0, 5.0]) == [1.0, 5.0]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/result/run: is damaged", "…/result/run: is damaged"),
        ("no file (/a/b/c/d.yaml), 3/4 of it", "no file (…/c/d.yaml), 3/4 of it"),
        ("result/pretrain/mine", "result/pretrain/mine"),
        ("/top", "/top"),
    ],
)
def test_a_page_shows_the_end_of_an_absolute_path_alone(text: str, shown: str) -> None:
    assert short_paths(text) == shown


@pytest.mark.parametrize(
    ("path", "shown"), [("/home/me/my result/a b/c d", "…/a b/c d"), ("a/b/c", "a/b/c"), ("/a/b", "/a/b"), ("x", "x")]
)
def test_a_folder_with_spaces_is_shortened_as_well(path: str, shown: str) -> None:
    assert short_path(path) == short_path(Path(path)) == shown
