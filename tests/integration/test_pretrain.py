"""The pre-training runner: resuming is exact, batches add up, processes add up, signals and bad input end well."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from naming import mentions, naming

from s3prl_aalbert.checkpoint.published import packaged_folder
from s3prl_aalbert.checkpoint.release import load_checkpoint, save_release
from s3prl_aalbert.checkpoint.training_state import latest_state, load_training_state
from s3prl_aalbert.cli import main
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import ModelConfig, load_model_config
from s3prl_aalbert.pretrain import runner
from s3prl_aalbert.pretrain.config import (
    DataConfig,
    OptimizerConfig,
    PretrainConfig,
    PretrainExpertConfig,
    RunnerConfig,
    UnitsConfig,
)
from s3prl_aalbert.pretrain.launch import RunOptions
from s3prl_aalbert.pretrain.runner import EXIT_STOPPED, Pretrainer
from s3prl_aalbert.speech.reading import read_audio
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus
from s3prl_aalbert.speech.training_list import TRAINING_LIST_FILE, overlap
from s3prl_aalbert.upstream.expert import UpstreamExpert


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pretrain") / "speech"
    return synthesise_corpus(root, num_speakers=4, utterances_per_speaker=6, seconds=(0.5, 1.2), seed=11)


@pytest.fixture(scope="module")
def model() -> ModelConfig:
    config = load_model_config("debug")
    return replace(config, transformer=replace(config.transformer, hidden_dropout_prob=0.1))


def configured(speech: Path, batch: int = 3, accumulate: int = 1, total: int = 10, **runner: object) -> PretrainConfig:
    settings = {"log_step": 2, "eval_step": 100, "save_step": 100, "precision": "fp32", **runner}
    return PretrainConfig(
        RunnerConfig(total_steps=total, gradient_accumulate_steps=accumulate, **settings),  # type: ignore[arg-type]
        OptimizerConfig(lr=1e-3, schedule_steps=20),
        PretrainExpertConfig(DataConfig(paths=(str(speech),), train_batch_size=batch, dev_fraction=0.25)),
    )


def run(model: ModelConfig, config: PretrainConfig, expdir: Path, **options: object) -> Pretrainer:
    trainer = Pretrainer(model, config, RunOptions(expdir=expdir, seed=7, **options))  # type: ignore[arg-type]
    assert trainer.run() == 0
    return trainer


def weights(trainer: Pretrainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.objective.state_dict().items()}


@pytest.mark.parametrize("stop_at", [1, 7])
def test_resuming_is_exact(model: ModelConfig, speech: Path, tmp_path: Path, stop_at: int) -> None:
    """k + (N - k) = N bit for bit, with dropout; an epoch has 6 steps, so that 1 and 7 lie inside epochs."""
    straight = run(model, configured(speech), tmp_path / "straight")
    run(model, configured(speech, total=stop_at), tmp_path / "parts")
    state = latest_state(tmp_path / "parts")
    assert state is not None and state.name == f"states-{stop_at}.ckpt"
    resumed = run(model, configured(speech), tmp_path / "parts", resume_from=state)
    for name, value in weights(straight).items():
        assert torch.equal(value, weights(resumed)[name]), name
    expected = load_training_state(tmp_path / "straight" / "states-10.ckpt")
    found = load_training_state(tmp_path / "parts" / "states-10.ckpt")
    assert found["batches"] == expected["batches"]
    # Behind divergence_factor; a smoothing that starts anew differs in its lowest value.
    assert [found[key] for key in ("smoothed_loss", "lowest_loss")] == [
        expected[key] for key in ("smoothed_loss", "lowest_loss")
    ]
    for key, moments in expected["optimizer"]["state"].items():
        for moment, value in moments.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(found["optimizer"]["state"][key][moment]))


def test_accumulated_batches_equal_one_large_batch(speech: Path, tmp_path: Path) -> None:
    """2 micro-batches of 3 = 1 batch of 6: the loss is averaged over masked values, not over batches."""
    plain = load_model_config("debug")
    two = run(plain, configured(speech, batch=3, accumulate=2, total=4), tmp_path / "two")
    one = run(plain, configured(speech, batch=6, total=4), tmp_path / "one")
    for name, value in weights(two).items():
        torch.testing.assert_close(value, weights(one)[name], rtol=0, atol=2e-6, msg=name)


def test_dry_run_writes_nothing(model: ModelConfig, speech: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in speech.rglob("*")}
    run(model, configured(speech), tmp_path / "dry", dry_run=True)
    assert not (tmp_path / "dry").exists()
    assert {path: path.stat().st_mtime_ns for path in speech.rglob("*")} == before


def test_loss_that_is_not_finite_names_the_files(model: ModelConfig, speech: Path, tmp_path: Path) -> None:
    trainer = Pretrainer(model, configured(speech), RunOptions(expdir=tmp_path, seed=7))
    with torch.no_grad():
        trainer.objective.head.output.bias.fill_(float("nan"))
    with pytest.raises(AalbertError, match=r"\bnan\b.*\b1\b.*spk\d+_utt\d+\.wav"):
        trainer.run()
    assert latest_state(tmp_path) is None


def test_old_states_are_removed_and_the_best_kept(model: ModelConfig, speech: Path, tmp_path: Path) -> None:
    run(model, configured(speech, save_step=2, eval_step=4, max_keep=2), tmp_path)
    assert sorted(p.name for p in tmp_path.glob("*.ckpt")) == ["dev-best.ckpt", "states-10.ckpt", "states-8.ckpt"]
    assert (tmp_path / "model.safetensors").is_file()


def test_a_release_that_an_interruption_left_out_is_made_up_for(
    model: ModelConfig, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished run is extended and killed after its last state: the release of before is not what -k may load."""
    run(model, configured(speech, total=2), tmp_path)
    with monkeypatch.context() as killed:
        killed.setattr(Pretrainer, "_release", lambda trainer: None)
        run(model, configured(speech, total=4), tmp_path, resume_from=latest_state(tmp_path))
    assert load_checkpoint(tmp_path / "model.safetensors").info["step"] == 2
    assert load_checkpoint(tmp_path).info["step"] == 4, "the state is newer"
    run(model, configured(speech, total=4), tmp_path, resume_from=latest_state(tmp_path))
    (tmp_path / "README.md").unlink()  # written last: a kill between the two files
    run(model, configured(speech, total=4), tmp_path, resume_from=latest_state(tmp_path))
    assert "| parameters |" in (tmp_path / "README.md").read_text()
    release, state = load_checkpoint(tmp_path), load_training_state(tmp_path / "states-4.ckpt")
    assert release.info["step"] == 4
    assert all(torch.equal(value, release.state[name]) for name, value in state["model"].items())


def test_a_signal_during_the_last_step_finishes_the_run(
    model: ModelConfig, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Pretrainer.train_step

    def signalled(trainer: Pretrainer, batches: list) -> tuple[float, float, float]:
        if trainer.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(trainer, batches)

    monkeypatch.setattr(Pretrainer, "train_step", signalled)
    run(model, configured(speech, total=2), tmp_path)
    assert load_checkpoint(tmp_path / "model.safetensors").info["step"] == 2


def test_a_resumed_run_has_the_optimizer_settings_that_it_is_given(
    model: ModelConfig, speech: Path, tmp_path: Path
) -> None:
    run(model, configured(speech, total=2), tmp_path)
    config, state = configured(speech, total=3), latest_state(tmp_path)
    other = replace(config, optimizer=replace(config.optimizer, weight_decay=0.5, betas=(0.8, 0.9)))
    decayed, rest = run(model, other, tmp_path, resume_from=state).optimizer.param_groups
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.5, 0.0)
    assert decayed["betas"] == rest["betas"] == (0.8, 0.9)
    lamb = replace(config, optimizer=replace(config.optimizer, name="Lamb"))
    with pytest.raises(AalbertError, match=naming("states-3.ckpt", "optimizer.name", "AdamW", "Lamb")):
        run(model, lamb, tmp_path, resume_from=latest_state(tmp_path))


def test_init_alone_says_what_the_model_is(speech: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Shared weights fit any depth, and positions any scale: neither may change without a word."""
    options = ["-c", "pretrain_debug", "--speech", str(speech), "--device", "cpu", "--init", "aalbert_tiny"]
    steps = ["-o", "config.runner.total_steps=1,,model.task.num_units=8"]  # there is too little speech for more
    caplog.set_level(logging.INFO)
    assert main(["pretrain", *options, *steps, "-p", str(tmp_path / "a")]) == 0
    packaged = load_checkpoint(packaged_folder("aalbert_tiny")).config
    expected = replace(packaged, task=replace(packaged.task, num_units=8))
    assert load_checkpoint(tmp_path / "a").config == expected
    assert mentions(caplog.text, "-g", "--init aalbert_tiny") and "num_hidden_layers" not in caplog.text
    other = ["-g", "aalbert_tiny", "-o", f"{steps[1]},,model.transformer.num_hidden_layers=2"]
    assert main(["pretrain", *options, *other, "-p", str(tmp_path / "b")]) == 0
    assert mentions(caplog.text, "--init aalbert_tiny", "transformer.num_hidden_layers", 3, 2)


def test_nothing_to_resume_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "mine").mkdir()
    assert main(["pretrain", "-p", str(tmp_path / "mina"), "-a"]) == 2
    assert 'mina: nothing to resume there (did you mean "mine"?)' in capsys.readouterr().err


def test_a_run_centres_the_model(model: ModelConfig, speech: Path, tmp_path: Path) -> None:
    """By its training speech, in every state; a run that begins with its weights finds the means anew."""
    centred = replace(model, transformer=replace(model.transformer, centred=True))
    run(model, configured(speech, total=4), tmp_path / "plain")
    trainer = run(centred, configured(speech, total=4, save_step=2), tmp_path / "centred")
    plain, found = load_checkpoint(tmp_path / "plain").state, load_checkpoint(tmp_path / "centred").state
    assert found.keys() - plain.keys() == {"model.hidden_means"}
    assert all(torch.equal(found[name], weight) for name, weight in plain.items()), "training is the same"
    upstream = UpstreamExpert(ckpt=str(tmp_path / "centred")).eval()
    heard = [utterance.path for utterance in trainer.corpus.split("train")]
    wavs = [torch.from_numpy(read_audio(path)) for path in heard]
    assert len(wavs) < runner.CENTRE_UTTERANCES, "all of it counts"
    with torch.no_grad():
        states = torch.cat([torch.stack(upstream([wav])["hidden_states"])[:, 0] for wav in wavs], dim=1)
    assert states.mean(1).abs().max() < 1e-5 < found["model.hidden_means"].abs().max()
    halfway = load_training_state(tmp_path / "centred" / "states-2.ckpt")["model"]["model.hidden_means"]
    assert halfway.any() and not torch.equal(halfway, found["model.hidden_means"])
    for start, config in (("plain", centred), ("centred", model), ("centred", centred)):
        out = tmp_path / f"{start}_{config.transformer.centred}"
        run(config, configured(speech, total=1), out, init=tmp_path / start)
        state = load_checkpoint(out).state
        assert ("model.hidden_means" in state) == config.transformer.centred
        assert not config.transformer.centred or state["model.hidden_means"].any()


def test_a_resumed_run_does_not_need_what_it_was_initialised_from(
    model: ModelConfig, speech: Path, tmp_path: Path
) -> None:
    run(model, configured(speech, total=1), tmp_path / "first")
    run(model, configured(speech, total=1), tmp_path / "second", init=tmp_path / "first")
    state = latest_state(tmp_path / "second")
    run(model, configured(speech, total=2), tmp_path / "second", init=tmp_path / "gone", resume_from=state)


def test_a_model_has_heard_the_speech_of_those_that_gave_it_weights_or_units(
    model: ModelConfig, speech: Path, tmp_path: Path
) -> None:
    """The list of its training speech, by which tasks refuse a test on that speech, also after a resumption."""
    other = synthesise_corpus(tmp_path / "other", num_speakers=4, utterances_per_speaker=2, seconds=(0.5, 0.6), seed=2)
    shutil.move(next(other.iterdir()), other / "someone_else")
    spoken = {str(path): path.parent.name for root in (speech, other) for path in root.rglob("*.wav")}
    first, second = tmp_path / "first", tmp_path / "second"
    run(model, configured(other, total=1), first)
    assert len(overlap(first, spoken, spoken).utterances) < len(spoken)
    run(model, configured(speech, total=1), second, init=first)
    assert overlap(second, spoken, spoken).utterances == sorted(spoken)
    units = replace(model, task=replace(model.task, unit_weight=1.0, num_units=4))
    named = replace(configured(speech, total=1), units=UnitsConfig(str(first), 1))
    run(units, named, tmp_path / "units")
    assert overlap(tmp_path / "units", spoken, spoken) == overlap(second, spoken, spoken)
    (first / TRAINING_LIST_FILE).unlink()
    run(
        units,
        replace(named, runner=replace(named.runner, total_steps=2)),
        tmp_path / "units",
        resume_from=latest_state(tmp_path / "units"),
    )
    assert overlap(tmp_path / "units", spoken, spoken) == overlap(second, spoken, spoken)  # written when it began
    run(model, configured(speech, total=2), second, resume_from=latest_state(second))
    assert overlap(second, spoken, spoken).utterances == sorted(spoken)
    run(model, configured(speech, total=1), tmp_path / "third", init=first)
    third = overlap(tmp_path / "third", spoken, spoken)  # what the first one heard is unknown
    assert third.speakers == sorted(path.name for path in speech.iterdir() if path.is_dir()) and not third.complete


def with_units(model: ModelConfig) -> ModelConfig:
    return replace(model, task=replace(model.task, unit_weight=1.0, num_units=4))


@pytest.mark.parametrize("source", ["release", "state", "release of before"])
@pytest.mark.parametrize(("seed", "kept"), [(7, True), (8, False)])
def test_a_unit_head_is_kept_for_the_units_that_it_has_learnt(
    model: ModelConfig, speech: Path, tmp_path: Path, source: str, seed: int, kept: bool
) -> None:
    """Another seed clusters otherwise, so that unit 3 is another one; an older release does not say which it knows."""
    run(with_units(model), configured(speech, total=1), tmp_path / "first")
    first = load_checkpoint(tmp_path / "first")
    if source == "release":
        (tmp_path / "first" / "states-1.ckpt").unlink()
    elif source == "release of before":
        shutil.rmtree(tmp_path / "first")
        save_release(tmp_path / "first", first.config, first.state, "", {"step": 1})
        kept = False
    options = RunOptions(tmp_path / "second", seed=seed, init=tmp_path / "first")
    found = Pretrainer(with_units(model), configured(speech, total=1), options).objective.state_dict()
    names = [name for name in found if name.startswith("unit_head.") and name.endswith("weight") and "norm" not in name]
    assert names and all(torch.equal(found[name], first.state[name]) == kept for name in names)
    assert all(torch.equal(found[name], value) for name, value in first.state.items() if name.startswith("model."))


def test_a_state_of_another_model_is_refused_before_any_work(
    model: ModelConfig, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run(model, configured(speech, total=1), tmp_path)
    before = sorted(tmp_path.iterdir())
    again = ["pretrain", "-a", "-p", str(tmp_path), "--device", "cpu", "-g", "aalbert_tiny"]
    assert main([*again, "-o", "config.runner.total_steps=2,,model.task.num_units=4"]) == 2
    assert mentions(capsys.readouterr().err, "states-1.ckpt", "another model configuration")
    assert sorted(tmp_path.iterdir()) == before, "no units"


def test_a_resumed_run_has_heard_the_speech_of_its_new_units(model: ModelConfig, speech: Path, tmp_path: Path) -> None:
    other = synthesise_corpus(tmp_path / "other", num_speakers=4, utterances_per_speaker=2, seconds=(0.5, 0.6), seed=2)
    shutil.move(next(other.iterdir()), other / "someone_else")
    spoken = {str(path): path.parent.name for path in other.rglob("*.wav")}
    run(model, configured(other, total=1), tmp_path / "first")
    units = replace(model, task=replace(model.task, unit_weight=1.0, num_units=4))
    run(units, configured(speech, total=1), tmp_path / "units")
    assert "someone_else" not in overlap(tmp_path / "units", spoken, spoken).speakers
    named = replace(configured(speech, total=2), units=UnitsConfig(str(tmp_path / "first"), 1))
    run(units, named, tmp_path / "units", resume_from=latest_state(tmp_path / "units"))
    found = overlap(tmp_path / "units", spoken, spoken)
    assert found.utterances == sorted(spoken) and found.complete


def test_a_run_goes_on_in_fp16_from_another_precision(
    model: ModelConfig, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state holds no loss scale; torch would call that damaged. The scale is one that works without a GPU."""
    run(model, configured(speech, total=1), tmp_path)

    def launch(config: PretrainConfig, options: RunOptions) -> Fabric:
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))
        fabric.launch()
        return fabric

    monkeypatch.setattr(runner, "launch", launch)
    run(model, configured(speech, total=2), tmp_path, resume_from=latest_state(tmp_path))
    assert load_training_state(tmp_path / "states-2.ckpt")["precision"]["scale"] == 1024.0


@pytest.mark.parametrize("seed", ["-1", str(1 << 63), str(1 << 64)])
def test_a_seed_that_cannot_be_kept_is_refused(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture, seed: str
) -> None:
    options = ["-g", "debug", "-c", "pretrain_debug", "--speech", str(speech), "-p", str(tmp_path / "x")]
    assert main(["pretrain", *options, "--device", "cpu", "--seed", seed]) == 2
    assert mentions(capsys.readouterr().err, f"--seed {seed}", 0, (1 << 63) - 1)
    assert not (tmp_path / "x").exists()


def test_a_state_under_another_name_is_left_alone(model: ModelConfig, speech: Path, tmp_path: Path) -> None:
    run(model, configured(speech, total=1), tmp_path)
    kept = tmp_path / "states-1-backup.ckpt"
    (tmp_path / "states-1.ckpt").rename(kept)
    run(model, configured(speech, total=4, save_step=1, max_keep=1), tmp_path)
    assert sorted(p.name for p in tmp_path.glob("states-*.ckpt")) == ["states-1-backup.ckpt", "states-4.ckpt"]


def test_going_on_from_an_earlier_state_loses_none(
    model: ModelConfig, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """-e in a folder that has gone further is refused; elsewhere -a goes on with what -e began there."""
    first, second = tmp_path / "first", tmp_path / "second"
    run(model, configured(speech, total=4, save_step=2), first)
    earlier = ["pretrain", "-e", str(first / "states-2.ckpt"), "--device", "cpu"]
    settings = ["-o", "config.runner.total_steps=3"]
    assert main([*earlier, *settings]) == 2
    assert "holds states-4.ckpt already" in capsys.readouterr().err
    assert main([*earlier, *settings, "-p", str(second)]) == 0
    assert main([*earlier, *settings, "-p", str(second)]) == 2, "another run's state, in a folder that has its own"
    capsys.readouterr()
    assert main([*earlier, "-o", "config.runner.total_steps=4", "-p", str(second), "-a"]) == 0
    assert [p.name for p in sorted(second.glob("states-*.ckpt"))] == ["states-3.ckpt", "states-4.ckpt"]
    assert sorted(p.name for p in first.glob("states-*.ckpt")) == ["states-2.ckpt", "states-4.ckpt"]


def options_of(speech: Path, expdir: Path, *more: str) -> list[str]:
    override = "config.runner.total_steps=400,,config.runner.save_step=1,,config.runner.eval_step=1000"
    base = [
        "pretrain",
        "-g",
        "debug",
        "-c",
        "pretrain_debug",
        "--speech",
        str(speech),
        "-p",
        str(expdir),
        "--device",
        "cpu",
    ]
    return [*base, "-o", override, *more]


def command(speech: Path, expdir: Path) -> list[str]:
    return [sys.executable, "-m", "s3prl_aalbert", *options_of(speech, expdir)]


def wait_for_state(process: subprocess.Popen, expdir: Path) -> None:
    deadline = time.monotonic() + 120
    while latest_state(expdir) is None:
        assert process.poll() is None and time.monotonic() < deadline, "no state was written"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGKILL])
def test_a_signal_leaves_a_state_to_go_on_from(speech: Path, tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(command(speech, tmp_path), stderr=subprocess.PIPE, text=True) as process:
        wait_for_state(process, tmp_path)
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else EXIT_STOPPED)
    state = latest_state(tmp_path)
    assert state is not None and load_training_state(state)["step"] < 400


def pretrain_on(ranks: int, speech: Path, expdir: Path, total: int, batch: int, *more: str) -> None:
    """Run to ``total`` steps on 1 or 2 processes, keeping and evaluating the state of step 3."""
    settings = {
        "runner.total_steps": total,
        "runner.save_step": 3,
        "runner.eval_step": 3,
        "runner.precision": "fp32",
        "optimizer.schedule_steps": 10,
        "pretrain_expert.datarc.train_batch_size": batch,
    }
    override = ",,".join(f"config.{key}={value}" for key, value in settings.items())
    options = ["-g", "debug", "-c", "pretrain_debug", "--speech", str(speech), "--device", "cpu", "-p", str(expdir)]
    options += ["-o", override, *more]
    if ranks == 1:
        assert main(["pretrain", *options]) == 0
        return
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    argv = [*launch, "-m", "s3prl_aalbert.pretrain", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert result.returncode == 0, result.stderr[-2000:]


def assert_same_training(folder: Path, other: Path, step: int) -> None:
    """Equal up to the order of sums: after a few steps of Adam that is far below one step's size (1e-4)."""
    first, second = (load_training_state(f / f"states-{step}.ckpt") for f in (folder, other))
    assert first["best_dev"] == pytest.approx(second["best_dev"], abs=1e-5)
    for key, value in first["model"].items():
        torch.testing.assert_close(second["model"][key], value, rtol=0, atol=5e-6, msg=key)


def test_two_processes_equal_one_with_twice_the_batch_and_resume_on_the_other_number(
    speech: Path, tmp_path: Path
) -> None:
    pretrain_on(1, speech, tmp_path / "one", 5, 4)
    pretrain_on(2, speech, tmp_path / "two", 3, 2)
    assert_same_training(tmp_path / "one", tmp_path / "two", 3)
    pretrain_on(1, speech, tmp_path / "two", 5, 4, "-a")
    assert_same_training(tmp_path / "one", tmp_path / "two", 5)
    pretrain_on(2, speech, tmp_path / "from_one", 5, 2, "-e", str(tmp_path / "one" / "states-3.ckpt"))
    assert_same_training(tmp_path / "one", tmp_path / "from_one", 5)


def test_a_damaged_latest_state_names_the_whole_one_before_it(
    model: ModelConfig, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run(model, configured(speech, total=6, save_step=2, max_keep=3), tmp_path)
    newest, before, oldest = (tmp_path / f"states-{step}.ckpt" for step in (6, 4, 2))
    more = ["--device", "cpu", "-o", "config.runner.total_steps=7"]
    remove: list[str] = []
    for damaged, whole in ((newest, before), (before, oldest), (oldest, None)):
        damaged.write_bytes(damaged.read_bytes()[:-100])
        remove.append(damaged.name)
        for start in (["-a", "-p", str(tmp_path)], ["-e", str(newest), "-p", str(tmp_path)]):
            assert main(["pretrain", *start, *more]) == 2
            told = capsys.readouterr().err.splitlines()[-1]
            assert told.startswith(f"aalbert pretrain: {newest}: ") and "damaged" in told
            advice = f"is whole: remove {' and '.join(remove)}, and -a goes on from there"
            assert told.endswith(f"; {whole.name} (step {whole.stem[7:]}) {advice}" if whole else "`aalbert pretrain`")
    shutil.copy(tmp_path / "dev-best.ckpt", oldest)  # of one of these steps: whole, and older than the two that go
    newest.unlink()
    before.unlink()
    assert main(["pretrain", "-a", "-p", str(tmp_path), *more]) == 0


def test_a_mistyped_init_is_told_before_the_speech_is_decoded(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(options_of(speech, tmp_path / "x", "--init", "aalbert_6l_7x")) == 2
    assert mentions(capsys.readouterr().err.splitlines()[-1], "aalbert pretrain: ", "aalbert_6l_7x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-c", "{folder}/typo.yaml"], 'did you mean "total_steps"'),
        (["--speech", "{folder}/nowhere"], "no such folder"),
        (["-e", "{folder}/nothing.ckpt"], "no training state"),
    ],
)
def test_a_users_mistakes_are_one_sentence(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture, more: list[str], message: str
) -> None:
    (tmp_path / "typo.yaml").write_text("runner: {total_stepz: 3}\noptimizer: {lr: fast}\n")
    assert main(options_of(speech, tmp_path / "x", *(each.format(folder=tmp_path) for each in more))) == 2
    told = capsys.readouterr().err
    assert message in told and "Traceback" not in told
