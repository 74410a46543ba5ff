"""Seeds to mean and spread, and the names of models, settings and tasks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from report_runs import write_probes, write_release, write_results

from s3prl_aalbert.analysis.models import model_key, natural_order
from s3prl_aalbert.analysis.report import Summary, summarise_runs
from s3prl_aalbert.analysis.settings import describe_setting
from s3prl_aalbert.analysis.spread import Spread, say_spread
from s3prl_aalbert.analysis.summary import full_rows


def rows_by_setting(summary: Summary) -> dict[tuple[str, str, str], Any]:
    return {(row.task, row.model.label, row.setting): row for row in summary.rows}


def test_mean_and_spread_agree_with_numbers_worked_out_by_hand() -> None:
    spread = Spread.of([0.50, 0.53, 0.59])
    assert spread.mean == pytest.approx(0.54)
    assert (spread.low, spread.high, spread.count) == (0.50, 0.59, 3)
    assert spread.std == pytest.approx(0.0021**0.5)  # (0.04^2 + 0.01^2 + 0.05^2) / 2
    assert spread.percent() == "54.0 [50.0-59.0]"
    assert Spread.of([0.25]).percent() == "25.0"
    assert Spread.of([0.25]).std == 0


def test_seeds_make_one_row_and_settings_make_several(tmp_path: Path) -> None:
    ckpt = write_release(tmp_path / "aalbert_3l", "aalbert_3l")
    for seed, test in enumerate((0.50, 0.53, 0.59)):
        write_results(tmp_path / f"ws{seed}", upstream="aalbert_local", ckpt=ckpt, test=test, seed=seed, per=1 - test)
    write_results(tmp_path / "ft", upstream="aalbert_local", ckpt=ckpt, test=0.7, trainable=True)
    write_results(tmp_path / "fbank", upstream="fbank", test=0.4, majority=0.11)
    rows = rows_by_setting(summarise_runs([tmp_path]))
    assert set(rows) == {
        ("phonemes", "aalbert_3l", "weighted sum with layer 0"),
        ("phonemes", "aalbert_3l", "fine-tuned, weighted sum with layer 0"),
        ("phonemes", "fbank", "as they are"),
    }
    row = rows["phonemes", "aalbert_3l", "weighted sum with layer 0"]
    assert row.test == Spread.of([0.50, 0.53, 0.59])
    assert row.others["per"].mean == pytest.approx(0.46)
    assert rows["phonemes", "fbank", "as they are"].majority == pytest.approx(0.11)


def test_folds_and_split_seeds_are_repetitions_but_other_keys_are_not(tmp_path: Path) -> None:
    for fold in range(4):
        write_results(tmp_path / f"f{fold}", datarc={"fold": fold, "num_folds": 4, "split_seed": fold}, test=0.5)
    write_results(tmp_path / "wide", modelrc={"classifier": "2-hidden"}, datarc={"fold": 0, "num_folds": 4}, test=0.6)
    rows = rows_by_setting(summarise_runs([tmp_path]))
    assert {key[2]: row.test.count for key, row in rows.items()} == {
        "as they are, classifier=linear": 4,
        "as they are, classifier=2-hidden": 1,
    }


def test_a_copied_run_does_not_shrink_the_spread(tmp_path: Path) -> None:
    write_results(tmp_path / "a", seed=1, test=0.5)
    write_results(tmp_path / "b", seed=2, test=0.6)
    write_results(tmp_path / "c", seed=2, test=0.6)
    summary = summarise_runs([tmp_path])
    assert [row.test.count for row in summary.rows] == [2]
    assert [item.folder.name for item in summary.skipped] == ["c"]
    assert "same experiment and seed as" in summary.skipped[0].reason


def test_tasks_with_other_data_are_told_apart_by_classes_or_by_the_key_that_differs(tmp_path: Path) -> None:
    for count in (251, 921):
        write_results(tmp_path / str(count), "aalbert_speaker_utterance", classes=count, datarc={"audio": f"L/{count}"})
    for phone_set in ("39", "48"):
        write_results(tmp_path / phone_set, "aalbert_phone", classes=39, datarc={"phone_set": phone_set})
    assert {row.task for row in summarise_runs([tmp_path]).rows} == {
        "speaker, utterance level (251 classes)",
        "speaker, utterance level (921 classes)",
        "phonemes (phone_set=39)",
        "phonemes (phone_set=48)",
    }


def test_batch_size_is_a_matter_of_training_not_of_the_task(tmp_path: Path) -> None:
    write_results(tmp_path / "a", datarc={"train_batch_size": 48})
    write_results(tmp_path / "b", datarc={"train_batch_size": 12}, trainable=True)
    assert {row.task for row in summarise_runs([tmp_path]).rows} == {"phonemes"}


def test_shares_of_labels_are_rows_of_their_own_and_the_table_shows_the_largest(tmp_path: Path) -> None:
    for fraction in (0.01, 0.1, 1.0):
        write_results(tmp_path / str(fraction), datarc={"train_fraction": fraction}, test=0.3 + fraction / 2)
    summary = summarise_runs([tmp_path])
    assert sorted((row.fraction, row.test.mean) for row in summary.rows) == [(0.01, 0.305), (0.1, 0.35), (1.0, 0.8)]
    assert [row.fraction for row in full_rows(summary.rows)] == [1.0]
    assert "80.0" in summary.table() and "35.0" not in summary.table()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"upstream_feature_selection": "layer_states"}, "weighted sum"),
        ({"upstream_feature_selection": "hidden_states"}, "weighted sum with layer 0"),
        ({"upstream_feature_selection": "last_hidden_state"}, "last layer"),
        ({"upstream_feature_selection": "last_hidden_state", "upstream_trainable": True}, "fine-tuned, last layer"),
        ({"upstream_feature_selection": "hidden_states", "upstream_layer_selection": 0}, "layer 0"),
        ({"upstream_feature_selection": "layer_states", "upstream_layer_selection": 2}, "layer 3"),
        ({"upstream_feature_selection": "layer_states", "upstream_layer_selection": -1}, "layer -1"),
        ({"upstream_feature_selection": "last_hidden_state", "upstream_layer_selection": 1}, "last layer"),
        ({"upstream_feature_normalize": True}, "weighted sum with layer 0 of normalised layers"),
        ({"upstream": "aalbert_features", "upstream_feature_selection": "no_cmvn"}, "without CMVN"),
        ({"upstream": "aalbert_features", "upstream_feature_selection": "hidden_states"}, "with CMVN"),
    ],
)
def test_settings_in_words(args: dict[str, Any], words: str) -> None:
    assert describe_setting({"upstream": "aalbert_local", **args}) == words


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [
        ("aalbert_3l", 7_458_816),
        ("aalbert_12l", 7_458_816),
        ("mockingjay_3l", 21_634_560),
        ("mockingjay_6l", 42_898_176),
        ("mockingjay_12l", 85_425_408),
    ],
)
def test_parameters_are_those_of_the_specification(tmp_path: Path, preset: str, parameters: int) -> None:
    ckpt = write_release(tmp_path / "model", preset)
    write_results(tmp_path / "run", upstream="aalbert_local", ckpt=ckpt)
    (model,) = summarise_runs([tmp_path / "run"]).models
    assert model.parameters == parameters


def test_parameters_of_features_are_zero_and_of_other_upstreams_unknown(tmp_path: Path) -> None:
    write_results(tmp_path / "a", upstream="aalbert_features")
    write_results(tmp_path / "b", upstream="wav2vec2")
    write_results(tmp_path / "c", upstream="aalbert_local", ckpt="/nowhere/model")
    models = {model.label: model for model in summarise_runs([tmp_path]).models}
    assert models["input features"].parameters == 0
    assert models["wav2vec2"].parameters is None
    assert models["model"].parameters is None
    assert models["model"].description == "checkpoint not found"


def test_weights_that_come_with_the_package_are_pretrained_models(tmp_path: Path) -> None:
    for name in ("aalbert_tiny", "aalbert", "aalbert_6l"):
        write_results(tmp_path / name, upstream=name)
    models = {model.label: (model.parameters, model.description) for model in summarise_runs([tmp_path]).models}
    assert models == {
        "untrained aalbert_6l": (
            7_458_816,
            "AALBERT-6L, hidden size 768, 30 ms a token; untrained, random weights",
        ),
        "aalbert_tiny": (977_152, "AALBERT-3L, hidden size 256, 30 ms a token; pre-trained"),
        "aalbert": (2_150_784, "AALBERT-6L, hidden size 384, 30 ms a token; pre-trained"),
    }
    assert list(models) == ["untrained aalbert_6l", "aalbert_tiny", "aalbert"]


SMALL_ARCH = "hidden_size: 64\nnum_hidden_layers: 2\nnum_attention_heads: 1\nintermediate_size: 256\n"


def test_sub_networks_of_a_supernet_are_models_of_their_own(tmp_path: Path) -> None:
    """The small one: 480 x 64 + 64 and a norm; 4 x (64 x 64 + 64); 64 x 256 + 256, 256 x 64 + 64; two norms."""
    ckpt = write_release(tmp_path / "supernet", "aalbert_small")
    (tmp_path / "small.yaml").write_text(SMALL_ARCH)
    write_results(tmp_path / "runs" / "whole", upstream="aalbert_local", ckpt=ckpt)
    for seed in range(2):
        cut = {"ckpt": ckpt, "model_config": tmp_path / "small.yaml", "seed": seed}
        write_results(tmp_path / "runs" / f"small{seed}", upstream="aalbert_local", **cut)
    models = {model.label: model for model in summarise_runs([tmp_path / "runs"]).models}
    assert {label: model.parameters for label, model in models.items()} == {
        "supernet small (AALBERT-2L)": 80_896,
        "supernet (AALBERT-3L)": 913_408,
    }
    assert models["supernet small (AALBERT-2L)"].description.startswith("AALBERT-2L, hidden size 64")


def test_models_in_folders_of_the_same_name_get_longer_labels(tmp_path: Path) -> None:
    for name in ("one", "two"):
        ckpt = write_release(tmp_path / name / "pretrain", "aalbert_6l")
        write_results(tmp_path / "runs" / name, upstream="aalbert_local", ckpt=ckpt)
    labels = [model.label for model in summarise_runs([tmp_path / "runs"]).models]
    assert labels == ["one/pretrain (AALBERT-6L)", "two/pretrain (AALBERT-6L)"]


def test_a_relative_checkpoint_is_found_from_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_release(tmp_path / "result" / "pretrain" / "aalbert_3l", "aalbert_3l")
    run = write_results(tmp_path / "result" / "runs" / "a", upstream="aalbert_local", ckpt="result/pretrain/aalbert_3l")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    summary = summarise_runs([run])
    assert summary.models[0].parameters == 7_458_816
    assert model_key(summary.runs.downstream[0]).checkpoint == str(tmp_path / "result" / "pretrain" / "aalbert_3l")


def test_models_come_features_first_then_by_size_and_depth(tmp_path: Path) -> None:
    for name in ("mockingjay_3l", "aalbert_12l", "aalbert_3l"):
        ckpt = write_release(tmp_path / "pretrain" / name, name)
        write_results(tmp_path / "runs" / name, upstream="aalbert_local", ckpt=ckpt)
    write_results(tmp_path / "runs" / "z", upstream="aalbert_features")
    write_results(tmp_path / "runs" / "y", upstream="aalbert_3l")
    labels = [model.label for model in summarise_runs([tmp_path / "runs"]).models]
    assert labels == ["input features", "untrained aalbert_3l", "aalbert_3l", "aalbert_12l", "mockingjay_3l"]
    assert sorted(["a12", "a3", "a"], key=natural_order) == ["a", "a3", "a12"]


def test_a_packaged_configuration_is_not_a_folder_of_that_name(tmp_path: Path) -> None:
    """A sweep's run folders are called as the models that they are about."""
    for name in ("one", "two"):
        (tmp_path / name / "aalbert_6l_7h").mkdir(parents=True)
        write_results(
            tmp_path / name / "untrained", upstream="aalbert_6l", model_config="aalbert_6l_7h", seed=len(name)
        )
    (model,) = summarise_runs([tmp_path]).models
    assert (model.label, model.parameters) == ("untrained aalbert_6l_7h", 7_458_816)


def test_other_settings_of_the_training_are_other_experiments(tmp_path: Path) -> None:
    """Neither dropped as a repetition nor averaged as a seed."""
    for name, lr, steps, seed in (("a", 1e-3, 100, 0), ("b", 1e-5, 100, 0), ("c", 1e-3, 500, 1)):
        folder = write_results(tmp_path / name, test=0.5, seed=seed, history=[(steps, 0.5)])
        config = {"optimizer": {"name": "AdamW", "lr": lr}, "runner": {"total_steps": steps, "eval_step": steps}}
        (folder / "config_2026.yaml").write_text(yaml.safe_dump(config))
    write_results(tmp_path / "d", seed=0, history=[(100, 0.5)])
    (tmp_path / "d" / "args_2026.yaml").write_text("upstream_feature_normalize: true\n")
    summary = summarise_runs([tmp_path])
    assert not summary.skipped and [row.test.count for row in summary.rows] == [1, 1, 1, 1]
    settings = {row.runs[0].folder.name: row.setting for row in summary.rows}
    assert settings["a"] == "as they are, lr=0.001, name=AdamW, total_steps=100"
    assert len(set(settings.values())) == 4


def test_probing_with_another_training_is_another_experiment(tmp_path: Path) -> None:
    for name, lr in (("a", 1e-3), ("b", 1e-5)):
        write_probes(tmp_path / name, [("phone", 1, "linear", 0.6, 0.5)])
        (tmp_path / name / "args_2026.yaml").write_text("upstream: wav2vec2\nseed: 1\n")
        (tmp_path / name / "config_2026.yaml").write_text(yaml.safe_dump({"optimizer": {"lr": lr}}))
    assert [row.task for row in summarise_runs([tmp_path]).probes] == ["phone (lr=0.001)", "phone (lr=1e-05)"]


def test_the_other_tasks_settings_do_not_matter_to_a_probe(tmp_path: Path) -> None:
    """`aalbert probe --task phone` has the speaker task's section in its configuration, too."""
    for name, task in (("a", "phone,speaker"), ("b", "phone")):
        rows = [(task, 1, "linear", 0.6, 0.5) for task in task.split(",")]
        content = {"format": 1, "args": {"upstream": name}, "history": []}
        content["config"] = {"datarc": {"phone": {"audio": "x"}, "speaker": {"audio": name}}}
        folder = write_probes(tmp_path / name, rows)
        (folder / "results.json").write_text(json.dumps(content))
    assert sorted({row.task for row in summarise_runs([tmp_path]).probes}) == ["phone", "speaker"]


def test_an_evaluation_does_not_change_what_a_run_was_trained_with(tmp_path: Path) -> None:
    for seed in range(2):
        folder = write_results(tmp_path / str(seed), seed=seed)
        content = json.loads((folder / "results.json").read_text())
        content["training"] = {"optimizer": {"lr": 0.1}, "runner": {"precision": "bf16"}}
        (folder / "results.json").write_text(json.dumps(content))
    (folder / "config_2027.yaml").write_text(yaml.safe_dump({"runner": {"precision": "fp32"}}))
    (row,) = summarise_runs([tmp_path]).rows
    assert row.test.count == 2


def test_how_stress_is_folded_makes_another_task(tmp_path: Path) -> None:
    for fold_stress in (True, False):
        write_results(tmp_path / str(fold_stress), datarc={"fold_stress": fold_stress}, classes=40 + fold_stress)
    assert [row.test.repetitions() for row in summarise_runs([tmp_path]).rows] == ["1", "1"]


def test_probing_runs_may_share_the_probes_out(tmp_path: Path) -> None:
    rows = [("phone", 1, "linear", 0.6, 0.5), ("phone", 1, "2-hidden", 0.7, 0.6)]
    for name, own in (("a", rows[:1]), ("b", rows[1:]), ("again", rows[1:])):
        write_probes(tmp_path / name, own)
        (tmp_path / name / "args_2026.yaml").write_text("upstream: wav2vec2\nseed: 1\n")
    summary = summarise_runs([tmp_path])
    assert {row.classifier: row.test.mean for row in summary.probes} == {"linear": 0.5, "2-hidden": 0.6}
    assert [item.folder.name for item in summary.skipped] == ["b"] and len(summary.runs.probing) == 2


def test_probes_are_averaged_and_the_best_layer_is_chosen_on_dev(tmp_path: Path) -> None:
    # On test layer 2 would win; dev says layer 1.
    first = [("phone", 1, "linear", 0.60, 0.50), ("phone", 2, "linear", 0.50, 0.70)]
    second = [("phone", 1, "linear", 0.64, 0.54), ("phone", 2, "linear", 0.54, 0.74)]
    for seed, rows in enumerate((first, second)):
        folder = write_probes(tmp_path / str(seed), rows)
        (folder / "args_2026.yaml").write_text(f"upstream: wav2vec2\nseed: {seed}\n")
    summary = summarise_runs([tmp_path])
    layers = {row.layer: (row.dev.mean, row.test.mean, row.test.count) for row in summary.probes}
    assert layers == {
        1: (pytest.approx(0.62), pytest.approx(0.52), 2),
        2: (pytest.approx(0.52), pytest.approx(0.72), 2),
    }
    (line,) = [line for line in summary.table().splitlines() if "wav2vec2" in line]
    assert line.split() == ["phone", "wav2vec2", "linear", "1", "62.0", "[60.0-64.0]", "52.0", "[50.0-54.0]"]


def test_spread_is_over_seeds_with_folds_averaged_first(tmp_path: Path) -> None:
    accuracies = {1: (0.4, 0.6), 2: (0.5, 0.8)}  # seeds of two folds: means 0.5 and 0.65
    for seed, folds in accuracies.items():
        for fold, test in enumerate(folds):
            write_results(tmp_path / f"{seed}-{fold}", datarc={"fold": fold, "num_folds": 2}, seed=seed, test=test)
    (row,) = summarise_runs([tmp_path]).rows
    assert (row.test.mean, row.test.low, row.test.high) == pytest.approx((0.575, 0.5, 0.65))
    assert row.test.repetitions() == "2 x 2 folds" and row.test.percent() == "57.5 [50.0-65.0]"
    assert len(row.runs) == 4
    shutil.rmtree(tmp_path / "2-1")
    (row,) = summarise_runs([tmp_path]).rows
    assert row.test.repetitions() == "2 x up to 2 folds", "said where a fold is missing"
    shutil.rmtree(tmp_path / "2-0")
    (row,) = summarise_runs([tmp_path]).rows
    assert row.test.repetitions() == "1 x 2 folds" and row.test.percent() == "50.0 [40.0-60.0]"


def test_captions_say_what_the_whiskers_are() -> None:
    one, seeds = Spread.of([0.5]), Spread.of([0.5, 0.6])
    folds = Spread(0.5, 0.4, 0.6, 0.1, 2, seeds=1, folds=2)
    both = Spread(0.5, 0.4, 0.6, 0.1, 2, seeds=2, folds=2)
    assert say_spread([one]) == "One run each: no spread."
    assert say_spread([one, seeds]) == "Means over seeds, whiskers reach from the lowest to the highest seed."
    assert say_spread([both]).endswith("Folds are averaged first.")
    assert say_spread([folds], "bands reach").endswith("its folds take the place of seeds.")


def test_probing_runs_that_differ_are_not_seeds_of_one(tmp_path: Path) -> None:
    def run(name: str, test: float, seed: int = 0, fold: int = 0, hidden_size: int = 8) -> None:
        folder = write_probes(tmp_path / name, [("phone", 1, "linear", test, test)])
        write_results(
            folder, "aalbert_probe", seed=seed, datarc={"phone": {"fold": fold}}, modelrc={"hidden_size": hidden_size}
        )

    run("a", 0.4, seed=1)
    run("b", 0.6, seed=1, fold=1)
    run("c", 0.7, seed=2)
    run("copy", 0.7, seed=2)
    summary = summarise_runs([tmp_path])
    (row,) = summary.probes
    assert (row.test.mean, row.test.repetitions()) == (pytest.approx(0.6), "2 x up to 2 folds")
    assert [item.folder.name for item in summary.skipped] == ["copy"]
    run("wide", 0.9, hidden_size=16)
    tasks = {row.task: row.test.mean for row in summarise_runs([tmp_path]).probes}
    assert tasks == {"phone (hidden_size=8)": pytest.approx(0.6), "phone (hidden_size=16)": pytest.approx(0.9)}
