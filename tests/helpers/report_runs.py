"""Run folders as finished experiments leave them, with made-up numbers; shared by the tests of the report."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from s3prl_aalbert.downstream.result_tables import Confusion, ProbeResult, write_probes
from s3prl_aalbert.downstream.results import BestStep, DataFacts, Evaluation, ModelFacts, RunnerOptions, RunResults
from s3prl_aalbert.model.config import load_model_config, to_dict

PHONES = [
    *("aa", "ae", "ah", "aw", "ay", "b", "ch", "d", "dh", "dx", "eh", "er", "ey", "f", "g", "hh", "ih", "iy", "jh"),
    *("k", "l", "m", "n", "ng", "ow", "oy", "p", "r", "s", "sh", "t", "th", "uh", "uw", "v", "w", "y", "z", "sil"),
]


def write_results(
    folder: Path,
    task: str = "aalbert_phone",
    upstream: str = "fbank",
    ckpt: Path | str | None = None,
    model_config: Path | str | None = None,
    test: float = 0.5,
    dev: float | None = None,
    seed: int = 0,
    selection: str = "hidden_states",
    layer: int | None = None,
    trainable: bool = False,
    normalize: bool = False,
    datarc: dict[str, Any] | None = None,
    modelrc: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    classes: int = 39,
    history: Sequence[tuple[int, float]] | None = None,
    best_step: int = 1000,
    majority: float = 0.1,
    overlap: dict[str, int] | str | None = None,
    **metrics: float,
) -> Path:
    """Write the results of a finished run and return its folder."""
    if history is None:
        history = [(500, 0.6 * test), (1000, 0.8 * test)]
    RunResults(
        task,
        RunnerOptions(
            upstream,
            str(ckpt) if ckpt else None,
            str(model_config) if model_config else None,
            selection,
            layer,
            upstream_feature_normalize=normalize,
            upstream_trainable=trainable,
            seed=seed,
            expname=folder.name,
        ),
        training=training or {},
        config={"datarc": {"audio": "corpus", **(datarc or {})}, "modelrc": modelrc or {"classifier": "linear"}},
        data=DataFacts(80, 10, 10, classes, pretraining_overlap=overlap),
        model=ModelFacts(768, 480, 1000),
        majority={"dev": majority, "test": majority},
        history=[Evaluation(step, "dev", {"acc": acc, "loss": 1 - acc}) for step, acc in history],
        best=BestStep(
            best_step, {"acc": test if dev is None else dev, "loss": 1.0}, {"acc": test, "loss": 1.0, **metrics}
        ),
    ).write(folder)
    return folder


def write_release(folder: Path, preset: str) -> Path:
    """Write a release as far as the report reads it without drawing a reconstruction: its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(to_dict(load_model_config(preset))))
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def write_probe_run(folder: Path, rows: Sequence[tuple[str, int, str, float, float | None]], **options: Any) -> Path:
    """Write a probing run of (task, layer, classifier, dev, test); ``options`` are those of ``write_results``."""
    write_results(folder, "aalbert_probe", **options)
    write_probes(folder, [ProbeResult(*row, best_step=1000, params=5000) for row in rows])
    return folder


def write_featurizer(folder: Path, weights: Sequence[float]) -> None:
    """Write dev-best.ckpt as S3PRL saves it, as far as the learned layer weights go."""
    featurizer = {"weights": torch.tensor(weights)}
    torch.save({"Featurizer": featurizer, "Args": argparse.Namespace(seed=1)}, folder / "dev-best.ckpt")


def write_paper_grid(root: Path, seeds: int = 3) -> Path:
    """Write the paper's whole experimental section with made-up numbers: six models, all tasks, settings and shares."""
    generator = np.random.default_rng(0)
    models = {
        name: write_release(root / "pretrain" / name, name)
        for name in ("aalbert_3l", "aalbert_6l", "aalbert_12l", "mockingjay_3l", "mockingjay_6l", "mockingjay_12l")
    }
    upstreams: list[tuple[str, str, Path | None, float]] = [
        ("features", "aalbert_features", None, 0.45),
        *((name, "aalbert_local", path, 0.55 + 0.02 * i) for i, (name, path) in enumerate(models.items())),
    ]
    for name, upstream, ckpt, base in upstreams:
        for seed in range(seeds):
            _write_phone_runs(root / "tasks", name, upstream, ckpt, base, seed, generator)
            _write_speaker_runs(root / "tasks", name, upstream, ckpt, base, seed, generator)
    for name, ckpt in models.items():
        if "6l" in name:
            for seed in range(seeds):
                _write_probe_run(root / "probe" / f"{name}-{seed}", ckpt, seed, generator)
    return root


def _write_phone_runs(
    root: Path, name: str, upstream: str, ckpt: Path | None, base: float, seed: int, generator: np.random.Generator
) -> None:
    for setting in ("ws", "ft") if ckpt else ("ws",):
        for fraction in (0.001, 0.005, 0.01, 0.05, 0.125, 1.0):
            test = base + 0.05 * np.log10(fraction) + 0.04 * (setting == "ft") + 0.01 * generator.standard_normal()
            steps = np.arange(1, 11) * 500
            history = [(int(step), float(test * (1 - np.exp(-step / 1500)))) for step in steps]
            folder = write_results(
                root / f"phone-{name}-{setting}-{fraction}-{seed}",
                "aalbert_phone",
                upstream,
                ckpt,
                test=float(test),
                seed=seed,
                selection="last_hidden_state" if setting == "ft" else "layer_states" if ckpt else "hidden_states",
                trainable=setting == "ft",
                datarc={"audio": "LibriSpeech/train-clean-100", "train_fraction": fraction},
                history=history,
                best_step=5000,
                per=float(1 - test + 0.05),
            )
            if fraction == 1:
                counts = generator.poisson(3, (39, 39)) + np.diag(generator.integers(50, 200, 39))
                Confusion(tuple(PHONES), counts).write(folder)
                layers = int("".join(filter(str.isdigit, name)) or 0)
                if setting == "ws" and layers:
                    write_featurizer(folder, generator.normal(0, 0.4, layers).tolist())


def _write_speaker_runs(
    root: Path, name: str, upstream: str, ckpt: Path | None, base: float, seed: int, generator: np.random.Generator
) -> None:
    tasks = (
        ("aalbert_speaker_utterance", 251, "LibriSpeech/train-clean-100"),
        ("aalbert_speaker_utterance", 921, "LibriSpeech/train-clean-360"),
        ("aalbert_speaker_frame", 251, "LibriSpeech/train-clean-100"),
    )
    for task, classes, audio in tasks:
        for selection in ("hidden_states", "no_cmvn") if not ckpt else ("layer_states",):
            test = base + 0.4 if ckpt else 0.006 if selection == "hidden_states" else 0.6
            write_results(
                root / f"{task}-{classes}-{name}-{selection}-{seed}",
                task,
                upstream,
                ckpt,
                test=float(np.clip(test + 0.004 * generator.standard_normal(), 0, 1)),
                seed=seed,
                selection=selection,
                datarc={"audio": audio},
                classes=classes,
                majority=1 / classes,
            )


def _write_probe_run(folder: Path, ckpt: Path, seed: int, generator: np.random.Generator) -> None:
    rows = []
    for task, peak in (("phone", 3), ("speaker", 5)):
        for index, classifier in enumerate(("linear", "1-hidden", "2-hidden")):
            for layer in range(7):
                test = 0.6 + 0.05 * index - 0.01 * (layer - peak) ** 2 + 0.008 * generator.standard_normal()
                rows.append((task, layer, classifier, float(test), float(test)))
    write_probe_run(folder, rows, upstream="aalbert_local", ckpt=ckpt, seed=seed)
