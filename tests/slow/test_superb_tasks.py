"""Every task of SUPERB in S3PRL's own code by its script: train, choose on dev, evaluate, collect.

On seconds of synthetic speech in each data set's layout; nothing is learned that would be worth a score.
"""

import re

import pytest
import superb_corpora
import torch
from superb_runs import Runs, first_words, override, queries

pytestmark = pytest.mark.slow
# Option of `aalbert submit` -> the entry of the zip file.
ENTRIES = {
    "ks": ("--ks", "ks_public/predict.txt"),
    "sid": ("--sid", "sid_public/predict.txt"),
    "asv": ("--asv", "sv_public/predict.txt"),
    "sf": ("--sf", "sf_public/predict.ark"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_release):
    runs = Runs(tmp_path_factory.mktemp("superb"), tiny_release)
    yield runs
    runs.commands.close()


@pytest.mark.parametrize("task", ["ks", "sid", "sf", "asv"])
def test_a_task_from_training_to_the_zip_file(runs, task):
    runs.prepare(task)
    runs.script(task)
    option, target = ENTRIES[task]
    entries = runs.submit(option, runs.out / task / "best")
    assert list(entries) == [f"predict/{target}"]
    check_names(runs, task, first_words(entries[f"predict/{target}"]))


def check_names(runs, task, names):
    assert len(set(names)) == len(names) and set(names) == runs.expected(task)


def test_intent_classification(runs):
    runs.prepare("ic")
    runs.script("ic")
    entries = runs.submit("--ic", runs.out / "ic/best")
    check_names(runs, "ic", first_words(entries["predict/ic_public/predict.csv"], ","))


def test_of_several_learning_rates_the_best_on_dev_is_evaluated(runs):
    runs.prepare("pr")
    printed = runs.script("pr", rates="1e-9 1e-2")
    errors = dict(zip(("1e-9", "1e-2"), map(float, re.findall(r"dev per: (\S+)", printed)), strict=True))
    assert errors["1e-2"] < errors["1e-9"]  # from stray phonemes to silence
    assert (runs.out / "pr/best").resolve() == runs.out / "pr/lr_1e-2"
    tested = [rate for rate in errors if (runs.out / f"pr/lr_{rate}/test-hyp.ark").is_file()]
    assert tested == ["1e-2"]
    entries = runs.submit("--pr", runs.out / "pr/best")
    check_names(runs, "pr", first_words(entries["predict/pr_public/predict.ark"]))


def test_a_screened_rate_goes_on_as_if_it_had_never_stopped(runs):
    runs.prepare("pr")
    settings = override("pr").replace("total_steps=2", "total_steps=4")
    whole = runs.script("pr", rates="3e-3", OVERRIDE=settings)
    screened = runs.script("pr", rates="1e-9 3.0e-3", OVERRIDE=settings, SCREEN="0.5", KEEP="1")
    assert "after 2 steps these rates go on: 3.0e-3" in screened and "Save the checkpoint" in whole
    states = [torch.load(runs.out / f"pr/lr_{rate}/states-4.ckpt", weights_only=False) for rate in ("3e-3", "3.0e-3")]
    assert all(torch.equal(states[0]["Downstream"][name], value) for name, value in states[1]["Downstream"].items())
    assert not (runs.out / "pr/lr_1e-9/states-4.ckpt").exists()


def test_emotion_recognition_in_five_folds(runs):
    runs.prepare("er")
    runs.script("er")
    entries = runs.submit("--er", runs.out / "er/best")
    assert len(entries) == 5
    for fold in range(1, 6):
        check_names(runs, f"er_fold{fold}", first_words(entries[f"predict/er_fold{fold}_public/predict.txt"]))


def test_speaker_diarisation(runs):
    runs.prepare("sd")
    runs.script("sd")
    entries = runs.submit("--sd", runs.out / "sd/best")
    assert entries.pop("predict/sd_public/frame_shift") == b"480\n"
    root = "predict/sd_public/scoring/predictions/"
    check_names(runs, "sd", [name.removeprefix(root).removesuffix(".h5") for name in entries])


def test_query_by_example(runs):
    runs.prepare("qbe")
    runs.script("qbe", LAYERS="1 3")
    assert not (runs.out / "qbe/best").exists()  # the layer is chosen by hand
    runs.script("qbe", LAYER="3")
    entries = runs.submit("--qbe", runs.out / "qbe/best")
    found = entries["predict/qbe_public/benchmark.stdlist.xml"]
    check_names(runs, "qbe", queries(found))
    assert found == (runs.out / "qbe/layer_3/test/benchmark.stdlist.xml").read_bytes()
    assert found != (runs.out / "qbe/layer_1/test/benchmark.stdlist.xml").read_bytes()


def write_language_model(folder):
    """Write a bigram model in which words are equally likely, and the spelling of each word."""
    words = sorted(superb_corpora.LEXICON)
    unigrams = [f"-1.5\t{word}\t0" for word in ("<unk>", "<s>", *words)] + ["-1.5\t</s>"]
    bigrams = [f"-1.0\t<s> {word}" for word in words]
    sections = [
        "",
        "\\data\\",
        f"ngram 1={len(unigrams)}",
        f"ngram 2={len(bigrams)}",
        "",
        "\\1-grams:",
        *unigrams,
        "",
        "\\2-grams:",
        *bigrams,
        "",
        "\\end\\",
    ]
    superb_corpora.write_lines(folder / "words.arpa", sections)
    superb_corpora.write_lines(folder / "spellings.lst", [f"{word}\t{' '.join(word)} |" for word in words])


def test_speech_recognition_with_and_without_a_language_model(runs):
    pytest.importorskip("flashlight.lib.text")
    runs.prepare("asr")
    write_language_model(runs.corpora)
    runs.script("asr", LM=str(runs.corpora / "words.arpa"), LEXICON=str(runs.corpora / "spellings.lst"))
    best = runs.out / "asr/best"
    entries = runs.submit("--asr", best, "--asr_with_lm", best)
    for target in ("asr_public", "asr_lm_public"):
        check_names(runs, "asr", first_words(entries[f"predict/{target}/predict.ark"]))
    hypotheses = (best / "test-clean-LM-hyp.ark").read_text().split("\n")
    said = {word for line in hypotheses for word in line.split(" ")[1:]}
    assert said - {""} <= set(superb_corpora.LEXICON)  # the language model knows no other words
