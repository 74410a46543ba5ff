"""Repeats to mean, error and paired difference; the names of models, settings and tasks."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from report_runs import write_probe_run, write_release, write_results

from s3prl_aalbert.downstream.results import RunnerOptions
from s3prl_aalbert.model.config import ModelConfig, TransformerConfig, load_model_config, to_dict
from s3prl_aalbert.report.describe import Repeat, describe_setting
from s3prl_aalbert.report.model_figures import name_pretraining
from s3prl_aalbert.report.models import describe_config, model_key, natural_order
from s3prl_aalbert.report.sections import describe_errors
from s3prl_aalbert.report.summary import Scores, full_rows
from s3prl_aalbert.report.write import Summary, summarise_runs, write_report


def rows_by_setting(summary: Summary) -> dict[tuple[str, str, str], Any]:
    return {(row.task, row.model.label, row.setting): row for row in summary.rows}


def scores(*values: float) -> Scores:
    """Return scores of seeds 0, 1, ... on one split."""
    return Scores({Repeat(str(seed), ""): value for seed, value in enumerate(values)})


def test_mean_and_standard_error_agree_with_numbers_worked_out_by_hand() -> None:
    found = scores(0.50, 0.53, 0.59)
    assert found.mean == pytest.approx(0.54)
    assert found.error == pytest.approx((0.0021 / 3) ** 0.5)  # variance (0.04^2 + 0.01^2 + 0.05^2) / 2
    assert found.percent() == "54.0 ± 2.6" and found.repeats() == "3 seeds"
    assert scores(0.25).percent() == "25.0" and scores(0.25).error is None


def test_differences_are_paired_seed_by_seed() -> None:
    """0.04 and 0.06, whose mean is 0.05 and whose standard error is 0.01, however far apart the seeds are."""
    model, features = scores(0.54, 0.86, 0.99), scores(0.50, 0.80)
    paired = model.less(features)
    assert paired.mean == pytest.approx(0.05) and paired.error == pytest.approx(0.01)
    other_seeds = Scores({Repeat("7", ""): 0.5})
    assert not model.less(other_seeds).values


def test_a_model_is_compared_with_features_and_with_itself_before_training(tmp_path: Path) -> None:
    ckpt = write_release(tmp_path / "model", "aalbert_small")
    upstreams: dict[str, tuple[dict[str, Any], tuple[float, float]]] = {
        "model": ({"upstream": "aalbert_local", "ckpt": ckpt}, (0.60, 0.70)),
        "untrained": ({"upstream": "aalbert_3l", "model_config": "aalbert_small"}, (0.55, 0.63)),
        "another": ({"upstream": "aalbert_3l"}, (0.1, 0.1)),
        "cmvn": ({"upstream": "aalbert_features"}, (0.3, 0.4)),
        "plain": ({"upstream": "aalbert_features", "selection": "no_cmvn"}, (0.50, 0.58)),
    }
    for name, (options, tests) in upstreams.items():
        for seed, test in enumerate(tests):
            write_results(tmp_path / f"{name}{seed}", test=test, seed=seed, **options)
    table = summarise_runs([tmp_path]).table()
    (line,) = (line for line in table.splitlines() if "AALBERT, 3 shared layers of 256  " in line)
    assert "65.0 ± 5.0       +11.0 ± 1.0     +6.0 ± 1.0" in line
    (line,) = (line for line in table.splitlines() if "AALBERT, 3 shared layers of 256, untrained" in line)
    assert "59.0 ± 4.0       +5.0 ± 0.0" in line and "+6.0" not in line


def test_seeds_make_one_row_and_settings_make_several(tmp_path: Path) -> None:
    ckpt = write_release(tmp_path / "aalbert_3l", "aalbert_3l")
    for seed, test in enumerate((0.50, 0.53, 0.59)):
        write_results(tmp_path / f"ws{seed}", upstream="aalbert_local", ckpt=ckpt, test=test, seed=seed, per=1 - test)
    write_results(tmp_path / "ft", upstream="aalbert_local", ckpt=ckpt, test=0.7, trainable=True)
    write_results(tmp_path / "fbank", upstream="fbank", test=0.4, majority=0.11)
    rows = rows_by_setting(summarise_runs([tmp_path]))
    label = "AALBERT, 3 shared layers of 768"
    assert set(rows) == {
        ("phonemes", label, "weighted sum with layer 0"),
        ("phonemes", label, "fine-tuned, weighted sum with layer 0"),
        ("phonemes", "fbank", "as they are"),
    }
    row = rows["phonemes", label, "weighted sum with layer 0"]
    assert row.test == scores(0.50, 0.53, 0.59)
    assert row.others["per"].mean == pytest.approx(0.46)
    assert rows["phonemes", "fbank", "as they are"].majority == pytest.approx(0.11)


def test_folds_and_split_seeds_are_repetitions_but_other_keys_are_not(tmp_path: Path) -> None:
    for fold in range(4):
        write_results(tmp_path / f"f{fold}", datarc={"fold": fold, "num_folds": 4, "split_seed": fold}, test=0.5)
    write_results(tmp_path / "wide", modelrc={"classifier": "2-hidden"}, datarc={"fold": 0, "num_folds": 4}, test=0.6)
    rows = rows_by_setting(summarise_runs([tmp_path]))
    assert {key[2]: row.test.splits for key, row in rows.items()} == {
        "as they are, classifier=linear": 4,
        "as they are, classifier=2-hidden": 1,
    }


def test_a_copied_run_does_not_shrink_the_error(tmp_path: Path) -> None:
    write_results(tmp_path / "a", seed=1, test=0.5)
    write_results(tmp_path / "b", seed=2, test=0.6)
    write_results(tmp_path / "c", seed=2, test=0.6)
    summary = summarise_runs([tmp_path])
    assert [row.test.seeds for row in summary.rows] == [2]
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


def write_shares(folder: Path, steps: dict[float, list[int]], **training: Any) -> None:
    """Write a run of each share of labels and number of steps."""
    for share, numbers in steps.items():
        for total in numbers:
            runner = {"total_steps": total, "eval_step": total}
            options: dict[str, Any] = {"training": {**training, "runner": runner}, "history": [(total, 0.5)]}
            write_results(folder / f"{share}-{total}", datarc={"train_fraction": share}, best_step=total, **options)


def test_shares_of_labels_with_steps_of_their_own_are_one_line(tmp_path: Path) -> None:
    """As in the sweep of the paper, where few labels are seen more often."""
    write_shares(tmp_path / "runs", {0.001: [5000], 0.01: [70000], 0.125: [85400], 1.0: [98800]})
    page = write_report([tmp_path / "runs"], tmp_path / "out")
    with (page.parent / "figures" / "accuracy_against_labels.csv").open(encoding="utf-8") as file:
        found = [(row["setting"], float(row["train_fraction"])) for row in csv.DictReader(file)]
    assert found == [("as they are", share) for share in (1.0, 0.125, 0.01, 0.001)]
    # Another setting is another line.
    write_shares(tmp_path / "runs" / "slow", {0.001: [5000], 1.0: [98800]}, optimizer={"lr": 1e-5})
    settings = [(row.setting, row.fraction) for row in summarise_runs([tmp_path / "runs"]).rows]
    default = [("as they are, lr=default", share) for share in (1.0, 0.125, 0.01, 0.001)]
    assert settings == [("as they are, lr=1e-05", 1.0), ("as they are, lr=1e-05", 0.001), *default]


def test_the_steps_of_one_share_of_labels_are_two_settings(tmp_path: Path) -> None:
    write_shares(tmp_path, {0.1: [50], 1.0: [100, 500]})
    found = sorted((row.setting, row.fraction) for row in summarise_runs([tmp_path]).rows)
    assert found == [(f"as they are, total_steps={n}", share) for n, share in ((100, 1.0), (50, 0.1), (500, 1.0))]


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
    assert describe_setting(RunnerOptions(**{"upstream": "aalbert_local", **args})) == words


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
        "AALBERT, 6 shared layers of 768, untrained": (
            7_458_816,
            "AALBERT-6L, hidden size 768, 30 ms per token; untrained, random weights",
        ),
        "aalbert_tiny": (977_152, "AALBERT-3L, hidden size 256, 30 ms per token; pre-trained"),
        "aalbert_units": (3_908_096, "AALBERT-3L, hidden size 512, 30 ms per token; pre-trained"),
    }
    assert list(models) == ["AALBERT, 6 shared layers of 768, untrained", "aalbert_tiny", "aalbert_units"]


def test_a_packaged_name_as_the_checkpoint_is_not_a_folder_of_runs(tmp_path: Path) -> None:
    write_results(tmp_path / "aalbert_tiny" / "seed0", upstream="aalbert_every_frame_local", ckpt="aalbert_tiny")
    (model,) = summarise_runs([tmp_path]).models
    assert (model.label, model.parameters) == ("AALBERT, 3 shared layers of 256, every frame", 977_152)
    ckpt = write_release(tmp_path / "aalbert_units", "aalbert_small")
    write_results(tmp_path / "own", upstream="aalbert_local", ckpt="aalbert_units")
    keys = {model_key(run).checkpoint for run in summarise_runs([tmp_path / "own"]).runs.downstream}
    assert keys == {str(ckpt)}


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
        "AALBERT, 2 shared layers of 64": 80_896,
        "AALBERT, 3 shared layers of 256": 913_408,
    }
    assert models["AALBERT, 2 shared layers of 64"].description.startswith("AALBERT-2L, hidden size 64")


def test_a_model_at_every_frame_is_a_model_of_its_own(tmp_path: Path) -> None:
    ckpt = write_release(tmp_path / "model", "aalbert_small")
    for upstream in ("aalbert_local", "aalbert_every_frame_local"):
        write_results(tmp_path / "runs" / upstream, upstream=upstream, ckpt=ckpt)
    models = {model.label: model for model in summarise_runs([tmp_path / "runs"]).models}
    assert set(models) == {"AALBERT, 3 shared layers of 256", "AALBERT, 3 shared layers of 256, every frame"}
    write_results(tmp_path / "untrained", upstream="aalbert_3l", model_config="aalbert_small")
    (untrained,) = summarise_runs([tmp_path / "untrained"]).models
    assert [name for name, each in models.items() if untrained.is_twin_of(each)] == ["AALBERT, 3 shared layers of 256"]
    found = models["AALBERT, 3 shared layers of 256, every frame"]
    assert found.parameters == 913_408 and "30 ms per token, a hidden state every 10 ms" in found.description


def test_an_untrained_model_with_another_input_is_no_control(tmp_path: Path) -> None:
    """Frames of another width, or features without the statistics of the corpus that the trained model has."""
    trained = {
        "plain": ("aalbert_small", {}),
        "windows": ("aalbert_small", {"win_ms": 50.0, "n_fft": 1024}),
        "corpus": ("aalbert_small", {"cmvn": "corpus"}),
        "target": ("aalbert_small", {"target": "db", "target_cmvn": False}),
        "centred": ("aalbert_small", {}),
    }
    for name, (preset, changes) in trained.items():
        config = load_model_config(preset)
        config = replace(config, transformer=replace(config.transformer, centred=name == "centred"))
        write_release(tmp_path / name, preset)
        content = to_dict(replace(config, audio=replace(config.audio, **changes)))
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(content))
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        write_results(tmp_path / "runs" / name, upstream="aalbert_local", ckpt=tmp_path / name)
        write_results(tmp_path / "controls" / name, upstream="aalbert_3l", model_config=tmp_path / f"{name}.yaml")
    models = {m.key: m for m in summarise_runs([tmp_path / "runs", tmp_path / "controls"]).models}
    assert len(models) == 10
    twins = {
        (Path(one.key.config).stem, Path(other.key.checkpoint).stem)
        for one in models.values()
        for other in models.values()
        if one.is_twin_of(other)
    }
    same_input = {"plain", "target", "centred"}
    assert twins == {(a, b) for a in same_input for b in same_input} | {("windows", "windows")}


def test_models_of_the_same_shape_are_told_apart_by_the_end_of_their_path(tmp_path: Path) -> None:
    for name in ("one", "two"):
        ckpt = write_release(tmp_path / name / "pretrain", "aalbert_6l")
        write_results(tmp_path / "runs" / name, upstream="aalbert_local", ckpt=ckpt)
    ckpt = write_release(tmp_path / "other", "mockingjay_3l")
    write_results(tmp_path / "runs" / "other", upstream="aalbert_local", ckpt=ckpt)
    same = "AALBERT, 6 shared layers of 768"
    labels = [model.label for model in summarise_runs([tmp_path / "runs"]).models]
    assert labels == [f"{same} (one/pretrain)", f"{same} (two/pretrain)", "Mockingjay, 3 layers of 768"]


@pytest.mark.parametrize(
    ("transformer", "words"),
    [
        ({"num_hidden_layers": 6, "share_layer": True}, "AALBERT, 6 shared layers of 768"),
        ({"num_hidden_layers": 6, "share_layer": False}, "Mockingjay, 6 layers of 768"),
        ({"num_hidden_layers": 6, "num_hidden_groups": 6}, "Mockingjay, 6 layers of 768"),
        ({"num_hidden_layers": 6, "num_hidden_groups": 2}, "AALBERT, 6 layers of 768 in 2 groups"),
        ({"num_hidden_layers": 1}, "AALBERT, 1 layer of 768"),
    ],
)
def test_a_configuration_in_words(transformer: dict[str, Any], words: str) -> None:
    assert describe_config(ModelConfig(TransformerConfig(**transformer))) == words


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
    assert labels == [
        "input features",
        "AALBERT, 3 shared layers of 768, untrained",
        "AALBERT, 3 shared layers of 768",
        "AALBERT, 12 shared layers of 768",
        "Mockingjay, 3 layers of 768",
    ]
    assert sorted(["a12", "a3", "a"], key=natural_order) == ["a", "a3", "a12"]


def test_a_pretraining_that_no_task_uses_is_not_called_as_a_model_of_the_report(tmp_path: Path) -> None:
    folders = {name: write_release(tmp_path / "pretrain" / name, "aalbert_small") for name in ("longer", "mine", "z")}
    write_results(tmp_path / "runs" / "phone", upstream="aalbert_local", ckpt=folders["mine"])
    same = "AALBERT, 3 shared layers of 256"
    summary = summarise_runs([tmp_path])
    names = {run.folder.name: name for run, name in name_pretraining(summary.runs.pretraining, summary.models).items()}
    assert names == {"longer": f"{same} (longer)", "mine": same, "z": f"{same} (z)"}
    # Also where the pre-training of that model is not in the report.
    summary = summarise_runs([tmp_path / "runs", folders["z"]])
    assert list(name_pretraining(summary.runs.pretraining, summary.models).values()) == [f"{same} (z)"]


def test_a_packaged_configuration_is_not_a_folder_of_that_name(tmp_path: Path) -> None:
    """A sweep's run folders are called as the models that they are about."""
    for name in ("one", "two"):
        (tmp_path / name / "aalbert_12l").mkdir(parents=True)
        write_results(tmp_path / name / "untrained", upstream="aalbert_6l", model_config="aalbert_12l", seed=len(name))
    (model,) = summarise_runs([tmp_path]).models
    assert (model.label, model.parameters) == ("AALBERT, 12 shared layers of 768, untrained", 7_458_816)


def test_other_settings_of_the_training_are_other_experiments(tmp_path: Path) -> None:
    """Neither dropped as a repetition nor averaged as a seed."""
    for name, lr, steps, seed in (("a", 1e-3, 100, 0), ("b", 1e-5, 100, 0), ("c", 1e-3, 500, 1)):
        training = {"optimizer": {"name": "AdamW", "lr": lr}, "runner": {"total_steps": steps, "eval_step": steps}}
        write_results(tmp_path / name, test=0.5, seed=seed, history=[(steps, 0.5)], training=training)
    write_results(tmp_path / "d", seed=0, history=[(100, 0.5)], upstream="wav2vec2", normalize=True)
    write_results(tmp_path / "e", seed=0, history=[(100, 0.5)], upstream="wav2vec2")
    summary = summarise_runs([tmp_path])
    assert not summary.skipped and [row.test.seeds for row in summary.rows] == [1] * 5
    settings = {row.runs[0].folder.name: row.setting for row in summary.rows}
    assert settings["a"] == "as they are, lr=0.001, total_steps=100"
    assert len(set(settings.values())) == 5


def test_probing_with_another_training_is_another_experiment(tmp_path: Path) -> None:
    for name, lr in (("a", 1e-3), ("b", 1e-5)):
        training = {"optimizer": {"lr": lr}}
        write_probe_run(tmp_path / name, [("phone", 1, "linear", 0.6, 0.5)], upstream="wav2vec2", training=training)
    assert [row.task for row in summarise_runs([tmp_path]).probes] == ["phone (lr=0.001)", "phone (lr=1e-05)"]


def test_the_other_tasks_settings_do_not_matter_to_a_probe(tmp_path: Path) -> None:
    """`aalbert probe --task phone` has the speaker task's section in its configuration, too."""
    for name, task in (("a", "phone,speaker"), ("b", "phone")):
        rows = [(task, 1, "linear", 0.6, 0.5) for task in task.split(",")]
        sections = {"phone": {"audio": "x"}, "speaker": {"audio": name}}
        write_probe_run(tmp_path / name, rows, upstream=name, datarc=sections)
    assert sorted({row.task for row in summarise_runs([tmp_path]).probes}) == ["phone", "speaker"]


def test_how_stress_is_folded_makes_another_task(tmp_path: Path) -> None:
    for fold_stress in (True, False):
        write_results(tmp_path / str(fold_stress), datarc={"fold_stress": fold_stress}, classes=40 + fold_stress)
    assert [row.test.repeats() for row in summarise_runs([tmp_path]).rows] == ["1 seed", "1 seed"]


def test_probing_runs_may_share_the_probes_out(tmp_path: Path) -> None:
    rows = [("phone", 1, "linear", 0.6, 0.5), ("phone", 1, "2-hidden", 0.7, 0.6)]
    for name, own in (("a", rows[:1]), ("b", rows[1:]), ("again", rows[1:])):
        write_probe_run(tmp_path / name, own, upstream="wav2vec2")
    summary = summarise_runs([tmp_path])
    assert {row.classifier: row.test.mean for row in summary.probes} == {"linear": 0.5, "2-hidden": 0.6}
    assert [item.folder.name for item in summary.skipped] == ["b"] and len(summary.runs.probing) == 2


def test_runs_that_probe_the_same_layer_by_other_options_are_all_shown(tmp_path: Path) -> None:
    """Neither dropped as a repetition nor put in place of one another."""
    selections: dict[str, tuple[dict[str, Any], list[int]]] = {
        "all": ({}, [0, 1, 2]),
        "states": ({"selection": "layer_states"}, [1, 2]),
        "last": ({"selection": "last_hidden_state"}, [2]),
        "one": ({"layer": 2}, [2]),
        "two": ({"layer": 1, "selection": "layer_states"}, [2]),
        "three": ({"layer": 1}, [1]),
        "normalised": ({"normalize": True}, [2]),
        "tuned": ({"trainable": True}, [2]),
    }
    for number, (name, (options, layers)) in enumerate(selections.items()):
        rows = [("phone", layer, "linear", 0.5, (10 * number + layer) / 100) for layer in layers]
        write_probe_run(tmp_path / name, rows, upstream="hubert", **options)
    summary = summarise_runs([tmp_path])
    assert not summary.skipped
    assert [(row.name, row.layer, round(100 * row.test.mean)) for row in summary.probes] == [
        ("hubert", 0, 0),
        ("hubert", 1, 1),
        ("hubert", 2, 2),
        ("hubert, fine-tuned", 2, 72),
        ("hubert, last layer", 2, 22),
        ("hubert, normalised", 2, 62),
        ("hubert, single layers", 1, 51),
        ("hubert, single layers", 2, 32),
        ("hubert, single layers", 2, 42),
        ("hubert, without layer 0", 1, 11),
        ("hubert, without layer 0", 2, 12),
    ]
    page = write_report([tmp_path], tmp_path / "out")
    figure = (page.parent / "figures" / "probing.csv").read_text().splitlines()
    assert len(figure) == 1 + len(summary.probes)


def test_probed_features_with_and_without_cmvn_are_two(tmp_path: Path) -> None:
    for selection, test in (("hidden_states", 0.2), ("no_cmvn", 0.4)):
        rows = [("speaker", 0, "linear", test, test)]
        write_probe_run(tmp_path / selection, rows, upstream="aalbert_features", selection=selection)
    summary = summarise_runs([tmp_path])
    found = {row.name: row.test.mean for row in summary.probes}
    assert found == {"input features": 0.2, "input features, without CMVN": 0.4} and not summary.skipped


def test_probes_are_averaged_and_the_best_layer_is_chosen_on_dev(tmp_path: Path) -> None:
    # On test layer 2 would win; dev says layer 1.
    first = [("phone", 1, "linear", 0.60, 0.50), ("phone", 2, "linear", 0.50, 0.70)]
    second = [("phone", 1, "linear", 0.64, 0.54), ("phone", 2, "linear", 0.54, 0.74)]
    for seed, rows in enumerate((first, second)):
        write_probe_run(tmp_path / str(seed), rows, upstream="wav2vec2", seed=seed)
    summary = summarise_runs([tmp_path])
    layers = {row.layer: (row.dev.mean, row.test.mean, row.test.seeds) for row in summary.probes}
    assert layers == {
        1: (pytest.approx(0.62), pytest.approx(0.52), 2),
        2: (pytest.approx(0.52), pytest.approx(0.72), 2),
    }
    (line,) = [line for line in summary.table().splitlines() if "wav2vec2" in line]
    assert line.split() == ["wav2vec2", "phone", "linear", "1", "52.0", "±", "2.0", "62.0", "±", "2.0"]


def test_every_value_of_tasks_and_probes_is_kept(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for seed in range(2):
        write_results(runs / f"t{seed}", test=0.5 + seed / 10, dev=0.5, seed=seed, datarc={"fold": seed}, per=0.9)
        write_probe_run(runs / f"p{seed}", [("phone", 1, "linear", 0.6, 0.4 + seed / 10)], upstream="mfcc", seed=seed)
    write_report([runs], tmp_path / "out")
    with (tmp_path / "out" / "values.csv").open(encoding="utf-8") as file:
        found = [row for row in csv.DictReader(file) if row["part"] == "test" and row["metric"] != "loss"]
    assert [(r["task"], r["seed"], r["split"], r["metric"], float(r["value"])) for r in found] == [
        ("phonemes", "0", "fold=0", "acc", 0.5),
        ("phonemes", "0", "fold=0", "per", 0.9),
        ("phonemes", "1", "fold=1", "acc", 0.6),
        ("phonemes", "1", "fold=1", "per", 0.9),
        ("probed for phone", "0", "", "acc", 0.4),
        ("probed for phone", "1", "", "acc", 0.5),
    ]


def test_nothing_of_an_earlier_report_stays_in_its_folder(tmp_path: Path) -> None:
    write_results(tmp_path / "a", "aalbert_speaker_frame")
    write_probe_run(tmp_path / "b", [("phone", 1, "linear", 0.6, 0.4)], upstream="mfcc")
    out = tmp_path / "out"

    def written() -> set[str]:
        return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}

    page = write_report([tmp_path / "b"], out)
    probing = {"index.html", "values.csv", "figures/probing.png", "figures/probing.csv"}
    assert written() == probing
    own = {"notes.txt", "figures/mine.png", "figures/mine.csv", "figures/speakers.svg", "other.csv"}
    for name in own:
        (out / name).write_text("of the user")
    write_report([tmp_path / "a"], out, note='<p class="download"><a download="other.csv"')
    curves = {f"figures/{name}.{kind}" for name in ("speakers", "training_curves") for kind in ("png", "csv")}
    assert written() == own | curves | {"index.html", "values.csv", "results.csv"}
    write_report([tmp_path / "b"], out)
    assert written() == own | probing
    page.unlink()
    page.write_bytes(b"\xff of the user")
    write_report([tmp_path / "a"], out)
    assert written() == own | probing | curves | {"results.csv"}


def test_the_error_is_over_splits_with_seeds_averaged_first(tmp_path: Path) -> None:
    accuracies = {1: (0.4, 0.6), 2: (0.5, 0.8)}  # seeds of two folds: the folds have means 0.45 and 0.7
    for seed, folds in accuracies.items():
        for fold, test in enumerate(folds):
            write_results(tmp_path / f"{seed}-{fold}", datarc={"fold": fold, "num_folds": 2}, seed=seed, test=test)
    (row,) = summarise_runs([tmp_path]).rows
    assert dict(row.test.parts) == {"fold=0": pytest.approx(0.45), "fold=1": pytest.approx(0.7)}
    assert row.test.percent() == "57.5 ± 12.5" and row.test.repeats() == "2 seeds, 2 splits"
    assert len(row.runs) == 4
    shutil.rmtree(tmp_path / "2-1")
    (row,) = summarise_runs([tmp_path]).rows
    assert dict(row.test.parts) == {"fold=0": pytest.approx(0.45), "fold=1": pytest.approx(0.6)}
    shutil.rmtree(tmp_path / "1-1")
    (row,) = summarise_runs([tmp_path]).rows
    assert row.test.repeats() == "2 seeds" and row.test.percent() == "45.0 ± 5.0", "over seeds where the fold is one"


def test_a_row_tested_on_speech_of_the_pretraining_is_marked(tmp_path: Path) -> None:
    overlaps: dict[str, Any] = {"a": {"utterances": 3, "speakers": 2}, "b": {"utterances": 0, "speakers": 0}}
    for name, overlap in {**overlaps, "c": "not known", "d": None}.items():
        write_results(tmp_path / name, upstream=name, overlap=overlap)
    lines = {line.split()[1]: line for line in summarise_runs([tmp_path]).table().splitlines()[2:6]}
    ends = {name: line.partition("1 seed")[2].strip() for name, line in lines.items()}
    assert ends == {"a": "3 utterances, 2 speakers", "b": "", "c": "not known", "d": ""}


def test_each_seed_may_have_a_split_of_its_own(tmp_path: Path) -> None:
    for seed, (test, features) in enumerate(((0.5, 0.4), (0.7, 0.5), (0.9, 0.6))):
        for name, upstream, value in (("a", "wav2vec2", test), ("f", "fbank", features)):
            write_results(tmp_path / f"{name}{seed}", upstream=upstream, datarc={"fold": seed}, seed=seed, test=value)
    table = summarise_runs([tmp_path]).table()
    (line,) = (line for line in table.splitlines() if "wav2vec2" in line)
    assert "70.0 ± 11.5" in line and "+20.0 ± 5.8" in line and line.endswith("3 seeds, 3 splits")


def test_captions_explain_the_whiskers() -> None:
    splits = Scores({Repeat("1", f"fold={fold}"): 0.5 + fold / 10 for fold in range(2)})
    assert describe_errors([scores(0.5)]) == "Each value is of one run, so that no standard error is known."
    assert describe_errors([scores(0.5), scores(0.5, 0.6)], "bands reach") == (
        "Each value is the mean over seeds; bands reach one standard error to either side."
    )
    assert describe_errors([splits, scores(0.5, 0.6)]).startswith(
        "Each value is the mean over splits (seeds are averaged first) or seeds;"
    )


def test_probing_runs_that_differ_are_not_seeds_of_one(tmp_path: Path) -> None:
    def run(name: str, test: float, seed: int = 0, fold: int = 0, hidden_size: int = 8) -> None:
        options: dict[str, Any] = {"datarc": {"phone": {"fold": fold}}, "modelrc": {"hidden_size": hidden_size}}
        write_probe_run(tmp_path / name, [("phone", 1, "linear", test, test)], seed=seed, **options)

    run("a", 0.4, seed=1)
    run("b", 0.6, seed=1, fold=1)
    run("c", 0.8, seed=2)
    run("copy", 0.8, seed=2)
    summary = summarise_runs([tmp_path])
    (row,) = summary.probes
    assert (row.test.mean, row.test.repeats()) == (pytest.approx(0.6), "2 seeds, 2 splits")
    assert [item.folder.name for item in summary.skipped] == ["copy"]
    run("wide", 0.9, hidden_size=16)
    tasks = {row.task: row.test.mean for row in summarise_runs([tmp_path]).probes}
    assert tasks == {"phone (hidden_size=8)": pytest.approx(0.6), "phone (hidden_size=16)": pytest.approx(0.9)}
