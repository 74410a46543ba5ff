"""The tables of RESULTS.md, from what is recorded; with --data, every command behind them runs again.

    python benchmarks/results_page.py                               # the tables, from benchmarks/results
    python benchmarks/results_page.py --data data -o result/page    # runs all, and prints recorded values beside them
    python benchmarks/results_page.py --data data --dry-run         # only the commands

DATA holds timit, LibriSpeech/{train-clean-5,dev-clean,test-clean,train-clean-100-aligned} as FLAC, and lexicon.txt with
lines WORD PHONEME ... (docs/evaluation.md). What is done is skipped. It takes hours, most of them for phone
recognition and the runs of S3PRL.
"""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from commands import REPOSITORY, exit_code, run_once
from tables import markdown_head, markdown_line, read_table, shares

from s3prl_aalbert.downstream.abx import AbxErrors
from s3prl_aalbert.downstream.paired import Values, differences, percent
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.experiments.recorded import RECORDED, read_rows

RESULTS = REPOSITORY / "benchmarks" / "results"
FEATURES, FBANK, TINY, UNITS = "features", "fbank", "aalbert_tiny", "aalbert_units"
PARAMETERS = {TINY: "0.98M", UNITS: "3.91M"}
UNTRAINED = "untrained "
"""Before a model's name: the same with the weights that it began with."""
LAYERS = {TINY: "3", UNITS: "3"}
"""Of the lowest ABX error across speakers."""
PHONE_LAYERS = {TINY: "3", UNITS: "1"}
"""Of the most phones of dev-clean (docs/results/units_19h.md)."""
PROTOCOL = {"folds": "speakers", "labels": "grid"}
"""Of the phones, where a file has others as well."""
SMALL_SETS = {"dev-clean": 9, "test-clean": 5}
"""For phone recognition: every so many utterances, by name."""


# ------------------------------------------------------------------------------------------------ commands


class Step(NamedTuple):
    """One command, and an empty file that tells that it is done: its results may be there before it ends."""

    done: Path
    command: list[str]


def steps(data: Path, out: Path) -> list[Step]:
    """Return every command behind the tables, in order."""
    found: list[Step] = []

    def add(name: str, *command: str | Path) -> None:
        found.append(Step(out / "done" / name, [str(part) for part in command]))

    timit, speech, sweep = data / "timit", data / "LibriSpeech", out / "sweep"
    untrained = {UNITS: sweep / "untrained", TINY: out / "untrained_tiny"}
    for model, folder in untrained.items():
        add(folder.name, "convert", model, folder, "--untrained", "0")
    sources: dict[str, list[str | Path]] = {FEATURES: ["-u", "aalbert_features"]}
    for model, folder in untrained.items():
        sources |= {model: ["-u", model], UNTRAINED + model: ["-u", "aalbert_local", "-k", folder]}
    for name, source in sources.items():
        file = out / _abx_file(name)
        add(file.stem, "abx", *source, "--against", "none", "--speech", timit, "--out", file)
    probes = ["benchmarks/linear_probes.py", "--timit", timit, "--out", out / "phones.csv"]
    add("phones_units", *probes, "-u", UNITS, "--layers", PHONE_LAYERS[UNITS])
    add("phones_tiny", *probes, "-u", TINY, FBANK, "--single-frames", "--layers", PHONE_LAYERS[TINY])
    unseen = ["benchmarks/unseen_speakers.py", "--speech", speech / "dev-clean", speech / "test-clean"]
    unseen += ["--out", out / "speakers.csv"]
    add("speakers_units", *unseen, "-u", UNITS, "--layers", LAYERS[UNITS])
    add("speakers_tiny", *unseen, "-u", TINY, "--layers", LAYERS[TINY])
    align = ["scripts/align_phones.py", speech / "dev-clean", speech / "test-clean", "--every", "6"]
    add("phones_aligned", *align, "-o", sweep / "phones.tsv")
    add("sweep", "sweep", "--preset", "release", "--data", data, "-p", sweep)
    runs: list[Path] = []
    sources[FBANK] = ["-u", FBANK]
    for name in (FEATURES, FBANK, UNTRAINED + UNITS, UNITS):
        run = out / "recognition" / name.replace(" ", "_")
        settings = [
            "config.runner.total_steps=300",
            "config.runner.eval_step=100",
            f"config.runner.feature_cache='{out / 'states'}'",
            f"config.downstream_expert.corpus.path='{out / 'recognition' / 'LibriSpeech'}'",
            f"config.downstream_expert.corpus.lexicon=['{data / 'lexicon.txt'}']",
        ]
        train = ["downstream", "-m", "train", *sources[name], "-d", "ctc", "-c", "librispeech_pr", "-p", run, "-a"]
        add(f"{run.name}_trained", *train, "-o", ",,".join(settings))
        evaluate = ["downstream", "-m", "evaluate", "-e", run / "dev-best.ckpt", "-t", "test"]
        add(f"{run.name}_tested", *evaluate)
        runs.append(run)
    add("phone_errors", "benchmarks/phone_errors.py", *runs, "--out", out / "phone_errors.csv")
    return found


def _abx_file(model: str) -> str:
    return f"abx_{model.replace(' ', '_')}.csv"


def run(step: Step, log_file: Path) -> None:
    """Run a step that is not done, and mark it as done."""
    run_once(step.done, step.command, log_file)
    step.done.parent.mkdir(exist_ok=True)
    step.done.touch()


def link_small_sets(data: Path, folder: Path) -> None:
    """Lay out the sets of phone recognition: train-clean-5 whole, some utterances of the others by their own names."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "train-clean-5").exists():
        (folder / "train-clean-5").symlink_to(data / "train-clean-5")
    for name, every in SMALL_SETS.items():
        files = sorted((data / name).rglob("*.flac"), key=lambda file: file.stem)[::every]
        if not files:
            raise AalbertError(f"{data / name}: no .flac found, which S3PRL's ctc looks for")
        for file in files:
            place = folder / name / file.parent.relative_to(data / name)
            place.mkdir(parents=True, exist_ok=True)
            for each in (file, *file.parent.glob("*.trans.txt")):
                if not (place / each.name).exists():
                    (place / each.name).symlink_to(each)


# -------------------------------------------------------------------------------------------------- values


def abx(folder: Path, model: str, condition: str) -> Values:
    """Return a model's ABX error by speaker, as ``AbxErrors`` does."""
    layer = _layer(model, LAYERS)
    rows = [row for row in read_table(folder / _abx_file(model)) if row["layer"] == layer]
    speakers = sorted({row[part] for row in rows for part in ("speaker", "speaker_of_x")})
    matrix = np.full((len(speakers), len(speakers)), np.nan)
    for row in rows:
        matrix[speakers.index(row["speaker"]), speakers.index(row["speaker_of_x"])] = float(row["error"])
    errors = AbxErrors(speakers, matrix)
    return errors.within() if condition == "within" else errors.across()


def classified(folder: Path, model: str, file: str, classifier: str) -> Values:
    """Return the share of a model's correct answers of every speaker."""
    name, layer = model, _layer(model, PHONE_LAYERS if file == "phones.csv" else LAYERS)
    if model == FEATURES:
        name = "aalbert_features without CMVN" if file == "speakers.csv" else "aalbert_features"
    own = (row for row in read_table(folder / file) if PROTOCOL.items() <= {**PROTOCOL, **row}.items())
    return shares(own).get((name, classifier, layer), {})


def swept(folder: Path, model: str, task: str) -> Values:
    """Return a model's accuracy in every fold or with every seed of a task of the sweep."""
    file = RECORDED / "release.csv" if folder == RESULTS else folder / "sweep" / "rows.csv"
    name = "untrained" if model == UNTRAINED + UNITS else model
    found = [row for row in read_rows(file) if row.row == f"{task}/{name}"] if file.is_file() else []
    return {seed: value / 100 for row in found if row.metric == "accuracy" for seed, value in row.values.items()}


def fine_tuned(folder: Path, model: str) -> Values:
    """Return a model's accuracy in every fold, fine-tuned; the features have no weights to tune."""
    return swept(folder, model, "timit/weighted_sum" if model == FEATURES else "timit_fine_tuned/fine_tuned")


def recognised(folder: Path, model: str) -> Values:
    """Return the phone error of every speaker."""
    rows = read_table(folder / "phone_errors.csv")
    return {row["speaker"]: float(row["error"]) for row in rows if row["run"] == model.replace(" ", "_")}


def _layer(model: str, layers: dict[str, str]) -> str:
    return layers.get(model.removeprefix(UNTRAINED), "0")


# -------------------------------------------------------------------------------------------------- tables

ROWS: dict[str, Callable[[Path, str], Values]] = {
    "ABX error within speakers, TIMIT (%)": lambda f, m: abx(f, m, "within"),
    "ABX error across speakers (%)": lambda f, m: abx(f, m, "across"),
    "phones of TIMIT, linear (%)": lambda f, m: classified(f, m, "phones.csv", "linear"),
    "phones of TIMIT, one hidden layer (%)": lambda f, m: classified(f, m, "phones.csv", "network"),
    "phones of TIMIT, S3PRL's runner, weighted sum (%), four folds": lambda f, m: swept(f, m, "timit/weighted_sum"),
    "the same, fine-tuned, linear classifier (%); features as above": fine_tuned,
    "phones as found, aligned LibriSpeech, S3PRL's runner (%), four folds": lambda f, m: swept(
        f, m, "mfa/weighted_sum"
    ),
    "phones of dev-clean to test-clean, automatic labels, S3PRL's runner (%), four seeds": lambda f, m: swept(
        f, m, "forced/weighted_sum"
    ),
    "phone error of S3PRL's `ctc`, test-clean, frozen, 300 steps (%)": recognised,
    "80 unseen speakers by utterance (%)": lambda f, m: classified(f, m, "speakers.csv", "utterance"),
    "80 unseen speakers by token (%)": lambda f, m: classified(f, m, "speakers.csv", "frame"),
}


def tables(folder: Path) -> str:
    """Return both tables of the page in Markdown: all models, and the differences of the small one."""
    own = UNTRAINED + UNITS
    heads = ["", "input features", *(f"`{model}` ({PARAMETERS[model]})" for model in (TINY, UNITS))]
    heads += ["the same untrained", f"`{UNITS}` less features", "less untrained"]
    lines = markdown_head(heads)
    small = markdown_head([f"`{TINY}`", "less its features", "less itself untrained"])
    for label, read in ROWS.items():
        values = {model: read(folder, model) for model in (FEATURES, TINY, UNITS, own, UNTRAINED + TINY)}
        if not values[UNITS]:  # not run yet
            continue
        shown = [percent(values[model]) if values[model] else "" for model in (FEATURES, TINY, UNITS, own)]
        less = [_less(values[UNITS], values[other]) for other in (FEATURES, own)]
        lines.append(markdown_line([label, *shown, *less]))
        if values[TINY]:
            less = [_less(values[TINY], values[other]) for other in (FEATURES, UNTRAINED + TINY)]
            small.append(markdown_line([label, *less]))
    return "\n".join([*lines, "", *small])


def _less(values: Values, baseline: Values) -> str:
    paired = differences(values, baseline)
    return percent(paired, sign=True) if paired else ""


def beside_recorded(folder: Path) -> str:
    """Return for every row and model what is recorded, what is in a folder, and the paired difference."""
    lines = []
    for label, read in ROWS.items():
        for model in (FEATURES, TINY, UNITS, UNTRAINED + UNITS):
            here, before = read(folder, model), read(RESULTS, model)
            if here and before:
                lines.append(
                    f"{label}, {model}: recorded {percent(before)}, here {percent(here)}, {_less(here, before)}"
                )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; run what is behind them first if there is data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the speech; without it, the tables of what is recorded")
    parser.add_argument("-o", "--out", type=Path, default=Path("result/page"), help="folder; default: %(default)s")
    parser.add_argument("--dry-run", action="store_true", help="only print the commands")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not args.data:
        print(tables(RESULTS))
        return 0
    data, out = args.data.resolve(), args.out.resolve()
    if args.dry_run:
        for step in steps(args.data, args.out):
            script = step.command[0].endswith(".py")
            print(shlex.join(["python" if script else "aalbert", *step.command]))
        return 0
    link_small_sets(data / "LibriSpeech", out / "recognition" / "LibriSpeech")
    for step in steps(data, out):
        run(step, out / "log.txt")
    print(tables(out))
    print(beside_recorded(out))
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
