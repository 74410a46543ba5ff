"""What extracting features costs: ours beside the architectures that a user might pick instead, in one run.

    python benchmarks/peers.py --speech DIR -o benchmarks/results/peers.csv

Weights of the peers are random: they change no time, and nothing is downloaded. HuBERT and wav2vec 2.0 base are
torchaudio's, DistilHuBERT and TERA are S3PRL's own classes with the sizes of the published models; DistilHuBERT is
without its three prediction heads, as the upstream uses it. Each system has a process of its own with one thread,
fp32, and hears the same utterances one by one, in turn with the others, so that a machine that slows down slows
all. Time is the processor's, not the clock's. Memory is by how much the peak of the process rises over that after
loading. Multiply-accumulates are torch's own count, with attention as two products.
"""

from __future__ import annotations

import argparse
import csv
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from commands import exit_code
from torch import Tensor, nn
from workers import Worker
from workers import serve as answer

from s3prl_aalbert.audio_io import read_audio
from s3prl_aalbert.machine import processor
from s3prl_aalbert.pretrain.corpus import find_speech

SAMPLE_RATE = 16000
COUNTED_SECONDS = 10
SYSTEMS = ("aalbert_tiny", "aalbert_units", "aalbert_6l", "tera", "distilhubert", "wav2vec2_base", "hubert_base")
HEADER = ("system", "parameters", "GMAC a second", "CPU s a second", "min", "max", "times aalbert_units", "MiB", "seed")
System = Callable[[Tensor], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", nargs="+", help="folders of real speech")
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, choices=SYSTEMS, metavar="NAME")
    parser.add_argument("--utterances", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/peers.csv"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.speech:
        parser.error("--speech is missing")
    files = [file.path for file in find_speech(args.speech) if not file.fault]
    chosen = [str(path) for path in files[:: max(1, len(files) // args.utterances)]][: args.utterances]
    if args.worker:
        serve(args.worker, [torch.from_numpy(read_audio(path, SAMPLE_RATE)) for path in chosen])
        return
    rows = compare(args)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with args.output.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([*rows, machine()])
    print("| " + " | ".join(HEADER[:-1]) + " |\n" + "|---" * (len(HEADER) - 1) + "|")
    print("\n".join("| " + " | ".join(map(str, row[:-1])) + " |" for row in rows[1:]))


def machine() -> tuple[str, ...]:
    """Return what the figures were measured on."""
    return ("machine", processor(), "1 thread", f"torch {torch.__version__}", platform.python_version())


def compare(args: argparse.Namespace) -> list[tuple]:
    """Measure all systems in turn."""
    command = [__file__, "--speech", *args.speech, "--utterances", str(args.utterances), "--worker"]
    workers = {name: Worker([*command, name]) for name in args.systems}
    facts = {name: worker.ask(0) for name, worker in workers.items()}
    times: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(args.rounds):
        for name, worker in workers.items():
            times[name].append(worker.ask(1)["seconds"])
            print(f"{name}: {times[name][-1]:.4f} CPU seconds a second of speech", file=sys.stderr, flush=True)
    for worker in workers.values():
        worker.end()
    rows: list[tuple] = [HEADER]
    for name, seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, times.get("aalbert_units", seconds), strict=True))
        spread = [f"{value:.4f}" for value in (statistics.median(seconds), min(seconds), max(seconds))]
        fact = facts[name]
        rows.append(
            (name, int(fact["parameters"]), f"{fact['gmac']:.3g}", *spread, f"{ratio:.2f}", f"{fact['mib']:.0f}", 0)
        )
    return rows


# ---------------------------------------------------------------------------------------------- in the worker


@torch.no_grad()
def serve(name: str, wavs: Sequence[Tensor]) -> None:
    """Answer with what does not change where no pass over the utterances is asked for, else with its time."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, system = build(name)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    longest = max(wavs, key=len)
    system(longest)
    facts = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - loaded) / 1024,
        "gmac": multiply_accumulates(system) / COUNTED_SECONDS / 1e9,
    }
    answer(lambda passes: timed(system, wavs) if passes else facts)


def timed(system: System, wavs: Sequence[Tensor]) -> dict[str, float]:
    """Return the processor's seconds for a second of speech."""
    started = time.process_time()
    for wav in wavs:
        system(wav)
    return {"seconds": (time.process_time() - started) / (sum(map(len, wavs)) / SAMPLE_RATE)}


def multiply_accumulates(system: System) -> float:
    """Return those of an utterance of ``COUNTED_SECONDS``, by torch's own counter."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        system(torch.randn(COUNTED_SECONDS * SAMPLE_RATE))
    return counter.get_total_flops() / 2


def build(name: str) -> tuple[nn.Module, System]:
    """Return a system's model and what turns a waveform (S,) into all its hidden states."""
    if name.startswith("aalbert"):
        from s3prl_aalbert.upstream import hubconf

        ours = getattr(hubconf, name)(pretrained=False).eval()
        return ours.model, lambda wav: ours([wav])["hidden_states"]
    if name in ("hubert_base", "wav2vec2_base"):
        import torchaudio

        big = getattr(torchaudio.models, name)().eval()
        return big, lambda wav: big.extract_features(wav.unsqueeze(0))
    return distilhubert() if name == "distilhubert" else tera()


def distilhubert() -> tuple[nn.Module, System]:
    """Two layers of width 768 over HuBERT's convolutions (arXiv 2110.01900)."""
    from s3prl_aalbert.toolkit import compat

    compat.apply()
    from s3prl.upstream.distiller.model import DistillerConfig, DistillerModel

    # The weights of the heads are part of the published file and of its 23.49M parameters, not of the features.
    model = DistillerModel(DistillerConfig({"encoder_layers": 2, "n_tasks": 3, "pred_layer_id": [4, 8, 12]})).eval()

    def system(wav: Tensor) -> object:
        return model(wav.unsqueeze(0), torch.ones(1, len(wav), dtype=torch.long), get_hidden=True, no_pred=True)

    return model, system


def tera() -> tuple[nn.Module, System]:
    """Three layers of width 768 over single log-mel frames with CMVN (arXiv 2007.06028)."""
    from s3prl_aalbert.toolkit import compat

    compat.apply()
    from s3prl.upstream.baseline.preprocessor import get_preprocessor
    from s3prl.upstream.mockingjay.model import TransformerConfig, TransformerModel

    audio = {"win_ms": 25, "hop_ms": 10, "n_freq": 201, "n_mels": 80, "n_mfcc": 13}
    mel = {"feat_type": "mel", "channel": 0, "log": True, "delta": 0, "cmvn": True}
    preprocessor, dim, _ = get_preprocessor({**audio, "target_level": -25, "input": mel, "target": mel})
    layers = {"hidden_size": 768, "num_hidden_layers": 3, "num_attention_heads": 12, "intermediate_size": 3072}
    rest = {"hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    more = {"initializer_range": 0.02, "layer_norm_eps": 1e-12, "share_layer": False, "pre_layer_norm": False}
    config = TransformerConfig({"input_dim": dim, **layers, **rest, **more})
    model = TransformerModel(config, dim, output_attentions=False, keep_multihead_output=False).eval()
    positions = torch.zeros(1, 6000, 768)  # sinusoids in the toolkit; their values cost nothing

    def system(wav: Tensor) -> object:
        frames = preprocessor(wav.view(1, 1, -1))[0]  # (1, T, 80)
        mask = torch.ones(1, frames.size(1))
        return model(frames, positions[:, : frames.size(1)], mask, output_all_encoded_layers=True)

    return model, system


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
