"""SUPERB's scripts on the tiny corpora, with settings that make each a matter of seconds."""

import shutil
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import superb_corpora
from superb_processes import Commands

REPOSITORY = Path(__file__).resolve().parents[2]
_STEPS = (
    "runner.total_steps={0} runner.eval_step={0} runner.save_step={0} runner.log_step={0} "
    "runner.gradient_accumulate_steps=1 "
)
_DATA = "downstream_expert.datarc"
_RNN = "{0}.project_dim=32 {0}.RNNs.dim=[32,32] {0}.RNNs.dropout=[0,0]"
# Task -> steps, and the settings below "config." that SUPERB's own configuration is overridden with.
SETTINGS: dict[str, tuple[int, str]] = {
    "pr": (2, "downstream_expert.corpus.num_workers=0 downstream_expert.corpus.batch_size=2"),
    "ks": (4, f"{_DATA}.num_workers=0 {_DATA}.batch_size=8"),
    "sid": (8, f"{_DATA}.num_workers=0 {_DATA}.train_batch_size=5"),
    "ic": (16, f"{_DATA}.num_workers=0 {_DATA}.train_batch_size=6"),
    "er": (4, f"{_DATA}.num_workers=0"),
    "asv": (
        2,
        f"runner.save_step=1 {_DATA}.num_workers=0 {_DATA}.train_batch_size=3 {_DATA}.vad_config.min_sec=8000 "
        "downstream_expert.modelrc.input_dim=16 downstream_expert.modelrc.module_config.XVector.agg_dim=16",
    ),
    "sd": (
        2,
        "downstream_expert.loaderrc.num_workers=0 downstream_expert.loaderrc.train_batchsize=2 "
        "downstream_expert.modelrc.hidden_size=16",
    ),
    "asr": (
        150,
        f"{_DATA}.num_workers=0 {_DATA}.batch_size=8 specaug=None " + _RNN.format("downstream_expert.modelrc"),
    ),
    "sf": (
        2,
        "downstream_expert.corpus.num_workers=0 downstream_expert.corpus.batch_size=2 "
        + _RNN.format("downstream_expert.model"),
    ),
    "qbe": (0, f"downstream_expert.max_workers=1 {_DATA}.num_workers=0"),
}


def override(task: str) -> str:
    """Return the variable OVERRIDE of the task's script."""
    steps, settings = SETTINGS[task]
    words = (_STEPS.format(steps) if steps else "") + settings
    return ",,".join(f"config.{word}" for word in words.split())


class Runs:
    """The scripts, run in a folder with a server that has imported S3PRL."""

    def __init__(self, folder: Path, release: Path) -> None:
        self.corpora, self.out, self.release = folder / "corpora", folder / "out", release
        # A hidden progress bar must not stop S3PRL from counting its steps. Speaker verification measures its files
        # with joblib, whose processes would outlive a command of the server.
        self.commands = Commands(folder / "commands", TQDM_DISABLE="1", JOBLIB_MULTIPROCESSING="0")
        self.cache = folder / "cache"

    def prepare(self, task: str) -> None:
        """Write the task's corpus; the emotions' lists by S3PRL's own preparation."""
        superb_corpora.place(self.corpora, task)
        if task == "er":
            corpus = self.corpora / "IEMOCAP"
            done = self.commands.run("python", "-m", "s3prl.downstream.emotion.IEMOCAP_preprocess", corpus)
            assert done.returncode == 0, done.stdout[-2000:]
            lists = self.corpora / "s3prl/s3prl/downstream/emotion/meta_data"
            lists.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(corpus / "meta_data", lists)

    def script(self, task: str, rates: str = "1e-2", **variables: str) -> str:
        """Run scripts/superb/TASK.sh and return what it printed."""
        script = REPOSITORY / f"scripts/superb/{task}.sh"
        environment = {
            "LRS": rates,
            "OVERRIDE": override(task),
            "XDG_CACHE_HOME": str(self.cache),
            **variables,
        }
        done = self.commands.run("bash", script, self.release, self.corpora, self.out, **environment)
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    def submit(self, *arguments: object) -> dict[str, bytes]:
        """Run ``aalbert submit`` and return the zip file's content."""
        target = self.out / "submission"
        done = self.commands.run("aalbert", "submit", *arguments, "-o", target, "--any_count")
        assert done.returncode == 0, done.stdout[-4000:]
        with zipfile.ZipFile(target / "predict.zip") as archive:
            return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}

    def expected(self, task: str) -> set[str]:
        """Return the names that the task's predictions must have, from the files of its corpus."""
        return set(_EXPECTED[task](self.corpora))


def first_words(content: bytes, separator: str = " ") -> list[str]:
    """Return the names of lines "NAME PREDICTION"."""
    return [line.split(separator)[0] for line in content.decode().splitlines()]


def queries(content: bytes) -> list[str]:
    """Return the queries of a list of detected terms."""
    return [element.attrib["termid"] for element in ElementTree.fromstring(content)]


def _trials(corpora: Path) -> Iterable[str]:
    for line in (corpora / "s3prl/s3prl/downstream/sv_voxceleb1/voxceleb1_test_v2.txt").read_text().splitlines():
        yield "_".join(path.removesuffix(".wav").replace("/", "-") for path in line.split()[1:])


def _stems(corpora: Path, pattern: str) -> Iterable[str]:
    return (path.stem for path in corpora.glob(pattern))


def _session(corpora: Path, number: int) -> Iterable[str]:
    for index, emotion in enumerate(superb_corpora.EMOTIONS):
        if emotion != "fru":
            yield f"Ses0{number}F_impro01_F{index:03d}"


_EXPECTED = {
    "pr": lambda corpora: _stems(corpora, "LibriSpeech/test-clean/*/*/*.flac"),
    "asr": lambda corpora: _stems(corpora, "LibriSpeech/test-clean/*/*/*.flac"),
    "ks": lambda corpora: (
        f"{path.parent.name}-{path.name}" for path in corpora.glob("speech_commands_test_set_v0.01/*/*.wav")
    ),
    "sid": lambda corpora: (
        "-".join(path.with_suffix("").parts[-3:]) for path in corpora.glob("VoxCeleb1/*/wav/*/video3/*.wav")
    ),
    "asv": _trials,
    "ic": lambda corpora: _stems(corpora, "fluent_speech_commands_dataset/wavs/speakers/dd/*.wav"),
    "sd": lambda corpora: _stems(corpora, "Libri2Mix/diarization/test/wav/*.wav"),
    "sf": lambda corpora: _stems(corpora, "SNIPS/test/*.wav"),
    "qbe": lambda corpora: _stems(corpora, "quesst14Database/eval_queries/*.wav"),
    **{f"er_fold{fold}": partial(_session, number=fold) for fold in range(1, 6)},
}
