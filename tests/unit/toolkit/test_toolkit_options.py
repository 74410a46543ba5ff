"""What `aalbert downstream` says about its options, before S3PRL's main() runs."""

import argparse
import datetime
import decimal
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from naming import mentions, naming

from s3prl_aalbert import toolkit
from s3prl_aalbert.checkpoint.release import save_release
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit import option_checks, overrides, resume
from s3prl_aalbert.toolkit.repairs import imports
from s3prl_aalbert.upstream.expert import UpstreamExpert

RUNNER = """
runner: {gradient_accumulate_steps: 1, total_steps: 10, log_step: 2, eval_step: 5, save_step: 5, max_keep: 1,
  gradient_clipping: 1, eval_dataloaders: [dev]}
optimizer: {name: TorchOptim, torch_optim_name: SGD, lr: 1.0e-4}
"""


@pytest.fixture(scope="module")
def complete():
    toolkit.activate()
    from s3prl_aalbert.toolkit.arguments import complete

    return complete


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


NEW = "-m train -n x -u fbank -d example"


def experiment(path: Path, **changes) -> Path:
    """Write a checkpoint as S3PRL's runner does, with a Lamb-like state and numpy numbers in it."""
    args = {"upstream": "fbank", "upstream_ckpt": None, "downstream": "example", "expdir": str(path.parent)}
    args |= {"upstream_feature_selection": "hidden_states", "config": None, "seed": 1337, **changes}
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=np.float64(1e-3))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    states = {
        "Optimizer": optimizer.state_dict(),
        "Scheduler": scheduler.state_dict(),
        "Step": np.int64(10),
        "Epoch": 0,
        "Args": argparse.Namespace(**args),
        "Config": {**yaml.safe_load(RUNNER), "downstream_expert": {"ratio": np.float32(0.5)}},
        "Downstream": model.state_dict(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(states, path)
    return path


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("-n x -u fbank -d example", "-m is missing"),
        ("-m train -u fbank -d example", "-n NAME .* or -p EXPDIR is missing"),
        ("-m train -n x -d example", "-u is missing"),
        ("-m train -n x -u fbank", "-d is missing"),
        ("-m train -n x -u fbnak -d example", '-u fbnak: .*did you mean "fbank"'),
        ("-m train -n x -u fbank -d aalbert_phoen", 'did you mean "aalbert_phone"'),
        ("-m train -n x -u aalbert_local -d example", "-u aalbert_local .*-k"),
        ("-m train -n x -u aalbert_local -k https://host/m -d example", "-k https://host/m.*-u aalbert_url"),
        ("-m train -n x -u aalbert_every_frame_local -k https://host/m -d example", "-k https.*-u aalbert_url"),
        ("-m train -n x -u wav2vec2_local -k https://host/m -d example", "-k https://host/m.*-u wav2vec2_url"),
        ("-m evaluate -e https://host/m.ckpt", "-e https://host/m.ckpt.*URL"),
        ("-m train -n x -u tera_local -d example", "-u tera_local .*-k"),
        ("-m train -n x -u aalbert_local -k gone -d example", "-k gone: no such file"),
        ("-m train -n x -u tera_local -k . -d example", "-k . is a folder"),
        (NEW + " -k some.ckpt", "-u fbank .*-k some.ckpt"),
        ("-m train -n x -u aalbert_6l -k some.ckpt -d example", "-u aalbert_6l .*-k some.ckpt"),
        ("-m train -n x -u hubert -k some.ckpt -d example", "-u hubert .*-k some.ckpt"),
        ("-m train -n x -u baseline_local -d example", "-g is missing"),
        (NEW + " -g x.yaml", "-u fbank .*-g x.yaml.*-u baseline_local"),
        ("-m train -n x -u mfcc -g x.yaml -d example", "-u mfcc .*-g x.yaml.*-u baseline_local"),
        ("-m train -n x -u pase_plus -g x.yaml -d example", "-u pase_plus .*-g x.yaml.*-u pase_url"),
        ("-m train -n x -u baseline_local -g gone.yaml -d example", "-g gone.yaml: no such file"),
        ("-m train -n x -u fbank -d asr", "-c is missing.*asr"),
        (NEW + " -c gone.yaml", "gone.yaml: no such file"),
        (NEW + " -i gone.ckpt", "-i gone.ckpt: no such file"),
        (NEW + " --device cuda", "--device cuda: .*GPU"),
        (NEW + " -o config.runner.total_steps:3", '-o: .*"config.runner.total_steps:3"'),
        (NEW + " -o config.runner.eval_step=0", '"runner.eval_step" is 0.* 1'),
        (NEW + " -o config.runner.total_steps=10k", "example.yaml .*-o.*total_steps.*10k"),
        (NEW + " -o config.runner.gradient_accumulate_steps=0", "gradient_accumulate_steps"),
        (NEW + " -o config.optimizer.lr.x=3", "optimizer.lr.x"),
        (NEW + " -o config.optimizer.name=TorchOptm", 'did you mean "TorchOptim"'),
        (NEW + " --seed -1", "--seed -1: .*0 .*4294967295"),
        (NEW + " -e gone", "-e gone: no such file or folder"),
        ("-m evaluate -n x -u fbank -d aalbert_phone", "-m evaluate .*aalbert_phone"),
        ("-m inference -n x -u fbank -d example -t gone.wav", "-t gone.wav"),
    ],
)
def test_a_mistake_is_one_clear_sentence(complete, typed, sentence):
    with pytest.raises(AalbertError, match=sentence) as raised:
        complete(typed.split())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", sorted(option_checks._OWN_MODEL_CONFIG - {"pase_plus"}))
def test_s3prl_reads_no_g_where_it_is_refused(complete, name):
    from s3prl import hub

    with pytest.raises(AssertionError):
        hub.baseline_local(ckpt=None, model_config="gone.yaml", refresh=False)
    getattr(hub, name)(ckpt=None, model_config="gone.yaml", refresh=False)


def test_s3prl_reads_no_g_for_pase_plus_either(complete, monkeypatch):
    from s3prl.upstream.pase import hubconf

    read = {}
    monkeypatch.setattr(hubconf, "pase_url", lambda **options: read.update(options))
    hubconf.pase_plus(ckpt=None, model_config="gone.yaml", refresh=False)
    assert read["model_config"].endswith(".cfg?dl=1")


@pytest.mark.parametrize("name", ["customized_upstream", "stft_mag", "aalbert_features", "distilhubert", "hubert"])
def test_other_upstreams_may_read_g(complete, name):
    option_checks.check_upstream(name, None, "x.yaml")


def test_a_run_that_recorded_an_unread_g_still_resumes(complete):
    experiment(Path("exp/states-10.ckpt"), upstream_model_config="x.yaml")
    complete(["-m", "evaluate", "-e", "exp"])


def test_the_defaults_are_filled_in_and_logged(complete, caplog):
    caplog.set_level(logging.INFO)
    completed = complete(NEW.split())
    options = dict(zip(completed[::2], completed[1::2], strict=True))
    assert completed[: len(NEW.split())] == NEW.split()
    assert Path(options["-c"]).parts[-2:] == ("downstream_configs", "example.yaml")
    assert options["--device"] == "cpu"
    assert "example.yaml" in caplog.text and "--device: cpu chosen" in caplog.text


def test_a_configuration_in_the_working_folder_wins_for_tasks_of_s3prl(complete):
    own = Path("downstream/example/config.yaml")
    own.parent.mkdir(parents=True)
    own.write_text(RUNNER + "downstream_expert: {}\n")
    assert str(own) in complete(NEW.split())


def test_what_s3prls_runner_would_stumble_over_later_is_told_at_once(complete):
    own = Path("own.yaml")
    own.write_text(
        "runner: {gradient_accumulate_steps: 1, total_steps: 10, log_step: 2, eval_step: 0, max_keep: 1,\n"
        "  gradient_clipping: 1, eval_dataloaders: dev}\n"
        "optimizer: {name: AdamW, lr: 1e-4}\n"
    )
    with pytest.raises(AalbertError) as told:
        complete([*NEW.split(), "-c", "own.yaml"])
    expected = [
        ("own.yaml", "downstream_expert", "null", "mapping"),
        ("runner.eval_step", 0, "at least 1"),
        ("runner.save_step", "null", "at least 1"),
        ("runner.eval_dataloaders", "dev", "list"),
        ("optimizer.lr", "1e-4", "1.0e-4"),
    ]
    for problem, named in zip(str(told.value).split("; "), expected, strict=True):
        assert mentions(problem, *named)


def test_the_gpu_is_taken_if_there_is_one(complete, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert complete(NEW.split())[-2:] == ["--device", "cuda"]


def test_device_cpu_hides_the_gpus(complete, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    complete([*NEW.split(), "--device", "cpu"])
    assert torch.os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_a_launchers_rank_reaches_s3prl(complete, monkeypatch):
    assert "--local_rank=1" in complete([*NEW.split(), "--local-rank=1"])
    monkeypatch.setenv("LOCAL_RANK", "3")
    completed = complete(NEW.split())
    assert completed[completed.index("--local_rank") + 1] == "3"


@pytest.mark.parametrize(
    ("assignment", "near"),
    [
        ("config.runner.total_step=3", "total_steps"),
        ("config.optimzer.lr=1e-3", "optimizer"),
        ("config.specaugment.freq_mask_num=1", "specaug"),
        ("config.downstream_expert.datarc.num_worker=3", "num_workers"),
    ],
)
def test_a_misspelt_override_key_is_an_error(complete, assignment, near):
    with pytest.raises(AalbertError, match=rf'-o config\.[\w.]+: .* \(did you mean "{near}"\?\)'):
        complete([*NEW.split(), "-o", f"config.optimizer.lr=1e-3,,{assignment}"])


def test_a_key_that_is_near_no_other_is_warned_of(complete, caplog):
    complete([*NEW.split(), "-o", "config.downstream_expert.datarc.zzz=3,,config.optimizer.lr=1e-3"])
    assert mentions(caplog.text, "config.downstream_expert.datarc.zzz")
    assert "optimizer" not in caplog.text
    with pytest.raises(AalbertError, match=naming("-o config.zzz.lr")):
        complete([*NEW.split(), "-o", "config.zzz.lr=3"])


def test_a_finished_experiment_is_not_trained_over(complete):
    experiment(Path("result/downstream/x/states-10.ckpt"))
    with pytest.raises(AalbertError, match=naming("result/downstream/x", "states-10.ckpt", "-a")):
        complete(NEW.split())
    complete(["-m", "train", "-n", "x", "-a"])
    (Path("result/downstream/x") / "states-10.ckpt").rename("result/downstream/x/dev-best.ckpt")
    complete([*NEW.split(), "-a"])  # killed before its first state


def test_steps_that_would_leave_nothing_are_told(complete, caplog):
    with pytest.raises(AalbertError, match=naming("runner.eval_step", "runner.save_step", "is 10", 9)):
        complete([*NEW.split(), "-o", "config.runner.total_steps=9"])
    complete([*NEW.split(), "-o", "config.runner.total_steps=13"])
    assert mentions(caplog.text, "runner.save_step", 10, 3, 13, "-a")


def test_a_mistyped_name_to_resume_is_told(complete):
    experiment(Path("result/downstream/phones/states-10.ckpt"))
    with pytest.raises(AalbertError, match=naming("downstream/phone", 'did you mean "phones"')):
        complete(["-m", "train", "-n", "phone", "-a"])


def test_an_override_can_mend_what_is_checked(complete):
    with pytest.raises(AalbertError, match="-k gone"):
        complete([*NEW.split(), "-o", "args.upstream='aalbert_local',,args.upstream_ckpt=gone"])


def test_an_override_may_be_an_expression_and_mend_the_configuration(complete):
    own = Path("own.yaml")
    own.write_text(RUNNER.replace("eval_step: 5", "eval_step: 0") + "downstream_expert: {}\n")
    with pytest.raises(AalbertError, match="eval_step"):
        complete([*NEW.split(), "-c", "own.yaml"])
    complete([*NEW.split(), "-c", "own.yaml", "-o", "config.runner.eval_step=5*2"])


def test_what_a_resumed_run_overrides_is_checked_too(complete):
    past = experiment(Path("exp/states-10.ckpt"))
    complete(["-m", "train", "-e", str(past), "-o", "config.runner.total_steps=40"])
    with pytest.raises(AalbertError, match=naming("states-10.ckpt", "-o", "runner.total_steps", 0)):
        complete(["-m", "train", "-e", str(past), "-o", "config.runner.total_steps=0"])


def test_overrides_are_read_as_s3prl_reads_them():
    found = overrides.parse_override("config.a.b=[1, 2] ,, args.seed=3,,args.upstream_ckpt=None")
    assert found.config == {"a.b": [1, 2]}
    assert found.args == {"seed": 3, "upstream_ckpt": None}
    with pytest.raises(AalbertError, match=naming("-o args.a.b", "args.NAME=VALUE")):
        overrides.parse_override("args.a.b=1")


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("'/data/lang=en'", "/data/lang=en"),
        ("/data/lang=en", "/data/lang=en"),
        ("'/data/a,,b=c'", "/data/a,,b=c"),
        ('"/data/it\'s,,one"', "/data/it's,,one"),
        ("5*2", 10),
        ("['dev', 'test']", ["dev", "test"]),
        ("1e-3", 1e-3),
        ("true", "true"),
        ("{'a': (1, None)}", {"a": (1, None)}),
        ("time", "time"),  # which S3PRL's own override would replace by a function
        ("__import__('os').getcwd()", "__import__('os').getcwd()"),
    ],
)
def test_the_value_of_an_override(typed, value):
    """With = and ,, in it, as the folders of some corpora have; nothing is called or looked up."""
    found = overrides.parse_override(f"config.a={typed},,config.b=1")
    assert found.config == {"a": value, "b": 1}
    config = {"a": 0}
    overrides.apply_override(f"config.a={typed},,config.b=1,,args.seed=4", options := argparse.Namespace(), config)
    assert config == {"a": value, "b": 1} and vars(options) == {"seed": 4}


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("args.sede=3", r'-o args\.sede: .*did you mean "seed"'),
        ("args.config=other.yaml", r"-o args\.config .*-c"),
        ("args.mode=evaluate", r"-o args\.mode .*-m"),
        ("args.upstream_trainable=yes", r"-o args\.upstream_trainable .*yes.*true or false"),
        ("args.device=gpu", "--device gpu: .*cuda.*cpu"),
    ],
)
def test_an_option_set_by_an_override_is_checked(complete, assignment, sentence):
    with pytest.raises(AalbertError, match=sentence):
        complete([*NEW.split(), "-o", assignment])


def test_resuming_keeps_the_experiment_and_needs_no_other_option(complete, caplog):
    past = experiment(Path("exp/states-10.ckpt"))
    experiment(Path("exp/states-9.ckpt"), upstream="mfcc")  # older: not the one that is used
    assert complete(["-m", "train", "-e", "exp"]) == ["-m", "train", "-e", "exp", "--device", "cpu"]
    complete(["-m", "evaluate", "-e", str(past), "-u", "fbank", "-p", "exp/"])
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_training_on_from_an_earlier_state_replaces_no_checkpoint(complete):
    best = experiment(Path("exp/dev-best.ckpt"))  # of step 10
    experiment(Path("exp/states-20.ckpt"))
    experiment(Path("other/states-5.ckpt"))
    earlier = ["-m", "train", "-e", str(best)]
    with pytest.raises(AalbertError, match=naming("exp", "states-20.ckpt", "-a", "dev-best.ckpt", 10, "args.expdir")):
        complete(earlier)
    with pytest.raises(AalbertError, match=naming("other", "states-5.ckpt")):
        complete([*earlier, "-o", "args.expdir=other"])
    complete([*earlier, "-o", "args.expdir=new"])
    complete(["-m", "evaluate", "-e", str(best)])
    complete(["-m", "train", "-a", "-p", "exp"])


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("-u mfcc", "-u mfcc .*fbank"),
        ("-k other.ckpt", "-k other.ckpt .*ignored"),
        ("-d ctc", "-d ctc .*ignored"),
        ("-s last_hidden_state", "-s last_hidden_state .*ignored"),
    ],
)
def test_an_option_that_contradicts_the_resumed_experiment_is_an_error(complete, typed, sentence):
    experiment(Path("exp/states-10.ckpt"))
    for resuming in ("-m train -e exp", "-m train -a -p exp"):
        with pytest.raises(AalbertError, match=sentence):
            complete([*resuming.split(), *typed.split()])


def test_other_dropped_options_and_a_moved_experiment_are_warned_of(complete, caplog):
    experiment(Path("moved/states-10.ckpt"), expdir="before")
    complete(["-m", "train", "-e", "moved", "--seed", "7"])
    assert mentions(caplog.text, "seed", 7)
    assert mentions(caplog.text, "moved", "before")


@pytest.mark.parametrize("key", ["runner.precision", "runner.feature_cache", "scheduler.name", "optimizer.zzz"])
def test_keys_that_a_configuration_may_lack_are_not_taken_for_misspelt_ones(key):
    config = {"runner": {"total_steps": 1}, "optimizer": {"lr": 1}}
    overrides.check_new_keys(overrides.parse_override(f"config.{key}=x"), config)


def test_the_keys_of_our_own_tasks_are_checked_by_the_tasks():
    config = {"downstream_expert": {"datarc": {"train_batch_size": 1}}}
    override = overrides.parse_override("config.downstream_expert.datarc.train_fraction=0.1")
    overrides.check_new_keys(override, config, own_task=True)


def test_a_checkpoint_whose_name_has_no_step_is_told(complete):
    experiment(Path("exp/states-10.ckpt"))
    experiment(Path("exp/states-10-backup.ckpt"))
    with pytest.raises(AalbertError, match=naming("states-10-backup.ckpt", "states-STEP.ckpt")):
        complete(["-m", "train", "-e", "exp"])


def test_the_checkpoint_of_a_resumed_upstream_must_still_be_there(complete):
    experiment(Path("exp/states-10.ckpt"), upstream="aalbert_local", upstream_ckpt="gone.ckpt")
    with pytest.raises(AalbertError, match=naming("-k gone.ckpt")):
        complete(["-m", "train", "-e", "exp"])


def test_only_experiments_of_s3prl_are_resumed(complete):
    Path("text.ckpt").write_text("hello")
    torch.save({"model": {}}, "pretrained.ckpt")
    experiment(Path("place.ckpt"), expdir="a\0b")
    experiment(Path("number.ckpt"), expdir=5)
    Path("empty").mkdir()
    Path("best").mkdir()
    Path("best/dev-best.ckpt").touch()
    for past, sentence in {
        "text.ckpt": "torch.save",
        "pretrained.ckpt": "-k",
        "place.ckpt": "damaged.*expdir",
        "number.ckpt": "damaged.*expdir",
        "empty": "states-.*ckpt",
        "best": "-e best/dev-best.ckpt",
    }.items():
        with pytest.raises(AalbertError, match=sentence):
            complete(["-m", "evaluate", "-e", past])


def test_a_checkpoint_that_would_run_code_is_refused(complete):
    class Evil:
        def __reduce__(self):
            return Path.touch, (Path("ran"),)

    torch.save({"Args": Evil(), "Config": {}}, "evil.ckpt")
    with pytest.raises(AalbertError, match=naming("evil.ckpt")):
        complete(["-m", "evaluate", "-e", "evil.ckpt"])
    assert not Path("ran").exists()


def noted(path: Path, value: object) -> str:
    """Write an experiment with a value in its configuration."""
    imports.allow_s3prl_checkpoints()
    states = torch.load(experiment(path), map_location="cpu")
    states["Config"]["note"] = {"found": value}
    torch.save(states, path)
    return str(path)


@pytest.mark.parametrize(
    "text", ["2026-11-30", "2026-11-30 10:00:00", "2026-11-30T10:00:00+02:00", "2026-11-30T10:00:00Z"]
)
def test_a_date_in_the_yaml_is_read_again(complete, text):
    value = yaml.safe_load(text)
    assert isinstance(value, datetime.date)
    past = noted(Path("exp/states-10.ckpt"), value)
    complete(["-m", "train", "-e", past, "-o", "config.runner.total_steps=40"])
    assert resume.load_experiment(Path(past))["Config"]["note"] == {"found": value}


def test_a_type_that_is_not_loaded_is_named(complete):
    past = noted(Path("exp/states-10.ckpt"), decimal.Decimal(1))
    with pytest.raises(AalbertError, match=naming(past, "decimal.Decimal")) as raised:
        complete(["-m", "evaluate", "-e", past])
    assert str(raised.value).isprintable()


def test_s3prls_checkpoints_load_with_every_part_intact():
    imports.allow_s3prl_checkpoints()
    states = torch.load(experiment(Path("exp/states-10.ckpt")), map_location="cpu")
    assert states["Args"].upstream == "fbank" and states["Step"] == 10
    assert states["Config"]["downstream_expert"]["ratio"] == 0.5
    assert states["Optimizer"]["param_groups"][0]["lr"] == 1e-3


def test_the_workarounds_apply_once_and_leave_what_works():
    torchaudio = pytest.importorskip("torchaudio")
    imports.apply()
    before = (torchaudio.load, torchaudio.info, torchaudio.set_audio_backend, torchaudio.sox_effects)
    imports.apply()
    after = (torchaudio.load, torchaudio.info, torchaudio.set_audio_backend, torchaudio.sox_effects)
    assert all(x is y for x, y in zip(before, after, strict=True))
    assert sys.modules["torchaudio.sox_effects"] is torchaudio.sox_effects
    if hasattr(torchaudio, "list_audio_backends"):  # it still reads files by itself
        assert torchaudio.load.__module__.startswith("torchaudio")


def test_help_has_s3prls_options_and_names_our_upstreams(complete, capsys):
    with pytest.raises(SystemExit) as left:
        complete(["--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0
    assert "usage: aalbert downstream" in shown and "--upstream_feature_selection" in shown
    assert "aalbert_local" in shown


@pytest.mark.usefixtures("complete")
def test_s3prls_own_interface_finds_our_upstream_with_correct_lengths():
    from s3prl.nn import S3PRLUpstream

    expert = UpstreamExpert(model_config="debug")
    state = {f"model.{name}": tensor for name, tensor in expert.model.state_dict().items()}
    save_release(Path("release"), expert.model.config, state, card="")
    model = S3PRLUpstream("aalbert_local", path_or_url="release").eval()
    with torch.no_grad():
        states, lengths = model(torch.randn(2, 16000), torch.tensor([16000, 9601]))
    assert model.num_layers == len(states) == 3 and model.hidden_sizes == [32] * 3
    assert model.downsample_rates == [480] * 3
    assert all(length.tolist() == [34, 21] for length in lengths)
    assert all(hidden.shape == (2, 34, 32) for hidden in states)
