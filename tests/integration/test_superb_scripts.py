"""Two of SUPERB's tasks in S3PRL's own code by their scripts, from training to the leaderboard's zip file.

The others are in tests/slow/test_superb_tasks.py.
"""

import subprocess

import pytest
import superb_corpora
import yaml
from superb_runs import REPOSITORY, SETTINGS, Runs, first_words

SCRIPTS = sorted((REPOSITORY / "scripts/superb").glob("*.sh"))
TASKS = ("ks", "pr")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_release):
    """Both tasks trained, evaluated and collected once."""
    runs = Runs(tmp_path_factory.mktemp("superb"), tiny_release)
    try:
        for task in TASKS:
            runs.prepare(task)
            (runs.out / f"{task}.log").parent.mkdir(parents=True, exist_ok=True)
            (runs.out / f"{task}.log").write_text(runs.script(task))
        runs.entries = runs.submit("--all", runs.out)
        yield runs
    finally:
        runs.commands.close()


@pytest.mark.parametrize("task", TASKS)
def test_the_best_run_is_linked_and_its_predictions_go_into_the_zip_file(runs, task):
    best = runs.out / task / "best"
    assert best.resolve() == runs.out / task / "lr_1e-2"
    assert (best / "dev-best.ckpt").is_file()
    source, target = {
        "ks": ("test_predict.txt", "ks_public/predict.txt"),
        "pr": ("test-hyp.ark", "pr_public/predict.ark"),
    }[task]
    content = runs.entries[f"predict/{target}"]
    assert content == (best / source).read_bytes()
    names = first_words(content)
    assert len(set(names)) == len(names) and set(names) == runs.expected(task)


def test_s3prl_read_the_phonemes_of_the_corpus(runs):
    """Its reference file against the lexicon, word by word."""
    lines = (runs.out / "pr/best/test-ref.ark").read_text().splitlines()
    found = dict(line.split(" ", 1) for line in lines)
    transcripts = next((runs.corpora / "LibriSpeech/test-clean").rglob("*.trans.txt")).read_text().splitlines()
    said = dict(line.split(" ", 1) for line in transcripts)
    assert found == {
        name: " ".join(superb_corpora.LEXICON[word] for word in words.split()) for name, words in said.items()
    }


def test_s3prl_read_the_keywords_of_the_corpus(runs):
    lines = (runs.out / "ks/best/test_truth.txt").read_text().splitlines()
    assert all(line.split(" ")[0].startswith(line.split(" ")[1]) for line in lines)
    assert {line.split(" ")[1] for line in lines} == {*superb_corpora.KEYWORDS, "_unknown_", "_silence_"}


def test_the_form_names_the_model_and_the_hyper_parameters(runs):
    form = yaml.safe_load((runs.out / "submission/form.yaml").read_text())
    assert form["upstream"] == f"aalbert_local {runs.release}" and form["stride_samples"] == 480
    for task in TASKS:
        assert form["tasks"][task]["learning_rate"] == 1e-2
        assert form["tasks"][task]["step_of_checkpoint"] == SETTINGS[task][0]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_valid_bash(script):
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("arguments", [[], ["model", "corpora"]])
def test_a_script_without_its_arguments_says_what_they_are(arguments):
    done = subprocess.run(
        ["bash", SCRIPTS[0].parent / "ks.sh", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "MODEL CORPORA OUT" in done.stderr and not done.stdout
