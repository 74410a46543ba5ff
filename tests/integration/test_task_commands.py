"""The plugin's tasks in S3PRL's own runner: train, resume, evaluate, fine-tune, select layers, probe."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from command_lines import succeed

from s3prl_aalbert.checkpoint.release import save_release
from s3prl_aalbert.model.config import load_model_config
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus
from s3prl_aalbert.upstream.expert import UpstreamExpert

TASKS = ("aalbert_phone", "aalbert_speaker_utterance", "aalbert_speaker_frame")


def settings(total: int, **more: object) -> str:
    values = {
        "runner.total_steps": total,
        "runner.eval_step": 2,
        "runner.save_step": 2,
        "runner.log_step": 2,
        "downstream_expert.datarc.train_batch_size": 4,
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    return ",,".join(f"config.{key}={value}" for key, value in values.items())


def train(task: str, name: str, override: str, *more: str, config: str | None = None) -> list[str]:
    config = config or f"{task}_demo"
    return ["downstream", "-m", "train", "-d", task, "-c", config, "-p", name, "-o", override, *more]


OURS = ("-u", "aalbert_local", "-k", "release")
SPEECH = {"downstream_expert__datarc__audio": "'speech'"}
ALONE = "phone/layer1/2-hidden"
PROBE = "config.downstream_expert.datarc.phone.audio='speech',,config.downstream_expert.datarc.speaker.audio='speech'"


def commands() -> list[list[str]]:
    found = []
    for task in TASKS:
        found.append(train(task, task, settings(2, **SPEECH), *OURS))
        found.append([*train(task, task, settings(4, **SPEECH), *OURS), "-a"])
        found.append(["downstream", "-m", "evaluate", "-e", f"{task}/dev-best.ckpt"])
    phone = TASKS[0]
    tune = ("-f", "-s", "last_hidden_state")
    found.append(train(phone, "tuned", settings(2, **SPEECH), *OURS, *tune, config=f"{phone}_timit_finetune"))
    found.append(train(phone, "layers", settings(2, **SPEECH), *OURS, "-s", "layer_states"))
    found.append(train(phone, "second", settings(2, **SPEECH), *OURS, "-l", "1"))
    found.append(train(phone, "fbank", settings(2, **SPEECH), "-u", "fbank"))
    probe = ["-c", "aalbert_probe_demo", "-o", f"{settings(2)},,{PROBE}"]
    found.append(["probe", *OURS, *probe, "-p", "probe"])
    only = f"config.downstream_expert.modelrc.only=['{ALONE}']"
    found.append(["probe", *OURS, "--task", "phone", *probe[:-1], f"{probe[-1]},,{only}", "-p", "probe_alone"])
    fbank = ["probe", "-u", "fbank", "--task", "phone", *probe[:-1]]
    found.append([*fbank, probe[-1], "-p", "probe_fbank"])
    go_on = ["probe", "-o", f"{settings(4)},,{PROBE}", "-p", "probe_fbank", "-a"]
    found.append(go_on)  # its own upstream, task and configuration
    found.append(["downstream", "-m", "evaluate", "-e", "probe_fbank/states-4.ckpt"])
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything run once, in the order of ``commands``."""
    place = tmp_path_factory.mktemp("tasks")
    synthesise_corpus(place / "speech", num_speakers=4, utterances_per_speaker=10, seconds=(0.5, 0.7), seed=3)
    torch.manual_seed(0)
    state = {f"model.{name}": value for name, value in UpstreamExpert(model_config="debug").model.state_dict().items()}
    save_release(place / "release", load_model_config("debug"), state, card="")
    succeed(commands(), place)
    return place


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def weights(path: Path) -> dict:
    import argparse

    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, weights_only=True)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_trains_resumes_and_evaluates(place: Path, task: str) -> None:
    content = results(place / task)
    steps = [(h["step"], h["split"]) for h in content["history"] if h["split"] != "train"]
    assert steps == [(2, "dev"), (2, "test"), (4, "dev"), (4, "test")]
    best = content["best"]
    devs = {h["step"]: h["metrics"]["acc"] for h in content["history"] if h["split"] == "dev"}
    assert devs[best["step"]] == max(devs.values()), "best by dev"
    # The saved weights measure as they did in training, and measuring leaves the history as it was.
    (evaluation,) = content["evaluations"]
    assert evaluation["metrics"] == pytest.approx(best["test"])
    assert weights(place / task / "dev-best.ckpt")["Step"] == best["step"]


def test_fine_tuning_moves_the_upstream_at_its_own_rate(place: Path) -> None:
    tuned = weights(place / "tuned" / "states-2.ckpt")
    rates = sorted({group["lr"] for group in tuned["Optimizer"]["param_groups"]})
    assert rates == pytest.approx([1e-4, 1e-3])
    released = UpstreamExpert(ckpt=str(place / "release")).state_dict()
    assert any(not torch.equal(value, tuned["Upstream"][name]) for name, value in released.items())
    assert "Upstream" not in weights(place / TASKS[0] / "states-4.ckpt"), "frozen without -f"


def test_s_and_l_choose_the_layers(place: Path) -> None:
    layers = load_model_config("debug").transformer.num_hidden_layers
    sizes = {
        name: weights(place / name / "states-2.ckpt")["Featurizer"].get("weights") for name in ("layers", "second")
    }
    assert sizes["layers"].numel() == layers  # the paper's weighted sum leaves the input embedding out
    assert sizes["second"] is None or sizes["second"].numel() == 1
    assert weights(place / TASKS[0] / "states-4.ckpt")["Featurizer"]["weights"].numel() == layers + 1
    assert results(place / "second")["args"]["upstream_layer_selection"] == 1


def test_upstreams_of_s3prl_take_part(place: Path) -> None:
    content = results(place / "fbank")
    assert content["model"]["upstream_rate"] == 160
    ours = results(place / TASKS[0])
    assert content["majority"] == ours["majority"], "scored on the same 10 ms frames whatever the rate"


def test_probing_runs_every_layer_of_any_upstream(place: Path) -> None:
    layers = load_model_config("debug").transformer.num_hidden_layers + 1
    rows = (place / "probe" / "probes.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * layers * 3  # tasks, layers, classifiers
    rows = (place / "probe_fbank" / "probes.csv").read_text().splitlines()
    assert len(rows) == 1 + 3


def test_a_probe_in_s3prls_runner_equals_the_same_probe_trained_alone(place: Path) -> None:
    """Beside 20 others and beside utterances of the other task in every batch, or with nothing beside it."""
    together = weights(place / "probe" / "states-2.ckpt")["Downstream"]
    saved = weights(place / "probe_alone" / "states-2.ckpt")
    alone = saved["Downstream"]
    phones = alone.pop("_extra_state")["phone"]
    assert len(phones) > 20 and together.pop("_extra_state")["phone"] == phones
    assert len(alone) == 6 and len(together) > 20 * 2
    moments = list(saved["Optimizer"]["state"].values())
    assert len(moments) == 6 and all(m["exp_avg"].abs().max() > 0 for m in moments), "trained"
    for name, value in alone.items():
        # The upstream pads both tasks' utterances to one length: equal but for rounding.
        torch.testing.assert_close(value, together[name], atol=1e-5, rtol=0)
    with (place / "probe" / "probes.csv").open() as first, (place / "probe_alone" / "probes.csv").open() as second:
        (row,) = csv.DictReader(second)
        task, layer, classifier = row["task"], row["layer"], row["classifier"]
        assert f"{task}/layer{layer}/{classifier}" == ALONE
        assert row in list(csv.DictReader(first))


def test_probing_goes_on_where_it_was(place: Path) -> None:
    content = results(place / "probe_fbank")
    evaluated = [(h["step"], h["split"]) for h in content["history"]]
    assert evaluated == [(2, "dev"), (2, "test"), (4, "dev"), (4, "test")]
    assert [entry["checkpoint"] for entry in content["evaluations"]] == ["probe_fbank/states-4.ckpt"]
    states = weights(place / "probe_fbank" / "states-4.ckpt")
    assert states["Step"] == 4
    assert {int(s["step"]) for s in states["Optimizer"]["state"].values()} == {4}, "moments were kept, too"
