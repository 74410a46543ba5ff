"""Repairs of single tasks of S3PRL 0.4.18, applied when a task's expert is imported.

As in ``imports``, each function repairs one break, and its docstring states the symptom and when it can go.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import torch

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import packaged_configs
from s3prl_aalbert.toolkit import finders
from s3prl_aalbert.toolkit.replace import replaced

logger = logging.getLogger(__name__)

MISSING_MODULES = "s3prl_aalbert.toolkit.repairs.missing_modules"
# Task -> {imported name: package}; S3PRL does not declare these packages for a plain installation.
PACKAGES: dict[str, dict[str, str]] = {
    "asr": {"editdistance": "editdistance", "pandas": "pandas"},
    "ctc": {"editdistance": "editdistance", "pandas": "pandas"},  # pandas for slot filling's SpecAugment
    "diarization": {"h5py": "h5py", "pandas": "pandas"},
    "fluent_commands": {"pandas": "pandas"},
    "quesst14_dtw": {"dtw": "dtw-python", "lxml": "lxml"},
    "sv_voxceleb1": {"librosa": "librosa"},
    "voxceleb1": {"librosa": "librosa"},
}

TRUST_WAV_SCP = "AALBERT_TRUST_WAV_SCP"
"""Environment variable: with 1, commands in a ``wav.scp`` are run."""


def install() -> None:
    """Repair each task of S3PRL when its expert is imported; a second call changes nothing."""
    for task in {*PACKAGES, *_MENDS} - _installed:
        finders.before_import(f"s3prl.downstream.{task}.expert", functools.partial(prepare, task))
        _installed.add(task)


_installed: set[str] = set()


def prepare(task: str) -> None:
    """Apply the repairs of a task.

    Raises:
        AalbertError: a package is not installed.
    """
    missing = [package for name, package in PACKAGES.get(task, {}).items() if importlib.util.find_spec(name) is None]
    if missing:
        raise AalbertError(
            f"-d {task} needs {' and '.join(missing)}: pip install {' '.join(missing)}"
            ' (or, in a clone, pip install -e ".[superb]" for all tasks of SUPERB)'
        )
    for mend in _MENDS.get(task, ()):
        mend()


def provide_ctc_corpora() -> None:
    """Offer ``s3prl.downstream.ctc.corpus`` with LibriSpeech's phonemes and Audio SNIPS.

    Reason: the folder has no ``__init__.py`` and is not in S3PRL's wheel.
    Symptom: ``ModuleNotFoundError: No module named 's3prl.downstream.ctc.corpus'`` from ``-d ctc``.
    Remove when: a wheel contains it.
    """
    package = "s3prl.downstream.ctc.corpus"
    names = {f"{package}.{name}": f"{MISSING_MODULES}.ctc_{name}" for name in ("libriphone", "snips")}
    finders.alias({package: None, **names}, over_installed=False)


def provide_catalyst_sampler() -> None:
    """Offer ``catalyst.data.sampler.DistributedSamplerWrapper``.

    Reason: keyword spotting imports it for training on several GPUs; catalyst has had no release since 2022.
    Symptom: ``ModuleNotFoundError: No module named 'catalyst'`` from ``-d speech_commands``.
    Remove when: S3PRL no longer uses catalyst.
    """
    sampler = {"catalyst.data.sampler": f"{MISSING_MODULES}.catalyst_sampler"}
    finders.alias({"catalyst": None, "catalyst.data": None, **sampler}, over_installed=False)


def provide_sox_package() -> None:
    """Offer an empty ``sox.Transformer``.

    Reason: speaker verification imports it and never uses it.
    Symptom: ``ModuleNotFoundError: No module named 'sox'`` from ``-d sv_voxceleb1``.
    Remove when: S3PRL drops the import.
    """
    finders.alias({"sox": f"{MISSING_MODULES}.sox_package"}, over_installed=False)


def keep_tensors_on_the_cpu() -> None:
    """Let ``Tensor.cuda`` do nothing if no GPU is in use.

    Reason: speaker verification calls it whatever ``--device`` is.
    Symptom: ``RuntimeError: No CUDA GPUs are available`` from ``-d sv_voxceleb1 --device cpu``.
    Remove when: S3PRL uses the features' device.
    """
    if not torch.cuda.is_available():
        torch.Tensor.cuda = lambda tensor, *args, **options: tensor  # type: ignore[method-assign]


def keep_data_from_running_commands() -> None:
    """Let diarization read only recordings that are files.

    Reason: an entry of a Kaldi folder's ``wav.scp`` that ends in ``|`` is a command, which S3PRL gives to a shell.
    Symptom: none, until a folder is malicious. TRUST_WAV_SCP=1 in the environment allows the commands.
    Remove when: S3PRL reads only files.
    """
    kaldi = importlib.import_module("s3prl.downstream.diarization.dataset").KaldiData
    load = kaldi._load_wav_scp

    def load_files(self: object, path: str) -> dict[str, str]:
        found: dict[str, str] = load(self, path)
        for recording, source in found.items():
            if source.endswith("|") and os.environ.get(TRUST_WAV_SCP) != "1":
                raise AalbertError(
                    f"{path}: {recording} is a command, which a shell would run ({source[:80]}), expected a file; "
                    f"set {TRUST_WAV_SCP}=1 in the environment if you trust it"
                )
        return found

    kaldi._load_wav_scp = load_files


def find_packaged_vocabularies() -> None:
    """Let ``text.vocab_file`` of the task ctc name a vocabulary of this package.

    Reason: S3PRL's own vocabularies are not in its wheel.
    Symptom: ``FileNotFoundError: downstream/ctc/vocab/phoneme.txt``.
    Remove when: a wheel contains them.
    """
    text = vars(importlib.import_module("s3prl.downstream.ctc.text"))
    load = text["load_text_encoder"]

    def load_text_encoder(mode: str, vocab_file: str, slots_file: str | None = None) -> object:
        return load(mode, _vocabulary(vocab_file), slots_file)

    text["load_text_encoder"] = load_text_encoder


def find_packaged_dictionary() -> None:
    """Let ``datarc.dict_path`` of the task asr name a dictionary of this package (as above)."""
    dictionary = importlib.import_module("s3prl.downstream.asr.dictionary").Dictionary
    load = dictionary.load
    dictionary.load = lambda path, **options: load(_vocabulary(path), **options)


def name_package_of_language_model() -> None:
    """Let ``decoder_type=kenlm`` of the task asr name its missing package.

    Reason: S3PRL catches the failed import and continues.
    Symptom: ``NameError: name 'CriterionType' is not defined``.
    Remove when: S3PRL raises the import error.
    """
    if importlib.util.find_spec("flashlight"):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns whether or not there is a language model
        decoder = importlib.import_module("s3prl.downstream.asr.w2l_decoder")

    def refuse(*_arguments: object) -> None:
        raise AalbertError("decoder_type=kenlm needs flashlight-text: pip install flashlight-text")

    vars(decoder)["W2lKenLMDecoder"] = refuse


def _vocabulary(name: str) -> str:
    """Resolve a path, or the name of a packaged text file."""
    packaged = packaged_configs("downstream_configs") / name
    return str(packaged) if not Path(name).is_file() and packaged.is_file() else name


def keep_num_workers() -> None:
    """Let the task ctc read its number of worker processes for every split.

    Reason: the task removes the key from the configuration at the first split.
    Symptom: 12 processes on ``dev`` and ``test`` whatever ``corpus.num_workers`` is.
    Remove when: S3PRL copies the configuration.
    """
    data = vars(importlib.import_module("s3prl.downstream.ctc.data"))
    load = data["load_dataset"]
    data["load_dataset"] = lambda split, tokenizer, corpus: load(split, tokenizer, dict(corpus))


def cache_file_lists_by_corpus() -> None:
    """Store the speaker tasks' list of files for each corpus separately, in the user's cache folder.

    Reason: S3PRL stores one list in its own folder, whichever corpus the configuration names.
    Symptom: a second corpus trains on the files of the first one; ``PermissionError`` in a read-only installation.
    Remove when: S3PRL names the list after the corpus.
    """
    identification = importlib.import_module("s3prl.downstream.voxceleb1.dataset")
    dataset = identification.SpeakerClassifiDataset
    dataset.__init__ = _with_cache(dataset.__init__, identification, "CACHE_PATH", "")


def cache_lengths_by_corpus() -> None:
    """Store the utterances' lengths of speaker verification likewise, computed by one process per core."""
    verification = importlib.import_module("s3prl.downstream.sv_voxceleb1.dataset")
    dataset = verification.SpeakerVerifi_train
    construct = dataset.__init__

    def on_all_cores(self: object, *args: object, **options: object) -> None:
        construct(self, *args, **{"n_jobs": min(12, os.cpu_count() or 1), **options})

    dataset.__init__ = _with_cache(on_all_cores, verification, "__file__", "dataset.py")


def _with_cache(construct: Callable[..., None], module: ModuleType, name: str, suffix: str) -> Callable[..., None]:
    """Wrap a data set's constructor: while it runs, ``module.name`` is a path in the cache folder of its corpus."""

    @functools.wraps(construct)
    def constructor(self: object, *args: object, **options: object) -> None:
        folder = _cache_folder(module.__name__.split(".")[2], [*args, *options.values()])
        with replaced(module, **{name: os.path.join(folder, suffix)}):  # noqa: PTH118 (S3PRL needs the last slash)
            construct(self, *args, **options)

    return constructor


def _cache_folder(task: str, arguments: Sequence[object]) -> Path:
    """Return the cache folder of a data set with these arguments; lists of files count by their content."""
    digest = hashlib.sha256(str(Path.cwd()).encode())
    for argument in arguments:
        file = Path(argument) if isinstance(argument, (str, Path)) else None
        digest.update(file.read_bytes() if file and file.is_file() else repr(argument).encode())
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "s3prl_aalbert" / task / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    logger.info("S3PRL's lists of files are stored in %s; delete it when the corpus changes", folder)
    return folder


_MENDS: dict[str, tuple[Callable[[], None], ...]] = {
    "asr": (find_packaged_dictionary, name_package_of_language_model),
    "ctc": (provide_ctc_corpora, find_packaged_vocabularies, keep_num_workers),
    "diarization": (keep_data_from_running_commands,),
    "speech_commands": (provide_catalyst_sampler,),
    "sv_voxceleb1": (provide_sox_package, keep_tensors_on_the_cpu, cache_lengths_by_corpus),
    "voxceleb1": (cache_file_lists_by_corpus,),
}
