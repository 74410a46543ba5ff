"""Pre-train or measure on a machine with a GPU and no network, where there is torch, and bring the release back.

python scripts/gpu_run.py wheels -o wheels --torch 2.11.0 --python 3.12               with a network
python scripts/gpu_run.py train --wheels wheels --speech DIR... --minutes 8 --out OUT  on that machine
python scripts/gpu_run.py table --wheels wheels --speech DIR... --out OUT              on that machine
python scripts/gpu_run.py join OUT -o my_release                                       afterwards

See docs/gpu.md.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.metadata
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
sys.path.append(str(REPOSITORY / "benchmarks"))

from s3prl_aalbert.errors import (  # noqa: E402
    EXIT_INTERRUPTED,
    EXIT_USER_ERROR,
    AalbertError,
    check_new_folder,
    environment_fault,
)

PACKAGES = (
    "absl-py", "cffi", "cloudpickle", "joblib", "lightning-fabric", "lightning-utilities", "narwhals", "numpy",
    "packaging", "protobuf", "pycparser", "pyyaml", "safetensors", "scikit-learn",
    "scipy", "soundfile", "tensorboard", "threadpoolctl", "tqdm",
)  # fmt: skip
"""What pre-training imports beside torch and torchaudio."""
PICTURES = (
    "contourpy",
    "cycler",
    "fonttools",
    "kiwisolver",
    "matplotlib",
    "pillow",
    "pyparsing",
    "python-dateutil",
)
"""What draws reconstructions in TensorBoard as well (`task.reconstruction_weight` above zero)."""
MANYLINUX = ("2_28", "2_27", "2_24", "2_17", "2_12", "2_5")
PART_BYTES = 15_000_000
RELEASE, INDEX, MEASURED = "release.zip", "release.json", "measured.json"
RELEASED = ("*.safetensors", "*.yaml", "*.md", "*.json", "*.tsv", "events.*")
"""What of an experiment's folder is brought back: all but states, decoded speech and labels."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = result.add_subparsers(dest="command", required=True)
    wheels = commands.add_parser("wheels", help="download what the other machine may lack")
    wheels.add_argument("-o", "--output", type=Path, required=True)
    wheels.add_argument("--torch", required=True, help="its version there; torchaudio has the same")
    wheels.add_argument("--python", default=".".join(map(str, sys.version_info[:2])), help="its version there")
    wheels.add_argument("--machine", default="x86_64", help="its processor")
    wheels.add_argument("--pictures", action="store_true", help="matplotlib as well, which draws reconstructions")
    wheels.add_argument("--without", nargs="+", default=[], metavar="NAME", help="packages that are there")
    train = commands.add_parser("train", help="pre-train within a time and measure it")
    _add_common(train)
    train.add_argument("--minutes", type=float, required=True, help="from the start to the last part of the release")
    train.add_argument("-g", "--upstream_config", default="aalbert_units", metavar="YAML")
    train.add_argument("-c", "--config", default="pretrain_units", metavar="YAML")
    train.add_argument("-o", "--override", metavar="TEXT", help="as of `aalbert pretrain`")
    train.add_argument("--steps", type=_positive, help="of the last stage; default: as many as the time allows")
    train.add_argument("--seed", type=int, default=1337)
    table = commands.add_parser("table", help="rates of whole training steps")
    _add_common(table)
    table.add_argument("--models", nargs="+", default=["aalbert_12l"], metavar="NAME")
    table.add_argument("--batch", type=_positive, default=50, help="clips a step")
    table.add_argument("--seconds", type=_positive, default=15, help="of a clip")
    table.add_argument("--steps", type=_positive, default=60)
    table.add_argument("--compile", action="store_true", help="a second row with torch.compile")
    join = commands.add_parser("join", help="put a release's parts together and check them")
    join.add_argument("parts", type=Path, help="the folder that --out was")
    join.add_argument("-o", "--output", type=Path, required=True, help="a new folder")
    return result


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--wheels", type=Path, help="folder of carried wheels; those that are missing are installed")
    command.add_argument("--speech", nargs="+", type=Path, required=True, metavar="DIR")
    command.add_argument("--out", type=Path, default=os.environ.get("OUT") or None, help="default: $OUT")
    command.add_argument("--work", type=Path, help="folder of everything else; default: a temporary one")
    command.add_argument("--device", help="cuda or cpu; default: cuda if there is one")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    args = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if args.command == "wheels":
            return subprocess.run(download_command(args), check=False).returncode
        if args.command == "join":
            join(args.parts, args.output)
            print(f"{args.output}: the release")
        else:
            compute(args)
        return 0
    except KeyboardInterrupt:  # or a signal of a batch system before the first step
        print("\ninterrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (AalbertError, OSError) as error:
        fault = str(error) if isinstance(error, AalbertError) else environment_fault(error)
        if fault is None:
            raise
        print(f"gpu_run.py {args.command}: {fault}", file=sys.stderr)
        return EXIT_USER_ERROR


def compute(args: argparse.Namespace) -> None:
    """Train or measure, and write what comes back to ``args.out``."""
    started = time.monotonic()
    if args.out is None:
        raise AalbertError("--out is missing, and so is the environment variable OUT: where does the result go?")
    for path in (args.out / INDEX, args.out / MEASURED, args.work and args.work / "model"):
        if path and path.exists():
            raise AalbertError(f"{path}: is there already; name another folder")
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        if args.wheels:
            install(args.wheels, work / "site")
        import gpu  # of benchmarks/; needs what was just installed

        if args.command == "table":
            measured = gpu.table(args, work)
        else:
            measured = gpu.train(args, work / "model", started)
            (work / "model" / MEASURED).write_text(json.dumps(measured, indent=1))
            pack(work / "model", args.out)
        measured["minutes"] = (time.monotonic() - started) / 60
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / MEASURED).write_text(json.dumps(measured, indent=1))
    print(summary(measured))


def summary(measured: dict[str, Any]) -> str:
    """Return what was measured as a short text table."""
    head = f"{measured['machine']}, bf16 matrix products {measured['bf16_tflops']:.1f} TFLOP/s"
    lines = [f"{head}, {measured['minutes']:.1f} minutes in all"]
    for row in measured["rows"]:
        lines.append("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------- wheels


def download_command(args: argparse.Namespace) -> list[str]:
    """Return pip's command that downloads the wheels, in the versions of this environment."""
    names = [*PACKAGES, *(PICTURES if args.pictures else ())]
    unknown = set(args.without) - {*names, "torchaudio"}
    if unknown:
        raise AalbertError(f"--without {' '.join(sorted(unknown))}: expected some of {' '.join(names)} torchaudio")
    wanted = [f"{name}=={_version(name)}" for name in names if name not in args.without]
    if "torchaudio" not in args.without:
        wanted.append(f"torchaudio=={args.torch.partition('+')[0]}")
    platforms = [f"--platform=manylinux_{tag}_{args.machine}" for tag in MANYLINUX]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--implementation=cp"]
    return [*command, f"--python-version={args.python}", *platforms, "-d", str(args.output), *wanted]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise AalbertError(f"{name}: is not installed here; the versions are those of this environment") from error


def install(folder: Path, target: Path) -> list[Path]:
    """Install the wheels of packages that are missing to ``target``, for this process and those that it starts.

    torchaudio goes without its compiled library, which loads beside one build of torch alone: what we need of it is
    plain Python.

    Raises:
        AalbertError: there are none, or pip cannot install them.
    """
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise AalbertError(f"{folder}: no wheels there; `gpu_run.py wheels -o {folder}` downloads them")
    missing = [wheel for wheel in wheels if not _installed(wheel.name.split("-")[0])]
    if missing:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
        result = subprocess.run([*pip, "--no-cache-dir", "--target", str(target), *map(str, missing)], check=False)
        if result.returncode:
            raise AalbertError(f"{folder}: pip could not install the wheels, see above; expected those of this Python")
    for library in (target / "torchaudio" / "lib").glob("*.so"):
        library.unlink()
    sys.path.append(str(target))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(target)]))
    importlib.invalidate_caches()
    print(f"installed {len(missing)} of {len(wheels)} wheels; the others are there", flush=True)
    return missing


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


# ----------------------------------------------------------------------------------------------------- parts


def pack(experiment: Path, output: Path, part_bytes: int = PART_BYTES) -> None:
    """Write an experiment's release to ``output`` as parts of at most ``part_bytes``, and last their index."""
    output.mkdir(parents=True, exist_ok=True)
    files = sorted({path for pattern in RELEASED for path in experiment.glob(pattern) if path.is_file()})
    with tempfile.TemporaryFile() as whole:
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in files:
                archive.write(path, path.name)
        whole.seek(0)
        digest, parts = hashlib.sha256(), []
        while content := whole.read(part_bytes):
            digest.update(content)
            part = output / f"{RELEASE}.{len(parts):03d}"
            part.write_bytes(content)
            parts.append({"name": part.name, "sha256": hashlib.sha256(content).hexdigest()})
    (output / INDEX).write_text(json.dumps({"sha256": digest.hexdigest(), "parts": parts}, indent=1))


def join(folder: Path, output: Path) -> None:
    """Put the parts in ``folder`` together and unpack them to the new folder ``output``.

    Raises:
        AalbertError: a part is missing or damaged, or ``output`` holds something; nothing is written.
    """
    check_new_folder(output)
    index = _read_index(folder / INDEX)
    output.parent.mkdir(parents=True, exist_ok=True)
    unpacked = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    try:
        with tempfile.TemporaryFile() as whole:
            digest = hashlib.sha256()
            for part in index["parts"]:
                content = _checked(folder / part["name"], part["sha256"])
                digest.update(content)
                whole.write(content)
            if digest.hexdigest() != index["sha256"]:
                raise AalbertError(f"{folder}: the parts together are not what {INDEX} says; bring all of them again")
            with zipfile.ZipFile(whole) as archive:
                archive.extractall(unpacked)
        unpacked.chmod(0o755)
        if output.exists():  # empty, as was checked
            output.rmdir()
        unpacked.rename(output)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        names = [part["name"] for part in index["parts"]]
        complete = isinstance(index["sha256"], str) and all(isinstance(part["sha256"], str) for part in index["parts"])
    except FileNotFoundError as error:
        raise AalbertError(f"{path}: is not there; it is written last, once the release is whole") from error
    except (ValueError, LookupError, TypeError) as error:
        raise AalbertError(f"{path}: is damaged, expected JSON with sha256 and parts") from error
    expected = [f"{RELEASE}.{number:03d}" for number in range(len(names))]
    if names != expected or not names or not complete:
        raise AalbertError(f"{path}: is damaged, expected the parts {RELEASE}.000 and so on, each with its sha256")
    return index


def _checked(path: Path, expected: str) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise AalbertError(f"{path}: this part is missing; bring it from the machine again") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise AalbertError(f"{path}: has the SHA-256 {found}, expected {expected}; bring it from the machine again")
    return content


if __name__ == "__main__":
    raise SystemExit(main())
