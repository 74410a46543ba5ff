"""What is fuzzed: each function makes good inputs in a folder and returns the case that spoils one and reads it."""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import logging
import math
import os
import random
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from fuzzing import NASTY_WORDS, Case, mutate_bytes, mutate_text, mutate_tree

from s3prl_aalbert.audio_io import read_audio
from s3prl_aalbert.checkpoint.interop.exporting import export_s3prl
from s3prl_aalbert.checkpoint.interop.importing import import_checkpoint
from s3prl_aalbert.checkpoint.release import load_checkpoint, save_release
from s3prl_aalbert.cli import main as aalbert
from s3prl_aalbert.commands import pretrain as pretrain_command
from s3prl_aalbert.downstream.alignments import (
    LabelTable,
    frame_labels,
    majority_labels,
    read_converted,
    read_phn,
    read_textgrid,
    read_tsv,
)
from s3prl_aalbert.downstream.phone.expert import DownstreamExpert as PhoneExpert
from s3prl_aalbert.downstream.probe.expert import DownstreamExpert as ProbeExpert
from s3prl_aalbert.downstream.recorder import Recorder
from s3prl_aalbert.downstream.results import RunnerOptions, RunResults, training_sections
from s3prl_aalbert.downstream.speaker.frame import DownstreamExpert as FrameExpert
from s3prl_aalbert.downstream.speaker.utterance import DownstreamExpert as UtteranceExpert
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import (
    AudioConfig,
    ModelConfig,
    TransformerConfig,
    load_model_config,
    packaged_configs,
    read_yaml,
    to_dict,
)
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.model.sub_network import load_architecture
from s3prl_aalbert.pretrain.config import DataConfig, PretrainConfig, PretrainExpertConfig, RunnerConfig
from s3prl_aalbert.pretrain.corpus import load_corpus
from s3prl_aalbert.pretrain.dataset import SpeechDataset
from s3prl_aalbert.pretrain.launch import RunOptions
from s3prl_aalbert.pretrain.plan import plan_run
from s3prl_aalbert.pretrain.runner import Pretrainer
from s3prl_aalbert.report.write import summarise_runs
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus
from s3prl_aalbert.toolkit.config_checks import check_config
from s3prl_aalbert.toolkit.overrides import parse_override
from s3prl_aalbert.toolkit.resume import load_experiment, resumed_settings
from s3prl_aalbert.typed_options import given
from s3prl_aalbert.upstream.expert import FeaturesExpert, UpstreamExpert

TINY = ModelConfig(
    transformer=TransformerConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32),
    audio=AudioConfig(num_mel_bins=8, n_fft=400),
)


def release(folder: Path) -> Path:
    """Write a release of a tiny model."""
    torch.manual_seed(0)
    save_release(folder, TINY, MaskedPrediction(TINY).state_dict(), "# tiny\n", {"step": 3})
    return folder


def check_states(states: list[torch.Tensor]) -> None:
    """Fail unless every hidden state is finite: what is accepted must give something usable."""
    if not all(torch.isfinite(state).all() for state in states):
        raise ArithmeticError("hidden states that are not finite")


def write_yaml(dice: random.Random, path: Path, tree: Any) -> Path:
    """Write a configuration with a few values exchanged, or with its text spoilt."""
    if dice.random() < 0.7:
        path.write_bytes(yaml.safe_dump(mutate_tree(dice, tree), sort_keys=False, allow_unicode=True).encode())
    else:
        path.write_bytes(mutate_text(dice, yaml.safe_dump(tree, sort_keys=False)))
    return path


# ------------------------------------------------------------------------------------------------- audio


def audio_files(folder: Path) -> Case:
    """Audio files of every format, their bytes spoilt; what can be read goes through the upstream."""
    noise = np.random.default_rng(0).normal(0, 0.1, (6400, 2))
    kinds = [
        ("wav", "PCM_16"),
        ("wav", "FLOAT"),
        ("wav", "PCM_24"),
        ("flac", "PCM_16"),
        ("ogg", "VORBIS"),
        ("ogg", "OPUS"),
        ("mp3", "MPEG_LAYER_III"),
        ("aiff", "PCM_16"),
    ]
    good = []
    for suffix, subtype in kinds:
        for rate, channels in ((16000, 1), (44100, 2), (8000, 1)):
            data = io.BytesIO()
            rate = 48000 if subtype == "OPUS" and rate == 44100 else rate
            soundfile.write(data, noise[:, :channels], rate, format=suffix.upper(), subtype=subtype)
            good.append((suffix, data.getvalue()))
    upstream = UpstreamExpert(str(release(folder / "release"))).eval()

    def case(dice: random.Random) -> None:
        suffix, data = dice.choice(good)
        path = folder / f"a.{suffix}"
        path.write_bytes(mutate_bytes(dice, data, dice.choice(good)[1]))
        wav = read_audio(path)
        if wav.ndim != 1 or wav.dtype != np.float32 or not len(wav) or not np.isfinite(wav).all():
            raise ArithmeticError(f"accepted as {wav.shape} {wav.dtype}")
        with torch.no_grad():
            check_states(upstream([torch.from_numpy(wav[:160000])])["hidden_states"])

    return case


def waveforms(folder: Path) -> Case:
    """Lists of tensors of every shape, type and value."""
    experts = [UpstreamExpert(str(release(folder / "release"))).eval(), FeaturesExpert()]
    dtypes = (
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int16,
        torch.int64,
        torch.bool,
        torch.complex64,
    )
    values = (math.nan, math.inf, -math.inf, 1e38, 3e38, 1e300, 1e-45, -0.0, 1.0, 32768.0)

    def wav(dice: random.Random) -> Any:
        shape = dice.choice(
            ((dice.randrange(3000),), (dice.randrange(3000),), (1,), (0,), (), (1, 400), (400, 1), (2, 300), (0, 5))
        )
        tensor = dice.choice((0.0, 0.1, 1.0, 1e4, 1e-8, 1e30)) * torch.randn(shape, dtype=torch.float64)
        if tensor.numel() and dice.random() < 0.5:
            tensor.view(-1)[dice.randrange(tensor.numel())] = dice.choice(values)
        tensor = tensor.nan_to_num().to(dtype) if (dtype := dice.choice(dtypes)) in dtypes[4:] else tensor.to(dtype)
        return dice.choice(
            (tensor,) * 12 + (tensor.numpy() if tensor.dtype != torch.bfloat16 else None, tensor.tolist(), "wav", None)
        )

    def case(dice: random.Random) -> None:
        wavs: Any = [wav(dice) for _ in range(dice.choice((0, *(1,) * 9, 2, 4)))]
        wavs = dice.choice((wavs,) * 40 + (tuple(wavs), None, wavs[0] if wavs else 3))
        with torch.no_grad():
            check_states(dice.choice(experts)(wavs)["hidden_states"])

    return case


# ------------------------------------------------------------------------------------------------ corpora


def manifests(folder: Path) -> Case:
    """Manifests, lists of skipped files and audio caches beside real files, then the utterances they lead to."""
    speech = synthesise_corpus(folder / "speech", num_speakers=2, utterances_per_speaker=3, seconds=(0.5, 0.6), seed=1)
    (folder / "good").mkdir()
    good = folder / "good" / "manifest.tsv"
    load_corpus(DataConfig(paths=(str(speech),)), good, 0)
    (folder / "pipe.wav").unlink(missing_ok=True)
    os.mkfifo(folder / "pipe.wav")
    text = good.read_text()
    skipped = "path\treason\tbytes\tmtime_ns\n" + f"{speech}/x.wav\tis damaged\t3\t4\n"

    def case(dice: random.Random) -> None:
        run = folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(good.parent, run)
        manifest = run / "manifest.tsv"
        kind = dice.randrange(4)
        if kind < 2:
            spoilt = text if dice.random() < 0.9 else text + f"{folder}/pipe.wav\t\t\t\t\t\n"
            manifest.write_bytes(mutate_text(dice, spoilt))
        elif kind == 2:
            (run / "manifest.skipped.tsv").write_bytes(mutate_text(dice, skipped))
        else:
            victim = dice.choice([p for p in sorted(run.iterdir()) if "audio" in p.name])
            victim.write_bytes(mutate_bytes(dice, victim.read_bytes()))
        trusted = dice.random() < 0.3
        config = DataConfig(
            paths=() if trusted or dice.random() < 0.5 else (str(speech),),
            manifest=str(manifest),
            trust_manifest=trusted,
            prepare_workers=1,
            dev_fraction=dice.choice((0.0, 0.4)),
        )
        corpus = load_corpus(config, manifest, 0, strict=dice.random() < 0.2)
        dataset = SpeechDataset(corpus.split("train"), TINY, config.max_seconds, 0)
        for index in range(min(len(dataset), 8)):
            dataset[0, index]

    return case


def speaker_and_split_files(folder: Path) -> Case:
    """Kaldi's utt2spk, TSVs of speakers, split lists: read by the speaker and phone tasks."""
    speech = synthesise_corpus(folder / "speech", num_speakers=3, utterances_per_speaker=4, seconds=(0.5, 0.6), seed=2)
    pairs = [line.split() for line in (speech / "utt2spk").read_text().splitlines()]
    names = [name for name, _ in pairs]
    texts = {
        "utt2spk": "\n".join(f"{name} {speaker}" for name, speaker in pairs),
        "tsv": "utterance\tspeaker\n" + "\n".join(f"{name}\t{speaker}" for name, speaker in pairs),
        "train_list": "\n".join(names[::2]),
        "test_list": "\n".join(names[1::2]),
    }

    def case(dice: random.Random) -> None:
        for name, text in texts.items():
            (folder / name).write_text(text)
        victim = dice.choice(sorted(texts))
        (folder / victim).write_bytes(mutate_text(dice, texts[victim]))
        source = victim if victim in ("utt2spk", "tsv") else dice.choice(("utt2spk", "tsv"))
        datarc: dict[str, Any] = {"audio": str(speech), "speaker_from": source, "speakers_file": str(folder / source)}
        if "list" in victim:
            datarc |= {"train_list": str(folder / "train_list"), "test_list": str(folder / "test_list")}
        UtteranceExpert(8, 480, {"datarc": datarc}, str(folder / "exp"), mode="train")

    return case


# -------------------------------------------------------------------------------------------- alignments

PHN = "0 1600 h#\n1600 4000 ih\n4000 8000 s\n8000 16000 h#\n"
TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.0
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.0
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1.0
            text = "he ""said"" so"
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 1.0
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "HH"
        intervals [2]:
            xmin = 0.5
            xmax = 1.0
            text = "IY1"
"""
SHORT_TEXTGRID = """File type = "ooTextFile short"
"TextGrid"

0
1.0
<exists>
1
"IntervalTier"
"phones"
0
1.0
2
0
0.5
"HH"
0.5
1.0
"IY1"
"""
TSV = "utterance\tstart\tend\tphone\na\t0.0\t0.5\tHH\na\t0.5\t1.0\tIY1\nb\t0.1\t0.9\tS\n"
CONVERTED = "a 0 0 0 1 1 2 2 2\nb 3 3 3 3\n"


def alignments(folder: Path) -> Case:
    """The four formats of alignments, then labels of frames and tokens."""
    kinds = [
        (read_phn, PHN),
        (read_textgrid, TEXTGRID),
        (read_textgrid, SHORT_TEXTGRID),
        (read_tsv, TSV),
        (read_converted, CONVERTED),
    ]
    path = folder / "labels"

    def case(dice: random.Random) -> None:
        read, text = dice.choice(kinds)
        path.write_bytes(mutate_text(dice, text))
        found: Any = read(path)
        found = found.alignments if isinstance(found, LabelTable) else found
        for alignment in found.values() if isinstance(found, dict) else [found]:
            ids = {phone: number for number, phone in enumerate(sorted({s.phone for s in alignment}))}
            for label in (frame_labels, majority_labels):
                labels = label(alignment, ids, 16001, dice.choice((160, 480)))
                if labels.ndim != 1 or labels.dtype.kind != "i" or labels.max() >= max(1, len(ids)):
                    raise ArithmeticError(f"labels {labels.dtype} {labels.shape} up to {labels.max()} of {len(ids)}")

    return case


# ------------------------------------------------------------------------------------------ configuration


def small(config: ModelConfig) -> bool:
    """Tell whether a model can be built within milliseconds."""
    t, a = config.transformer, config.audio
    sizes = (
        t.hidden_size,
        t.intermediate_size,
        t.num_attention_heads,
        t.embedding_size or 1,
        t.position_encoding_size or 1,
        a.num_mel_bins,
    )
    return (
        max(sizes) <= 512
        and t.num_hidden_layers <= 8
        and a.n_fft <= 4096
        and t.downsample_rate <= 64
        and t.head_dim <= 512
    )


def model_configs(folder: Path) -> Case:
    """Model YAML of -g; what is accepted and small is built and used."""
    tree = json.loads(json.dumps(to_dict(TINY)))

    def case(dice: random.Random) -> None:
        path = write_yaml(dice, folder / "model.yaml", tree)
        config = load_model_config(str(path))
        if small(config):
            with torch.no_grad():
                check_states(UpstreamExpert(model_config=str(path)).eval()([torch.randn(4000)])["hidden_states"])

    return case


def sub_networks(folder: Path) -> Case:
    """The YAML of a sub-network (arch.yaml), used with its supernet."""
    supernet = str(release(folder / "release"))
    tree = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": [1, 2], "intermediate_size": 16}

    def case(dice: random.Random) -> None:
        path = write_yaml(dice, folder / "arch.yaml", tree)
        load_architecture(path)
        with torch.no_grad():
            check_states(UpstreamExpert(supernet, str(path))([torch.randn(2000)])["hidden_states"])

    return case


def runner_configs(folder: Path) -> Case:
    """Runner YAML of -c and overrides of `aalbert pretrain`; what is accepted trains two steps."""
    speech = synthesise_corpus(folder / "speech", num_speakers=2, utterances_per_speaker=3, seconds=(0.5, 0.6), seed=1)
    datarc = DataConfig(paths=(str(speech),), prepare_workers=1)
    tree = json.loads(
        json.dumps(
            to_dict(PretrainConfig(RunnerConfig(precision="fp32"), pretrain_expert=PretrainExpertConfig(datarc)))
        )
    )
    tree["supernet"] = None
    (folder / "tiny.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(to_dict(TINY)))))
    overrides = "config.optimizer.lr=1e-3,,config.runner.total_steps=5,,model.transformer.hidden_size=8"

    def case(dice: random.Random) -> None:
        spoilt = {**tree, "supernet": {"hidden_size": [8, 16], "sampling": "sandwich"}} if dice.random() < 0.3 else tree
        path = write_yaml(dice, folder / "runner.yaml", spoilt)
        parser = argparse.ArgumentParser()
        pretrain_command.add_arguments(parser)
        argv = [
            "-g",
            str(folder / "tiny.yaml"),
            "-c",
            str(path),
            "-p",
            str(folder / "exp"),
            "--device",
            "cpu",
            "--dry-run",
        ]
        text = mutate_text(dice, overrides).decode("utf-8", "replace") if dice.random() < 0.3 else None
        args = parser.parse_args([*argv, *([f"--override={text}"] if text else [])])
        if dice.random() < 0.3:
            args.speech = [str(speech)]
        plan = plan_run(pretrain_command.as_request(**given(pretrain_command.pretrain, args)))
        model, config = plan.model, plan.config
        if not small(model) or config.runner.compile or config.datarc.num_workers or config.distill:
            return
        if config.runner.gradient_accumulate_steps > 20:
            return
        Pretrainer(model, config, RunOptions(folder / "exp", dry_run=True)).run()

    return case


def task_configs(folder: Path) -> Case:
    """The tasks' YAML; what is accepted gives a batch, a loss and results."""
    speech = synthesise_corpus(folder / "speech", num_speakers=3, utterances_per_speaker=4, seconds=(0.5, 0.6), seed=2)
    tasks = {
        "aalbert_phone": PhoneExpert,
        "aalbert_speaker_utterance": UtteranceExpert,
        "aalbert_speaker_frame": FrameExpert,
        "aalbert_probe": ProbeExpert,
    }
    trees = {name: read_yaml(packaged_configs("downstream_configs") / f"{name}.yaml") for name in tasks}
    for tree in trees.values():
        datarc = tree["downstream_expert"]["datarc"]
        for part in (datarc, datarc.get("phone"), datarc.get("speaker")):
            if part and "audio" in part:
                part["audio"] = str(speech)
                part |= {"num_folds": 3} if "num_folds" in part else {}

    def case(dice: random.Random) -> None:
        name = dice.choice(sorted(tasks))
        tree = copy.deepcopy(trees[name])
        if dice.random() < 0.3:
            tree = mutate_tree(dice, tree)
        else:
            tree["downstream_expert"] = mutate_tree(
                dice, tree["downstream_expert"], (str(speech), str(folder / "nowhere"))
            )
        (folder / "task.yaml").write_text(yaml.safe_dump(tree))
        tree = read_yaml(folder / "task.yaml")
        check_config(tree, "task.yaml", "train", {})
        torch.manual_seed(0)
        section = tree["downstream_expert"]
        expert = tasks[name](8, 480, section, str(folder / "exp"), runner=tree["runner"], mode="train", seed=1)
        for split in ("train", "dev"):
            loader = expert.get_dataloader(split)
            if getattr(loader, "num_workers", 0) or getattr(loader, "loaders", None):
                continue
            wavs, *rest = next(iter(loader))
            records: Any = defaultdict(list)
            expert(split, [torch.randn(round(len(wav) / 480), 8) for wav in wavs], *rest, records=records)

    return case


def results_and_reports(folder: Path) -> Case:
    """results.json and probes.csv, read by the report and by a run that is resumed."""
    metrics = {"acc": 0.5, "loss": 1.0}
    content = {
        "format": 1,
        "task": "aalbert_phone",
        "args": {"upstream": "fbank", "seed": 1, "upstream_ckpt": None, "expname": "a"},
        "config": {"datarc": {"train_fraction": 1.0}, "modelrc": {}},
        "data": {"train": 3},
        "model": {"upstream_dim": 80},
        "majority": {"dev": 0.1, "test": 0.1},
        "history": [{"step": n, "split": s, "metrics": metrics} for n in (1, 2) for s in ("dev", "test")],
        "best": {"step": 1, "dev": metrics, "test": metrics},
    }
    probes = "task,layer,classifier,dev_acc,test_acc,best_step,params\n"
    probes += "phone,0,linear,0.5,0.4,10,100\nphone,1,linear,0.6,0.5,10,100\n"

    def case(dice: random.Random) -> None:
        run = folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        kind = dice.randrange(3)
        text = json.dumps(mutate_tree(dice, content)) if kind else json.dumps(content)
        (run / "results.json").write_bytes(text.encode() if dice.random() < 0.7 else mutate_text(dice, text))
        if not kind:
            (run / "probes.csv").write_bytes(mutate_text(dice, probes))
        if dice.random() < 0.3:
            (run / "config_1.yaml").write_bytes(mutate_text(dice, "runner:\n  total_steps: 2\n  eval_step: 1\n"))
        if dice.random() < 0.3:
            args = {"upstream": "fbank", "mode": dice.choice(("train", "evaluate"))}
            recorder = Recorder(
                run, RunResults("aalbert_phone", RunnerOptions.of(args), training_sections(args)), args, resume=True
            )
            recorder.add("dev", 3, metrics)
        summarise_runs([run]).table()

    return case


def option_texts(folder: Path) -> Case:
    """-o of `aalbert downstream`, and whole command lines of the light commands."""
    good = "config.optimizer.lr=1e-3,,args.seed=7,,config.runner.total_steps=5"
    lines = [
        ["convert", "CKPT", "-o", "OUT"],
        ["extract", "CKPT", "--arch", "YAML", "-o", "OUT"],
        ["report", "OUT"],
        ["profile", "-g", "YAML"],
        ["probe", "-u", "x", "--task", "phone"],
        ["link", "OUT", "--dry-run"],
        ["search", "CKPT", "-o", "OUT"],
        ["pretrain", "-g", "YAML", "--speech", "OUT", "-n", "x"],
    ]
    words = [w for w in NASTY_WORDS if not w.startswith("~")] + ["--quiet", "-x", str(folder), "downstream", "--title"]

    def case(dice: random.Random) -> None:
        if dice.random() < 0.5:
            parse_override(mutate_text(dice, good).decode("utf-8", "replace"))
            return
        argv = [str(folder / word) if word.isupper() else word for word in dice.choice(lines)]
        argv[dice.randrange(1, len(argv))] = dice.choice(words)
        for _ in range(dice.randrange(2)):
            argv.insert(dice.randrange(1, len(argv) + 1), dice.choice(words))
        before = Path.cwd()
        os.chdir(folder)  # "." is a word, too, and a report of somebody's real runs takes its time
        try:
            refuses(argv)
        finally:
            os.chdir(before)
        if (folder / "OUT").exists():
            raise ArithmeticError(f"{argv} left {folder / 'OUT'} behind")

    return case


def refuses(argv: list[str]) -> None:
    """Run a command in this process; a refusal with code 2 counts as such, anything but 0 and 2 is a finding."""
    shown, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(shown):
        try:
            code = aalbert(argv)
        except SystemExit as end:
            code = end.code
    logging.disable(logging.CRITICAL)
    if code == 2:
        raise AalbertError(told.getvalue() or "told nothing")
    if code:
        raise ArithmeticError(f"{argv} ended with {code}: {told.getvalue()}")


# ------------------------------------------------------------------------------------------- checkpoints


def releases(folder: Path) -> Case:
    """Releases: the bytes of model.safetensors and of config.yaml, loaded by -k and given to the commands."""
    good = release(folder / "release")
    weights, config = (good / "model.safetensors").read_bytes(), (good / "config.yaml").read_text()
    header = 8 + int.from_bytes(weights[:8], "little")

    def case(dice: random.Random) -> None:
        spoilt = folder / "spoilt"
        shutil.rmtree(spoilt, ignore_errors=True)
        shutil.rmtree(folder / "out", ignore_errors=True)
        spoilt.mkdir()
        kind = dice.randrange(5)
        data = weights
        if kind == 0:
            data = mutate_bytes(dice, weights[:header]) + weights[header:]
        elif kind < 4:
            data = mutate_bytes(dice, weights)
        (spoilt / "model.safetensors").write_bytes(data)
        if kind == 4:
            (spoilt / "config.yaml").write_bytes(mutate_text(dice, config))
        _use(dice, spoilt, folder / "out")

    return case


def _use(dice: random.Random, checkpoint: Path, out: Path) -> None:
    """Give a checkpoint to one of the places that read one."""
    if dice.random() < 0.7:
        with torch.no_grad():
            states = UpstreamExpert(str(checkpoint)).eval()([torch.ones(999)])["hidden_states"]
        if dice.random() < 0.5:
            check_states(states)
        return
    try:
        refuses(["convert", str(checkpoint), "-o", str(out), "--to", "s3prl", "--accept-differences"])
    except AalbertError:
        if out.exists():
            raise ArithmeticError(f"refused, but wrote {out}") from None
        raise


def training_states(folder: Path) -> Case:
    """Training states: their bytes and their content (weights of other shapes and types, keys), loaded and resumed."""
    speech = synthesise_corpus(folder / "speech", num_speakers=2, utterances_per_speaker=3, seconds=(0.5, 0.6), seed=1)
    expert = PretrainExpertConfig(DataConfig(paths=(str(speech),), prepare_workers=1))
    config = PretrainConfig(
        RunnerConfig(total_steps=2, precision="fp32", eval_step=9, save_step=9), pretrain_expert=expert
    )
    trainer = Pretrainer(TINY, config, RunOptions(folder / "exp"))
    trainer.run()
    good = folder / "exp" / "states-2.ckpt"
    data, content = good.read_bytes(), torch.load(good, weights_only=True)
    tensors = (
        torch.zeros(3),
        torch.tensor(1.0),
        torch.zeros(2, 2, dtype=torch.int64),
        torch.zeros(0),
        torch.zeros(16, dtype=torch.complex64),
    )
    path = folder / "states-9.ckpt"

    def case(dice: random.Random) -> None:
        if dice.random() < 0.4:
            path.write_bytes(mutate_bytes(dice, data))
        else:
            torch.save(mutate_tree(dice, dict(content), (*tensors, content["model"])), path)
        if dice.random() < 0.5:
            shutil.rmtree(folder / "out", ignore_errors=True)
            (folder / "out").unlink(missing_ok=True)
            _use(dice, path, folder / "out")
        else:
            trainer._load(path)

    return case


def foreign_checkpoints(folder: Path) -> Case:
    """Checkpoints of S3PRL and pohanchi/AALBERT for `aalbert convert`."""
    plain = TransformerConfig(**{**to_dict(TINY.transformer), "downsample_rate": 1})
    model = ModelConfig(transformer=plain, audio=AudioConfig(num_mel_bins=8, n_fft=400, front_end="s3prl", delta=False))
    save_release(folder / "plain", model, MaskedPrediction(model).state_dict(), "", {"step": 1})
    s3prl = export_s3prl(load_checkpoint(folder / "plain")).content
    lightning = {
        "state_dict": {f"pretrained_model.extractor.{k}": v for k, v in s3prl["Transformer"].items()},
        "global_step": 3,
        "hyper_parameters": {
            "model_config": {"model": {"position_embedding": {"trainable": False}, "common": {"dropout": 0.1}}}
        },
    }
    new = {"Mockingjay": s3prl["Transformer"], "Global_step": 3, "Settings": {"Config": {"mockingjay": to_dict(plain)}}}
    good = [s3prl, s3prl, lightning, new]
    files = []
    for number, content in enumerate(good):
        torch.save(content, folder / f"{number}.ckpt")
        files.append((folder / f"{number}.ckpt").read_bytes())
    path = folder / "spoilt.ckpt"

    def case(dice: random.Random) -> None:
        number = dice.randrange(len(good))
        if dice.random() < 0.4:
            path.write_bytes(mutate_bytes(dice, files[number]))
            import_checkpoint(path)
        else:
            torch.save(mutate_tree(dice, good[number], (torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64))), path)
            import_checkpoint(path, trust=dice.random() < 0.5)

    return case


def downstream_experiments(folder: Path) -> Case:
    """Checkpoints of S3PRL's downstream runner for -e: bytes and content."""
    settings = {
        "mode": "train",
        "upstream": "fbank",
        "downstream": "aalbert_phone",
        "expdir": str(folder),
        "seed": 1,
        "override": None,
    }
    content = {
        "Args": argparse.Namespace(**settings),
        "Config": {"runner": {"total_steps": 3}},
        "Downstream": {"w": torch.zeros(3)},
        "Step": 3,
    }
    path = folder / "dev-best.ckpt"
    torch.save(content, path)
    data = path.read_bytes()
    torch.serialization.add_safe_globals([argparse.Namespace])

    def case(dice: random.Random) -> None:
        if dice.random() < 0.5:
            path.write_bytes(mutate_bytes(dice, data))
        else:
            spoilt = mutate_tree(dice, {**content, "Args": settings})
            if isinstance(spoilt, dict) and isinstance(spoilt.get("Args"), dict) and dice.random() < 0.9:
                names = {str(k): v for k, v in spoilt["Args"].items()}
                spoilt["Args"] = argparse.Namespace(**names)
            torch.save(spoilt, path)
        states = load_experiment(path)
        resumed_settings(path, vars(states["Args"]), {"mode": "evaluate", "past_exp": str(path)}, parse_override(None))

    return case


TARGETS = {
    "audio files": (audio_files, 2.0),
    "waveforms": (waveforms, 1.5),
    "manifests": (manifests, 1.5),
    "speaker and split files": (speaker_and_split_files, 0.7),
    "alignments": (alignments, 3.0),
    "model YAML": (model_configs, 1.5),
    "sub-network YAML": (sub_networks, 0.7),
    "runner YAML": (runner_configs, 1.0),
    "task YAML": (task_configs, 1.0),
    "results": (results_and_reports, 1.0),
    "options": (option_texts, 0.7),
    "releases": (releases, 1.2),
    "training states": (training_states, 1.2),
    "foreign checkpoints": (foreign_checkpoints, 1.0),
    "downstream experiments": (downstream_experiments, 0.7),
}
"""Kind of input: (its function, its share of the cases)."""
