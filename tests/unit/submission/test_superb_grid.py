"""SUPERB's scripts with a stand-in for ``aalbert``: what is printed for a cluster, and which rates go on."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from naming import naming
from superb_experiments import checkpoint

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import find_config, read_yaml
from s3prl_aalbert.submission.superb_steps import count_steps
from s3prl_aalbert.toolkit.layer_names import name_layers

# Notes its folder and arguments; a training writes its last state, and the checkpoint of the rate's score on dev.
AALBERT = """#!/usr/bin/env bash
set -eu
{ printf '%q ' "$PWD" "$@"; echo; } >>"$CALLS"
case "$*" in *"-m train"*) ;; *) exit 0 ;; esac
while [ "$1" != -p ]; do shift; done
folder=$2 steps=${4##*total_steps=}
mkdir -p "$folder"
touch "$folder/states-$steps.ckpt"
if [ -d "${SCORES:-}" ]; then cp "$SCORES/${folder##*/}" "$folder/dev-best.ckpt"; fi
"""


class Scripts:
    """The scripts on corpora and results in folders with a space in their names."""

    def __init__(self, folder: Path, repository: Path):
        self.corpora, self.out, self.calls_file = folder / "my corpora", folder / "my out", folder / "calls"
        self.bin, self.repository = folder / "bin", repository
        self.corpora.mkdir()
        self.add_program("aalbert", AALBERT)

    def add_program(self, name: str, text: str) -> Path:
        self.bin.mkdir(exist_ok=True)
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def run(self, task: str, *options: str, code: int = 0, **variables: object) -> list[str]:
        """Run scripts/superb/TASK.sh and return the lines that it printed."""
        script = self.repository / f"scripts/superb/{task}.sh"
        return self.bash(str(script), *options, "/model", str(self.corpora), str(self.out), code=code, **variables)

    def bash(self, *command: str, code: int = 0, **variables: object) -> list[str]:
        environment = {
            **os.environ,
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PYTHONPATH": f"{self.repository}:{os.environ.get('PYTHONPATH', '')}",
            "PYTHON": sys.executable,
            "CALLS": str(self.calls_file),
            **{name: str(value) for name, value in variables.items()},
        }
        done = subprocess.run(["bash", *command], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        self.warnings = done.stderr
        return done.stdout.splitlines()

    def calls(self) -> list[list[str]]:
        """Return folder and arguments of each call of ``aalbert`` since the last time this was asked."""
        if not self.calls_file.exists():
            return []
        lines = self.calls_file.read_text().splitlines()
        self.calls_file.unlink()
        return [shlex.split(line) for line in lines]


@pytest.fixture
def scripts(tmp_path, repository):
    return Scripts(tmp_path, repository)


def trainings(calls):
    """Return (run, steps) of calls."""
    found = []
    for call in calls:
        settings = call[call.index("-o") + 1]
        found.append((Path(call[call.index("-p") + 1]).name, int(settings.rpartition("total_steps=")[2])))
    return found


def test_print_gives_the_trainings_that_are_left_and_runs_nothing(scripts):
    lines = scripts.run("sid", "--print", LRS="1e-3 1e-4", OPTIONS="-s layer_states")
    assert scripts.calls() == []
    expected = [
        [
            *(str(scripts.corpora), "downstream", "-m", "train", "-a", "-u", "aalbert_local", "-k", "/model"),
            *("-d", "voxceleb1", "-c", "superb_sid", "-p", f"{scripts.out}/sid/lr_{rate}"),
            *("-o", f"config.optimizer.lr={rate},,config.runner.total_steps=200000", "-s", "layer_states"),
        ]
        for rate in ("1e-3", "1e-4")
    ]
    scripts.bash("-c", lines[1])
    assert scripts.calls() == expected[1:]
    left = scripts.run("sid", LRS="1e-3 1e-4", OPTIONS="-s layer_states", PRINT=1)
    assert left == lines[:1]
    scripts.bash("-c", left[0])
    assert scripts.calls() == expected[:1]
    assert scripts.run("sid", "--print", LRS="1e-3 1e-4") == []


def test_print_of_emotions_has_a_line_for_each_fold(scripts):
    lines = scripts.run("er", "--print", LRS="1e-3 1e-4")
    folds = [(rate, fold) for rate in ("1e-3", "1e-4") for fold in range(1, 6)]
    assert len(lines) == 10
    for line, (rate, fold) in zip(lines, folds, strict=True):
        words = shlex.split(line)
        assert words[words.index("-p") + 1] == f"{scripts.out}/er/lr_{rate}/fold{fold}"
        assert f"config.downstream_expert.datarc.test_fold=fold{fold}" in words[words.index("-o") + 1].split(",,")


def test_print_of_speech_recognition_prepares_its_corpus_in_every_line(scripts):
    """The table of lengths is written once, by whichever job is first."""
    (line,) = scripts.run("asr", "--print", LRS="1e-3")
    words = shlex.split(line)
    first, second = (index for index, word in enumerate(words) if word == "&&")
    assert words[first + 1 : second] == [
        *(sys.executable, "-m", "s3prl_aalbert.submission.superb_lengths", "LibriSpeech")
    ]
    assert words[second + 1 : second + 4] == ["aalbert", "downstream", "-m"]


def test_after_the_screening_only_the_best_rates_go_on(scripts, tmp_path):
    scores = {"lr_1e-2": 0.2, "lr_1e-3": 0.7, "lr_1e-4": 0.5}
    for name, score in scores.items():
        checkpoint(tmp_path / "scores" / name, score)
    # The first choice is superb_best's own; the last one, which takes seconds to import torch again, is given.
    choose = f'case "$*" in *--count*|*superb_steps*) exec {sys.executable} "$@" ;; esac'
    last = f'{choose}\necho "{scripts.out}/ks/lr_1e-3"'
    python = scripts.add_program("python", f"#!/usr/bin/env bash\n{last}\n")
    variables = {"LRS": "1e-2 1e-3 1e-4", "SCREEN": 0.1, "SCORES": tmp_path / "scores", "PYTHON": python}
    scripts.run("ks", **variables, KEEP=2)
    *trained, evaluated = scripts.calls()
    assert trainings(trained) == [
        *((name, 20_000) for name in scores),
        *(("lr_1e-3", 200_000), ("lr_1e-4", 200_000)),
    ]
    assert evaluated[evaluated.index("-e") + 1] == f"{scripts.out}/ks/lr_1e-3/dev-best.ckpt"
    assert (scripts.out / "ks/best").resolve() == scripts.out / "ks/lr_1e-3"
    # Without SCREEN all of them do: a state of a screening does not pass for a whole run.
    lines = scripts.run("ks", "--print", LRS="1e-2 1e-3 1e-4")
    assert trainings(map(shlex.split, lines)) == [("lr_1e-2", 200_000)]


@pytest.mark.parametrize("share", ["2", "0", "tenth"])
def test_a_share_that_is_none_ends_the_script_before_it_trains(scripts, share):
    scripts.run("ks", SCREEN=share, code=2)
    assert f"--share (SCREEN) is '{share}'" in scripts.warnings and scripts.calls() == []


def test_print_of_a_screening_is_of_the_trainings_that_come_next(scripts):
    best = f'case $2 in *.superb_best) echo "{scripts.out}/ks/lr_1e-4" ;; *) exec {sys.executable} "$@" ;; esac\n'
    python = scripts.add_program("python", f"#!/usr/bin/env bash\n{best}")
    variables = {"LRS": "1e-3 1e-4", "SCREEN": 0.1, "KEEP": 1, "PYTHON": python}
    lines = scripts.run("ks", "--print", **variables)
    scripts.bash("-c", "\n".join(lines), **variables)
    assert trainings(scripts.calls()) == [("lr_1e-3", 20_000), ("lr_1e-4", 20_000)]
    lines = scripts.run("ks", "--print", **variables)
    assert trainings(map(shlex.split, lines)) == [("lr_1e-4", 200_000)] and scripts.calls() == []


def test_features_are_kept_where_utterances_are_whole(scripts, tmp_path):
    cached = f"config.runner.feature_cache='{tmp_path / 'my cache'}'"
    (line,) = scripts.run("pr", "--print", LRS="1e-3", FEATURES=tmp_path / "my cache")
    words = shlex.split(line)
    assert cached in words[words.index("-o") + 1].split(",,")
    for task in ("ks", "sid", "asv"):
        (line,) = scripts.run(task, "--print", LRS="1e-3", FEATURES=tmp_path / "my cache")
        assert "feature_cache" not in line and f"{task}: FEATURES is not used" in scripts.warnings


def test_query_by_example_tries_the_layers_of_the_model(scripts):
    python = scripts.add_program("python", '#!/usr/bin/env bash\necho "$@" >>"$CALLS"\necho 0 1 2 3 4\n')
    lines = scripts.run("qbe", "--print", PYTHON=python, FEATURES="/cache")
    assert scripts.calls() == [["-m", "s3prl_aalbert.toolkit.layer_names", "-u", "aalbert_local", "-k", "/model"]]
    found = []
    for line in lines:
        words = shlex.split(line)
        found.append((words[words.index("-t") + 1], words[words.index("-l") + 1], words[words.index("-p") + 1]))
        assert words[words.index("-o") + 1] == "config.runner.feature_cache='/cache'"
    assert found == [
        (split, str(layer), f"{scripts.out}/qbe/layer_{layer}/{split}")
        for layer in range(5)
        for split in ("dev", "test")
    ]
    python.write_text("#!/usr/bin/env bash\necho single\n")
    assert not any(" -l " in line for line in scripts.run("qbe", "--print", PYTHON=python, UPSTREAM="fbank"))


def test_layers_are_what_the_upstream_gives(tiny_release):
    assert name_layers("aalbert_local", str(tiny_release), None) == ["0", "1", "2", "3"]
    assert name_layers("aalbert_local", str(tiny_release), None, "layer_states") == ["0", "1", "2"]
    assert name_layers("aalbert_features", None, None) == ["single"]


@pytest.mark.parametrize(
    ("share", "steps"),
    [(1, 1000), (0.1, 120), (0.12, 120), (0.121, 240), (0.999, 1000)],
)
def test_a_screening_ends_where_a_score_and_a_state_are(share, steps):
    assert count_steps({"runner": {"total_steps": 1000, "eval_step": 40, "save_step": 30}}, share) == steps


@pytest.mark.parametrize("task", ["pr", "ks", "sid", "ic", "er", "sd", "asr", "sf"])
def test_a_training_of_superb_has_no_schedule_that_a_screening_would_change(task):
    config = read_yaml(find_config(f"superb_{task}", "downstream_configs"))
    assert not config.get("scheduler")
    assert count_steps(config, 0.1) == config["runner"]["total_steps"] / 10


def test_steps_that_are_no_number_are_one_sentence():
    with pytest.raises(AalbertError, match=naming("runner.eval_step", "null", 1)):
        count_steps({"runner": {"total_steps": 10, "save_step": 5}})
