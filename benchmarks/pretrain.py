"""Pre-training speed and memory against S3PRL's built-in audio_albert, in turn, on the same real audio, in one run.

    python benchmarks/pretrain.py --speech DIR... -o benchmarks/results/pretrain.csv

Each system runs whole training steps (decoding, features, masking, forward, backward, clipping, AdamW) in a process of
its own; rounds alternate between them, so that a machine that slows down slows both. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from commands import exit_code
from workers import Worker, serve

from s3prl_aalbert.machine import processor

BATCH_SIZE = 8
SAMPLE_RATE = 16000
CLIPS = 48
MEMORY_SECONDS = (15, 30, 60, 120)
S3PRL_MODEL = {  # its audio_albert, as its recipe has it
    "transformer": {
        "input_dim": -1,
        "hidden_size": 768,
        "num_hidden_layers": 3,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "layer_norm_eps": 1.0e-12,
        "share_layer": True,
        "pre_layer_norm": False,
    },
    "task": {
        "loss": "L1",
        "sequence_length": 1500,
        "position_encoding_size": 768,
        "mask_proportion": 0.15,
        "mask_consecutive_min": 7,
        "mask_consecutive_max": 7,
        "mask_allow_overlap": True,
        "mask_bucket_ratio": 1.5,
        "mask_frequency": 0.0,
        "noise_proportion": 0.0,
    },
    "audio": {
        "target_level": -25,
        "win_ms": 25,
        "hop_ms": 10,
        "n_freq": 201,
        "n_mels": 80,
        "n_mfcc": 13,
        "input": {"feat_type": "mel", "channel": 0, "log": True, "delta": 0, "cmvn": True},
        "target": {"feat_type": "mel", "channel": 1, "log": True, "delta": 0, "cmvn": True},
    },
}


@dataclass(frozen=True)
class Case:
    """One system in one setting."""

    name: str
    seconds: int
    peer: str
    """Case that this one is a ratio to."""
    model: str = ""
    """Model preset; empty is S3PRL's."""
    precision: str = "fp32"
    stack: int = 3
    target: float | None = None


CASES = (
    Case("s3prl 5 s", 5, ""),
    Case("aalbert_3l fp32 5 s", 5, "s3prl 5 s", "aalbert_3l"),
    Case("s3prl 15 s", 15, ""),
    Case("aalbert_3l fp32 15 s", 15, "s3prl 15 s", "aalbert_3l", target=10),
    Case("aalbert_3l bf16 15 s", 15, "s3prl 15 s", "aalbert_3l", "bf16", target=25),
    Case("aalbert_3l fp32 15 s, stack 1", 15, "s3prl 15 s", "aalbert_3l", stack=1, target=3),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", nargs="+", type=Path, help="folders of real speech")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/pretrain.csv"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="steps a round of our cases; S3PRL takes one")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="these cases and their peers; no memory")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--clips", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        run_worker(args.worker, args.clips)
        return
    if not args.speech:
        parser.error("--speech is missing")
    rows = [("case", "figure", "median", "min", "max", "unit", "ratio to peer", "target")]
    with tempfile.TemporaryDirectory() as folder:
        for seconds in {case.seconds for case in CASES} | {max(MEMORY_SECONDS)}:
            make_clips(
                args.speech, seconds, 2 if seconds == max(MEMORY_SECONDS) else CLIPS, Path(folder) / str(seconds)
            )
        if not args.only:
            rows += measure_memory(Path(folder))
            rows += measure_encoder(args.rounds, Path(folder))
        rows += measure_speed(args, Path(folder))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with args.output.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([*rows, machine()])
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    print("\n".join("  ".join(f"{value!s:<{width}}" for value, width in zip(r, widths, strict=True)) for r in rows))
    print(" ".join(map(str, machine())))


def machine() -> tuple[str, ...]:
    import torch

    return ("machine", processor(), f"{torch.get_num_threads()} threads", f"torch {torch.__version__}",
            platform.python_version())  # fmt: skip


def make_clips(folders: list[Path], seconds: int, count: int, output: Path) -> None:
    """Join real utterances to ``count`` wav files of exactly ``seconds``."""
    import soundfile

    from s3prl_aalbert.audio_io import read_audio
    from s3prl_aalbert.pretrain.corpus import find_speech

    output.mkdir(parents=True)
    files = itertools.cycle(file.path for file in find_speech([str(folder) for folder in folders]) if not file.fault)
    joined = np.zeros(0, np.float32)
    for number in range(count):
        while len(joined) < seconds * SAMPLE_RATE:
            joined = np.concatenate([joined, read_audio(str(next(files)), SAMPLE_RATE)])
        clip, joined = joined[: seconds * SAMPLE_RATE], joined[seconds * SAMPLE_RATE :]
        soundfile.write(output / f"clip{number:03d}.wav", clip, SAMPLE_RATE)


# --------------------------------------------------------------------------------------- in turn, by processes


def worker_of(name: str, clips: Path) -> Worker:
    """Start the process of one case."""
    return Worker([__file__, "--worker", name, "--clips", str(clips)])


def run_worker(name: str, clips: Path) -> None:
    """Serve ``Worker.ask``."""
    if name == "encoder":
        work = encoder_work()
    elif name.startswith("memory"):
        work = memory_work(name, clips)
    else:
        case = next(case for case in CASES if case.name == name)
        work = aalbert_work(case, clips / str(case.seconds)) if case.model else s3prl_work(clips / str(case.seconds))
    serve(work)


def measure_speed(args: argparse.Namespace, clips: Path) -> list[tuple]:
    wanted = [case for case in CASES if not args.only or case.name in args.only]
    cases = [case for case in CASES if case in wanted or any(case.name == other.peer for other in wanted)]
    workers = {case.name: worker_of(case.name, clips) for case in cases}
    measured: dict[str, list[dict[str, float]]] = {case.name: [] for case in cases}
    for round_number in range(args.rounds + 1):
        for case in cases:
            result = workers[case.name].ask(args.steps if case.model and round_number else 1)
            if round_number:  # the first warms up
                measured[case.name].append(result)
            print(f"round {round_number}, {case.name}: {result}", file=sys.stderr, flush=True)
    for worker in workers.values():
        worker.end()
    rows = []
    for case in cases:
        speeds = [m["audio_seconds"] / m["wall_seconds"] for m in measured[case.name]]
        peers = [m["audio_seconds"] / m["wall_seconds"] for m in measured.get(case.peer, [])]
        ratios = [a / b for a, b in zip(speeds, peers, strict=False)]
        ratio = f"{statistics.median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f})" if ratios else ""
        target = f">= {case.target:g}" if case.target else ""
        rows.append((case.name, "audio seconds per second", *spread(speeds), "", ratio, target))
        for key, label in (("waiting", "waiting for data"), ("features", "features")):
            shares = [100 * m[key] / m["wall_seconds"] for m in measured[case.name] if key in m]
            if shares:
                rows.append((case.name, f"{label}, share of a step", *spread(shares), "%", "", "<= 10 together"))
    return rows


def spread(values: list[float]) -> tuple[str, str, str]:
    return f"{statistics.median(values):.2f}", f"{min(values):.2f}", f"{max(values):.2f}"


# ----------------------------------------------------------------------------------------------- training steps


def aalbert_work(case: Case, clips: Path) -> Callable[[int], dict[str, float]]:
    """Return a function that takes training steps with this project's own runner."""
    from dataclasses import replace

    import torch

    from s3prl_aalbert.model.config import load_model_config
    from s3prl_aalbert.pretrain.config import (
        DataConfig,
        OptimizerConfig,
        PretrainConfig,
        PretrainExpertConfig,
        RunnerConfig,
    )
    from s3prl_aalbert.pretrain.launch import RunOptions
    from s3prl_aalbert.pretrain.runner import Pretrainer

    model = load_model_config(case.model)
    model = replace(model, transformer=replace(model.transformer, downsample_rate=case.stack))
    data = DataConfig(paths=(str(clips),), train_batch_size=BATCH_SIZE, max_seconds=15, dev_fraction=0, cache_hours=0)
    config = PretrainConfig(RunnerConfig(precision=case.precision), OptimizerConfig(), PretrainExpertConfig(data))
    trainer = Pretrainer(model, config, RunOptions(expdir=clips / "unused", dry_run=True))
    batches = iter(trainer.batches)

    def work(steps: int) -> dict[str, float]:
        started, waiting, audio = time.perf_counter(), 0.0, 0
        for _ in range(steps):
            asked = time.perf_counter()
            micro_batches = next(batches)
            waiting += time.perf_counter() - asked
            trainer.step += 1
            trainer.train_step(micro_batches)
            audio += sum(int(batch.num_samples.sum()) for batch in micro_batches)
        wall = time.perf_counter() - started
        (batch,) = micro_batches
        with torch.no_grad():
            asked = time.perf_counter()
            trainer.objective.model.acoustics(batch.wavs, batch.num_samples, with_target=True)
            features = (time.perf_counter() - asked) * steps
        return {"audio_seconds": audio / SAMPLE_RATE, "wall_seconds": wall, "waiting": waiting, "features": features}

    return work


def s3prl_expert(clips: Path):  # type: ignore[no-untyped-def]
    """Return S3PRL's pre-training expert on the clips, fp32, on the CPU."""
    import s3prl

    from s3prl_aalbert.toolkit import compat

    compat.apply()
    sys.path.insert(0, str(Path(s3prl.__file__).parent))  # its pre-training imports `upstream` and `utility`
    from pretrain.audio_albert.pretrain_expert import UpstreamPretrainExpert

    names = sorted(path.name for path in clips.glob("*.wav"))
    length = round(float(clips.name) * SAMPLE_RATE)
    table = clips / "clips.csv"
    table.write_text("file_path,length\n" + "".join(f"{name},{length}\n" for name in names))
    data = {"num_workers": 0, "train_batch_size": BATCH_SIZE, "max_timestep": 0, "libri_root": str(clips)}
    return UpstreamPretrainExpert({**data, "file_path": str(clips), "sets": ["clips"]}, S3PRL_MODEL, device="cpu")


def s3prl_work(clips: Path) -> Callable[[int], dict[str, float]]:
    """Return a function that takes training steps as S3PRL's pretrain/runner.py does."""
    import torch

    expert = s3prl_expert(clips)
    expert.train()
    optimizer = torch.optim.AdamW(expert.model.parameters(), lr=2e-4)

    def endless() -> Iterator:
        while True:
            yield from expert.get_train_dataloader()

    batches = endless()

    def work(steps: int) -> dict[str, float]:
        started = time.perf_counter()
        for _ in range(steps):
            loss, _ = expert(next(batches), global_step=1)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(expert.model.parameters(), 5.0)
            optimizer.step()
            optimizer.zero_grad()
        wall = time.perf_counter() - started
        return {"audio_seconds": steps * BATCH_SIZE * float(clips.name), "wall_seconds": wall}

    return work


# ----------------------------------------------------------------------------------------- encoder and memory


def encoder_work() -> Callable[[int], dict[str, float]]:
    """Return a function that measures the encoder's arithmetic beside plain matrix products of its sizes (GFLOP/s)."""
    import torch

    from s3prl_aalbert.model.config import load_model_config
    from s3prl_aalbert.model.encoder import Encoder

    config = load_model_config("aalbert_3l").transformer
    encoder = Encoder(config).train()
    tokens, size, wide = 500, config.hidden_size, config.intermediate_size
    hidden = torch.randn(BATCH_SIZE, tokens, size, requires_grad=True)
    a, b, c = torch.randn(BATCH_SIZE * tokens, size), torch.randn(size, wide), torch.randn(wide, size)
    per_token = config.num_hidden_layers * (4 * size * size + 2 * size * wide + 2 * tokens * size)
    encoder_flop = 3 * 2 * per_token * BATCH_SIZE * tokens  # backward costs twice the forward pass
    product_flop = 2 * 2 * BATCH_SIZE * tokens * size * wide

    def work(repeats: int) -> dict[str, float]:
        started = time.perf_counter()
        for _ in range(repeats):
            encoder(hidden, None)[-1].sum().backward()
        middle = time.perf_counter()
        for _ in range(8 * repeats):
            (a @ b) @ c
        ended = time.perf_counter()
        product = 8 * repeats * product_flop / (ended - middle) / 1e9
        return {"encoder": repeats * encoder_flop / (middle - started) / 1e9, "product": product}

    return work


def measure_encoder(rounds: int, clips: Path) -> list[tuple]:
    worker = worker_of("encoder", clips)
    worker.ask(1)
    measured = [worker.ask(3) for _ in range(rounds)]
    worker.end()
    shares = [100 * m["encoder"] / m["product"] for m in measured]
    return [
        ("matrix product fp32", "rate", *spread([m["product"] for m in measured]), "GFLOP/s", "", ""),
        ("encoder fp32, forward + backward", "rate", *spread([m["encoder"] for m in measured]), "GFLOP/s", "", ""),
        ("encoder fp32, forward + backward", "share of matrix-product rate", *spread(shares), "%", "", ">= 80"),
    ]


def memory_work(name: str, clips: Path) -> Callable[[int], dict[str, float]]:
    """Return a function that runs one forward pass of one utterance and tells by how much the peak memory rose."""
    import soundfile
    import torch

    _, system, seconds = name.split()
    longest, _ = soundfile.read(clips / str(max(MEMORY_SECONDS)) / "clip000.wav", dtype="float32")
    wav = torch.from_numpy(longest[: int(seconds) * SAMPLE_RATE])
    if system == "s3prl":
        expert = s3prl_expert(clips / "15").eval()
        from upstream.baseline.preprocessor import get_preprocessor

        preprocessor, _, _ = get_preprocessor(S3PRL_MODEL["audio"])

        def forward() -> None:
            features = preprocessor(wav[None, None])[0]
            positions = torch.zeros(1, features.shape[1], 768)  # S3PRL's own table ends at 3,000 frames
            expert.model.Transformer(features, positions, torch.ones(features.shape[:2]))
    else:
        from s3prl_aalbert.upstream.expert import UpstreamExpert

        upstream = UpstreamExpert(model_config="aalbert_3l").eval()

        def forward() -> None:
            upstream([wav])

    def work(_: int) -> dict[str, float]:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with torch.no_grad():
            forward()
        return {"mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}

    return work


def measure_memory(clips: Path) -> list[tuple]:
    """Peak memory of one utterance's forward pass, each in a fresh process."""
    rows = []
    for seconds in MEMORY_SECONDS:
        rises = {}
        for system in ("aalbert_3l", "s3prl"):
            if system == "s3prl" and seconds > 60:
                continue  # its attention maps alone would take several GiB
            worker = worker_of(f"memory {system} {seconds}", clips)
            rises[system] = worker.ask(1)["mib"]
            worker.end()
        ratio = f"1/{rises['s3prl'] / rises['aalbert_3l']:.1f}" if "s3prl" in rises else ""
        for system, rise in rises.items():
            text = f"{rise:.0f}"
            ours = system == "aalbert_3l"
            target = "<= 1/3" if ours and seconds == 60 else ""
            rows.append((f"{system} {seconds} s", "peak memory of a forward pass", text, text, text, "MiB",
                         ratio if ours else "", target))  # fmt: skip
    return rows


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
