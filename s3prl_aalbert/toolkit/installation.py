"""Checks whether training would work on this machine, and suggests what to type if not."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from s3prl_aalbert import machine

PACKAGES = ("torch", "torchaudio", "s3prl", "huggingface_hub", "numpy", "soundfile", "safetensors", "lightning-fabric")
FORMATS = {"wav": "WAV", "flac": "FLAC", "ogg": "OGG", "opus": "OGG", "mp3": "MP3"}
TESTED_PAIRS = ("2.8", "2.11")
OF_TORCH_2_12 = "2.11.1"
"""A torchaudio that does not import next to torch 2.11."""
LEAST_MEMORY, ENOUGH_MEMORY = 1e9, 4e9
"""Bytes of memory: importing torch and S3PRL takes almost the first; full-width models train with the second."""
LEAST_DISK, ENOUGH_DISK = 2e8, 3e9
ENOUGH_SHARED, ENOUGH_FILES = 5e8, 1024


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    good: bool
    found: str
    fix: str = ""
    """What to type; a hint if the check passed but can be improved."""


def version_of(package: str) -> str | None:
    """Return the installed version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_python() -> list[Finding]:
    """Check the version of Python."""
    good = (3, 10) <= sys.version_info < (3, 13)
    return [Finding("Python", sys.version_info >= (3, 10), platform.python_version(),
                    "" if good else "tested are 3.10 to 3.12")]  # fmt: skip


def check_versions() -> list[Finding]:
    """Check packages, and pairs of versions that are known not to work together."""
    versions = {package: version_of(package) for package in PACKAGES}
    missing = [package for package, version in versions.items() if version is None]
    found = ", ".join(f"{package} {version}" for package, version in versions.items() if version)
    fix = f"pip install {' '.join(missing)}" if missing else ""
    return [Finding("packages", not missing, found + "".join(f", no {p}" for p in missing), fix), *_pairs(versions)]


def _pairs(versions: dict[str, str | None]) -> list[Finding]:
    findings = []
    torch, audio = (".".join((versions[p] or "0.0").split(".")[:2]) for p in ("torch", "torchaudio"))
    if "0.0" not in (torch, audio):
        matching = torch == audio and str(versions["torchaudio"]).partition("+")[0] != OF_TORCH_2_12
        pair = torch if torch in TESTED_PAIRS else TESTED_PAIRS[-1]
        tested = "" if torch in TESTED_PAIRS else f"tested pairs are {' and '.join(TESTED_PAIRS)}"
        fix = tested if matching else f'pip install "torch=={pair}.0" "torchaudio=={pair}.0"'
        found = f"{versions['torch']} with {versions['torchaudio']}"
        findings.append(Finding("torch with torchaudio", matching, found, fix))
    hub = versions["huggingface_hub"] or "0"
    if int(hub.split(".")[0]) >= 1:
        fix = 'pip install "huggingface_hub<1"'
        findings.append(Finding("huggingface_hub", False, f"{hub}; S3PRL 0.4.18 needs a version before 1.0", fix))
    s3prl = versions["s3prl"]
    if s3prl and s3prl != "0.4.18":
        findings.append(Finding("s3prl", False, f"{s3prl}, expected 0.4.18", "pip install s3prl==0.4.18"))
    return findings


def check_torch() -> list[Finding]:
    """Check that torch computes, and on which devices."""
    try:
        import torch

        torch.ones(2) @ torch.ones(2)
    except Exception as error:  # a broken installation raises anything
        fix = "reinstall torch and torchaudio together"
        return [Finding("torch", False, f"does not import ({_first(error)})", fix)]
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return [Finding("device", True, names)]
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    built = "" if torch.version.cuda is None else "; torch supports CUDA but finds no GPU"
    return [Finding("device", True, f"CPU, {threads}{built}")]


def check_s3prl() -> list[Finding]:
    """Check that S3PRL imports with the plugin's workarounds and has its names."""
    try:
        from s3prl_aalbert import toolkit

        # Other packages print messages at import, which do not belong in the report.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            toolkit.activate()
            from s3prl import hub

            known = hub.options()
    except Exception as error:
        return [Finding("S3PRL", False, f"does not import ({_first(error)})", "pip install s3prl==0.4.18 tensorboardX")]
    return [Finding("S3PRL", "aalbert_local" in known, f"imports; {len(known)} upstreams, ours among them")]


def check_audio() -> list[Finding]:
    """Check which audio formats can be read."""
    try:
        import soundfile

        known = soundfile.available_formats()
        subtypes = soundfile.available_subtypes("OGG")
    except Exception as error:
        fix = "pip install --force-reinstall soundfile"
        return [Finding("audio", False, f"soundfile does not import ({_first(error)})", fix)]
    readable = [name for name, code in FORMATS.items() if code in known and (name != "opus" or "OPUS" in subtypes)]
    missing = [name for name in FORMATS if name not in readable]
    fix = "a newer libsndfile reads them: pip install --upgrade soundfile" if missing else ""
    codec = "absent (not needed)" if importlib.util.find_spec("torchcodec") is None else "present (not used)"
    text = f"reads {', '.join(readable)}" + (f"; not {', '.join(missing)}" if missing else "")
    return [Finding("audio", "wav" in readable, text, fix), Finding("TorchCodec", True, codec)]


def check_weights() -> list[Finding]:
    """Check that the packaged weights exist and are unchanged."""
    try:
        from s3prl_aalbert.checkpoint.published import packaged_names
        from s3prl_aalbert.errors import AalbertError
        from s3prl_aalbert.upstream.download import fetch_published
    except Exception as error:  # torch is broken, which is reported separately
        return [Finding("weights", False, f"cannot be checked ({_first(error)})", "fix torch first")]
    found = []
    for name in packaged_names():
        try:
            size = fetch_published(name).stat().st_size
        except AalbertError as error:
            return [Finding("weights", False, str(error), "in the clone: git checkout s3prl_aalbert/pretrained")]
        found.append(f"{name} ({size / 1e6:.1f} MB)")
    return [Finding("weights", True, ", ".join(found))]


def check_writing() -> list[Finding]:
    """Check that results can be written here."""
    folders = {"working folder": Path.cwd(), "temporary folder": Path(tempfile.gettempdir())}
    findings = []
    for name, folder in folders.items():
        try:
            with tempfile.NamedTemporaryFile(dir=folder) as file:
                file.write(b"aalbert")
                file.flush()
        except OSError as error:
            findings.append(Finding(name, False, f"{folder} cannot be written ({error.strerror})", "cd elsewhere"))
        else:
            findings.append(Finding(name, True, f"{folder} can be written"))
    return findings


def check_room() -> list[Finding]:
    """Check that there is enough memory and disk space, and suggest settings if there is little."""
    findings = []
    memory = machine.available_memory()
    if memory is not None:
        fix = "" if memory >= ENOUGH_MEMORY else "use a smaller model (-g aalbert_small) or a smaller train_batch_size"
        findings.append(Finding("memory", memory >= LEAST_MEMORY, f"{memory / 1e9:.1f} GB available", fix))
    try:
        disk = machine.free_disk(Path.cwd())
    except OSError as error:
        text = f"{Path.cwd()} is not accessible ({error.strerror})"
        return [*findings, Finding("disk", False, text, "cd elsewhere")]
    little = "make room: a full-width model needs 1 GB for training states, and audio 115 MB per hour"
    fix, text = "" if disk >= ENOUGH_DISK else little, f"{disk / 1e9:.1f} GB free in {Path.cwd()}"
    return [*findings, Finding("disk", disk >= LEAST_DISK, text, fix)]


def check_limits() -> list[Finding]:
    """Check limits that slow down several processes or let memory grow; none of them prevents training."""
    findings = []
    folder = Path("/dev/shm")
    if folder.is_dir():
        free = machine.free_disk(folder)
        little = "batches of loader processes come through pipes; in a container use --shm-size=8g"
        fix = "" if free >= ENOUGH_SHARED else little
        findings.append(Finding("shared memory", True, f"{free / 1e9:.1f} GB free in {folder}", fix))
    files = machine.open_files()
    if files is not None:
        fix = "" if files >= ENOUGH_FILES else "with many loader processes (num_workers): ulimit -n 4096"
        findings.append(Finding("open files", True, f"up to {files}", fix))
    allocator = machine.allocator()
    fix = ""
    if sys.platform == "linux" and allocator == "the system's":
        fix = "for a long-running service on a CPU: MALLOC_MMAP_THRESHOLD_=65536, or jemalloc (docs/robustness.md)"
    return [*findings, Finding("memory allocator", True, allocator, fix)]


def _first(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


CHECKS: tuple[Callable[[], list[Finding]], ...] = (
    *(check_python, check_versions, check_torch, check_s3prl, check_audio),
    *(check_weights, check_writing, check_room, check_limits),
)
