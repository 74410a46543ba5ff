"""Splits, scoring, results and bad data of the phone and speaker tasks."""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from naming import mentions, naming

from s3prl_aalbert.downstream.audio_dataset import check_paths
from s3prl_aalbert.downstream.phone.config import PhoneDataConfig
from s3prl_aalbert.downstream.phone.expert import DownstreamExpert as PhoneExpert
from s3prl_aalbert.downstream.phone.expert import collapse, edit_distance
from s3prl_aalbert.downstream.recorder import Recorder
from s3prl_aalbert.downstream.results import BestStep, DataFacts, ResultsError, RunnerOptions, RunResults
from s3prl_aalbert.downstream.speaker.dataset import SpeakerDataConfig, load_speaker_data
from s3prl_aalbert.downstream.speaker.frame import DownstreamExpert as FrameExpert
from s3prl_aalbert.downstream.speaker.utterance import DownstreamExpert as UtteranceExpert
from s3prl_aalbert.downstream.splits import nested_subset, split_by_speaker, split_within_speakers
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import from_dict, packaged_configs, read_yaml
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus
from s3prl_aalbert.toolkit.optimizers import get_aalbert_adamw

SPEAKERS = {f"s{s}/u{u}": f"s{s}" for s in range(4) for u in range(10)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tasks") / "speech"
    return synthesise_corpus(root, num_speakers=4, utterances_per_speaker=10, seconds=(0.5, 0.9), seed=3)


class Logger:
    def add_scalar(self, *args: Any, **kwargs: Any) -> None:
        pass


# ------------------------------------------------------------------------------------------------ splits


def test_utterances_of_each_speaker_are_divided_8_1_1() -> None:
    split, skipped = split_within_speakers(SPEAKERS, seed=1)
    assert not skipped and set(split) == set(SPEAKERS)
    for speaker in set(SPEAKERS.values()):
        parts = [split[name] for name in SPEAKERS if SPEAKERS[name] == speaker]
        assert [parts.count(p) for p in ("train", "dev", "test")] == [8, 1, 1]
    assert split_within_speakers(SPEAKERS, seed=1)[0] == split
    assert split_within_speakers(SPEAKERS, seed=2)[0] != split


def test_speakers_with_too_few_utterances_are_named() -> None:
    split, skipped = split_within_speakers({**SPEAKERS, "x/1": "x", "x/2": "x"}, seed=1)
    assert skipped == ["x"] and "x/1" not in split


def test_folds_are_disjoint_by_speaker_and_cover_everything() -> None:
    tested = []
    for fold in range(4):
        split = split_by_speaker(SPEAKERS, seed=0, fold=fold, num_folds=4)
        members = {p: {SPEAKERS[n] for n in split if split[n] == p} for p in ("train", "dev", "test")}
        assert not members["train"] & members["test"] and not members["train"] & members["dev"]
        assert not members["dev"] & members["test"]
        tested += members["test"]
    assert sorted(tested) == sorted(set(SPEAKERS.values()))


def test_smaller_training_shares_lie_inside_larger_ones() -> None:
    names = [f"u{i}" for i in range(200)]
    subsets = [set(nested_subset(names, f, seed=4)) for f in (0.005, 0.05, 0.5, 1.0)]
    assert [len(s) for s in subsets] == [1, 10, 100, 200]
    assert all(small < large for small, large in pairwise(subsets))


# ----------------------------------------------------------------------------------------------- scoring


def phone_expert(corpus: Path, expdir: Path, rate: int = 480, **datarc: Any) -> PhoneExpert:
    settings = {"audio": str(corpus), "phone_set": "39", "train_batch_size": 4, "eval_batch_size": 4, **datarc}
    config = {"datarc": settings, "modelrc": {"hidden_size": 16}}
    return PhoneExpert(6, rate, config, str(expdir), seed=5)


def features_of(wav: np.ndarray, rate: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(wav))
    return torch.randn(round(len(wav) / rate), 6, generator=generator)


def test_a_classifier_of_another_token_label_is_refused(corpus: Path, tmp_path: Path) -> None:
    each, centre = (phone_expert(corpus, tmp_path, 480, token_label=kind) for kind in ("each", "centre"))
    classes = len(each.data.classes)
    for ours, other in ((each, centre), (centre, each)):
        sizes = [module.model[-1].out_features for module in (other, ours)]
        assert sorted(sizes) == [classes, 3 * classes]
        with pytest.raises(AalbertError, match=naming(*sizes, "datarc.token_label")):
            ours.load_state_dict(other.state_dict())
    again = phone_expert(corpus, tmp_path, 480)
    again.load_state_dict(each.state_dict())


@pytest.mark.parametrize("token_label", ["each", "centre"])
@pytest.mark.parametrize("rate", [160, 320, 480, 600])
def test_grid_accuracy_is_that_of_a_plain_loop(corpus: Path, tmp_path: Path, rate: int, token_label: str) -> None:
    expert = phone_expert(corpus, tmp_path, rate, token_label=token_label)
    outputs = {160: 1, 320: 2, 480: 3, 600: 4}[rate] if token_label == "each" else 1
    records: dict[str, list] = defaultdict(list)
    correct = frames = token_correct = tokens = 0
    losses = []
    for wavs, labels, names in expert.get_dataloader("test"):
        features = [features_of(wav, rate) for wav in wavs]
        with torch.no_grad():
            loss = expert("test", features, labels, names, records)
        batch_logits, batch_labels = [], []
        for wav, feature, label in zip(wavs, features, labels, strict=True):
            logits = expert.model(feature).unflatten(-1, (outputs, -1))
            answers = logits.argmax(-1).tolist()
            first = {}
            for frame in range(-(-len(wav) // 160)):
                token = min(len(answers) - 1, (frame * 160 + 80) // rate)
                output = min(frame - first.setdefault(token, frame), outputs - 1)
                if label.grid[frame] >= 0:
                    frames += 1
                    correct += answers[token][output] == label.grid[frame]
            told = label.token.reshape(-1, outputs)[: len(answers)]
            for answer, wanted in zip(answers, told, strict=False):
                for one, label_of_one in zip(answer, wanted, strict=True):
                    if label_of_one >= 0:
                        tokens += 1
                        token_correct += one == label_of_one
            batch_logits.append(logits.flatten(0, 1))
            batch_labels.append(torch.from_numpy(told).flatten())
        reference = F.cross_entropy(torch.cat(batch_logits), torch.cat(batch_labels))
        torch.testing.assert_close(loss, reference.detach())
        losses.append(float(loss))
    metrics = expert.metrics(records)
    assert frames > 100
    assert metrics["acc"] == pytest.approx(correct / frames)
    assert metrics["acc_token"] == pytest.approx(token_correct / tokens)


def test_evaluation_takes_all_utterances_the_longest_first(corpus: Path, tmp_path: Path) -> None:
    """So that batches have little padding."""
    expert = phone_expert(corpus, tmp_path)
    for split in ("dev", "test"):
        loaded = [pair for wavs, _, names in expert.get_dataloader(split) for pair in zip(wavs, names, strict=True)]
        lengths = [len(wav) for wav, _ in loaded]
        assert lengths == sorted(lengths, reverse=True) and len(set(lengths)) > 1
        assert sorted(name for _, name in loaded) == sorted(expert.data.names[split])


def test_evaluating_on_other_data_leaves_the_split_of_the_training_alone(corpus: Path, tmp_path: Path) -> None:
    expert = phone_expert(corpus, tmp_path, split_seed=1)
    trained_on = (tmp_path / "split.tsv").read_text()
    section = {"datarc": {"audio": str(corpus), "split_seed": 2}, "modelrc": {"classifier": "linear"}}
    kwargs = {"runner": {}, "mode": "evaluate", "init_ckpt": "dev-best.ckpt", "seed": 1}
    other = PhoneExpert(8, 480, section, str(tmp_path), **kwargs)
    assert other.data.names != expert.data.names
    assert (tmp_path / "split.tsv").read_text() == trained_on


def test_results_and_artefacts(corpus: Path, tmp_path: Path) -> None:
    expert = phone_expert(corpus, tmp_path)
    for split in ("dev", "test"):
        records: dict[str, list] = defaultdict(list)
        with torch.no_grad():
            for wavs, labels, names in expert.get_dataloader(split):
                expert(split, [features_of(w, 480) for w in wavs], labels, names, records)
        saved = expert.log_records(split, records=records, logger=Logger(), global_step=3)
        assert saved == (["dev-best.ckpt"] if split == "dev" else [])
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["best"]["step"] == 3 and content["best"]["test"]["acc"] <= 1
    confusion = list(csv.reader((tmp_path / "confusion.csv").open()))
    counts = np.array([[int(x) for x in row[1:]] for row in confusion[1:]])
    assert counts.trace() / counts.sum() == pytest.approx(content["best"]["test"]["acc"])
    assert confusion[0][1:] == [row[0] for row in confusion[1:]]
    grid = np.concatenate([expert.data.label_of(n).grid for n in expert.data.names["train"]])
    best = np.bincount(grid[grid >= 0]).argmax()
    test = np.concatenate([expert.data.label_of(n).grid for n in expert.data.names["test"]])
    assert content["majority"]["test"] == pytest.approx((test[test >= 0] == best).mean())


def plain_distance(a: list[int], b: list[int]) -> int:
    table = [[i + j if i * j == 0 else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
    return table[-1][-1]


def test_edit_distance_against_the_textbook_table() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        a, b = (generator.integers(0, 3, generator.integers(0, 8)).tolist() for _ in range(2))
        assert edit_distance(a, b) == plain_distance(a, b), (a, b)
    assert collapse(np.array([1, 1, 2, 2, 1])) == [1, 2, 1]


def test_speaker_tasks_ignore_how_batches_are_composed(corpus: Path, tmp_path: Path) -> None:
    for kind in (UtteranceExpert, FrameExpert):
        expert = kind(6, 480, {"datarc": {"audio": str(corpus)}, "modelrc": {}}, str(tmp_path), seed=1)
        together: dict[str, list] = defaultdict(list)
        alone: dict[str, list] = defaultdict(list)
        with torch.no_grad():
            for wavs, labels, names in expert.get_dataloader("test"):
                features = [features_of(w, 480) for w in wavs]
                expert("test", features, labels, names, together)
                for feature, label, name in zip(features, labels, names, strict=True):
                    loss = expert("test", [feature], [label], [name], alone)
                    pooled = feature.mean(0, keepdim=True) if kind is UtteranceExpert else feature
                    target = torch.full((len(pooled),), label)
                    torch.testing.assert_close(loss, F.cross_entropy(expert.model(pooled), target))
        assert expert.metrics(together) == pytest.approx(expert.metrics(alone))


# ----------------------------------------------------------------------------------------------- results


def recorder(folder: Path, args: dict | None = None, config: dict | None = None, resume: bool = False) -> Recorder:
    args = args or {}
    return Recorder(folder, RunResults("t", RunnerOptions.of(args), config=config or {}), args, resume)


def test_history_survives_a_resume_and_test_never_decides(tmp_path: Path) -> None:
    first = recorder(tmp_path, resume=False)
    assert first.add("dev", 10, {"acc": 0.6}) and not first.add("test", 10, {"acc": 0.1})
    assert not first.add("dev", 20, {"acc": 0.5}) and not first.add("test", 20, {"acc": 0.9})
    again = recorder(tmp_path, resume=True)
    assert not again.add("dev", 20, {"acc": 0.55}), "step 20 was done again after a resume from 10"
    steps = [(h.step, h.split, h.metrics["acc"]) for h in again.results.history]
    assert steps == [(10, "dev", 0.6), (10, "test", 0.1), (20, "test", 0.9), (20, "dev", 0.55)]
    assert again.results.best == BestStep(10, {"acc": 0.6}, {"acc": 0.1})


@pytest.mark.parametrize("later", [0.6, 0.5, 0.7])
def test_what_a_killed_run_found_best_but_did_not_save_is_found_again(tmp_path: Path, later: float) -> None:
    """Dev is recorded before S3PRL saves dev-best.ckpt: the same step after a resume has to save it."""
    killed = recorder(tmp_path, resume=False)
    assert killed.add("dev", 60, {"acc": 0.3}) and killed.add("dev", 120, {"acc": 0.6})
    again = recorder(tmp_path, resume=True)  # from states-60.ckpt
    assert again.add("dev", 120, {"acc": later})
    assert not again.add("test", 120, {"acc": 0.2})
    assert again.results.best == BestStep(120, {"acc": later}, {"acc": 0.2})


def test_a_best_step_beyond_the_resumed_state_is_forgotten(tmp_path: Path) -> None:
    """Its weights may lie in dev-best.ckpt, so that an earlier step cannot be the best of what is kept."""
    killed = recorder(tmp_path, resume=False)
    for step, acc in ((60, 0.5), (120, 0.6), (180, 0.7)):
        killed.add("dev", step, {"acc": acc})
    again = recorder(tmp_path, resume=True)  # from states-120.ckpt
    again.add("train", 150, {"acc": 0.9})
    assert again.add("dev", 180, {"acc": 0.58}), "dev-best.ckpt is replaced"
    assert again.add("dev", 240, {"acc": 0.59}) and not again.add("dev", 300, {"acc": 0.55})
    assert again.best_step == 240


def test_evaluations_survive_a_resume(tmp_path: Path) -> None:
    recorder(tmp_path, resume=False).add("dev", 10, {"acc": 0.5})
    args = {"mode": "evaluate", "init_ckpt": "dev-best.ckpt"}
    recorder(tmp_path, args, resume=True).add("test", 0, {"acc": 0.4})
    recorder(tmp_path, resume=True).add("dev", 20, {"acc": 0.6})
    (kept,) = json.loads((tmp_path / "results.json").read_text())["evaluations"]
    assert kept["checkpoint"] == "dev-best.ckpt" and kept["metrics"] == {"acc": 0.4}


def test_evaluating_a_finished_run_leaves_its_history_alone(tmp_path: Path) -> None:
    """S3PRL's ``-m evaluate`` reports step 0."""
    trained = recorder(tmp_path, {"seed": 3}, {"a": 1})
    for step, acc in ((10, 0.4), (20, 0.6)):
        trained.add("dev", step, {"acc": acc})
        trained.add("test", step, {"acc": acc - 0.1})
    before = json.loads((tmp_path / "results.json").read_text())
    args = {"mode": "evaluate", "init_ckpt": "dev-best.ckpt", "seed": 9}
    for acc in (0.1, 0.2):  # a second evaluation replaces the first
        evaluation = recorder(tmp_path, args, {"a": 2}, resume=True)
        assert not evaluation.add("test", 0, {"acc": acc})
    after = json.loads((tmp_path / "results.json").read_text())
    entry = {"checkpoint": "dev-best.ckpt", "step": None, "split": "test", "metrics": {"acc": 0.2}, "datarc": {}}
    assert after.pop("evaluations") == [entry | {"pretraining_overlap": None}]
    assert after == before


def test_evaluations_of_other_data_are_kept_apart_and_say_which(tmp_path: Path) -> None:
    phone = {"audio": "a", "fold": 0, "exclude": ["sa1"]}
    recorder(tmp_path, None, {"datarc": {"phone": phone, "num_workers": 0}}).add("dev", 10, {"acc": 0.5})
    args = {"mode": "evaluate", "init_ckpt": "dev-best.ckpt"}
    for acc, changed in ((0.1, {}), (0.2, {"audio": "b"}), (0.3, {"fold": 1, "exclude": None}), (0.4, {"audio": "b"})):
        section = {"datarc": {"phone": {**phone, **changed}, "num_workers": 0}}
        recorder(tmp_path, args, section, resume=True).add("test", 0, {"acc": acc})
    kept = json.loads((tmp_path / "results.json").read_text())["evaluations"]
    assert [(entry["metrics"]["acc"], entry["datarc"]) for entry in kept] == [
        (0.1, {}),
        (0.3, {"phone.fold": 1, "phone.exclude": None}),
        (0.4, {"phone.audio": "b"}),
    ]


@pytest.mark.parametrize("by_task", [False, True])
def test_an_evaluation_records_its_own_overlap_with_the_pre_training(tmp_path: Path, by_task: bool) -> None:
    """That of the training stays; a record of an earlier version, which has none, is replaced."""

    def evaluating(found: dict[str, int] | str | None, args: dict | None = None) -> Recorder:
        facts = DataFacts(pretraining_overlap=found)
        results = RunResults("t", data={"phone": facts, "speaker": DataFacts()} if by_task else facts)
        return Recorder(tmp_path, results, args or {}, resume=bool(args))

    evaluating({"utterances": 0, "speakers": 0}).add("dev", 10, {"acc": 0.5})
    args = {"mode": "evaluate", "init_ckpt": "dev-best.ckpt"}
    evaluating(None, args).add("test", 0, {"acc": 0.1})
    content = json.loads((tmp_path / "results.json").read_text())
    del content["evaluations"][0]["pretraining_overlap"]
    (tmp_path / "results.json").write_text(json.dumps(content))
    heard = {"utterances": 3, "speakers": 2}
    for split in ("test", "dev"):
        evaluating(heard, args).add(split, 0, {"acc": 0.4})
    kept = RunResults.read(tmp_path)
    of_test = {"phone": heard, "speaker": None} if by_task else heard
    assert [(e.split, e.pretraining_overlap) for e in kept.evaluations] == [("test", of_test), ("dev", None)]
    data = kept.data["phone"] if isinstance(kept.data, dict) else kept.data
    assert data.pretraining_overlap == {"utterances": 0, "speakers": 0}


@pytest.mark.parametrize("damaged", [3, [], {"utterances": [1]}, {"phone": {"utterances": None}}])
def test_a_damaged_overlap_is_told(tmp_path: Path, damaged: object) -> None:
    recorder(tmp_path).add("dev", 10, {"acc": 0.5})
    recorder(tmp_path, {"mode": "evaluate", "init_ckpt": "x.ckpt"}, resume=True).add("test", 0, {"acc": 0.4})
    content = json.loads((tmp_path / "results.json").read_text())
    content["evaluations"][0]["pretraining_overlap"] = damaged
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(ResultsError, match=naming("results.json", "evaluations.pretraining_overlap")):
        RunResults.read(tmp_path)


def test_a_run_does_not_go_on_with_another_split(corpus: Path, tmp_path: Path) -> None:
    """It would be tested on what it was trained on."""
    phone_expert(corpus, tmp_path, num_folds=4)
    before = (tmp_path / "split.tsv").read_text()
    section = {"datarc": {"audio": str(corpus), "num_folds": 4}, "modelrc": {"hidden_size": 16}}
    kwargs = {"runner": {}, "mode": "train", "init_ckpt": str(tmp_path / "states-10.ckpt"), "seed": 5}
    PhoneExpert(6, 480, section, str(tmp_path), **kwargs)
    assert (tmp_path / "split.tsv").read_text() == before
    other = {**section, "datarc": {**section["datarc"], "fold": 2}}
    moved = naming(tmp_path / "split.tsv", 40, "before", "now", "-n")  # each of the four speakers moves
    with pytest.raises(AalbertError, match=moved):
        PhoneExpert(6, 480, other, str(tmp_path), **kwargs)
    with pytest.raises(AalbertError, match=naming(tmp_path / "split.tsv", 20, "trained on")):  # -i: dev and test
        PhoneExpert(6, 480, other, str(tmp_path / "new"), **kwargs)
    assert (tmp_path / "split.tsv").read_text() == before and not (tmp_path / "new" / "split.tsv").exists()
    (tmp_path / "split.tsv").write_text("utterance\tspeaker\tsplit\nu1\ts1\n")
    with pytest.raises(AalbertError, match=naming("line 2 is damaged")):
        PhoneExpert(6, 480, section, str(tmp_path), **kwargs)


def test_a_checkpoint_is_not_tested_on_what_it_was_trained_on(corpus: Path, tmp_path: Path) -> None:
    trained = phone_expert(corpus, tmp_path, num_folds=4)
    section = {"datarc": {"audio": str(corpus), "num_folds": 4, "fold": 2}, "modelrc": {"hidden_size": 16}}
    kwargs = {"runner": {}, "mode": "evaluate", "init_ckpt": str(tmp_path / "dev-best.ckpt"), "seed": 5}
    with pytest.raises(AalbertError, match=naming(tmp_path / "split.tsv", 10, trained.data.names["train"][0])):
        PhoneExpert(6, 480, section, str(tmp_path), **kwargs, evaluate_split="test")
    tested = PhoneExpert(6, 480, section, str(tmp_path), **kwargs, evaluate_split="train")
    assert set(tested.data.names["train"]) & set(trained.data.names["test"])
    elsewhere = {**kwargs, "init_ckpt": str(tmp_path / "moved" / "dev-best.ckpt")}  # what it was trained on is unknown
    PhoneExpert(6, 480, section, str(tmp_path), **elsewhere)


def test_the_training_split_can_be_evaluated(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """-m evaluate -t train: each utterance once, whole, with all metrics."""
    section = {"datarc": {"audio": str(corpus), "max_seconds": 0.6, "train_batch_size": 3}, "modelrc": {}}
    kwargs = {"runner": {}, "mode": "evaluate", "init_ckpt": "dev-best.ckpt", "seed": 1, "evaluate_split": "train"}
    speaker = UtteranceExpert(6, 480, section, str(tmp_path / "speaker"), **kwargs)
    loaded = [pair for wavs, _, names in speaker.get_dataloader("train") for pair in zip(names, wavs, strict=True)]
    assert sorted(name for name, _ in loaded) == sorted(speaker.data.names["train"])
    assert all(len(wav) == speaker.data.num_samples[name] for name, wav in loaded)
    phone = PhoneExpert(6, 480, {"datarc": {"audio": str(corpus)}, "modelrc": {}}, str(tmp_path), **kwargs)
    records: dict[str, list] = defaultdict(list)
    with torch.no_grad():
        for wavs, labels, names in phone.get_dataloader("train"):
            phone("train", [features_of(w, 480) for w in wavs], labels, names, records)
    phone.log_records("train", records=records, logger=Logger(), global_step=0)
    assert "aalbert_phone train of dev-best.ckpt: loss " in capsys.readouterr().out
    (entry,) = json.loads((tmp_path / "results.json").read_text())["evaluations"]
    assert entry["split"] == "train" and {"acc", "acc_token", "per"} <= entry["metrics"].keys()


@pytest.mark.parametrize("step", [20, None])
def test_an_evaluation_names_the_step_of_its_checkpoint(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], step: int | None
) -> None:
    checkpoint = tmp_path / "dev-best\x1b.ckpt"
    states = {"Args": argparse.Namespace(seed=1), "Downstream": {}} | ({} if step is None else {"Step": step})
    torch.save(states, checkpoint)
    kwargs = {"runner": {}, "mode": "evaluate", "init_ckpt": str(checkpoint), "seed": 1}
    section = {"datarc": {"audio": str(corpus)}, "modelrc": {"classifier": "linear"}}
    expert = PhoneExpert(6, 480, section, str(tmp_path), **kwargs)
    records: dict[str, list] = defaultdict(list)
    with torch.no_grad():
        for wavs, labels, names in expert.get_dataloader("test"):
            expert("test", [features_of(w, 480) for w in wavs], labels, names, records)
    expert.log_records("test", records=records, logger=Logger(), global_step=0)
    place = f"of {tmp_path}/dev-best\\x1b.ckpt" + (", step 20" if step else "")
    assert f"aalbert_phone test {place}: loss " in capsys.readouterr().out
    (entry,) = json.loads((tmp_path / "results.json").read_text())["evaluations"]
    assert entry["step"] == step


# ---------------------------------------------------------------------------------------------- bad data


def write(path: Path, seconds: float = 0.5, rate: int = 16000, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path))).normal(0, 0.1, (int(seconds * rate), channels))
    soundfile.write(path, noise, rate)


def test_bad_files_among_good_ones_are_counted_and_named(tmp_path: Path) -> None:
    for speaker in ("a", "b", "c"):
        for index in range(4):
            write(tmp_path / "speech" / speaker / f"u{index}.wav")
            (tmp_path / "speech" / speaker / f"u{index}.phn").write_text(f"0 4000 aa\n4000 8000 {speaker}\n")
    write(tmp_path / "speech" / "a" / "eight.wav", rate=8000)
    (tmp_path / "speech" / "a" / "eight.phn").write_text("0 8000 aa\n")
    write(tmp_path / "speech" / "a" / "stereo.wav", channels=2)
    (tmp_path / "speech" / "a" / "stereo.phn").write_text("0 8000 aa\n")
    write(tmp_path / "speech" / "b" / "nolabels.wav")
    write(tmp_path / "speech" / "b" / "late.wav")
    (tmp_path / "speech" / "b" / "late.phn").write_text("0 16000 aa\n")
    (tmp_path / "speech" / "c" / "broken.wav").write_bytes(b"RIFF this is no audio")
    (tmp_path / "speech" / "c" / "broken.phn").write_text("0 8000 aa\n")
    expert = phone_expert(tmp_path / "speech", tmp_path / "exp", num_folds=3)
    found = {reason: entry["names"] for reason, entry in expert.data.facts.left_out.items()}
    assert found == {"no_labels": ["b/nolabels"], "undecodable": ["c/broken"], "labels_past_end": ["b/late"]}
    used = [name for names in expert.data.names.values() for name in names]
    assert len(used) == len(set(used)) == 14
    assert {"a/eight", "a/stereo"} <= set(used)


@pytest.mark.parametrize(
    ("datarc", "named"),
    [
        ({"num_folds": 9}, ["too few", 9]),
        ({"phone_set": "40"}, ["phone_set", 40]),
        ({"phone_sett": "39"}, ['did you mean "phone_set"']),
        (
            {"audio": "/nowhere"},
            ["datarc.audio", "/nowhere", '-o "config.downstream_expert.datarc.audio='],
        ),
        ({"audio": ["/", "/nowhere"]}, ["datarc.audio", "/nowhere"]),
        ({"alignments": "/nowhere.tsv"}, ["datarc.alignments", "/nowhere.tsv", "-o"]),
        (
            {"split": "lists", "train_list": "none.txt", "test_list": "none.txt"},
            ["train_list", "none.txt"],
        ),
        ({"split": "lists"}, ["train_list"]),
    ],
)
def test_wrong_phone_settings_are_one_sentence(corpus: Path, tmp_path: Path, datarc: dict, named: list) -> None:
    with pytest.raises(AalbertError, match=naming(*named)):
        phone_expert(corpus, tmp_path, **datarc)


def test_a_folder_that_is_not_there_is_named_by_its_key_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "timit").mkdir()
    for task, config in (("phone", PhoneDataConfig), ("speaker", SpeakerDataConfig)):
        where = f"downstream_expert.datarc.{task}"
        with pytest.raises(AalbertError) as caught:
            check_paths(config(audio=f"{tmp_path}/timti"), where)
        option = f"-o \"config.{where}.audio='PATH'\""
        assert mentions(str(caught.value), f"{where}.audio", f"{tmp_path}/timti", 'did you mean "timit"', option)


def test_lists_that_the_split_does_not_read_need_not_be_there(tmp_path: Path) -> None:
    settings = {"audio": str(tmp_path), "train_list": "/nowhere.txt", "test_list": "/nowhere.txt"}
    check_paths(PhoneDataConfig(split="speaker", **settings), "datarc")
    with pytest.raises(AalbertError, match="train_list is '/nowhere"):
        check_paths(PhoneDataConfig(split="lists", **settings), "datarc")
    with pytest.raises(AalbertError, match="train_list is '/nowhere"):
        check_paths(SpeakerDataConfig(**settings), "datarc")


def test_cpc_lists_with_dev_taken_out_of_train(corpus: Path, tmp_path: Path) -> None:
    names = sorted(f"{p.parent.name}/{p.stem}" for p in corpus.rglob("*.wav"))
    (tmp_path / "train.txt").write_text("\n".join(names[:30]))
    (tmp_path / "test.txt").write_text("\n".join(names[30:]))
    lists = {"train_list": str(tmp_path / "train.txt"), "test_list": str(tmp_path / "test.txt")}
    with pytest.raises(AalbertError, match="test split is empty"):  # the last ten are of a speaker not in training
        load_speaker_data(SpeakerDataConfig(audio=str(corpus), **lists), 0, tmp_path)
    (tmp_path / "train.txt").write_text("\n".join(names[::2]))
    (tmp_path / "test.txt").write_text("\n".join(names[1::2]))
    data = load_speaker_data(SpeakerDataConfig(audio=str(corpus), **lists), 0, tmp_path)
    assert sorted(data.names["test"]) == names[1::2]
    assert sorted([*data.names["train"], *data.names["dev"]]) == names[::2]
    (tmp_path / "test.txt").write_text(names[0])
    with pytest.raises(AalbertError, match=naming("1 utterances", names[0])):
        load_speaker_data(SpeakerDataConfig(audio=str(corpus), **lists), 0, tmp_path)


def test_speakers_from_utt2spk(corpus: Path, tmp_path: Path) -> None:
    data = load_speaker_data(
        SpeakerDataConfig(audio=str(corpus), speaker_from="utt2spk", speakers_file=str(corpus / "utt2spk")), 0, tmp_path
    )
    assert len(data.classes) == 4 and sum(map(len, data.names.values())) == 40
    with pytest.raises(AalbertError, match="two speakers"):
        only = {f"{p.stem}": "one" for p in corpus.rglob("*.wav")}
        (tmp_path / "one").write_text("\n".join(f"{u} {s}" for u, s in only.items()))
        load_speaker_data(
            SpeakerDataConfig(audio=str(corpus), speaker_from="utt2spk", speakers_file=str(tmp_path / "one")),
            0,
            tmp_path,
        )


# ---------------------------------------------------------------------------- configurations and the like


@pytest.mark.parametrize(
    "path", sorted(packaged_configs("downstream_configs").glob("aalbert_*.yaml")), ids=lambda p: p.stem
)
def test_every_packaged_task_config_is_valid(path: Path) -> None:
    config = read_yaml(path)
    assert {"runner", "optimizer", "downstream_expert"} <= set(config)
    datarc = config["downstream_expert"]["datarc"]
    if "probe" in path.stem:
        from_dict(PhoneDataConfig, datarc["phone"], "phone")
        from_dict(SpeakerDataConfig, datarc["speaker"], "speaker")
    else:
        from_dict(PhoneDataConfig if "phone" in path.stem else SpeakerDataConfig, datarc, path.stem)


@pytest.mark.parametrize(
    "setting", [{"upstream_lr": -1.0}, {"upstream_lr": "1e-5"}, {"weight_decay": "1e-2"}, {"lr": float("nan")}]
)
def test_a_rate_that_is_none_is_refused(setting: dict) -> None:
    (name,) = setting
    with pytest.raises(AalbertError, match=naming(f"optimizer.{name}", setting[name], "number")):
        get_aalbert_adamw([torch.nn.Linear(2, 2) for _ in range(3)], 1, **{"lr": 1e-3, **setting})


def test_a_rate_of_zero_keeps_the_upstream_as_it_is() -> None:
    optimizer = get_aalbert_adamw([torch.nn.Linear(2, 2) for _ in range(3)], 1, lr=1e-3, upstream_lr=0)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 1e-3, 0]


def test_upstream_learns_at_its_own_rate() -> None:
    modules = [torch.nn.Linear(2, 2) for _ in range(3)]
    before = [module.weight.clone() for module in modules]
    optimizer = get_aalbert_adamw(modules, 10, lr=1e-2, upstream_lr=1e-4, weight_decay=0.0)
    sum(module.weight.sum() for module in modules).backward()
    optimizer.step()
    moved = [(module.weight - old).abs().max().item() for module, old in zip(modules, before, strict=True)]
    assert moved == pytest.approx([1e-4, 1e-2, 1e-2], rel=1e-3), "the first step of Adam moves by the learning rate"
    with pytest.raises(AalbertError, match="not trained"):
        get_aalbert_adamw(modules[1:], 10, upstream_lr=1e-4)


# ----------------------------------------------------------------------------------------------- classes


def test_weights_of_other_classes_are_refused(corpus: Path, tmp_path: Path) -> None:
    """Of another number or the same: trained on speakers 0 to 2, evaluated on 1 to 3."""

    def expert(name: str, *speakers: str) -> UtteranceExpert:
        for speaker in speakers:
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / speaker).symlink_to(corpus / speaker)
        config = {"datarc": {"audio": str(tmp_path / name)}, "modelrc": {}}
        return UtteranceExpert(6, 480, config, str(tmp_path / f"{name}_run"), seed=5)

    first, second, third, fourth = sorted(path.name for path in corpus.iterdir() if path.is_dir())
    trained = expert("trained", first, second, third)
    torch.save(trained.state_dict(), tmp_path / "states.ckpt")
    states = torch.load(tmp_path / "states.ckpt", weights_only=True)
    trained.load_state_dict(states)
    with pytest.raises(AalbertError) as error:
        expert("others", second, third, fourth).load_state_dict(states)
    assert mentions(
        str(error.value), "aalbert_speaker_utterance", "3 classes", f"data: {fourth}", f"checkpoint: {first}"
    )
    with pytest.raises(AalbertError, match=naming("2 classes", 3, f"checkpoint: {third}")):
        expert("fewer", first, second).load_state_dict(states)
    del states["_extra_state"]  # of a checkpoint that was written before names were kept
    trained.load_state_dict(states)


def test_the_settings_of_the_training_stand_in_the_record_of_a_run(tmp_path: Path) -> None:
    written = RunResults(
        "aalbert_phone",
        training={"optimizer": {"lr": 5e-4}},
        config={"datarc": {"audio": "there"}, "modelrc": {"classifier": "linear"}},
    )
    written.write(tmp_path)
    recorded = json.loads((tmp_path / "results.json").read_text())
    assert recorded["config"]["optimizer"]["lr"] == 5e-4 and recorded["config"]["datarc"]["audio"] == "there"
    assert RunResults.read(tmp_path) == written
