"""`aalbert submit`: the zip file against a listing by hand and S3PRL's own submit.py, the form, and its mistakes.

AALBERT_PEERS/s3prl may be a checkout of S3PRL 0.4.18.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from naming import mentions
from superb_experiments import LINES, checkpoint, experiment

from s3prl_aalbert.checkpoint.published import packaged_folder
from s3prl_aalbert.cli import main
from s3prl_aalbert.model.config import load_model_config
from s3prl_aalbert.model.objective import MaskedPrediction

TARGETS = {
    "pr": "pr_public/predict.ark",
    "sid": "sid_public/predict.txt",
    "ks": "ks_public/predict.txt",
    "ic": "ic_public/predict.csv",
    **{f"er_fold{fold}": f"er_fold{fold}_public/predict.txt" for fold in range(1, 6)},
    "asr_no_lm": "asr_public/predict.ark",
    "asr_with_lm": "asr_lm_public/predict.ark",
    "qbe": "qbe_public/benchmark.stdlist.xml",
    "sf": "sf_public/predict.ark",
    "sv": "sv_public/predict.txt",
    "sd": "sd_public/frame_shift",
    "se": "se_public/metrics.txt",
    "ss": "ss_public/metrics.txt",
    "st": "st_public/predict.tsv",
}


@pytest.fixture
def experiments(tmp_path):
    """One experiment for each of S3PRL's options."""
    return {option: experiment(tmp_path / "result" / option, option) for option in LINES}


def submit(*arguments):
    return main(["submit", *map(str, arguments)])


def flags(experiments):
    return [word for option, folder in experiments.items() for word in (f"--{option}", folder)]


def entries(path):
    with zipfile.ZipFile(path) as archive:
        names = [info.filename for info in archive.infolist()]
        assert len(set(names)) == len(names)
        return {name: archive.read(name) for name in names}


def test_the_zip_file_holds_each_prediction_under_the_leaderboards_name(experiments, tmp_path, capsys):
    assert submit(*flags(experiments), "-o", tmp_path / "out", "--any_count") == 0
    found = entries(tmp_path / "out/predict.zip")
    folders = {f"predict/{target.split('/')[0]}/" for target in TARGETS.values()}
    folders |= {"predict/", "predict/sd_public/scoring/", "predict/sd_public/scoring/predictions/"}
    expected = dict.fromkeys(folders, b"")
    for option, target in TARGETS.items():
        first = next(iter(LINES[option].values()))  # the prediction; its reference does not go in
        expected[f"predict/{target}"] = first.encode()
    for number in range(2):
        name = f"scoring/predictions/mix{number}.h5"
        expected[f"predict/sd_public/{name}"] = (experiments["sd"] / name).read_bytes()
    assert found == expected
    printed = capsys.readouterr().out
    assert printed.count(" 2 predictions") == 17 and " 1 predictions" in printed  # ss has one line


@pytest.fixture
def s3prls_submit():
    path = Path(os.environ.get("AALBERT_PEERS", "missing")) / "s3prl/s3prl/submit/submit.py"
    if not path.is_file():
        pytest.skip("AALBERT_PEERS/s3prl is no checkout of S3PRL 0.4.18")
    if shutil.which("zip") is None:
        pytest.skip("S3PRL's submit.py needs the program zip")
    return path


@pytest.mark.parametrize("some", [list(LINES), ["pr"], ["sd"], ["er_fold2", "er_fold4", "qbe"]])
def test_the_zip_file_is_that_of_s3prls_own_submit(experiments, tmp_path, s3prls_submit, some):
    chosen = {option: experiments[option] for option in some}
    theirs = [sys.executable, s3prls_submit, "--output_dir", tmp_path / "theirs", *flags(chosen)]
    subprocess.run(theirs, check=True, capture_output=True)
    assert submit(*flags(chosen), "-o", tmp_path / "ours", "--any_count") == 0
    assert entries(tmp_path / "ours/predict.zip") == entries(tmp_path / "theirs/predict.zip")


def test_other_names_of_the_options(experiments, tmp_path):
    best = tmp_path / "scripts"
    for task, option in {"pr": "pr", "asv": "sv", "asr": "asr_no_lm"}.items():
        (best / task).mkdir(parents=True)
        (best / task / "best").symlink_to(experiments[option])
    for fold in range(1, 6):
        (best / "er/best").mkdir(parents=True, exist_ok=True)
        (best / f"er/best/fold{fold}").symlink_to(experiments[f"er_fold{fold}"])
    one_by_one = ["--pr", experiments["pr"], "--asv", experiments["sv"], "--asr", experiments["asr_no_lm"]]
    assert submit(*one_by_one, "--er", best / "er/best", "-o", tmp_path / "a", "--any_count") == 0
    assert submit("--all", best, "-o", tmp_path / "b", "--any_count") == 0
    found = entries(tmp_path / "a/predict.zip")
    assert found == entries(tmp_path / "b/predict.zip")
    folders = {name for name in found if name.count("/") == 2 and name.endswith("/")}
    names = ["pr", "sv", "asr", *(f"er_fold{fold}" for fold in range(1, 6))]
    assert folders == {f"predict/{name}_public/" for name in names}


def test_a_later_submission_replaces_the_earlier_one_whole(experiments, tmp_path):
    for option in ("pr", "ks"):
        assert submit(f"--{option}", experiments[option], "-o", tmp_path, "--any_count") == 0
    assert not any("pr_public" in name for name in entries(tmp_path / "predict.zip"))


def test_the_official_number_of_utterances_is_checked(tmp_path, capsys):
    folder = tmp_path / "ks"
    folder.mkdir()
    lines = [f"yes-{number}.wav yes\n" for number in range(3081)]
    (folder / "test_predict.txt").write_text("".join(lines))
    assert submit("--ks", folder, "-o", tmp_path / "out") == 0
    (folder / "test_predict.txt").write_text("".join(lines[1:]))
    assert submit("--ks", folder, "-o", tmp_path / "other") == 2
    assert mentions(capsys.readouterr().err, "test_predict.txt", 3080, 3081, "KS")
    assert not (tmp_path / "other/predict.zip").exists()


@pytest.mark.parametrize(
    ("option", "damage", "named"),
    [
        ("pr", lambda exp: (exp / "test-hyp.ark").unlink(), ["test-hyp.ark", "aalbert downstream -m evaluate"]),
        (
            "pr",
            lambda exp: (exp / "test-hyp.ark").write_text("61-1-0000 T\n"),
            ["no prediction", "61-1-0001", "test-ref.ark"],
        ),
        (
            "pr",
            lambda exp: (exp / "test-hyp.ark").open("a").write("x T\n"),
            ["unknown x", "test-ref.ark"],
        ),
        ("sd", lambda exp: (exp / "frame_shift").unlink(), ["frame_shift", "evaluate"]),
        ("sv", shutil.rmtree, ["no such folder"]),
        ("qbe", lambda exp: (exp / "benchmark.stdlist.xml").unlink(), ["scripts/superb/qbe.sh"]),
        ("asr_no_lm", lambda exp: (exp / "test-clean-noLM-hyp.ark").unlink(), ["dev-clean-best.ckpt -t test-clean"]),
        (
            "ks",
            lambda exp: (exp / "test_predict.txt").write_text("a yes\na no\n"),
            ["test_predict.txt:2", "a", "second time"],
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(experiments, tmp_path, capsys, option, damage, named):
    damage(experiments[option])
    assert submit(f"--{option}", experiments[option], "-o", tmp_path / "out", "--any_count") == 2
    said = capsys.readouterr().err.strip()
    assert mentions(said, experiments[option], *named)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["pr", "sd", "qbe", "ks"])
@pytest.mark.parametrize("kind", ["link to a file", "link to a folder", "pipe", "folder", "device", "dangling"])
def test_nothing_but_the_experiments_own_files_is_handed_in(experiments, tmp_path, capsys, option, kind):
    (tmp_path / "elsewhere").mkdir()
    secret = tmp_path / "elsewhere" / "notes.h5"
    secret.write_text("dear diary\n")
    for name, _ in list(LINES[option].items())[:1]:
        path = experiments[option] / name
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
            (path / "x").write_text("a b\n")
        else:
            targets = {"link to a file": secret, "link to a folder": secret.parent, "device": "/dev/zero"}
            path.symlink_to(targets.get(kind, tmp_path / "nowhere"))
    assert submit(f"--{option}", experiments[option], "-o", tmp_path / "out", "--any_count") == 2
    assert name in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_links_and_pipes_among_the_diarisations(experiments, tmp_path, capsys):
    mixture = experiments["sd"] / "scoring/predictions/mix1.h5"
    mixture.rename(tmp_path / "mix1.h5")
    mixture.symlink_to(tmp_path / "mix1.h5")
    assert submit("--sd", experiments["sd"], "-o", tmp_path / "out", "--any_count") == 2
    assert mentions(capsys.readouterr().err, mixture, tmp_path / "mix1.h5")
    mixture.unlink()
    os.mkfifo(mixture)
    assert submit("--sd", experiments["sd"], "-o", tmp_path / "out", "--any_count") == 2
    assert mentions(capsys.readouterr().err, mixture, "regular file")
    mixture.unlink()
    mixture.symlink_to("mix0.h5")
    assert submit("--sd", experiments["sd"], "-o", tmp_path / "out", "--any_count") == 0


@pytest.mark.parametrize(
    "change",
    [
        {"Args": {"upstream": "fbank"}},
        {"Config": []},
        {"Downstream": [1]},
        {"Downstream": {"best_score": torch.zeros(3)}},
        {"Downstream": {"best_score": "high"}},
        {"Featurizer": 3},
    ],
)
def test_a_checkpoint_of_another_shape_is_one_sentence(experiments, tmp_path, capsys, change):
    path = checkpoint(experiments["ks"] / "dev-best.ckpt", 0.75)
    torch.save(torch.load(path, weights_only=False) | change, path)
    assert submit("--ks", experiments["ks"], "-o", tmp_path / "out", "--any_count") == 2
    assert f"{path}: " in capsys.readouterr().err


def test_odd_values_of_a_checkpoint_are_told_as_text(experiments, tmp_path):
    path = checkpoint(experiments["ks"] / "dev-best.ckpt", 0.75, upstream="fbank\x1b", seed=torch.tensor(7))
    states = torch.load(path, weights_only=False)
    states["Config"] |= {"runner": "none", "optimizer": {"lr": torch.tensor(0.5), 3: ["a", (1, None)]}}
    states["Step"] = torch.tensor(3)
    states["Downstream"]["note"] = "text"
    torch.save(states, path)
    assert submit("--ks", experiments["ks"], "-o", tmp_path, "--any_count") == 0
    task = read_form(tmp_path)["tasks"]["ks"]
    assert (task["seed"], task["learning_rate"], task["task_parameters"]) == ("tensor(7)", "tensor(0.5000)", 13)


def test_a_pipe_in_place_of_the_records_is_passed_over(experiments, tmp_path):
    os.mkfifo(experiments["ks"] / "dev-best.ckpt")
    for kind in ("args", "config"):
        os.mkfifo(experiments["ks"] / f"{kind}_2026.yaml")
    assert submit("--ks", experiments["ks"], "-o", tmp_path, "--any_count") == 0
    assert read_form(tmp_path)["tasks"]["ks"] == {"predictions": 2}


def test_no_experiment_at_all(tmp_path, capsys):
    assert submit("-o", tmp_path) == 2
    assert mentions(capsys.readouterr().err, "no experiment")
    assert submit("--all", tmp_path, "-o", tmp_path) == 2
    assert mentions(capsys.readouterr().err, tmp_path, "TASK/best")
    assert submit("--er", tmp_path, "-o", tmp_path) == 2
    assert mentions(capsys.readouterr().err, tmp_path, "fold1 to fold5")


def test_some_folds_alone_are_warned_about(experiments, tmp_path, caplog):
    assert submit(*flags({"er_fold2": experiments["er_fold2"]}), "-o", tmp_path, "--any_count") == 0
    assert mentions(caplog.text, "ER, fold 2")


def read_form(folder):
    return yaml.safe_load((folder / "form.yaml").read_text())


def test_the_form_tells_model_profile_and_hyper_parameters(experiments, tmp_path, tiny_release, tiny_config):
    ours = {"upstream": "aalbert_local", "upstream_ckpt": str(tiny_release)}
    checkpoint(experiments["ks"] / "dev-best.ckpt", 0.75, "ks", **ours)
    (experiments["ks"] / "states-40.ckpt").touch()  # the run went on after the screening that found its best
    assert submit(*flags({"ks": experiments["ks"]}), "-o", tmp_path, "--any_count") == 0
    form = read_form(tmp_path)
    model = MaskedPrediction(tiny_config)
    head = sum(p.numel() for name, p in model.named_parameters() if "head" in name)
    assert form["shared_parameters"] == sum(p.numel() for p in model.parameters()) - head
    assert (form["stride_samples"], form["stride_ms"], form["fine_tuned_parameters"]) == (480, 30.0, 0)
    assert form["macs_of_superbs_32_utterances"] > 0
    assert form["macs_per_second_least"] < form["macs_per_second_most"]
    assert form["tasks"] == {
        "ks": {
            "predictions": 2,
            "task_parameters": 13,
            "learning_rate": 1e-3,
            "optimizer": "Adam",
            "batch_size": 8,
            "gradient_accumulate_steps": 2,
            "total_steps": 40,
            "step_of_checkpoint": 20,
            "dev_score": 0.75,
            "features": "hidden_states",
            "layer": None,
            "seed": 7,
        }
    }


def test_the_form_of_a_paper_size_model_has_its_published_parameters(experiments, tmp_path):
    checkpoint(experiments["ks"] / "dev-best.ckpt", 0.75, upstream="aalbert_3l")
    assert submit("--ks", experiments["ks"], "-o", tmp_path, "--any_count") == 0
    form = read_form(tmp_path)
    assert form["shared_parameters"] == 7_458_816
    assert form["stride_samples"] == load_model_config("aalbert_3l").samples_per_token


def test_the_form_knows_packaged_models_and_sub_networks(experiments, tmp_path, caplog):
    checkpoint(experiments["ks"] / "dev-best.ckpt", 0.75, upstream="aalbert_tiny")
    assert submit("--ks", experiments["ks"], "-o", tmp_path, "--any_count") == 0
    assert read_form(tmp_path)["shared_parameters"] == 977_152
    arch = tmp_path / "small.yaml"
    arch.write_text("hidden_size: 64\nnum_hidden_layers: 2\nnum_attention_heads: 1\nintermediate_size: 256\n")
    supernet = {"upstream": "aalbert_local", "upstream_ckpt": str(packaged_folder("aalbert_tiny"))}
    checkpoint(experiments["ks"] / "dev-best.ckpt", 0.75, **supernet, upstream_model_config=str(arch))
    checkpoint(experiments["pr"] / "dev-best.ckpt", 0.75, **supernet)
    assert submit("--ks", experiments["ks"], "--pr", experiments["pr"], "-o", tmp_path, "--any_count") == 0
    assert mentions(caplog.text, "different models")
    assert submit("--ks", experiments["ks"], "-o", tmp_path, "--any_count") == 0
    form = read_form(tmp_path)
    assert form["shared_parameters"] == 96_832 and form["upstream"].endswith(f"aalbert_tiny {arch}")


def test_the_form_of_a_model_at_every_frame(experiments, tmp_path):
    """What `aalbert profile -u aalbert_every_frame_local -k aalbert_units --superb` counts while it runs."""
    options = {"upstream": "aalbert_every_frame_local", "upstream_ckpt": "aalbert_units"}
    checkpoint(experiments["ks"] / "dev-best.ckpt", 0.75, **options)
    assert submit("--ks", experiments["ks"], "-o", tmp_path, "--any_count") == 0
    form = read_form(tmp_path)
    assert (form["stride_samples"], form["stride_ms"], form["shared_parameters"]) == (160, 10.0, 3_908_096)
    assert round(form["macs_of_superbs_32_utterances"] / 1e9, 1) == 253.1
    assert (round(form["macs_per_second_least"] / 1e9, 2), round(form["macs_per_second_most"] / 1e9, 2)) == (1.04, 1.23)


def test_the_form_reads_what_s3prl_records_without_training(experiments, tmp_path, caplog):
    (experiments["qbe"] / "args_2026-01-01.yaml").write_text(
        yaml.safe_dump({"upstream": "fbank", "upstream_layer_selection": 2, "seed": 1337})
    )
    (experiments["qbe"] / "config_2026-01-01.yaml").write_text(yaml.safe_dump({"runner": {}}))
    assert submit(*flags({"qbe": experiments["qbe"], "pr": experiments["pr"]}), "-o", tmp_path, "--any_count") == 0
    form = read_form(tmp_path)
    assert form["upstream"] == "fbank" and form["shared_parameters"] is None
    assert form["tasks"]["qbe"]["layer"] == 2 and form["tasks"]["qbe"]["learning_rate"] is None
    assert form["tasks"]["pr"] == {"predictions": 2}
    assert mentions(caplog.text, "profile", "empty")
    assert mentions(caplog.text, experiments["pr"], "args_*.yaml")


def test_different_models_are_warned_about(experiments, tmp_path, caplog):
    checkpoint(experiments["ks"] / "dev-best.ckpt", 0.75, upstream="aalbert_3l")
    checkpoint(experiments["pr"] / "dev-best.ckpt", 0.75, upstream="fbank")
    assert submit(*flags({key: experiments[key] for key in ("ks", "pr")}), "-o", tmp_path, "--any_count") == 0
    assert mentions(caplog.text, "different models", "fbank; aalbert_3l")


def test_speaker_verification_names_the_checkpoint_that_was_linked(experiments, tmp_path):
    rate = tmp_path / "asv/lr_1e-3"
    for step in (10, 20):
        checkpoint(rate / f"states-{step}.ckpt", 100.0, "sv", upstream=f"step{step}")
        experiment(rate / f"states-{step}", "sv")
    (tmp_path / "asv/best").symlink_to(rate / "states-10")
    assert submit("--asv", tmp_path / "asv/best", "-o", tmp_path, "--any_count") == 0
    form = read_form(tmp_path)
    assert form["upstream"] == "step10" and form["tasks"]["sv"]["dev_score"] is None
