"""The classifiers of benchmarks/linear_probes.py against scikit-learn, its labels and tables against hand-made ones."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import classifiers
import linear_probes as probes
import numpy as np
import pytest
import torch
from naming import naming
from sklearn.linear_model import LogisticRegression
from subjects import add_arguments, subjects

from s3prl_aalbert.downstream.alignments import outputs_of_grid_frames
from s3prl_aalbert.downstream.phone.dataset import PhoneLabels
from s3prl_aalbert.downstream.results import DataFacts
from s3prl_aalbert.downstream.task import TaskData
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus


def problem(seed: int, number: int = 300, dim: int = 12, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(number, dim, generator=generator) @ torch.randn(dim, dim, generator=generator) + 3
    centres = torch.randn(classes, dim, generator=generator)
    return inputs, (inputs @ centres.T + 4 * torch.randn(number, classes, generator=generator)).argmax(1)


def test_logistic_regression_is_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifiers, "GRADIENT", 1e-5)
    monkeypatch.setattr(classifiers, "ITERATIONS", 1000)
    inputs, wanted = problem(0)
    ours = classifiers.Softmax(inputs, wanted[:, None], 5, 0.1)
    scaled = ((inputs - inputs.mean(0)) / (inputs.std(0, unbiased=False) + 1e-6)).double().numpy()
    theirs = LogisticRegression(C=0.1, tol=1e-10, max_iter=5000).fit(scaled, wanted.numpy())
    np.testing.assert_allclose(ours.weight.T, theirs.coef_, atol=2e-3)
    np.testing.assert_allclose(ours.bias - ours.bias.mean(), theirs.intercept_ - theirs.intercept_.mean(), atol=2e-3)


def test_outputs_are_regressions_of_their_own_and_unlabelled_inputs_do_not_count() -> None:
    inputs, first = problem(1)
    second = problem(2)[1]
    targets = torch.stack([first, second], 1)
    targets[::3, 1] = classifiers.IGNORED
    both = classifiers.Softmax(inputs, targets, 5, 0.1)
    alone = classifiers.Softmax(inputs, first[:, None], 5, 0.1)
    assert both.weight.shape == (12, 10)
    torch.testing.assert_close(both.weight[:, :5], alone.weight, atol=0.02, rtol=0)
    scaled = both.scaler(inputs)[second != 9][[i for i in range(300) if i % 3]].numpy()
    theirs = LogisticRegression(C=0.1, max_iter=5000).fit(scaled, second[[i for i in range(300) if i % 3]].numpy())
    np.testing.assert_allclose(both.weight[:, 5:].T, theirs.coef_, atol=0.02)


def test_networks_learn_what_no_linear_classifier_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exclusive or in two folds; the second output asks for the opposite."""
    monkeypatch.setattr(classifiers, "STEPS", 100)
    inputs = torch.randn(450, 2, generator=torch.Generator().manual_seed(0)).sign()
    inputs = inputs + 0.1 * torch.randn(450, 2, generator=torch.Generator().manual_seed(1))
    wanted = (inputs.prod(1) > 0).long()
    targets = torch.stack([wanted, 1 - wanted], 1)
    parts = torch.arange(450).chunk(3)
    folds = [classifiers.Fold(parts[i], parts[(i + 1) % 3], parts[(i + 2) % 3]) for i in range(2)]
    answers = classifiers.answers_of_networks(inputs, targets, folds, 2, 0)
    for fold, found in zip(folds, answers, strict=True):
        assert found.shape == (150, 2) and (found == targets[fold.test]).float().mean() > 0.95
    linear = classifiers.Softmax(inputs, targets, 2, 1.0)
    assert (linear(inputs) == targets).float().mean() < 0.8


def test_each_ten_ms_frame_has_an_output_of_its_own() -> None:
    token, output, outputs = outputs_of_grid_frames(8, 480, 3)
    assert (token.tolist(), output.tolist(), outputs) == ([0, 0, 0, 1, 1, 1, 2, 2], [0, 1, 2, 0, 1, 2, 0, 1], 3)
    token, output, outputs = outputs_of_grid_frames(8, 600, 2)  # 37.5 ms: centres 5 to 35 ms, 45 to 75 ms
    assert (token.tolist(), output.tolist(), outputs) == ([0, 0, 0, 0, 1, 1, 1, 1], [0, 1, 2, 3, 0, 1, 2, 3], 4)
    token, output, outputs = outputs_of_grid_frames(5, 320, 2)  # the last token answers past the end
    assert (token.tolist(), output.tolist(), outputs) == ([0, 0, 1, 1, 1], [0, 1, 0, 1, 1], 2)
    token, output, outputs = outputs_of_grid_frames(3, 160, 3)
    assert (token.tolist(), output.tolist(), outputs) == ([0, 1, 2], [0, 0, 0], 1)


def hand_made() -> TaskData:
    """Two speakers, an utterance each: 2 tokens and 1 token of 30 ms."""
    labels = {
        "a/x": PhoneLabels(np.array([1, -100]), np.array([0, 1, 1, 2, 2])),
        "b/x": PhoneLabels(np.array([2]), np.array([2, -100, 0])),
    }
    lengths, speakers = {"a/x": 800, "b/x": 480}, {"a/x": "a", "b/x": "b"}
    return TaskData(("p", "q", "r"), {}, None, labels.__getitem__, lengths, DataFacts(), speakers)  # type: ignore[arg-type]


def test_labels_of_tokens() -> None:
    frames = probes.label_frames(hand_made(), 480, [2, 1], "grid")
    assert frames.targets.tolist() == [[0, 1, 1], [2, 2, -100], [2, -100, 0]]
    scores = probes._by_speaker(np.array([[0, 1, 2], [2, 0, 0], [2, 1, 1]]), frames)
    assert scores == {"a": (3, 5), "b": (1, 2)}
    frames = probes.label_frames(hand_made(), 480, [2, 1], "token")
    assert frames.targets.tolist() == [[1], [-100], [2]]
    assert probes._by_speaker(np.array([[1], [2], [0]]), frames) == {"a": (4, 5), "b": (1, 2)}


def test_some_utterances_of_other_speech_by_a_table_of_labels(tmp_path: Path) -> None:
    speech = synthesise_corpus(
        tmp_path / "speech", num_speakers=4, utterances_per_speaker=3, seconds=(0.5, 0.6), seed=1
    )
    names = sorted(f"{path.parent.name}/{path.stem}" for path in speech.rglob("*.wav"))
    table = tmp_path / "phones.tsv"
    table.write_text("".join(f"{name}\t0.0\t0.2\taa\n{name}\t0.2\t0.4\tsil\n" for name in names))
    data = probes.load_phones(speech, 480, probes.Setting(alignments=str(table), utterances=2))
    assert list(data.num_samples) == [name for index, name in enumerate(names) if index % 3 < 2]
    assert len(set(data.speakers.values())) == 4 and "aa" in data.classes


def test_one_run_records_every_speaker_and_goes_on(
    tiny_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, value in (("STEPS", 50), ("HIDDEN", 8), ("BATCH", 16)):
        monkeypatch.setattr(classifiers, name, value)
    timit = synthesise_corpus(tmp_path / "timit", num_speakers=4, utterances_per_speaker=2, seconds=(0.5, 0.6), seed=1)
    out = tmp_path / "probes.csv"
    argv = ["linear_probes", "--timit", str(timit), "-k", str(tiny_release), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", argv)
    probes.main()
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    models = {f"{tiny_release.name}@7": 4, f"untrained {tiny_release.name}@7": 4, "aalbert_features": 1}
    assert {row["model"] for row in rows} == set(models)
    assert len(rows) == sum(models.values()) * 2 * 4  # layers, classifiers, speakers
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 1 + sum(models.values()) * 2
    trained = next(line for line in shown if line.startswith(f"{tiny_release.name}@7, linear") and " 2  " in line)
    assert trained.count("±") == 3
    before = out.read_bytes()
    monkeypatch.setattr(probes, "all_states", None)  # nothing is left to run
    probes.main()
    assert out.read_bytes() == before and capsys.readouterr().out.splitlines() == shown
    argv[2] = str(next(path for path in timit.iterdir() if path.is_dir()))
    with pytest.raises(AalbertError, match=naming(out, "3 speakers", "--out")):
        probes.main()


def test_a_checkpoint_at_every_frame_has_a_twin_of_its_own(tiny_release: Path) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    name = f"{tiny_release.name}@7, every frame"
    found = {one.name: one for one in subjects(parser.parse_args(["-k", str(tiny_release), "--every-frame"]))}
    assert list(found) == ["aalbert_features", f"untrained {name}", name]
    rates = {one.build().get_downsample_rates("hidden_states") for one in found.values() if one.name.endswith(name)}  # type: ignore[operator]
    assert rates == {160}
